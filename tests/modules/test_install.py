"""A module's way on a node: installed, configured, edited, packed, removed."""

import hashlib
import json
import stat
from pathlib import Path

import pytest

from mirrorfarm.errors import ConfigInvalid, Refused
from mirrorfarm.modules import install as modules
from mirrorfarm.modules.catalog import template_files
from mirrorfarm.paths import Paths
from tests.modules.conftest import CLUSTER


def userconfig(directory: Path | str, more: str = "") -> bytes:
    return f"""<safe><service mode="mirror" {more}><heart><heartbeat name="default"/></heart>
<rfs><replicated dir="{directory}"/></rfs></service></safe>""".encode()


def write_source(folder: Path, text: bytes) -> Path:
    (folder / "conf").mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "conf/userconfig.xml").write_bytes(text)
    (folder / "bin/start_prim").write_bytes(b"#!/bin/bash\n")
    return folder


def snapshot(paths: Paths) -> list[str]:
    return sorted(str(path) for path in paths.root.rglob("*"))


def test_template_is_installed_with_safe_modes(paths: Paths) -> None:
    assert modules.install(paths, "books", source="ledger") == 1
    folder = paths.module_etc("books")
    modes = {
        str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode)
        for path in folder.rglob("*")
    }
    assert modes["bin/start_prim"] == 0o700
    assert modes["conf/userconfig.xml"] == modes["id"] == 0o600
    assert modes["bin"] == stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert modules.installed(paths) == [("books", 1)]


def test_ids_are_the_smallest_free_or_the_one_given(paths: Paths) -> None:
    assert modules.install(paths, "one", source="mirror") == 1
    assert modules.install(paths, "three", source="mirror", module_id=3) == 3
    assert modules.install(paths, "two", source="mirror") == 2
    with pytest.raises(Refused, match="id 3 is that of module three"):
        modules.install(paths, "other", source="mirror", module_id=3)
    with pytest.raises(Refused, match="1 to 256"):
        modules.install(paths, "other", source="mirror", module_id=257)


def test_package_travels_to_another_node(paths: Paths, tmp_path: Path) -> None:
    modules.install(paths, "books", source="ledger", module_id=7)
    package = modules.package(paths, "books")
    other = Paths(tmp_path / "other")
    modules.install(other, "books", source=package, module_id=7)
    assert modules.installed(other) == [("books", 7)]
    (tmp_path / "books.safe").write_bytes(package)
    modules.install(other, "copy", source=tmp_path / "books.safe")
    for name in ("books", "copy"):
        for path, content in template_files("ledger").items():
            assert (other.module_etc(name) / path).read_bytes() == content


def test_installing_again_needs_force_and_keeps_id_and_previous_version(
    paths: Paths, tmp_path: Path
) -> None:
    modules.install(paths, "app", source=write_source(tmp_path / "v1", b"<safe/>"), module_id=5)
    second = write_source(tmp_path / "v2", b"<safe><!-- 2 --></safe>")
    with pytest.raises(Refused, match="--force"):
        modules.install(paths, "app", source=second)
    assert modules.install(paths, "app", source=second, force=True) == 5
    assert b"2" in (paths.module_etc("app") / "conf/userconfig.xml").read_bytes()
    previous = paths.modules / ".previous/app/conf/userconfig.xml"
    assert previous.read_bytes() == b"<safe/>"


@pytest.mark.parametrize("source", ["nonsense", "/does/not/exist", b"not a zip"])
def test_refused_installation_leaves_nothing(paths: Paths, source: str | bytes) -> None:
    modules.install(paths, "other", source="mirror")
    before = snapshot(paths)
    with pytest.raises((Refused, ConfigInvalid)):
        modules.install(paths, "app", source=source)
    assert snapshot(paths) == before


@pytest.mark.parametrize("name", ["", "A", "../x", "a/b", ".previous", "a" * 33, "a\n"])
def test_names_cannot_leave_their_folder(paths: Paths, name: str) -> None:
    with pytest.raises(Refused, match="cannot name a module"):
        modules.install(paths, name, source="mirror")
    with pytest.raises(Refused, match="cannot name a module"):
        modules.uninstall(paths, name)


def test_a_module_is_not_named_as_the_agent_is(paths: Paths) -> None:
    """What is sent to it would be taken by the agent: it could be neither started nor asked."""
    with pytest.raises(Refused, match=r"agent is the name of .* choose another"):
        modules.install(paths, "agent", source="mirror")
    modules.install(paths, "app", source="mirror")
    paths.module_etc("app").rename(paths.module_etc("agent"))  # Of a version that took it.
    with pytest.raises(Refused, match="install it by another name"):
        modules.configure(paths, "agent")
    modules.deconfigure(paths, "agent")
    modules.uninstall(paths, "agent")


