"""Steps follow one another, each after the result of the one before."""

from collections import deque
from dataclasses import dataclass, field

from mirrorfarm.actors.module.procedure import Procedures


@dataclass
class State:
    """What the procedure of a test remembers, and what it has begun."""

    steps: deque[str] = field(default_factory=deque)
    step: str = ""
    token: int = 0
    begun: list[str] = field(default_factory=list)
    open: bool = False


def start(s: State, now: int, word: str, rest: str) -> None:
    s.token += 1
    s.begun.append(f"{word}({rest}) at {now}")
    if word == "note":  # Nothing is waited for.
        s.step = ""


def is_over(s: State, now: int) -> bool:
    return s.open if s.step == "gate" else s.step == "wait" and now >= 9


def holds(s: State, now: int) -> str:
    return "gate" if s.steps[0] == "enter" and not s.open else ""


PROCEDURES = Procedures(start, is_over, holds)


@PROCEDURES.continuation
def finished(s: State, now: int) -> None:
    s.begun.append(f"finished at {now}")


def test_a_step_waits_for_its_own_result_and_for_no_other() -> None:
    s = State()
    PROCEDURES.begin(s, 1, "kill now", "vip down", "then finished")
    assert s.begun == ["kill(now) at 1"]
    PROCEDURES.complete(s, 2, "kill", s.token + 1)
    PROCEDURES.complete(s, 2, "vip down", s.token)
    assert s.step == "kill now"
    PROCEDURES.complete(s, 3, "kill", s.token)
    PROCEDURES.complete(s, 4, "vip down", s.token)
    assert s.begun[1:] == ["vip(down) at 3", "finished at 4"]
    assert not s.step


def test_a_new_procedure_takes_the_place_of_the_one_that_runs() -> None:
    s = State()
    PROCEDURES.begin(s, 1, "kill", "vip up")
    old = s.token
    PROCEDURES.begin(s, 2, "note", "vip down")
    PROCEDURES.complete(s, 3, "kill", old)
    assert s.step == "vip down"
    assert not s.steps


def test_what_nobody_reports_is_looked_at_and_over_at_once_means_the_next_one() -> None:
    s = State()
    PROCEDURES.begin(s, 1, "note", "wait", "then finished")
    PROCEDURES.advance(s, 8)
    assert s.begun == ["note() at 1", "wait() at 1"]
    PROCEDURES.advance(s, 9)
    assert s.begun[-1] == "finished at 9"


def test_a_step_is_held_back_until_what_holds_it_is_gone() -> None:
    s = State()
    PROCEDURES.begin(s, 1, "note", "enter", "then finished")
    assert (s.step, list(s.steps)) == ("gate", ["enter", "then finished"])
    PROCEDURES.advance(s, 2)
    assert s.begun == ["note() at 1"]
    s.open = True
    PROCEDURES.advance(s, 3)
    assert s.begun[-1] == "enter() at 3"
