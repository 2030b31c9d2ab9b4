"""A process is the only one of its kind, and says why it ended, whoever listens."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from mirrorfarm import process
from mirrorfarm.errors import ConfigInvalid
from mirrorfarm.limits import LAST_WORDS_CHARACTERS_MAX
from mirrorfarm.paths import Paths
from mirrorfarm.process import (
    await_end,
    end_holder,
    hold_lock,
    last_words,
    lock_holder,
    lock_path,
    run_child,
    say,
)
from tests.transport.bus import until


def test_a_lock_names_its_holder_and_lets_nobody_else_in(tmp_path: Path) -> None:
    lock = lock_path(Paths(tmp_path), "app")
    assert lock_holder(lock) == 0
    descriptor = hold_lock(lock)
    with pytest.raises(BlockingIOError):
        hold_lock(lock)
    assert lock_holder(lock) == os.getpid()
    os.close(descriptor)
    assert lock_holder(lock) == 0


def test_a_lock_whose_file_was_removed_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LOCK_LOOK_S", 0.01)
    lock, ends = tmp_path / "run/a.lock", threading.Event()
    first = hold_lock(lock)
    waiting = threading.Thread(target=await_end, args=(ends, lock))
    waiting.start()
    try:
        for _ in range(2):
            shutil.rmtree(lock.parent)
            until(lambda: lock_holder(lock) == os.getpid())
        with pytest.raises(BlockingIOError):
            hold_lock(lock)
        assert waiting.is_alive()
    finally:
        ends.set()
        waiting.join()
        os.close(first)


def test_who_asks_for_the_holder_keeps_nobody_from_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    os.close(hold_lock(lock))
    asking = os.open(lock, os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH)  # As one does who was interrupted while it asked.
    threading.Timer(0.05, os.close, (asking,)).start()
    descriptor = hold_lock(lock)
    assert lock_holder(lock) == os.getpid()
    os.close(descriptor)


def test_the_holder_is_ended_and_nobody_who_has_its_number_by_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "a.lock"
    with subprocess.Popen(("sleep", "60")) as other, subprocess.Popen(("sleep", "60")) as holder:
        lock.write_text(f"{holder.pid}\n")
        descriptor = os.open(lock, os.O_RDWR)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        opened = os.pidfd_open

        def late(pid: int) -> int:
            """Between asking and opening the holder ends, and the lock is another's."""
            lock.write_text(f"{holder.pid}\n")
            return opened(pid)

        lock.write_text(f"{other.pid}\n")
        monkeypatch.setattr(os, "pidfd_open", late)
        end_holder(lock)
        assert holder.wait(timeout=60) == -signal.SIGKILL
        assert other.poll() is None
        os.close(descriptor)
        end_holder(lock)
        assert other.poll() is None
        other.kill()


def test_last_words_are_one_line_and_bounded(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    assert last_words(lock) == ""

    def body() -> int:
        raise ValueError("first\nsecond " + "x" * 10_000)

    with pytest.raises(ValueError, match="first"):
        run_child(lock, "a", body)
    assert last_words(lock).startswith("ValueError: first second xxx")
    assert len(last_words(lock)) == LAST_WORDS_CHARACTERS_MAX
    assert run_child(lock, "a", lambda: 0) == 0


def test_a_journal_that_is_gone_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", closefd=False) as broken:
        monkeypatch.setattr(sys, "stderr", broken)
        say("nobody reads this")

        def body() -> int:
            raise ConfigInvalid(("u.xml:3: no such thing",))

        assert run_child(tmp_path / "a.lock", "a", body) == ConfigInvalid.exit_code
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)  # What it holds still can be written.
    assert "no such thing" in last_words(tmp_path / "a.lock")


def test_a_journal_that_hangs_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def tell() -> None:
        for _ in range(50):
            say("x" * 10_000)

    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as hanging:
        monkeypatch.setattr(sys, "stderr", hanging)
        teller = threading.Thread(target=tell, daemon=True)
        teller.start()
        teller.join(10)
        held_up = teller.is_alive()
        heard = os.read(reader, 1 << 20)
        os.set_blocking(reader, False)
        while teller.is_alive():
            teller.join(0.01)
            with suppress(BlockingIOError):
                os.read(reader, 1 << 20)
    os.close(reader)
    assert not held_up
    assert heard.startswith(b"mirrorfarm: xxx")


def test_a_process_without_streams_goes_on_and_opens_nothing_in_their_place(tmp_path: Path) -> None:
    program = (
        "import os, sys; from mirrorfarm.process import keep_streams, say; keep_streams();"
        "say('nobody reads this'); opened = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY);"
        "os.write(opened, f'{opened} {[os.get_inheritable(n) for n in range(3)]}'.encode())"
    )
    without = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    found = tmp_path / "found"
    subprocess.run([*without, sys.executable, "-c", program, str(found)], check=True, timeout=60)
    number, _, inherited = found.read_text().partition(" ")
    assert int(number) > 2
    assert inherited == "[True, True, True]"


def test_a_folder_without_room_for_a_lock_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match=r"x\.lock"):
            hold_lock(tmp_path / "x.lock")
    os.close(hold_lock(tmp_path / "x.lock"))