def test_link_in_a_source_folder_is_not_followed(paths: Paths, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", b"<safe/>")
    (source / "bin/secret").symlink_to("/etc/hostname")
    with pytest.raises(Refused, match="cannot be read"):
        modules.install(paths, "app", source=source)


def test_edits_take_effect_only_when_configured(paths: Paths, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    modules.install(paths, "app", source=write_source(tmp_path / "s", userconfig(data)))
    with pytest.raises(Refused, match="mirrorfarm module config app"):
        modules.load_module(paths, "app")
    configured = modules.configure(paths, "app")
    assert modules.load_module(paths, "app") == configured
    edited = paths.module_etc("app") / "conf/userconfig.xml"
    edited.write_bytes(userconfig(data, 'maxloop="9"'))
    assert modules.load_module(paths, "app").maxloop == 3
    modules.configure(paths, "app")
    assert modules.load_module(paths, "app").maxloop == 9


def test_faulty_edit_leaves_the_active_configuration(paths: Paths, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    modules.install(paths, "app", source=write_source(tmp_path / "s", userconfig(data)))
    before = modules.configure(paths, "app")
    edited = paths.module_etc("app") / "conf/userconfig.xml"
    for wrong in (b"", b"<safe/>", userconfig(tmp_path / "absent")):
        edited.write_bytes(wrong)
        with pytest.raises(ConfigInvalid, match=r"userconfig\.xml"):
            modules.configure(paths, "app")
        assert modules.load_module(paths, "app") == before


def test_environment_of_the_configuration_is_kept(paths: Paths, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    modules.install(paths, "app", source=write_source(tmp_path / "s", userconfig("%WHERE%")))
    modules.configure(paths, "app", environment={"WHERE": str(tmp_path / "data"), "SECRET": "x"})
    directory = modules.load_module(paths, "app").replication.directories[0].dir
    assert directory == str(tmp_path / "data")
    kept = paths.module_lib("app") / "active/environment.json"
    assert "SECRET" not in kept.read_text()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_active_copy_that_was_edited_is_not_believed(paths: Paths, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    text = userconfig(tmp_path / "data")
    modules.install(paths, "app", source=write_source(tmp_path / "s", text))
    modules.configure(paths, "app")
    for file in ("userconfig.xml", "environment.json"):
        path = paths.module_lib("app") / "active" / file
        content = path.read_bytes()
        path.write_bytes(b"[]")
        with pytest.raises(Refused, match="run: mirrorfarm module config app"):
            modules.load_module(paths, "app")
        path.write_bytes(content)
    modules.load_module(paths, "app")


def test_second_module_may_not_use_the_directory_of_the_first(paths: Paths, tmp_path: Path) -> None:
    (tmp_path / "data/inner").mkdir(parents=True)
    first, second = tmp_path / "data", tmp_path / "data/inner"
    modules.install(paths, "one", source=write_source(tmp_path / "s1", userconfig(first)))
    modules.install(paths, "two", source=write_source(tmp_path / "s2", userconfig(second)))
    modules.configure(paths, "one")
    with pytest.raises(ConfigInvalid, match="of module one overlap"):
        modules.configure(paths, "two")


def test_module_is_deconfigured_before_it_is_removed(paths: Paths, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    text = userconfig(tmp_path / "data")
    modules.install(paths, "app", source=write_source(tmp_path / "s", text))
    modules.configure(paths, "app")
    record = paths.module_lib("app") / "record.0"
    record.touch()
    with pytest.raises(Refused, match="mirrorfarm module deconfig app"):
        modules.uninstall(paths, "app")
    modules.deconfigure(paths, "app")
    modules.deconfigure(paths, "app")
    modules.uninstall(paths, "app")
    assert modules.installed(paths) == []
    assert modules.configured(paths) == []
    assert record.exists()
    with pytest.raises(Refused, match="not installed"):
        modules.load_module(paths, "app")


def test_absent_cluster_says_where_to_write_it(paths: Paths) -> None:
    paths.cluster_xml.unlink()
    with pytest.raises(ConfigInvalid, match=r"cluster\.xml: cluster: absent; write the nodes"):
        modules.load_cluster(paths)


def test_a_module_whose_id_is_damaged_keeps_no_other_one_from_starting(
    paths: Paths, tmp_path: Path
) -> None:
    """An agent starts what is configured, one after the other, and tells what it cannot start."""
    for name in ("good", "worn"):
        (tmp_path / name).mkdir()
        source = write_source(tmp_path / f"s{name}", userconfig(tmp_path / name))
        modules.install(paths, name, source=source)
        modules.configure(paths, name)
    (paths.module_etc("worn") / "id").write_bytes(b"\0\0")
    assert modules.configured(paths) == ["good", "worn"]
    assert modules.load_module(paths, "good").name == "good"
    with pytest.raises(Refused, match="is damaged"):
        modules.load_module(paths, "worn")


def configured_app(paths: Paths, tmp_path: Path, name: str = "app") -> Path:
    """Install and configure a module; return its userconfig.xml, to be edited."""
    (tmp_path / f"data-{name}").mkdir()
    source = write_source(tmp_path / f"of-{name}", userconfig(tmp_path / f"data-{name}"))
    modules.install(paths, name, source=source)
    modules.configure(paths, name)
    return paths.module_etc(name) / "conf/userconfig.xml"


def test_a_module_without_its_file_is_told_where_it_belongs(paths: Paths, tmp_path: Path) -> None:
    edited = configured_app(paths, tmp_path)
    edited.unlink()
    for number in range(2):
        with pytest.raises(ConfigInvalid, match=r"userconfig\.xml: module: absent; write it there"):
            modules.configure(paths, "app")
        if not number:
            edited.symlink_to(tmp_path / "nowhere")


def test_modules_that_fit_the_cluster_no_more_are_configured_one_after_the_other(
    paths: Paths, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        edited = configured_app(paths, tmp_path, name)
        edited.write_bytes(edited.read_bytes().replace(b'"default"', b'"red"'))
    paths.cluster_xml.write_text(CLUSTER.replace("default", "red"))
    notes: list[str] = []
    modules.configure(paths, "one", notes=notes)
    assert "module two was not compared with it, configure it too: " in notes[0]
    notes.clear()
    modules.configure(paths, "two", notes=notes)
    assert notes == []
    assert modules.load_module(paths, "one").heartbeats[0].name == "red"


def test_folders_of_somebody_are_no_modules_and_hide_none(paths: Paths, tmp_path: Path) -> None:
    configured_app(paths, tmp_path, "good")
    configured_app(paths, tmp_path, "worn")
    configured_app(paths, tmp_path, "bare")
    (paths.modules / "old").mkdir()
    (paths.module_etc("bare") / "id").unlink()
    assert modules.install(paths, "next", source="mirror") == 3
    (paths.module_etc("worn") / "id").write_bytes(b"\0\0")
    names = [(name, number) for name, number, _ in modules.listed(paths)]
    assert names == [("bare", 0), ("good", 1), ("next", 3), ("worn", 0)]
    faults = [fault for _, _, fault in modules.listed(paths)]
    assert [bool(fault) for fault in faults] == [True, False, False, True]
    assert "is damaged" in faults[3]


def test_a_folder_in_the_place_of_a_file_is_named(paths: Paths) -> None:
    modules.install(paths, "db", source="mirror")
    file = paths.module_etc("db") / "conf/userconfig.xml"
    file.unlink()
    file.mkdir()
    with pytest.raises(Refused, match=r"conf/userconfig\.xml is not a regular file"):
        modules.configure(paths, "db")


def test_what_a_module_claims_is_told_also_where_it_cannot_run(paths: Paths) -> None:
    text = b"""<safe><macro name="IP" value="198.18.0.9"/><service mode="mirror"><heart>
<heartbeat name="default"/></heart><vip><interface_list><interface><real_interface>
<virtual_addr addr="%IP%"/><virtual_addr addr="2001:DB8:0::9"/></real_interface></interface>
</interface_list></vip><rfs><replicated dir="/srv/%OF_ENVIRONMENT%"/></rfs></service></safe>"""
    active = paths.module_lib("app") / "active/userconfig.xml"
    assert modules.claimed(paths, "app") == ([], [])
    active.parent.mkdir(parents=True)
    active.write_bytes(text)
    addresses = ["198.18.0.9", "2001:db8::9"]
    assert modules.claimed(paths, "app")[0] == addresses, "not known is the environment"
    kept = {"sha256": hashlib.sha256(text).hexdigest(), "environment": {"OF_ENVIRONMENT": "data"}}
    (active.parent / "environment.json").write_text(json.dumps(kept))
    paths.cluster_xml.write_text("<cluster/>")
    assert modules.claimed(paths, "app") == (addresses, ["/srv/data"])
    active.write_bytes(text[:-10])
    assert modules.claimed(paths, "app") == ([], [])
    active.unlink()
    active.mkdir()
    assert modules.claimed(paths, "app") == ([], [])
    with pytest.raises(Refused, match="cannot name a module"):
        modules.claimed(paths, "../app")
