"""What a process of a node does for itself: its lock, its priority, what it says, why it ended.

It holds a lock on its own file for as long as it lives and writes its process id into it, so that
it is the only one of its kind and others find it.
"""

import fcntl
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mirrorfarm.errors import MirrorfarmError, SystemUnsuitable
from mirrorfarm.limits import LAST_WORDS_CHARACTERS_MAX
from mirrorfarm.oserrors import naming
from mirrorfarm.paths import Paths

PRIORITY = -15  # A heartbeat must be sent in time also when the machine is busy.
ASKING_S = 0.001  # As long as it takes to ask who holds a lock, and more.
LOCK_LOOK_S = 10.0  # Between two looks whether the file of a lock is there.
SAID_CHARACTERS_MAX = 4_000  # A pipe that has room for anything has it for so much.


def lock_path(paths: Paths, module: str) -> Path:
    """Return the file that the process of a module holds locked."""
    return paths.run / f"{module}.module.lock"


def replica_lock_path(paths: Paths, module: str) -> Path:
    """Return the file that the replicator of a module holds locked."""
    return paths.run / f"{module}.replica.lock"


def prefer_this_process() -> None:
    """Be scheduled before ordinary work, where the system allows it."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    except OSError:
        return


def require_assertions() -> None:
    """Raise SystemUnsuitable under `python -O`: what an assertion of a core stops would go on."""
    if not __debug__:
        raise SystemUnsuitable("mirrorfarm does not run without its assertions (python -O)")


def keep_streams() -> None:
    """Have the standard streams lead nowhere where this process was started without them.

    What it opens later would get their numbers, and the last words of a library that breaks.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # The lowest number that is free: this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def os_boot_id() -> str:
    """Return the kernel's identity of the present boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def hold_lock(path: Path) -> int:
    """Take the lock of this process, write the process id into it; return the descriptor.

    Raises BlockingIOError when another process has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor)
        with naming(path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _lock(descriptor: int) -> None:
    """Lock a file unless another process has it; who only asks (`lock_holder`) has it a moment."""
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # Refused: it is held for good.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        time.sleep(ASKING_S)


def await_end(ends: threading.Event, lock: Path) -> None:
    """Wait for the end of this process. Its lock is taken again where its file was removed.

    Whoever empties /run must not make the next agent start a second process beside this one.
    """
    while not ends.wait(LOCK_LOOK_S):
        if not lock.exists():
            with suppress(OSError):  # Held by another one by now; or again after a while.
                hold_lock(lock)  # As long as this process lives.


def lock_holder(path: Path) -> int:
    """Return the process id of whoever holds the lock; 0: nobody."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        text = os.pread(descriptor, 32, 0).strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(descriptor)
    return 0


def open_holder(path: Path) -> tuple[int, int]:
    """Return the process id of whoever holds the lock, and a descriptor of it; (0, -1): nobody.

    The descriptor is the caller's to close.
    """
    while pid := lock_holder(path):
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            return 0, -1
        if lock_holder(path) == pid:  # It did not end meanwhile and leave its number to another.
            return pid, descriptor
        os.close(descriptor)
    return 0, -1


def end_holder(path: Path) -> None:
    """End the process that holds the lock at once, whatever it does."""
    pid, descriptor = open_holder(path)
    if not pid:
        return
    try:
        with suppress(OSError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    finally:
        os.close(descriptor)


def say(text: str) -> None:
    """Write a line for the journal; where nobody reads it (a broken pipe), nothing is ended.

    Nor does anybody wait: a journal whose disk hangs takes no line any more. A witness that did
    would answer no node, and an agent could not tell its bus which of its children run.
    """
    with suppress(OSError):
        if sys.stderr is not None and _has_room():  # None: it was closed from the beginning.
            sys.stderr.write(f"mirrorfarm: {text[:SAID_CHARACTERS_MAX]}\n")
            sys.stderr.flush()


def _has_room() -> bool:
    poll = select.poll()
    try:
        poll.register(sys.stderr, select.POLLOUT)
    except (OSError, ValueError):  # Of no descriptor: it is kept in memory.
        return True
    return bool(poll.poll(0))


def run_child(lock: Path, who: str, body: Callable[[], int]) -> int:
    """Do a process's work with its lock held; return its exit code, 0 if it runs already.

    Beside the lock it leaves why it ended, if it failed.
    """
    try:
        descriptor = hold_lock(lock)
    except BlockingIOError:
        return 0
    try:
        require_assertions()
        return body()
    except MirrorfarmError as error:
        _leave_words(lock, str(error))
        say(f"{who}: {error}")
        return error.exit_code
    except Exception as error:
        _leave_words(lock, f"{type(error).__name__}: {error}")
        raise
    finally:
        os.close(descriptor)


def _leave_words(lock: Path, text: str) -> None:
    line = " ".join(text.split())[:LAST_WORDS_CHARACTERS_MAX]
    with suppress(OSError):
        lock.with_suffix(".end").write_text(line, encoding="utf-8", errors="replace")


def last_words(lock: Path) -> str:
    """Return why the process of a lock ended, as it said itself; empty: it said nothing."""
    try:
        with lock.with_suffix(".end").open(encoding="utf-8", errors="replace") as file:
            return file.read(LAST_WORDS_CHARACTERS_MAX)
    except OSError:
        return ""
