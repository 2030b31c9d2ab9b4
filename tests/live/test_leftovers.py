"""A module whose process does not come up any more is not taken away from what it left running."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm import leftovers, node
from mirrorfarm.absence import NOT_RUNNING
from mirrorfarm.actors.cgroup import Cgroup, scope_of
from mirrorfarm.actors.replicator.fuse import mount
from mirrorfarm.actors.replicator.fuse.filesystem import FileSystem
from mirrorfarm.actors.replicator.journal import LocalJournal
from mirrorfarm.cli.main import Scope
from mirrorfarm.cli.module import deconfig, uninstall
from mirrorfarm.errors import Refused
from mirrorfarm.lab.configuration import mirror_xml
from mirrorfarm.lab.network import batch, inside, order, unique_prefix
from mirrorfarm.modules import install
from mirrorfarm.modules.settings import Farm, FarmAddress, Module
from mirrorfarm.paths import Paths
from mirrorfarm.process import hold_lock, replica_lock_path
from mirrorfarm.transport.keys import create_cluster
from mirrorfarm.transport.messages import AgentCommand
from tests.mirrorfarm.test_node import CLUSTER, asked

pytestmark = pytest.mark.live
ADDRESSES = ("198.18.0.9", "2001:db8::9")
ORDERS = ("deconfig", "uninstall")
REPLICATOR = """
import sys, time
from pathlib import Path
from mirrorfarm.actors.replicator.fuse.filesystem import FileSystem
from mirrorfarm.actors.replicator.journal import LocalJournal
from mirrorfarm.process import hold_lock
kept = hold_lock(Path(sys.argv[1]))
system = FileSystem(sys.argv[2], 0, LocalJournal())
system.mount()
print("mounted", flush=True)
time.sleep(600)
"""


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Any]:
    """An agent that has a mirror, whose process does not run."""
    data = tmp_path / "data"
    data.mkdir()
    paths = Paths(tmp_path / "node")
    create_cluster(CLUSTER, ["n1", "n2"], [], "n1", paths, tmp_path / "bundles")
    text = mirror_xml(networks=("default",), vips=ADDRESSES, directories=(str(data),))
    source = tmp_path / "source"
    (source / "conf").mkdir(parents=True)
    (source / "conf/userconfig.xml").write_text(text.replace(' ident="flow"', ""))
    install.install(paths, "app", source=source)
    install.configure(paths, "app")
    made = asked(NOT_RUNNING)
    made.paths, made._unstartable = paths, {"app": "it fits no more"}
    yield made
    mount.clear_leftover(os.fsencode(data))


def told(agent: Any, verb: str) -> str:
    """Return the refusal of an order; nothing is ended by it."""
    with pytest.raises(Refused) as refused:
        getattr(agent, f"_{verb}")(AgentCommand("1", verb, "x", ("app",)))
    assert agent.children.ended == []
    assert install.configured(agent.paths) == ["app"]
    return str(refused.value)


def take_away(agent: Any) -> None:
    for verb in ORDERS:
        getattr(agent, f"_{verb}")(AgentCommand("2", verb, "x", ("app",)))
    assert install.installed(agent.paths) == []


@pytest.fixture
def application(agent: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """A process in the control group of the application."""
    cgroup = Cgroup(scope_of(agent.paths.root, "n1", "app"))
    cgroup.create()
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    cgroup.add(process.pid)
    yield process
    process.kill()
    process.wait()
    cgroup.remove()


@pytest.mark.parametrize("states", [(NOT_RUNNING,), ("no pid",), (None,)])
def test_an_application_that_lives_keeps_its_module(
    agent: Any,
    application: "subprocess.Popen[bytes]",
    states: tuple[str | None, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(node, "STATE_SECONDS", 0.1)
    agent.children.states = states
    if states == ("no pid",):
        monkeypatch.setattr(agent.children, "pids", dict)
    for verb in ORDERS:
        text = told(agent, verb)
        why = "it fits no more" if states[0] else "its process does not answer: `kill -9 4711` "
        assert f"app cannot be stopped on n1 ({why}" in text
        assert f"process {application.pid} (" in text
        assert "`mirrorfarm -H n1 stop -m app`" in text
        assert f"`kill {application.pid}`" in text
    application.kill()  # It is not waited for: a process that ended keeps nothing.
    os.waitid(os.P_PID, application.pid, os.WEXITED | os.WNOWAIT)
    take_away(agent)


def test_the_control_group_goes_with_the_configuration(agent: Any) -> None:
    cgroup = Cgroup(scope_of(agent.paths.root, "n1", "app"))
    cgroup.create()
    assert cgroup.path.exists()
    take_away(agent)
    assert not cgroup.path.exists()


def test_an_address_that_is_left_keeps_its_module(agent: Any) -> None:
    name = f"{unique_prefix()}-a"
    batch([f"netns add {name}"])
    try:
        batch(["link set lo up", *(f"addr add {one} dev lo" for one in ADDRESSES)], name)
        with inside(name):
            (agent.paths.cluster_xml).write_text("<cluster/>")  # Then no process comes up.
            text = told(agent, "deconfig")
            assert "address 198.18.0.9 on lo; address 2001:db8::9 on lo. Mend" in text
            for cure in re.findall("`(ip [^`]*)`", text):
                order(*cure.split())
            take_away(agent)
    finally:
        order("ip", "netns", "del", name)


def test_a_directory_that_is_used_keeps_its_module_and_a_dead_one_is_unmounted(
    agent: Any, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    lock = replica_lock_path(agent.paths, "app")
    words = (sys.executable, "-c", REPLICATOR, str(lock), str(data))
    replicator = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert replicator.stdout is not None
    assert replicator.stdout.readline() == b"mounted\n"
    user = subprocess.Popen(["sleep", "600"], cwd=data)
    try:
        (data / "kept").touch()
        text = told(agent, "deconfig")
        assert f"process {user.pid} (sleep 600), which uses {data}. Mend" in text
        assert f"`kill {replicator.pid}`" not in text
        replicator.kill()
        replicator.wait()
        assert f"`kill {user.pid}`" in told(agent, "deconfig")
    finally:
        replicator.kill()
        replicator.communicate()
        user.kill()
        user.wait()
    take_away(agent)
    assert [path.name for path in data.iterdir()] == ["kept"]


def test_a_directory_that_is_still_replicated_keeps_its_module_configured(
    agent: Any, tmp_path: Path
) -> None:
    system = FileSystem(tmp_path / "data", 0, LocalJournal())
    system.mount()
    try:
        with pytest.raises(OSError, match="already mounted"):
            agent._deconfig(AgentCommand("1", "deconfig", "x", ("app",)))
        assert install.configured(agent.paths) == ["app"]
        assert "app" in agent.children.begun
    finally:
        system.unmount()
    take_away(agent)


@pytest.mark.parametrize("command", [deconfig, uninstall])
def test_without_an_agent_it_is_the_same(
    agent: Any, application: "subprocess.Popen[bytes]", command: Any
) -> None:
    call = command.callback.__wrapped__
    with pytest.raises(Refused, match=f"process {application.pid} "):
        call(Scope(agent.paths, ""), "app")


def test_without_an_agent_a_replicator_that_runs_keeps_its_module(agent: Any) -> None:
    replicator = hold_lock(replica_lock_path(agent.paths, "app"))
    try:
        with pytest.raises(Refused, match=f"runs here as process {os.getpid()}"):
            deconfig.callback.__wrapped__(Scope(agent.paths, ""), "app")  # type: ignore[union-attr]
    finally:
        os.close(replicator)


def test_the_filter_of_a_farm_that_has_no_process_goes_with_its_configuration(
    agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mirrorfarm.actors.farm_filter import leftovers as of_farm  # noqa: PLC0415

    farm = Farm(addresses=tuple(FarmAddress(one) for one in ADDRESSES))
    ledger = agent.paths.run / "kernel-parameters.json"
    module = Module("app", 1, ("n1",), "farm", farm=farm)
    of_farm.Leftovers(module, ledger, print).note("nft")
    removed: list[tuple[str, str]] = []
    monkeypatch.setattr(of_farm, "remove_left", lambda *left: removed.append(left))
    leftovers.clear(agent.paths, "app")
    assert removed == [("nft", "app")]
    assert not (agent.paths.run / "app.farm.json").exists()
