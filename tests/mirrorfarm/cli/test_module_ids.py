"""The ids that modules are given on several nodes, by real agents that start no processes."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.cli import module
from mirrorfarm.cli.client import Client
from mirrorfarm.cli.main import main
from mirrorfarm.cli.module_ids import common_id, disagreement
from mirrorfarm.errors import Refused
from mirrorfarm.lab.configuration import cluster_xml, mirror_xml
from mirrorfarm.limits import MODULES_MAX
from mirrorfarm.modules import install
from mirrorfarm.node import Agent
from mirrorfarm.paths import Paths
from mirrorfarm.process import hold_lock, lock_path
from mirrorfarm.transport.attachment import Attachment, AttachmentSettings
from mirrorfarm.transport.keys import create_cluster, join_cluster
from mirrorfarm.transport.messages import Frame, StateAnswer, StateQuery
from tests.mirrorfarm.cli.cluster_of_two import state_json
from tests.transport.bus import free_port, until

Run = Callable[..., tuple[int, str, str]]
Two = dict[str, Agent]


class NoProcesses:
    """Children of an agent that never begin."""

    def __init__(self) -> None:
        self.present: dict[str, int] = {}  # Stand-ins.

    def start(self) -> None: ...

    def want(self, *_: object) -> None: ...

    def unwant(self, *_: object, **__: object) -> None: ...

    def pids(self) -> dict[str, int]:
        return self.present

    def age_seconds(self, name: str) -> float:
        return 3_600.0 if name in self.present else 0.0

    def trouble(self, name: str) -> None:
        del name


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Iterator[Two]:
    """Agents of n1, where the commands are given, and n2."""
    top = Path(tempfile.mkdtemp(prefix="mf-"))
    text = cluster_xml({"default": {"n1": "127.0.0.1", "n2": "127.0.0.2"}})
    text = text.replace("<lans>", f'<lans port="{free_port()}">')
    create_cluster(text, ("n1", "n2"), (), "n1", Paths(top / "n1"), top / "bundles")
    join_cluster(top / "bundles/n2.join", Paths(top / "n2"))
    monkeypatch.setenv("MIRRORFARM_ROOT", str(top / "n1"))
    agents: Two = {}
    try:
        for name in ("n1", "n2"):
            agents[name] = Agent(Paths(top / name))
            agents[name].children = NoProcesses()  # type: ignore[assignment]
            agents[name].start()
        with Client(Paths(top / "n1")) as client:
            until(lambda: len(client.installed(("n1", "n2"), 1)) == 2)
        yield agents
    finally:
        for agent in agents.values():
            agent.close(children=False)
        shutil.rmtree(top)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(list(words))
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return call


@contextmanager
def running(agent: Agent, name: str, state: dict[str, Any]) -> Iterator[None]:
    """Have a process of a module there that tells its state."""

    def answer(frame: Frame, _network: str) -> None:
        if isinstance(frame.message, StateQuery):
            told = StateAnswer(frame.message.request, json.dumps(state).encode())
            attachment.send(frame.source, frame.to.actor, told)

    keys = agent.keys
    settings = AttachmentSettings(agent.paths.bus_socket, keys.cluster, keys.name, name, 2)
    attachment = Attachment(settings, answer)
    agent.children.present[name] = 4711  # type: ignore[attr-defined]
    try:
        with Client(agent.paths) as client:
            until(lambda: client.states([(keys.name, name)]) == {(keys.name, name): state})
        yield
    finally:
        attachment.close()
        del agent.children.present[name]  # type: ignore[attr-defined]


def ids(two: Two) -> dict[str, dict[str, int]]:
    return {node: dict(install.installed(agent.paths)) for node, agent in two.items()}


def put(agent: Agent, name: str, number: int) -> None:
    """Install a mirror that any machine can run."""
    source = agent.paths.root / "source"
    (source / "conf").mkdir(parents=True, exist_ok=True)
    (source / "conf/userconfig.xml").write_text(
        mirror_xml(networks=("default",)).replace(' ident="flow"', "")
    )
    install.install(agent.paths, name, source=source, module_id=number)


def test_a_module_has_one_id_on_all_nodes(two: Two, run: Run) -> None:
    put(two["n1"], "old", 1)
    put(two["n2"], "other", 2)
    assert run("-H", "*", "module", "install", "ledger")[0] == 0
    assert ids(two) == {"n1": {"old": 1, "ledger": 3}, "n2": {"other": 2, "ledger": 3}}
    assert run("-H", "*", "module", "install", "web", "--id", "9")[0] == 0
    assert ids(two)["n1"]["web"] == ids(two)["n2"]["web"] == 9


def test_a_node_that_lacks_a_module_gets_it_with_the_id_that_it_has_elsewhere(
    two: Two, run: Run
) -> None:
    put(two["n2"], "ledger", 7)
    code, _, err = run("-H", "*", "module", "install", "ledger")
    assert code == Refused.exit_code
    assert "n2: module ledger is installed already" in err
    assert ids(two)["n1"] == {"ledger": 7}


def test_different_ids_are_not_made_one_unasked(two: Two, run: Run) -> None:
    put(two["n1"], "ledger", 2)
    put(two["n2"], "ledger", 1)
    before = ids(two)
    code, _, err = run("-H", "*", "module", "install", "ledger", "--force")
    assert code == Refused.exit_code
    assert "id 2 on n1, id 1 on n2" in err
    assert ids(two) == before
    cure = err.rpartition("repeat this with ")[2].split()
    assert run("-H", "*", "module", "install", "ledger", *cure)[0] == 0
    assert ids(two) == {"n1": {"ledger": 1}, "n2": {"ledger": 1}}


def test_a_node_that_does_not_tell_its_modules_gets_none(
    two: Two, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDS_SECONDS", 0.5)
    two.pop("n2").close(children=False)
    code, _, err = run("-H", "*", "module", "install", "ledger")
    assert code == 5
    assert "n2: its agent does not tell which modules it has" in err
    assert ids(two) == {"n1": {"ledger": 1}}


def test_different_ids_are_told_with_the_cure_once_a_mirror_is_configured(
    two: Two, run: Run
) -> None:
    put(two["n1"], "app", 2)
    put(two["n2"], "app", 1)
    code, out, err = run("module", "config", "app")
    assert (code, out) == (0, "n1: app is configured\n")
    assert "note: module app has id 2 on n1, id 1 on n2" in err
    assert "On n1 stop it" in err
    for words in re.findall("`mirrorfarm ([^`]*)`", err):
        assert run(*words.split())[0] == 0
    assert ids(two) == {"n1": {"app": 1}, "n2": {"app": 1}}
    assert run("module", "config", "app") == (0, "n1: app is configured\n", "")


def test_a_module_that_runs_keeps_its_id(two: Two, run: Run) -> None:
    paths = two["n1"].paths
    put(two["n1"], "app", 1)
    force = ("module", "install", "app", "--from", "ledger", "--force", "--id")
    with running(two["n1"], "app", {"state": "PRIM"}):
        for words in (("-H", "*"), ()):
            code, _, err = run(*words, *force, "2")
            assert code == Refused.exit_code
            assert "app is PRIM on n1: stop it first with `mirrorfarm -H n1 stop -m app`" in err
            assert install.installed(paths) == [("app", 1)]
    assert "n1: module app is installed with id 2" in run(*force, "2")[1]
    two.pop("n1").close(children=False)
    lock = hold_lock(lock_path(paths, "app"))
    try:
        code, _, err = run(*force, "3")
        assert (code, install.installed(paths)) == (Refused.exit_code, [("app", 2)])
        assert f"app runs here as process {os.getpid()}" in err
        assert run(*force, "2")[0] == 0, "its id is the same"
    finally:
        os.close(lock)
    assert run(*force, "3")[0] == 0
    assert install.installed(paths) == [("app", 3)]


@pytest.fixture
def different(two: Two) -> Two:
    """Both run a mirror, with ids that differ."""
    for number, (node, agent) in zip((2, 1), two.items(), strict=True):
        put(agent, "app", number)
        install.configure(agent.paths, "app")
        agent._unstartable["app"] = f"{node} was not told to start it"
    return two


TOLD = "module app has id 2 on n1, id 1 on n2: the ids must be the same"


def mirror(node: str, number: int, **changes: Any) -> dict[str, Any]:
    return state_json(module="app", node=node, mode="mirror", id=number) | changes


def test_the_state_of_several_nodes_tells_ids_that_differ(different: Two, run: Run) -> None:
    n1, n2 = different.values()
    with running(n1, "app", mirror("n1", 2)), running(n2, "app", mirror("n2", 1)):
        for words in ((), ("-m", "app")):
            code, out, err = run("-H", "*", "state", *words)
            assert (code, out.count("PRIM")) == (0, 2)
            assert f"note: {TOLD}" in err
            assert "`mirrorfarm module install app --from" in err
        rows = json.loads(run("-H", "*", "state", "--json")[1])
        assert [row["id_conflict"].startswith(TOLD) for row in rows] == [True, True]
        assert run("state")[2] == ""
        assert "id_conflict" not in run("state", "--json")[1]


def test_an_order_to_start_several_nodes_tells_ids_that_differ(different: Two, run: Run) -> None:
    n1, n2 = different.values()
    with running(n1, "app", mirror("n1", 2)), running(n2, "app", mirror("n2", 1)):
        for verb, hosts, told in (("start", "*", 1), ("prim", "n1", 0), ("stop", "n1,n2", 0)):
            err = run("-H", hosts, verb, "-m", "app", "--timeout", "0.1")[2]
            assert err.count(f"note: {TOLD}") == told


def test_the_id_of_what_does_not_tell_it_is_the_one_that_its_agent_knows(
    different: Two, run: Run
) -> None:
    n1, n2 = different.values()
    older = mirror("n1", 2)
    del older["id"]
    with running(n1, "app", older):
        code, out, err = run("-H", "*", "state")
        assert code == 0
        assert "NOT RUNNING" in out
        assert f"note: {TOLD}" in err
        with running(n2, "app", mirror("n2", 2)):
            assert run("-H", "*", "state")[2] == "", "it runs by that one"


@pytest.mark.parametrize("changes", [{"mode": "farm"}, {"mode": "light"}, {"mode": None}])
def test_only_ids_of_a_mirror_must_be_the_same(
    different: Two, run: Run, changes: dict[str, Any]
) -> None:
    n1, n2 = different.values()
    with (
        running(n1, "app", mirror("n1", 2, **changes)),
        running(n2, "app", mirror("n2", 1, **changes)),
    ):
        assert run("-H", "*", "state")[2] == ""


def test_a_node_that_does_not_answer_is_not_compared(
    two: Two, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDS_SECONDS", 0.5)
    put(two["n1"], "app", 2)
    put(two["n2"], "app", 1)
    two.pop("n2").close(children=False)
    assert run("module", "config", "app") == (0, "n1: app is configured\n", "")


def test_nodes_of_a_farm_may_have_different_ids(two: Two, run: Run) -> None:
    for number, agent in enumerate(two.values(), 1):
        install.install(agent.paths, "farm", source="farm", module_id=number)
    assert run("module", "config", "farm") == (0, "n1: farm is configured\n", "")


def test_the_id_is_one_that_no_other_module_has() -> None:
    assert common_id("app", {"n1": {}, "n2": {}}) == 1
    assert common_id("app", {"n1": {"a": 1, "damaged": 0}, "n2": {"b": 3}}) == 2
    assert common_id("app", {"n1": {"app": 5}, "n2": {"b": 3}}) == 5
    with pytest.raises(Refused, match=r"app has id 1 on n1, .* --force --id 2$"):
        common_id("app", {"n1": {"app": 1}, "n2": {"b": 1}})
    full = {f"m{number}": number for number in range(1, MODULES_MAX + 1)}
    with pytest.raises(Refused, match="no id from 1 to 256 is free on all of n1, n2"):
        common_id("app", {"n1": full, "n2": {}})


def test_the_id_to_agree_on_is_that_of_a_node_where_it_can_be() -> None:
    assert not disagreement("app", {"n1": {"app": 1}, "n2": {"app": 1}, "n3": {}}, "/etc/app")
    assert not disagreement("app", {"n1": {"app": 1}, "n2": {"app": 0}}, "/etc/app")
    text = disagreement("app", {"n1": {"app": 2}, "n2": {"app": 1}, "n3": {"b": 1}}, "/etc/app")
    assert "On n2 stop it, then run there" in text
    assert "`mirrorfarm module install app --from /etc/app --force --id 2`" in text
