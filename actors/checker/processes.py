"""Find the processes of `proc` entries and hear from the kernel when one of them ends.

A file descriptor of the process itself (pidfd) makes its end an event: no polling, no delay. Only
newcomers have to be looked for, often while some are missing and rarely otherwise.
"""

import os
import re
import select
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from mirrorfarm.actors.cgroup import Cgroup
from mirrorfarm.actors.checker.matching import Matcher
from mirrorfarm.actors.effects import Watch
from mirrorfarm.actors.events import ProcessesSeen, ProcessGone
from mirrorfarm.actors.shell import Inbox
from mirrorfarm.descriptors import SCARCE, descriptor_limit
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import Module
from mirrorfarm.oserrors import told

POLL_NS_MAX: Final = 10 * SECOND_NS
POLL_MISSING_NS: Final = 500 * MILLISECOND_NS
# Further processes are counted, their end seen by the next look: as those beyond half of the
# files that this process may open, for it needs others as well.
PIDFDS_MAX: Final = 4_096
LINE_BYTES_MAX: Final = 4_096
# Java's class path alone may have 128 KiB; what tells programs apart comes after it.
COMMAND_LINE_BYTES_MAX: Final = 262_144
_AGENT: Final = os.getppid()  # Who started this process.
_PROGRAMS: Final = re.compile(r" -m mirrorfarm\b|/mirrorfarm agent$")


@dataclass(slots=True)
class _Entry:
    matcher: Matcher
    pids: set[int] = field(default_factory=set)
    told: int = -1

    @property
    def missing(self) -> bool:
        return len(self.pids) < self.matcher.process.atleast


