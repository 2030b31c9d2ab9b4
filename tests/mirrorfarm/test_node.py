"""What an agent does with a module that may run."""

import errno
import os
import queue
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from mirrorfarm import node
from mirrorfarm.cli.client import exit_code_of, settled
from mirrorfarm.cli.module import AGENT_SECONDS
from mirrorfarm.errors import ConfigInvalid, MirrorfarmError, Refused, SystemUnsuitable
from mirrorfarm.modules import install
from mirrorfarm.node import ORDERS_MAX, Agent
from mirrorfarm.order_desk import Desk
from mirrorfarm.paths import Paths
from mirrorfarm.process import hold_lock, lock_path
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.keys import create_cluster
from mirrorfarm.transport.messages import AgentCommand, AgentResult, StateAnswer, StateQuery


class Fake:
    """As much of an agent's surroundings as a question for a module's state needs."""

    name = "n1"

    def __init__(self, agent: Any, *states: str | None) -> None:
        self.agent, self.states = agent, states
        self.ended: list[str] = []
        self.begun: list[str] = []
        self.patience: dict[str, float] = {}
        self.age = 3_600.0
        self.first: tuple[str | None, ...] = (None,)  # Answers to the first questions,
        self.late = self.asked = 0  # to so many, and how many there were.

    def pids(self) -> dict[str, int]:
        return {"app": 4711}

    def send(self, to: Any, actor: str, query: StateQuery) -> None:
        """Answer; None stands for no answer to the question, `old …` for one to an earlier one."""
        del to, actor
        self.asked += 1
        for state in self.first if self.asked <= self.late else self.states:
            if state is not None:
                request = "earlier" if state.startswith("old ") else query.request
                word, _, status = state.removeprefix("old ").partition("/")
                text = msgspec.json.encode({"state": word, "status": status or "Ready"})
                self.agent._states.put(StateAnswer(request, text))

    def unwant(self, name: str, timeout_seconds: float = 85) -> None:
        self.ended.append(name)
        self.patience[name] = timeout_seconds

    def want(self, name: str, *_: Any) -> None:
        self.begun.append(name)

    def age_seconds(self, name: str) -> float:
        del name
        return self.age

    def trouble(self, name: str) -> None:
        del name


def asked(*states: str | None) -> Any:
    agent: Any = object.__new__(Agent)
    agent._states = queue.Queue()
    agent.keys = agent.children = agent.hub = Fake(agent, *states)
    return agent


def test_an_order_that_breaks_is_answered_and_the_next_one_is_performed() -> None:
    def perform(command: AgentCommand) -> AgentResult:
        if not command.arguments:
            raise ValueError("not enough values to unpack")
        return AgentResult(command.request, "done", "")

    desk = Desk(perform)
    broken = desk.answer(AgentCommand("1", "config", "test"))
    assert broken.outcome == "failed"
    assert "config: the agent failed (ValueError" in broken.text
    assert desk.answer(AgentCommand("2", "config", "test", ("app",))).outcome == "done"


def test_a_stopped_module_may_be_configured() -> None:
    asked("STOP")._require_stopped("app")
    asked("old PRIM", "STOP")._require_stopped("app")


@pytest.mark.parametrize("earlier", ["old STOP", "old PRIM"])
def test_a_running_module_is_not_taken_for_stopped_by_an_earlier_answer(earlier: str) -> None:
    with pytest.raises(Refused, match="app is PRIM on n1: stop it first"):
        asked(earlier, "PRIM")._require_stopped("app")


def test_a_module_that_does_not_answer_may_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "STATE_SECONDS", 0.1)
    asked(None)._require_stopped("app")
    asked("old PRIM")._require_stopped("app")


