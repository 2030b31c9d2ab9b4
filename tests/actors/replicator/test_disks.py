"""What a disk lost is told to everyone who relies on it, whoever else was told before."""

import contextlib
import errno
import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest

from mirrorfarm.actors.replicator import libc
from mirrorfarm.actors.replicator.applier import Applier
from mirrorfarm.actors.replicator.disks import Disks
from tests.actors.replicator.lost_pages import LostPages


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> LostPages:
    return LostPages(monkeypatch)


@pytest.fixture
def appliers(tmp_path: Path, pages: LostPages) -> Iterator[list[Applier]]:
    """Two modules on one file system, one of them with two directories."""
    roots = [tmp_path / name for name in ("one", "two", "three")]
    for root in roots:
        root.mkdir()
    with contextlib.ExitStack() as steps:
        made = [Applier([bytes(root) for root in part]) for part in (roots[:1], roots[1:])]
        for one in made:
            steps.callback(one.close)
        yield made


def test_a_lost_page_is_told_to_each_of_two_modules_and_once(
    appliers: list[Applier], pages: LostPages
) -> None:
    for _ in range(2):
        for one in appliers:
            one.sync_all()
        pages.lose()
        for one in appliers:
            with pytest.raises(OSError, match="Input/output"):
                one.sync_all()
    for one in appliers:
        one.sync_all()


def test_a_lost_page_that_somebody_was_told_is_told_at_the_next_flush(
    appliers: list[Applier], pages: LostPages
) -> None:
    pages.lose()
    pages.tell_somebody()
    for one in appliers:
        with pytest.raises(OSError, match="Input/output"):
            one.sync_all()


def test_what_lies_at_the_path_later_is_not_taken_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    flushed: list[int] = []
    monkeypatch.setattr(libc, "syncfs", lambda fd: flushed.append(os.fstat(fd).st_ino))
    with contextlib.closing(Applier([bytes(root)])) as applier:
        was = root.stat().st_ino
        root.rename(tmp_path / "moved")
        root.mkdir()
        applier.sync_all()
    assert flushed == [was]


def test_descriptors_end_with_their_owner_also_while_a_disk_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    root = os.open(tmp_path, os.O_PATH)
    disks = Disks([root, root])
    os.close(root)

    def hang(fd: int) -> None:
        disks.close()
        assert os.path.samestat(os.fstat(fd), tmp_path.stat()), "still open for the one that hangs"
        assert not os.get_inheritable(fd)

    monkeypatch.setattr(libc, "syncfs", hang)
    for _ in range(2):
        with pytest.raises(OSError, match="Bad file") as refused:
            disks.flush()
        assert refused.value.errno == errno.EBADF
    assert len(os.listdir("/proc/self/fd")) == before


class Turnstile:
    """A lock that says who comes to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.comes = threading.Semaphore(0)

    def __enter__(self) -> None:
        self.comes.release()
        self._lock.acquire()

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._lock.release()


def test_who_waits_for_a_flush_hears_what_that_one_was_told(
    tmp_path: Path, pages: LostPages, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = os.open(tmp_path, os.O_PATH)
    disks = Disks([root])
    os.close(root)
    turnstile, goes_on = Turnstile(), threading.Event()
    monkeypatch.setattr(disks, "_flushing", turnstile)

    def slow(fd: int) -> None:
        assert goes_on.wait(10)
        pages.syncfs(fd)

    monkeypatch.setattr(libc, "syncfs", slow)
    told: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def flush() -> None:
        try:
            disks.flush()
        except OSError as fault:
            told.put(fault.errno)
        else:
            told.put(None)

    pages.lose()
    threads = [threading.Thread(target=flush) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert turnstile.comes.acquire(timeout=10)
    goes_on.set()
    for thread in threads:
        thread.join(10)
    assert [told.get(timeout=10) for _ in threads] == [errno.EIO, errno.EIO]
    disks.flush()
    disks.close()
