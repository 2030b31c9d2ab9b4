"""A session whose copy or stream fails in a way that nobody foresaw."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq

from mirrorfarm.actors.replicator.carrier import Carrier
from mirrorfarm.actors.replicator.core import PlaneSessionBroken, PlaneSessionUp
from mirrorfarm.actors.replicator.session import Session
from mirrorfarm.actors.replicator.wire import Link, StreamKeys


def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class Case:
    """A session whose peer does not answer."""

    def __init__(self) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        self.said: list[Any] = []
        link = Link(self.context, "tcp://127.0.0.1:9", StreamKeys(), 20_000_000_000)
        carrier = Carrier(held=lambda: None, lost=lambda *_: None)
        self.session = Session(carrier, link, (1, 2, 3), self.said.append, lambda: None)


@pytest.fixture
def case() -> Iterator[Case]:
    one = Case()
    yield one
    one.session.close()
    one.context.destroy(0)


def break_rules(*_: Any) -> None:
    raise RuntimeError("can't start new thread")


def test_a_copy_that_breaks_off_for_any_reason_ends_the_session(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(case.session, "_copy", break_rules)
    case.session.start("full", [], [])
    case.session.session_up()
    reason = """the copy failed: RuntimeError("can't start new thread")"""
    until(lambda: len(case.said) == 2)
    assert case.said == [PlaneSessionUp(1, 2), PlaneSessionBroken(1, 2, reason)]


def test_a_stream_whose_thread_fails_is_told_to_be_broken(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(case.session.source, "look", break_rules)
    case.session.start("full", [], [])
    reason = """the stream failed: RuntimeError("can't start new thread")"""
    until(lambda: case.said)
    assert case.said == [PlaneSessionBroken(1, 2, reason)]


def test_a_session_without_a_thread_for_its_copy_can_be_closed(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(case.session._thread, "start", break_rules)
    with pytest.raises(RuntimeError):
        case.session.session_up()
    case.session.close()