@pytest.mark.parametrize("first", [None, "STOP/Transient"])
@pytest.mark.parametrize(("late", "age"), [(1, 3_600.0), (8, 0.5)])
def test_a_module_that_has_just_begun_is_not_taken_for_one_that_hangs_or_is_stopped(
    first: str | None, late: int, age: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process, or this agent, was started a moment ago: it goes on as before."""
    monkeypatch.setattr(node, "STATE_SECONDS", 0.2)
    monkeypatch.setattr(node, "REPEAT_SECONDS", 0.04)
    agent = asked("PRIM")
    agent.hub.first, agent.hub.late, agent.children.age = (first,), late, age
    with pytest.raises(Refused, match="app is PRIM on n1: stop it first"):
        agent._require_stopped("app")


def test_a_module_that_does_not_get_beyond_its_beginning_counts_as_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As one whose replicator does not come to run: perhaps a configuration mends that."""
    monkeypatch.setattr(node, "STATE_SECONDS", 0.1)
    assert asked("STOP/Transient")._require_stopped("app") == "STOP"


class Busy:
    """An agent whose orders last until they are let go."""

    def __init__(self) -> None:
        self.agent = cast("Any", object.__new__(Agent))
        self.free = threading.Event()
        self.answered: queue.Queue[tuple[Address, AgentResult]] = queue.Queue()
        self.agent._desk = self.agent._checks = Desk(self.perform)
        self.agent._looks = Desk(lambda command: AgentResult(command.request, "done", "looked"))
        self.agent._under_way = {}
        self.agent.hub = self

    def perform(self, command: AgentCommand) -> AgentResult:
        assert self.free.wait(20)
        return AgentResult(command.request, "done", "")

    def send(self, to: Address, actor: str, result: AgentResult) -> None:
        del actor
        self.answered.put((to, result))


def test_what_a_node_orders_and_repeats_without_end_takes_few_threads() -> None:
    busy, before = Busy(), threading.active_count()
    one, other = (Address(node, "cli-1", "cli") for node in ("n2", "n3"))
    for number in range(500):
        busy.agent._take(one, AgentCommand(f"{number}", "config", "x", ("app",)))
        busy.agent._take(one, AgentCommand("0", "config", "x", ("app",)))
    assert threading.active_count() <= before + ORDERS_MAX
    busy.agent._take(other, AgentCommand("0", "config", "x", ("app",)))
    busy.free.set()
    answered = [busy.answered.get(timeout=20)[0].node for _ in range(ORDERS_MAX + 1)]
    assert answered.count("n2") == ORDERS_MAX
    assert answered.count("n3") == 1, "others are not kept out"


def test_a_question_waits_for_no_order() -> None:
    busy, asker = Busy(), Address("n1", "cli-1", "cli")
    busy.agent._take(asker, AgentCommand("1", "config", "x", ("app",)))
    busy.agent._take(asker, AgentCommand("2", "modules", "x"))
    assert busy.answered.get(timeout=5)[1] == AgentResult("2", "done", "looked")
    busy.free.set()
    assert busy.answered.get(timeout=5)[1].request == "1"


def test_answers_that_nobody_waits_for_are_not_kept() -> None:
    agent = asked()
    agent._asked = "1"
    frames: Any = [
        SimpleNamespace(source=Address(node, "app", "module"), message=StateAnswer(request, b"{}"))
        for node, request in (("n2", "1"), ("n1", "2"), ("n1", "1"))
    ]
    for frame in frames:
        agent._on_message(frame, "red")
    assert agent._states.qsize() == 1


@pytest.fixture
def configured(tmp_path: Path) -> Any:
    """An agent on which a module is configured, and is stopped."""
    agent = asked("STOP")
    agent.paths, agent._unstartable = Paths(tmp_path), {}
    agent.paths.etc.mkdir(parents=True)
    agent.paths.cluster_xml.write_text(CLUSTER)
    install.install(agent.paths, "app", source="farm")
    install.configure(agent.paths, "app")
    return agent


CLUSTER = """<cluster><lans><lan name="default">
<node name="n1" addr="198.18.0.1"/><node name="n2" addr="198.18.0.2"/></lan></lans></cluster>"""


def test_an_uninstallation_that_is_refused_ends_no_process(configured: Any) -> None:
    with pytest.raises(Refused, match="module deconfig app"):
        configured._uninstall(AgentCommand("1", "uninstall", "x", ("app",)))
    assert configured.children.ended == []


def test_a_module_that_cannot_be_deconfigured_runs_on(
    configured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(install, "deconfigure", refuse)
    with pytest.raises(OSError, match="Read-only"):
        configured._deconfig(AgentCommand("1", "deconfig", "x", ("app",)))
    assert configured.children.begun == ["app"]


def test_a_module_keeps_its_id_as_long_as_it_runs(configured: Any) -> None:
    package = install.package(configured.paths, "app")

    def give(number: str) -> None:
        configured._install(AgentCommand("1", "install", "x", ("app", number, "force"), package))

    configured.children.states = ("UP",)
    with pytest.raises(Refused, match=r"keeps its id .*: app is UP on n1: .* -H n1 stop -m app`"):
        give("7")
    give("")
    give("1")
    assert install.installed(configured.paths) == [("app", 1)]
    assert configured.children.ended == []
    configured.children.states = ("STOP",)
    give("7")
    assert install.installed(configured.paths) == [("app", 7)]
    assert configured.children.ended == ["app", "app.replica"], "they have the old id"
    assert configured.children.begun == ["app"]


def test_why_a_configured_module_cannot_be_started_is_told_later_as_well(
    configured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise Refused("it does not fit")

    monkeypatch.setattr(install, "load_module", refuse)
    monkeypatch.setattr(install, "configure", lambda *_, **__: None)
    with pytest.raises(Refused):
        configured._config(AgentCommand("1", "config", "x", ("app",)))
    assert configured._unstartable == {"app": "it does not fit"}


def test_what_runs_by_a_configuration_that_fits_no_more_is_watched(configured: Any) -> None:
    (configured.paths.cluster_xml).write_text("<cluster/>")
    lock = hold_lock(lock_path(configured.paths, "app"))
    try:
        with pytest.raises(ConfigInvalid):
            configured._start_or_tell("app")
    finally:
        os.close(lock)
    assert configured.children.begun == ["app"], "else it could not be stopped"
    with pytest.raises(ConfigInvalid):
        configured._start_or_tell("app")
    assert configured.children.begun == ["app"], "nothing runs any more"


def test_a_process_that_hangs_is_not_waited_for_longer_than_the_command_waits(
    configured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    children = configured.children
    configured._deconfig(AgentCommand("1", "deconfig", "x", ("app",)))
    stopped = dict(children.patience)
    monkeypatch.setattr(node, "STATE_SECONDS", 0.1)
    children.states = (None,)
    install.configure(configured.paths, "app")
    configured._deconfig(AgentCommand("2", "deconfig", "x", ("app",)))
    assert children.ended == ["app", "app.replica"] * 2
    both = 2 * sum(children.patience.values())  # A signal after the other.
    assert max(node.STATE_SECONDS, node.START_SECONDS) + both < AGENT_SECONDS < stopped["app"]
    assert stopped["app.replica"] == children.patience["app.replica"], "it holds nothing"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (ConfigInvalid(("app: one", "app: two")), 3),
        (Refused("no"), 6),
        (SystemUnsuitable("no room"), 8),
        (OSError(errno.ENOSPC, "No space left on device", "/var"), 8),
    ],
)
def test_what_an_agent_refuses_has_the_exit_code_that_it_has_without_one(
    fault: Exception, code: int
) -> None:
    def perform(command: AgentCommand) -> AgentResult:
        raise fault

    answer = Desk(perform).answer(AgentCommand("1", "config", "x", ("app",)))
    with pytest.raises(MirrorfarmError) as raised:
        settled(answer.outcome, answer.text, exit_code_of(answer))
    assert raised.value.exit_code == code
    assert str(raised.value) == answer.text


@pytest.mark.parametrize(("outcome", "code"), [("refused", 6), ("failed", 1)])
@pytest.mark.parametrize("told", [b"", b"[]", b'{"exit_code": "x"}', b'{"exit_code": 0}'])
def test_an_agent_that_tells_no_exit_code_is_understood(
    outcome: str, code: int, told: bytes
) -> None:
    answer = AgentResult("1", outcome, "so it is", told)
    with pytest.raises(MirrorfarmError, match="so it is") as raised:
        settled(answer.outcome, answer.text, exit_code_of(answer))
    assert raised.value.exit_code == code


@pytest.mark.parametrize(
    ("name", "cure"), [("w1", "run `mirrorfarm witness` here"), ("n2", r"nodes: n1, n3")]
)
def test_a_machine_that_is_no_node_of_the_cluster_runs_no_agent(
    tmp_path: Path, name: str, cure: str
) -> None:
    paths, witness = Paths(tmp_path / "node"), '<witness name="w1" addr="198.18.0.3"/></cluster>'
    text = CLUSTER.replace("</cluster>", witness)
    create_cluster(text, ["n1", "n2"], ["w1"], name, paths, tmp_path / "bundles")
    paths.cluster_xml.write_text(text.replace("n2", "n3"))
    with pytest.raises(ConfigInvalid, match=cure):
        Agent(paths)
