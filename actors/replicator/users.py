"""Who uses a mounted directory: needed when it cannot be unmounted."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mirrorfarm.actors.cgroup import FOLDER

USERS_MAX: Final = 8  # Named; a shell script may have left many.
_COMMAND_CHARACTERS_MAX: Final = 60


@dataclass(frozen=True, slots=True)
class User:
    """A process."""

    pid: int
    command: str
    own: bool  # Of the module's application: in its control group.

    def __str__(self) -> str:
        return f"{self.pid} ({self.command})"


def users(directory: bytes, scope: str) -> list[User]:
    """Return who has something open below a directory; `scope`: the application's control group.

    Only names are read: asking for more would be a request to the file system itself.
    """
    found: list[User] = []
    for number in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        if number == os.getpid() or len(found) == USERS_MAX:
            continue
        below = directory.rstrip(b"/") + b"/"
        if any(way == directory or way.startswith(below) for way in _ways(number)):
            found.append(User(number, _command(number), _is_in(number, scope)))
    return found


def members(scope: str) -> list[User]:
    """Return the processes of an application that live, by its control group."""
    return [
        User(number, _command(number), True)
        for number in sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
        if _is_in(number, scope) and _lives(number)
    ]


def end(user: User, scope: str) -> None:
    """Kill a process of the application, unless its number means another one by now."""
    with suppress(OSError):
        descriptor = os.pidfd_open(user.pid)
        try:
            if _is_in(user.pid, scope):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


def _ways(pid: int) -> Iterator[bytes]:
    """Give the paths of all that a process has open, maps, or stands in."""
    own = f"/proc/{pid}"
    with suppress(OSError):
        for name in (
            f"{own}/cwd",
            f"{own}/root",
            *(f"{own}/fd/{n}" for n in os.listdir(f"{own}/fd")),
        ):
            with suppress(OSError):
                yield os.fsencode(os.readlink(name))
    with suppress(OSError):
        for line in Path(own, "maps").read_bytes().splitlines():
            yield line.partition(b"/")[1] + line.partition(b"/")[2]


def _command(pid: int) -> str:
    for name, separator in (("cmdline", "\0"), ("comm", "\n")):
        with suppress(OSError):
            text = Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")
            words = " ".join(text.split(separator)).strip()
            if words:
                return words[:_COMMAND_CHARACTERS_MAX]
    return "?"


def _lives(pid: int) -> bool:
    """Return whether a process runs a program: one that ended may wait long for its parent."""
    try:
        os.readlink(f"/proc/{pid}/exe")
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def _is_in(pid: int, scope: str) -> bool:
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="replace").split()
        return bool(scope) and any(f"/{FOLDER}/{scope}" in line for line in lines)
    return False
