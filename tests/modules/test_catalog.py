"""Every template can be installed, packed and, with its directory there, configured."""

import subprocess

import pytest

from mirrorfarm.actors.checker.matching import Matcher
from mirrorfarm.errors import Refused
from mirrorfarm.modules.catalog import template_files, templates
from mirrorfarm.modules.package import pack, unpack
from mirrorfarm.modules.settings import Cluster, Network, NodeOnNetwork
from mirrorfarm.modules.userconfig import parse_userconfig

NODES = (NodeOnNetwork("n1", "198.18.0.1"), NodeOnNetwork("n2", "198.18.0.2"))
CLUSTER = Cluster((Network("default", NODES),))


def test_templates_by_name() -> None:
    assert {"farm", "ledger", "mirror", "postgresql", "web"} <= set(templates())
    with pytest.raises(Refused, match="did you mean ledger"):
        template_files("leger")
    with pytest.raises(Refused):
        template_files("../modules/ledger")


@pytest.mark.parametrize("name", templates())
def test_template_is_valid_as_it_is(name: str) -> None:
    files = template_files(name)
    notes: list[str] = []
    module = parse_userconfig(
        files["conf/userconfig.xml"],
        name,
        name=name,
        id=1,
        cluster=CLUSTER,
        environment={},
        notes=notes,
    )
    assert bool(module.replication.directories) == (module.mode == "mirror")
    assert module.has_scripts
    assert notes == []
    assert unpack(pack(files, name), name) == files
    role = "prim" if module.mode == "mirror" else "both"
    wanted = ("prestart", f"start_{role}", f"stop_{role}", "poststop")
    assert {f"bin/{script}" for script in wanted} <= set(files)


@pytest.mark.parametrize("name", ["farm", "web"])
def test_farm_has_an_address_and_a_rule_once_the_marks_of_the_comment_are_removed(
    name: str,
) -> None:
    text = template_files(name)["conf/userconfig.xml"].decode()
    head, middle, tail = text.partition("    <vip")
    tail = tail.replace("</vip>\n    -->", "</vip>", 1)
    module = parse_userconfig(
        f"{head} -->{middle}{tail}".encode(),
        name,
        name=name,
        id=1,
        cluster=CLUSTER,
        environment={},
    )
    (address,), (rule,) = module.farm.addresses, module.farm.rules
    assert (address.addr, module.farm.delivery) == ("192.0.2.10", "vmac_invisible")
    assert (rule.proto, rule.filter) == ("tcp", "on_port")


@pytest.mark.parametrize("name", templates())
def test_scripts_of_templates_are_well_formed(name: str) -> None:
    for path, content in template_files(name).items():
        if path.startswith("bin/") and not path.endswith((".py", ".html")):
            checked = subprocess.run(
                ["/bin/bash", "-n"], input=content, capture_output=True, check=False
            )
            assert checked.returncode == 0, (path, checked.stderr)


def test_of_postgresql_only_the_first_process_of_this_directory_is_watched() -> None:
    text = template_files("postgresql")["conf/userconfig.xml"]
    module = parse_userconfig(
        text, "postgresql", name="postgresql", id=1, cluster=CLUSTER, environment={}, notes=[]
    )
    (entry,) = module.processes
    started = "/usr/lib/postgresql/15/bin/postgres -D /var/lib/postgresql/15/main"

    def watched(line: str) -> bool:
        return Matcher(entry).fits("postgres", lambda: line, str)

    assert watched(f"{started} -p 5432 -c listen_addresses=*")
    assert watched(started)
    assert not watched("postgres: postgres postgres 198.18.0.200(41834) INSERT")
    assert not watched("postgres: checkpointer ")
    assert not watched(f"{started}2 -p 5433")
