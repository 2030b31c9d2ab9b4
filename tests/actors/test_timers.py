"""Events come back at their time, in its order, and never before."""

import queue
from typing import Any

import pytest

from mirrorfarm.actors.timers import Timers, boot_clock_ns
from mirrorfarm.limits import MILLISECOND_NS


@pytest.fixture
def timers() -> Any:
    made = Timers()
    yield made
    made.close()


def test_the_earlier_one_comes_first_whatever_was_ordered_first(timers: Timers) -> None:
    came: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
    now = boot_clock_ns()
    for name, milliseconds in (("late", 60), ("early", 20), ("past", -5)):
        at = now + milliseconds * MILLISECOND_NS
        timers.later(at, (name, at), lambda event: came.put((event[0], boot_clock_ns() - event[1])))
    got = [came.get(timeout=5) for _ in range(3)]
    assert [name for name, _ in got] == ["past", "early", "late"]
    assert all(late_ns >= 0 for _, late_ns in got)


def test_those_of_the_same_moment_keep_their_order(timers: Timers) -> None:
    came: queue.SimpleQueue[int] = queue.SimpleQueue()
    at = boot_clock_ns() + 20 * MILLISECOND_NS
    for number in range(50):
        timers.later(at, number, came.put)
    assert [came.get(timeout=5) for _ in range(50)] == list(range(50))


def test_after_the_end_nothing_comes() -> None:
    timers = Timers()
    came: queue.SimpleQueue[int] = queue.SimpleQueue()
    timers.later(boot_clock_ns() + 50 * MILLISECOND_NS, 1, came.put)
    timers.close()
    with pytest.raises(queue.Empty):
        came.get(timeout=0.15)
