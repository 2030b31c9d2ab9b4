"""The plane when something refuses; only the mounts themselves are a stand-in."""

import contextlib
import errno
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.actors.replicator import libc, mapfile, plane
from mirrorfarm.actors.replicator.core import PlaneDone, PlaneFault, PlaneSessionBroken
from mirrorfarm.actors.replicator.gate import ENDED
from mirrorfarm.actors.replicator.plane import Plane, PlaneSettings
from mirrorfarm.actors.replicator.whereabouts import disk_of
from mirrorfarm.actors.replicator.wire import StreamKeys
from mirrorfarm.modules.settings import Replicated, Replication
from tests.actors.replicator.lost_pages import LostPages


class FileSystem:
    """Stands for a mounted directory; one may be mounted at a place."""

    live: dict[bytes, "FileSystem"] = {}

    def __init__(self, path: str, directory: int, journal: Any, **_: Any) -> None:
        self.path = os.fsencode(path)
        self.backing_fd = -1
        self.aborted = False

    @property
    def mounted(self) -> bool:
        return self.backing_fd >= 0

    def mount(self) -> None:
        if self.path in self.live:
            raise OSError(errno.EBUSY, "already mounted")
        self.backing_fd = os.open(self.path, os.O_PATH)
        self.live[self.path] = self

    def unmount(self, *, lazy: bool) -> None:
        if self.mounted:
            del self.live[self.path]
            os.close(self.backing_fd)
            self.backing_fd = -1

    def abort(self) -> None:
        self.aborted = self.mounted

    def leads(self) -> bool:
        return self.live.get(self.path) is self