class ProcessWatcher:
    """Performs Watch for one module; ProcessesSeen and ProcessGone go to the inbox."""

    def __init__(
        self,
        settings: Module,
        cgroup: Cgroup,
        inbox: Inbox,
        log: Callable[[str, str], None] = lambda level, text: None,
    ) -> None:
        """Look into `cgroup` first: the application is usually there. `log`: level and text."""
        self._matchers = [Matcher(process) for process in settings.processes]
        self._poll_ns = min(settings.errd_poll_ns, POLL_NS_MAX)
        self._cgroup = cgroup
        self._inbox = inbox
        self._log = log
        self._order: Watch | None = None  # The next one; set by the shell, taken by the thread.
        self._number = 0
        self._entries: dict[int, _Entry] = {}
        self._gone: set[int] = set()  # Entries of processes that ended, not told yet.
        self._pidfds: dict[int, int] = {}  # By process.
        self._pidfds_max = min(PIDFDS_MAX, descriptor_limit() // 2)
        self._due: int | None = None  # When to look for newcomers; None: nobody is watched.
        self._failing = False
        self._closing = False
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name="process-watcher", daemon=True)
        self._thread.start()

    def watch(self, order: Watch) -> None:
        """Watch these entries instead; the count of each follows, and every change of it."""
        self._order = order
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Stop watching."""
        self._closing = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        for pid in list(self._pidfds):
            self._release(pid)
        self._epoll.close()
        os.close(self._wake)

    def _run(self) -> None:
        while not self._closing:
            try:
                self._turn()
            except OSError as error:  # Nobody would see the application end without this thread.
                self._due = time.monotonic_ns() + POLL_MISSING_NS
                self._told_failing(told(error))

    def _told_failing(self, why: str) -> None:
        if not self._failing:
            self._log("C", f"Processes cannot be looked for: {why}; it is tried again and again")
        self._failing = True

    def _turn(self) -> None:
        """Wait for an order, an end, or the time to look for newcomers; do what it asks for."""
        due = self._due
        wait = None if due is None else max(0, due - time.monotonic_ns()) / SECOND_NS
        ready = {descriptor for descriptor, _ in self._epoll.poll(wait)}
        dead = {pid for pid, pidfd in self._pidfds.items() if pidfd in ready}
        if self._wake in ready:
            os.eventfd_read(self._wake)
        order, self._order = self._order, None
        if order is not None:
            self._adopt(order)
        elif dead:
            self._bury(dead)
        elif due is None or time.monotonic_ns() < due:
            return
        else:
            self._look()
        self._due = time.monotonic_ns() + self._period() if self._entries else None
        self._failing = False

    def _period(self) -> int:
        missing = any(entry.missing for entry in self._entries.values())
        return min(POLL_MISSING_NS, self._poll_ns) if missing else self._poll_ns

    def _adopt(self, order: Watch) -> None:
        self._number = order.number
        self._gone.clear()
        self._entries = {index: _Entry(self._matchers[index]) for index in order.entries}
        for pid in list(self._pidfds):
            self._release(pid)
        if self._entries:
            self._look()

    def _bury(self, dead: set[int]) -> None:
        """Count the entries of processes that ended again, and tell."""
        hit = {index for index, entry in self._entries.items() if entry.pids & dead}
        self._gone |= hit
        for pid in dead:
            self._release(pid)
        for entry in self._entries.values():
            entry.pids -= dead
        # Successors are likely in the group: a look at it alone is quick on a busy machine.
        self._find(self._cgroup.processes(), only_add=True)
        if any(self._entries[index].missing for index in hit):
            self._find(_all_processes())
        self._tell_changes()

    def _look(self) -> None:
        self._find(_all_processes())
        self._tell_changes()

    def _tell_changes(self) -> None:
        for index in sorted(self._gone):
            entry = self._entries[index]
            entry.told = len(entry.pids)
            self._inbox(ProcessGone(index, entry.told, self._number))
        self._gone.clear()
        for index, entry in self._entries.items():
            if len(entry.pids) != entry.told:
                entry.told = len(entry.pids)
                self._inbox(ProcessesSeen(index, entry.told, self._number))

    def _find(self, pids: Iterable[int], *, only_add: bool = False) -> None:
        found: dict[int, set[int]] = {index: set() for index in self._entries}
        for pid in pids:
            for index in self._matching(pid):
                found[index].add(pid)
        if matching := set().union(*found.values()):
            held = {pid for pid in self._foreign(matching) if self._hold(pid)}
            found = {index: some & held for index, some in found.items()}
        for index, entry in self._entries.items():
            entry.pids = entry.pids | found[index] if only_add else found[index]
        needed = set().union(*(entry.pids for entry in self._entries.values()))
        for pid in self._pidfds.keys() - needed:
            self._release(pid)

    def _matching(self, pid: int) -> list[int]:
        name = _read(pid, "comm", LINE_BYTES_MAX).rstrip("\n")
        if not name:
            return []
        return [
            index
            for index, entry in self._entries.items()
            if entry.matcher.fits(name, lambda: _line(pid), lambda: _unit(pid))
        ]

    def _foreign(self, pids: set[int]) -> set[int]:
        """Return those of `pids` that live and are none of mirrorfarm's own processes."""
        application = set(self._cgroup.processes())
        foreign = set()
        for pid in pids:
            words = _read(pid, "stat", LINE_BYTES_MAX).rpartition(")")[2].split()
            if not words or _is_dead(words[0], int(words[17])):
                continue
            if pid in application or not _own(pid, int(words[1])):
                foreign.add(pid)
        return foreign

    def _hold(self, pid: int) -> bool:
        """Have the end of a process told; False when it has ended already."""
        if pid in self._pidfds or len(self._pidfds) >= self._pidfds_max:
            return True
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        except OSError:  # No descriptor to be had: the next look will see its end.
            return True
        try:
            self._epoll.register(pidfd, select.EPOLLIN)
        except OSError:
            os.close(pidfd)
            return True
        self._pidfds[pid] = pidfd
        return True

    def _release(self, pid: int) -> None:
        pidfd = self._pidfds.pop(pid)
        self._epoll.unregister(pidfd)
        os.close(pidfd)


def _all_processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _own(pid: int, parent: int) -> bool:
    """Return whether a process outside of the application is this one, its child or its kin.

    Whoever adopts this process when its agent is killed has children of all kinds: of those only
    what is a program of mirrorfarm, not what has the word in a path, is kin.
    """
    ours, elder = os.getpid(), os.getppid()
    if ours in {pid, parent} or elder not in {pid, parent}:
        return ours in {pid, parent}
    line = _line(pid)
    return "mirrorfarm" in line if elder == _AGENT else _PROGRAMS.search(line) is not None


def _is_dead(state: str, threads: int) -> bool:
    """Return whether a process has ended, waited for or not; the state is its first thread's."""
    return state in "ZX" and threads <= 1


def _read(pid: int, name: str, size: int) -> str:
    """Return what the kernel says of a process; empty: it has ended, as it may at any moment.

    OSError where nothing can be asked: that is not the end of a process.
    """
    try:
        file = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(file, size).decode(errors="replace")
        finally:
            os.close(file)
    except OSError as error:
        if error.errno in SCARCE:
            raise
        return ""


def _line(pid: int) -> str:
    return _read(pid, "cmdline", COMMAND_LINE_BYTES_MAX).rstrip("\0").replace("\0", " ")


def _unit(pid: int) -> str:
    """Return the systemd service that a process belongs to."""
    for line in _read(pid, "cgroup", LINE_BYTES_MAX).splitlines():
        for part in reversed(line.split("/")):
            if part.endswith(".service"):
                return part
    return ""
