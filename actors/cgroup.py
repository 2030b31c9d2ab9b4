"""One control group for each module's application: count, freeze and kill all of it.

A daemon may fork, leave its session and be adopted by init; it cannot leave its control group
by that. Version 2 is preferred; the freezer of version 1 serves as well. Where no hierarchy is
mounted (`ip netns exec` hides it) one is opened without mounting it anywhere.
"""

import ctypes
import hashlib
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mirrorfarm.descriptors import SCARCE
from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS

FOLDER: Final = "mirrorfarm"
MOUNTS: Final = Path("/proc/self/mountinfo")
KILL_NS: Final = 5 * SECOND_NS
_SETTLE_NS: Final = 20 * MILLISECOND_NS
_CREATE_ATTEMPTS: Final = 10
_OCTAL: Final = re.compile(r"\\([0-7]{3})")  # How the kernel writes a space, and what divides.

# The same numbers on every architecture: system calls added since Linux 5.0.
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_FSCONFIG_SET_FLAG, _FSCONFIG_CMD_CREATE = 0, 6


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A tree of control groups that this process may write: its top and its version."""

    top: Path
    version: int


def scope_of(root: Path, node: str, module: str) -> str:
    """Return the name of a module's group: many nodes may live on one machine."""
    digest = hashlib.blake2b(f"{root}\0{node}\0{module}".encode(), digest_size=4).hexdigest()
    return f"{module}.{node}.{digest}"


def mounted(version: int) -> Iterator[Hierarchy]:
    """Yield the visible mounts of a version that can freeze."""
    for line in os.fsdecode(MOUNTS.read_bytes()).split("\n")[:-1]:  # Any user may name a mount.
        front, _, back = line.partition(" - ")
        kind, _, options = back.split(" ", 2)
        top = Path(_OCTAL.sub(lambda code: chr(int(code[1], 8)), front.split(" ")[4]))
        fits = kind == "cgroup2" if version == 2 else kind == "cgroup" and "freezer" in options
        # A mount over the mount hides it: only one that shows its files counts.
        if fits and (top / "cgroup.procs").exists():
            yield Hierarchy(top, version)


def unmounted(version: int) -> Iterator[Hierarchy]:
    """Open a hierarchy that is mounted nowhere; it stays open as long as the process lives."""
    libc = ctypes.CDLL(None, use_errno=True)
    kind = b"cgroup2" if version == 2 else b"cgroup"
    context = libc.syscall(_FSOPEN, kind, _FSOPEN_CLOEXEC)
    if context < 0:
        return
    try:
        if version == 1:
            libc.syscall(_FSCONFIG, context, _FSCONFIG_SET_FLAG, b"freezer", None, 0)
        if libc.syscall(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0) == 0:
            top = libc.syscall(_FSMOUNT, context, _FSMOUNT_CLOEXEC, 0)
            if top >= 0:
                yield Hierarchy(Path(f"/proc/self/fd/{top}"), version)
    finally:
        os.close(context)


def candidates() -> Iterator[Hierarchy]:
    """Yield what may serve, best first."""
    for version in (2, 1):
        yield from mounted(version)
        yield from unmounted(version)


class Cgroup:
    """The group of one application. Methods may be called from any thread."""

    def __init__(self, scope: str, hierarchy: Hierarchy | None = None) -> None:
        self.scope = scope
        self._wanted = hierarchy
        self._version = 0
        self._path = Path()
        self._procs = -1

    @property
    def path(self) -> Path:
        """Where the group is; valid in this process only."""
        return self._path

    def create(self) -> None:
        """Make the group, or find the one of an earlier process with its processes.

        Raise SystemUnsuitable when no hierarchy can be written.
        """
        reasons = []
        for hierarchy in [self._wanted] if self._wanted else candidates():
            path = hierarchy.top / FOLDER / self.scope
            try:
                _make(path)
                freezer = "cgroup.freeze" if hierarchy.version == 2 else "freezer.state"
                (path / freezer).read_text()
                self._procs = os.open(path / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
            except OSError as error:
                reasons.append(f"{path}: {error.strerror}")
                continue
            self._path, self._version = path, hierarchy.version
            return
        raise SystemUnsuitable(
            "no control group can be made for the application"
            f" ({'; '.join(reasons) or 'the kernel offers none'}):"
            " run as root, with cgroup version 2 or the freezer of version 1"
        )

    def open_directory(self) -> int:
        """Return a descriptor of the group's directory, for the guard; the caller closes it."""
        return os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def add_self(self) -> None:
        """Move the calling process into the group; takes no lock: usable after a fork."""
        os.write(self._procs, b"0")

    def add(self, pid: int) -> None:
        """Move a process into the group."""
        os.write(self._procs, str(pid).encode())

    def processes(self) -> list[int]:
        """Return the processes of the group and of those below it, sorted.

        OSError where nothing can be asked: that does not mean that there are none.
        """
        found: set[int] = set()
        for directory, _, _ in os.walk(self._path, onerror=_unless_gone):
            try:
                words = Path(directory, "cgroup.procs").read_text().split()
                found.update(int(word) for word in words)
            except OSError as error:
                _unless_gone(error)
        # 0 stands for a process of a foreign pid namespace; to kill(2) it means "my group".
        return sorted(found - {0})

    def freeze(self) -> None:
        """Stop every process, also those about to be forked, as soon as the kernel can."""
        self._write_state("1", "FROZEN")

    def thaw(self) -> None:
        """Let the processes run again."""
        self._write_state("0", "THAWED")

    def kill(self, timeout_ns: int = KILL_NS) -> list[int]:
        """End every process and leave the group thawed; return those left at the time limit."""
        deadline = time.monotonic_ns() + timeout_ns
        while True:
            self._strike()
            settled = min(deadline, time.monotonic_ns() + _SETTLE_NS)
            while (left := self.processes()) and time.monotonic_ns() < settled:
                time.sleep(0.001)
            if not left or time.monotonic_ns() >= deadline:
                return left

    def remove(self) -> None:
        """Give the empty group back; one that is not empty stays."""
        if self._procs >= 0:
            os.close(self._procs)
            self._procs = -1
        for directory, _, _ in os.walk(self._path, topdown=False):
            with suppress(OSError):
                Path(directory).rmdir()
        with suppress(OSError):
            self._path.parent.rmdir()  # Shared with other modules: the last one succeeds.

    def _strike(self) -> None:
        if self._version == 2:
            with suppress(OSError):  # Linux < 5.14 has no cgroup.kill.
                (self._path / "cgroup.kill").write_text("1")
                self.thaw()
                return
        self.freeze()
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.thaw()  # Version 1: a frozen process dies only when it may run.

    def _write_state(self, second: str, first: str) -> None:
        with suppress(FileNotFoundError):  # Removed meanwhile: nothing is left to stop.
            if self._version == 2:
                (self._path / "cgroup.freeze").write_text(second)
            else:
                (self._path / "freezer.state").write_text(first)


def _unless_gone(error: OSError) -> None:
    """Raise what says nothing of a group; else it was removed just now."""
    if error.errno in SCARCE:
        raise error


def _make(path: Path) -> None:
    for _ in range(_CREATE_ATTEMPTS):
        # The folder goes when its last group goes, perhaps just now.
        with suppress(FileNotFoundError):
            path.parent.mkdir(exist_ok=True)
            path.mkdir(exist_ok=True)
            return
    raise FileNotFoundError(2, "vanishes again and again", str(path))