class Case:
    """A plane, and what it says to its core."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.data.mkdir()
        (folder / "disk").touch()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            here = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        self.said: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.reports: list[str] = []
        self.ended = threading.Event()
        self.plane = Plane(
            PlaneSettings(
                Replication((Replicated(str(folder / "data"), tocheck=(str(folder / "disk"),)),)),
                1_000_000_000,
                here,
                "tcp://127.0.0.1:9",
                StreamKeys(),
                folder / "changes",
                folder / "quarantine",
            ),
            self.said.put,
            self.reports.append,
            self.ended.set,
        )
        self.run = 0

    def order(self, verb: str, *arguments: Any) -> Any:
        """Give an order and return what is said of it."""
        self.run += 1
        self.plane.order(verb, (self.run, *arguments))
        return self.said.get(timeout=5)

    def lead(self, term: int = 1) -> None:
        assert isinstance(self.order("mount_lead", term, ""), PlaneDone)
        self.order("gate", term, 0, "self", "", False)

    def close(self) -> None:
        self.plane.order("unmount", (0, False, False))
        self.plane.close()


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    monkeypatch.setattr(FileSystem, "live", {})
    monkeypatch.setattr(plane, "FileSystem", FileSystem)
    with contextlib.closing(Case(tmp_path)) as one:
        yield one


def refuse(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def no_thread(_: Any) -> None:
    raise RuntimeError("can't start new thread")


def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def refuse_map(*_: Any) -> None:
    raise OSError(errno.EIO, "Input/output error")


def assert_off(case: Case) -> None:
    """Nothing is mounted, and nothing is acknowledged any more."""
    assert FileSystem.live == {}
    answers: list[int] = []
    case.plane.carrier.gate.when_safe(0, answers.append)
    assert answers == [errno.EIO]
    with pytest.raises(OSError, match="does not lead"):
        case.plane.carrier.gate.try_enter()
    watchdogs = [one for one in threading.enumerate() if isinstance(one, threading.Timer)]
    assert watchdogs == [], "nothing watches what is mounted next"


def test_a_failed_flush_at_a_clean_end_is_told_when_everything_is_ended(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.lead()
    monkeypatch.setattr(libc, "syncfs", refuse)
    assert case.order("unmount", True, False) == PlaneFault(
        case.run, errno.ENOSPC, f"{case.data}: No space left on device"
    )
    assert_off(case)


@pytest.mark.parametrize("role", ["mount_lead", "mount_follow"])
def test_what_the_disk_lost_in_a_role_is_told_at_its_end_although_somebody_was_told_before(
    case: Case, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = LostPages(monkeypatch)
    if role == "mount_lead":
        case.lead()
    else:
        assert isinstance(case.order("mount_follow", 1), PlaneDone)
    pages.lose()
    pages.tell_somebody()
    fault = PlaneFault(case.run + 1, errno.EIO, f"{case.data}: Input/output error")
    assert case.order("unmount", True, False) == fault
    assert_off(case)
    case.lead(term=2)
    assert isinstance(case.order("unmount", True, False), PlaneDone)


def test_no_role_leaves_a_descriptor_of_the_disk_behind(case: Case) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for term in range(1, 4):
        case.lead(term)
        assert isinstance(case.order("unmount", True, False), PlaneDone)
    assert len(os.listdir("/proc/self/fd")) == before


def test_after_a_failed_end_a_node_leads_and_follows_again(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.lead()
    with monkeypatch.context() as patch:
        patch.setattr(libc, "syncfs", refuse)
        assert isinstance(case.order("unmount", True, False), PlaneFault)
    case.lead(term=2)
    assert len(FileSystem.live) == 1
    assert case.plane.carrier.gate.try_enter()
    case.plane.carrier.leave()
    assert isinstance(case.order("unmount", True, False), PlaneDone)
    assert isinstance(case.order("mount_follow", 3), PlaneDone)
    assert isinstance(case.order("accept_session", 3, 1, ""), PlaneDone)


def test_what_takes_long_to_apply_is_told_by_the_target(case: Case) -> None:
    assert isinstance(case.order("mount_follow", 1), PlaneDone)
    assert case.plane._applier is not None
    assert case.plane.target is not None
    assert case.plane._applier.lives == case.plane.target.lives


def test_a_copy_that_cannot_be_made_durable_ends_the_following_all_the_same(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(case.order("mount_follow", 1), PlaneDone)
    with monkeypatch.context() as patch:
        patch.setattr(libc, "syncfs", refuse)
        assert isinstance(case.order("unmount", True, False), PlaneFault)
    assert_off(case)
    case.lead(term=2)
    assert isinstance(case.order("unmount", True, False), PlaneDone)
    assert isinstance(case.order("mount_follow", 3), PlaneDone)


def test_a_map_that_cannot_be_saved_leaves_nothing_mounted(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(case.order("mount_lead", 1, ""), PlaneDone)
    case.order("gate", 1, 0, "self", "g1", True)

    def save(*_: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(mapfile, "save", save)
    assert isinstance(case.order("unmount", True, False), PlaneFault)
    assert_off(case)


def test_a_flush_that_an_abort_breaks_off_is_no_failure_of_the_disk(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.lead()

    def abort(_: int) -> None:
        case.plane.order("abort", ())
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    with monkeypatch.context() as patch:
        patch.setattr(libc, "syncfs", abort)
        assert case.order("unmount", True, False) == PlaneDone(case.run, behind=True)
    assert_off(case)


def test_a_session_that_cannot_be_opened_is_broken_for_that_reason(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.lead()

    def none_left(*_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "eventfd", none_left)
        case.plane.order("open_session", (1, 1, "full", "two"))
    reason = "it could not be opened: [Errno 24] Too many open files"
    assert case.said.get(timeout=5) == PlaneSessionBroken(1, 1, reason)
    assert case.plane.session is None
    case.plane.order("open_session", (1, 2, "full", "two"))
    assert case.plane.session is not None


def test_without_a_thread_for_its_stream_a_session_is_broken(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.lead()
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        case.plane.order("open_session", (1, 1, "full", "two"))
    reason = "it could not be opened: can't start new thread"
    assert case.said.get(timeout=5) == PlaneSessionBroken(1, 1, reason)
    assert case.plane.carrier.source is None
    until(lambda: len(os.listdir("/proc/self/fd")) <= before)


def test_without_a_thread_that_waits_for_it_a_session_is_broken(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.lead()
    case.plane.order("open_session", (1, 1, "full", "two"))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        case.plane.order("gate", (9, 1, 1, "both", "", False))
    reason = "nothing can wait for it: can't start new thread"
    assert case.said.get(timeout=5) == PlaneSessionBroken(1, 1, reason)


def test_an_end_that_takes_too_long_is_aborted(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.lead()
    monkeypatch.setattr(plane, "_WATCHDOG_S", 0.05)

    gates: list[str] = []
    waiting = threading.Event()

    def hang(_: int) -> None:
        while case.plane.carrier.gate.mode != ENDED:
            waiting.wait(0.01)
        gates.append(case.plane.carrier.gate.mode)

    with monkeypatch.context() as patch:
        patch.setattr(libc, "syncfs", hang)
        assert case.order("unmount", True, False) == PlaneDone(case.run, behind=True)
    assert gates == [ENDED]
    assert_off(case)


def test_a_fault_of_our_own_is_told_and_ends_the_thread(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", lambda hook: ended.put(hook.exc_value))
    case.lead()
    system = next(iter(FileSystem.live.values()))

    def break_rules(_: int) -> None:
        raise AssertionError("never")

    monkeypatch.setattr(libc, "syncfs", break_rules)
    assert case.order("unmount", True, False) == PlaneFault(
        case.run, errno.EIO, "AssertionError('never')"
    )
    assert isinstance(ended.get(timeout=5), AssertionError)
    assert case.reports == ["unmount: AssertionError('never')"]
    assert system.aborted
    assert_off(case)


def test_what_is_not_mounted_in_whole_is_not_mounted(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libc, "syncfs", refuse)
    monkeypatch.setattr(mapfile, "take", refuse_map)
    assert isinstance(case.order("mount_lead", 1, ""), PlaneFault)
    assert_off(case)


@pytest.mark.parametrize("role", ["lead", "follow"])
def test_what_must_be_there_is_looked_for_before_anything_is_mounted(
    case: Case, role: str, tmp_path: Path
) -> None:
    arguments = (1, "") if role == "lead" else (1,)
    (tmp_path / "disk").unlink()
    fault = case.order(f"mount_{role}", *arguments)
    assert isinstance(fault, PlaneFault)
    assert fault.text == (
        f"{tmp_path}/disk must be there before {tmp_path}/data is replicated "
        "(No such file or directory); its disk may have to be mounted"
    )
    assert FileSystem.live == {}
    (tmp_path / "disk").touch()
    assert isinstance(case.order(f"mount_{role}", *arguments), PlaneDone)


@pytest.mark.parametrize("role", ["lead", "follow"])
def test_a_directory_whose_disk_is_not_mounted_is_not_used(
    case: Case, role: str, tmp_path: Path
) -> None:
    arguments = (1, "") if role == "lead" else (1,)
    assert isinstance(case.order(f"mount_{role}", *arguments), PlaneDone)
    assert isinstance(case.order("unmount", False, False), PlaneDone)
    disks = tmp_path / "disks"
    known = disks.read_text()
    was = disk_of(str(tmp_path / "data"))
    disks.write_text(known.replace(f':"{was}"', f':"{tmp_path}/data"'))
    fault = case.order(f"mount_{role}", *arguments)
    assert isinstance(fault, PlaneFault)
    assert f"{tmp_path}/data must be mounted before" in fault.text
    assert FileSystem.live == {}
    disks.unlink()
    assert isinstance(case.order(f"mount_{role}", *arguments), PlaneDone)
    assert disks.read_text() == known


def test_a_takeover_does_not_fail_by_what_the_application_removed(
    case: Case, tmp_path: Path
) -> None:
    assert isinstance(case.order("mount_follow", 1), PlaneDone)
    (tmp_path / "disk").unlink()
    assert isinstance(case.order("unmount", False, False), PlaneDone)
    assert isinstance(case.order("mount_lead", 2, ""), PlaneDone)
    assert isinstance(case.order("unmount", False, False), PlaneDone)
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    (tmp_path / "data").mkdir()
    assert isinstance(case.order("mount_lead", 3, ""), PlaneFault)
