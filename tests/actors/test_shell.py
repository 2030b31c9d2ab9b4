"""A core behind its thread: one event at a time, recorded before its effects are performed."""

import queue
import threading
from dataclasses import dataclass, field
from typing import Any

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors.shell import Inbox, Shell, Visit


@dataclass
class Echo:
    """A core that asks to log what it is told, and breaks on demand."""

    def handle(self, event: Any, now: int) -> list[Any]:
        if event == "break":
            raise AssertionError("broken")
        return [fx.Log("I", f"{event} at {now}"), fx.Log("D", "done")]


@dataclass
class Notebook:
    """Doors that write down what is done, in its order."""

    steps: queue.SimpleQueue[tuple[Any, ...]] = field(default_factory=queue.SimpleQueue)
    inbox: Inbox | None = None

    def now(self) -> int:
        return 77

    def perform(self, actor: str, effect: Any, inbox: Inbox) -> None:
        self.inbox = inbox
        self.steps.put(("did", actor, effect.text))

    def record(self, actor: str, now: int, event: Any, effects: list[Any]) -> None:
        self.steps.put(("noted", actor, event, now, len(effects)))

    def failed(self, actor: str, error: BaseException) -> None:
        self.steps.put(("failed", actor, str(error)))

    def next(self) -> tuple[Any, ...]:
        return self.steps.get(timeout=5)


def test_a_step_is_recorded_before_its_effects_and_these_keep_their_order() -> None:
    doors = Notebook()
    shell = Shell.start("echo", Echo(), doors)
    shell.tell("one")
    shell.tell("two")
    got = [doors.next() for _ in range(6)]
    shell.stop()
    assert got[:3] == [
        ("noted", "echo", "one", 77, 2),
        ("did", "echo", "one at 77"),
        ("did", "echo", "done"),
    ]
    assert got[3][2] == "two"


def test_a_core_that_breaks_is_told_to_the_doors_and_gets_nothing_more() -> None:
    doors = Notebook()
    shell = Shell.start("echo", Echo(), doors)
    shell.tell("break")
    assert doors.next() == ("noted", "echo", "break", 77, 0), "what broke it is in the trace"
    assert doors.next() == ("failed", "echo", "broken")
    assert not shell.is_alive()


def test_a_door_may_bring_an_event_to_an_actor_that_has_ended() -> None:
    doors = Notebook()
    shell = Shell.start("echo", Echo(), doors)
    shell.tell("one")
    for _ in range(3):
        doors.next()
    shell.stop(block=True, timeout=5)
    assert doors.inbox is not None
    doors.inbox("too late")
    assert doors.steps.empty()


def test_a_visit_sees_the_core_on_its_own_thread_and_is_no_event() -> None:
    doors, core = Notebook(), Echo()
    seen: queue.SimpleQueue[tuple[Any, str]] = queue.SimpleQueue()
    shell = Shell.start("echo", core, doors)
    shell.tell(Visit(lambda one: seen.put((one, threading.current_thread().name))))
    visited, thread = seen.get(timeout=5)
    shell.stop(block=True, timeout=5)
    assert visited is core
    assert thread != threading.main_thread().name
    assert doors.steps.empty()
