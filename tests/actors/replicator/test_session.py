"""A session whose copy or stream fails in a way that nobody foresaw."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from mirrorfarm.actors.replicator import frames, inventory
from mirrorfarm.actors.replicator.carrier import Carrier
from mirrorfarm.actors.replicator.core import PlaneSessionBroken, PlaneSessionUp
from mirrorfarm.actors.replicator.exclusions import Exclusions
from mirrorfarm.actors.replicator.naming import Names
from mirrorfarm.actors.replicator.session import Session
from mirrorfarm.actors.replicator.wire import Link, StreamKeys
from mirrorfarm.limits import UNACKED_FRAMES_MAX
from mirrorfarm.oserrors import told


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
        self.lost: list[tuple[int, str]] = []
        carrier = Carrier(held=lambda: None, lost=lambda *what: self.lost.append(what))
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


@pytest.mark.parametrize("error", [errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.EACCES])
def test_a_disk_that_cannot_be_read_for_the_copy_is_named_with_a_cure(
    case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: int
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(Names, "introduce", fails)
    root = inventory.open_directory(bytes(tmp_path))
    case.session.start("full", [root], [Exclusions()])
    case.session.session_up()
    until(lambda: len(case.said) == 2)
    os.close(root)
    named = OSError(error, os.strerror(error), tmp_path)
    assert case.said[1] == PlaneSessionBroken(1, 2, f"the copy failed: {told(named)}")
    lost = (error, f"{tmp_path}: {os.strerror(error)}")
    assert case.lost == [lost] * (error != errno.EACCES)


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


def test_an_application_does_not_wait_for_one_long_order_of_the_copy(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target tells that it lives; but what is under way is as much as may be."""
    now, source = [time.monotonic_ns()], case.session.source
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])

    def go_on_for(seconds: int) -> None:
        for _ in range(5 * seconds):
            now[0] += 200_000_000
            case.session.acknowledged()

    for _ in range(UNACKED_FRAMES_MAX):
        source.send(frames.OP, b"")
    go_on_for(100)
    assert not source.broken, "nobody waits yet"
    source.send(frames.OP, b"")
    go_on_for(19)
    source.acked += 1
    go_on_for(20)
    assert not source.broken, "there is progress"
    go_on_for(2)
    assert source.broken == "the application waits for the copy longer than 20000 ms"
