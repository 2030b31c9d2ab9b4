"""Facts, reasons, commands and their answers, for any state machine (L7)."""

from collections import deque
from dataclasses import dataclass, field

from mirrorfarm.actors.effects import ANY_EFFECT, Log, Send, Tell
from mirrorfarm.actors.events import Started
from mirrorfarm.actors.module import answers
from mirrorfarm.actors.module.answers import Pending
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import Command, CommandResult

ADMIN = Address("n1", "cli-1", "cli")


@dataclass
class State:
    facts: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=3))
    reason: str = ""
    would_change: str = ""
    command: str = ""
    out: list[ANY_EFFECT] = field(default_factory=list)
    early: list[tuple[Address, Command]] = field(default_factory=list)
    pending: list[Pending] = field(default_factory=list)
    answered: dict[str, tuple[str, str]] = field(default_factory=dict)
    loop: list[int] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    def obey(self, command: Command) -> str:
        self.done.append(command.verb)
        return "no" if command.verb == "dance" else ""

    def order(
        self, request: str, verb: str = "start", *, ready: bool = True, identity: str = ""
    ) -> str:
        command = Command(request, verb, "test", identity=identity)
        answers.take(self, ADMIN, command, 5, self.obey if ready else None)
        return self.last()

    def last(self) -> str:
        sent = [e.message for e in self.out if isinstance(e, Send)]
        assert isinstance(sent[-1], CommandResult)
        return f"{sent[-1].request} {sent[-1].outcome}: {sent[-1].text}"


def test_a_request_is_done_once_however_often_it_comes() -> None:
    s = State()
    assert s.order("a") == "a accepted: start begins"
    assert s.order("a") == "a accepted: under way"
    answers.settle(s, lambda _: "done", "n1 is UP Ready")
    assert s.last() == "a done: n1 is UP Ready"
    assert s.order("a") == "a done: n1 is UP Ready"
    assert s.done == ["start"]


def test_a_refusal_is_remembered_too() -> None:
    s = State()
    assert s.order("a", "dance") == "a refused: no"
    assert s.order("a", "dance") == "a refused: no"
    assert s.done == ["dance"]


def test_what_is_not_decided_yet_stays_owed() -> None:
    s = State()
    s.order("a")
    answers.settle(s, lambda _: "", "")
    assert [pending.request for pending in s.pending] == ["a"]


def test_too_many_at_once_are_refused_and_old_answers_are_forgotten() -> None:
    s = State()
    for number in range(answers.PENDING_MAX):
        s.order(f"r{number}")
    assert "too many" in s.order("more")
    answers.settle(s, lambda _: "done", "")
    assert len(s.answered) == answers.PENDING_MAX


def test_a_process_that_is_not_ready_keeps_a_command_once() -> None:
    s = State()
    for _ in range(2):
        assert "just starting" in s.order("a", ready=False)
    assert [command.request for _, command in s.early] == ["a"]


def test_facts_are_bounded_and_logged() -> None:
    s = State()
    for number in range(5):
        answers.fact(s, number, f"fact {number}")
    assert [text for _, text in s.facts] == ["fact 2", "fact 3", "fact 4"]
    assert s.out[0] == Log("E", "fact 0")


def test_a_reason_is_replaced_as_a_whole() -> None:
    s = State()
    answers.explain(s, "why", "what", "how")
    answers.explain(s, "other")
    assert (s.reason, s.would_change, s.command) == ("other", "", "")


def test_another_actor_is_told() -> None:
    s = State()
    answers.tell(s, "vip", Started())
    assert s.out == [Tell("vip", Started())]


def test_one_restart_too_many_is_noticed_within_its_interval_only() -> None:
    s = State()
    hour = 3600 * SECOND_NS
    assert [answers.loops_too_often(s, at * hour, 24 * hour, 2) for at in (1, 2, 3)] == [
        False,
        False,
        True,
    ]
    assert not answers.loops_too_often(s, 60 * hour, 24 * hour, 2)
    assert not any(answers.loops_too_often(s, 61 * hour, 0, 2) for _ in range(9))
    assert answers.loops_too_often(s, 62 * hour, 24 * hour, 1)
    assert "Action stop called by maxloop: 2 in the interval" in s.facts[-1][1]
    s.order("a", identity="start_prim")
    s.order("b", "traffic")
    assert s.loop, "scripts order that by themselves"
    s.order("c")
    assert s.loop == []  # An administrator has looked at it.
