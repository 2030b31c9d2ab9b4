"""The processes of a node: started, watched, started again; found again by a new agent.

An agent that was killed and started again finds its children by their locks (process.py), and
watches them instead of starting a second one.
"""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.oserrors import told
from mirrorfarm.paths import Paths
from mirrorfarm.process import last_words, open_holder

RESTART_NS = 200 * MILLISECOND_NS
RESTART_MAX_NS = 10 * SECOND_NS
HEALTHY_NS = 30 * SECOND_NS  # A child that lived so long is started again without delay.
REPLICA = ".replica"  # Ends the name of a replicator, after that of its module.
UNWANTED_SECONDS = 85.0  # After SIGTERM; more than a module needs (SHUTDOWN_SECONDS).
FAILURES_TOLD = 2  # One end may be anything, and is over in a moment.
Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Trouble:
    """A child that ends soon after each start."""

    failures: int  # In a row.
    code: int | None  # As of `Popen.wait`; None: it was another agent's child.
    words: str  # Its own, or empty.
    since_ns: int  # Monotonic clock.
    delay_ns: int  # Until the next attempt, from the last end on.
    begun: bool  # Whether the last attempt brought a process into being.

    def __str__(self) -> str:
        if not self.begun:
            return f"its process cannot be started, after {self.failures} failures: {self.words}"
        if self.code is not None and self.code < 0:
            how = f"was killed by signal {-self.code}"
        else:
            how = "ended" if self.code is None else f"ended with code {self.code}"
        why = f": {self.words}" if self.words else ", and said nothing"
        return f"its process {how} soon after each of {self.failures} starts{why}"


@dataclass(slots=True)
class Child:
    """One process that shall run."""

    name: str
    words: tuple[str, ...]
    lock: Path
    pid: int = 0
    pidfd: int = -1
    process: subprocess.Popen[bytes] | None = None
    started_ns: int = 0
    delay_ns: int = RESTART_NS
    due_ns: int = 0  # When to start it; 0: it runs.
    starts: int = 0
    wanted: bool = True
    failures: int = 0  # Ends in a row, each soon after the start.
    failing_since_ns: int = 0
    code: int | None = None  # Of the last end.
    said: str = ""  # Its own last words, or why it could not be started.
    begun: bool = True  # Whether the last attempt to start it succeeded.

    def count_failure(self, said: str, *, begun: bool) -> None:
        """It has ended, or could not be started: begin anew after a delay that grows."""
        now = time.monotonic_ns()
        if not self.failures:
            self.failing_since_ns = now
        self.failures += 1
        self.said, self.begun = said, begun
        if self.wanted:
            self.due_ns = now + self.delay_ns
            self.delay_ns = min(RESTART_MAX_NS, self.delay_ns * 2)


@dataclass(slots=True)
class Children:
    """Keeps children alive; one thread, woken by their ends and by `rouse`."""

    log: Log
    children: dict[str, Child] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _pipe: tuple[int, int] = field(default_factory=os.pipe)
    _ends: bool = False
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._thread = threading.Thread(target=self._run, name="children", daemon=True)
        self._thread.start()

    def want(self, name: str, words: tuple[str, ...], lock: Path) -> None:
        """Have a child run from now on."""
        with self._lock:
            if name not in self.children:
                self.children[name] = Child(name, words, lock, due_ns=time.monotonic_ns())
        self._rouse()

    def unwant(self, name: str, timeout_seconds: float = UNWANTED_SECONDS) -> None:
        """End a child and forget it; SIGTERM first, then SIGKILL."""
        self._end((name,), timeout_seconds)

    def _end(self, names: Iterable[str], timeout_seconds: float) -> None:
        """End children beside each other, without a thread for each: there may be none to be had.

        `timeout_seconds`: after each of the two signals, for all of them.
        """
        with self._lock:
            ending = [self.children[name] for name in names if name in self.children]
            for child in ending:
                child.wanted = False
        for number in (signal.SIGTERM, signal.SIGKILL):
            with self._lock:  # The descriptor of one that ends now may become another one's.
                for child in ending:
                    if child.pid:
                        with suppress(OSError):
                            signal.pidfd_send_signal(child.pidfd, number)
            deadline = time.monotonic() + timeout_seconds
            while any(child.pid for child in ending) and time.monotonic() < deadline:
                time.sleep(0.02)
        with self._lock:
            for child in ending:
                self.children.pop(child.name, None)
        self._rouse()

    def pids(self) -> dict[str, int]:
        """Return the process ids of all children that run."""
        with self._lock:
            return {name: child.pid for name, child in self.children.items() if child.pid}

    def age_seconds(self, name: str) -> float:
        """Return since when a child runs, as far as this agent knows; 0: it does not run."""
        with self._lock:
            child = self.children.get(name)
            if child is None or not child.pid:
                return 0.0
            return (time.monotonic_ns() - child.started_ns) / SECOND_NS

    def trouble(self, name: str) -> Trouble | None:
        """Return why a child does not come to run; None: it runs, or may do so in a moment."""
        with self._lock:
            child = self.children.get(name)
            if child is None or child.failures < FAILURES_TOLD:
                return None
            if child.pid and time.monotonic_ns() - child.started_ns > HEALTHY_NS:
                return None
            return Trouble(
                child.failures,
                child.code,
                child.said,
                child.failing_since_ns,
                child.delay_ns,
                child.begun,
            )

    def close(self) -> None:
        """End every child, then the thread.

        All modules at once: each may take as long as the machine gives all of them. Their
        replicators come after them, for stop scripts need the directories.
        """
        with self._lock:
            names = tuple(self.children)
        self._end([name for name in names if not name.endswith(REPLICA)], UNWANTED_SECONDS)
        self._end([name for name in names if name.endswith(REPLICA)], UNWANTED_SECONDS)
        self._ends = True
        self._rouse()
        if self._thread:
            self._thread.join(timeout=2)

    def _rouse(self) -> None:
        os.write(self._pipe[1], b".")

    def _run(self) -> None:
        while not self._ends:
            try:
                self._turn()
            except Exception as error:  # No child would be started again without this thread.
                self._tell(f"the children are watched on after a failure: {error!r}")
                time.sleep(RESTART_NS / SECOND_NS)

    def _turn(self) -> None:
        """Start what is due; wait until something is, or a child has ended."""
        with self._lock:
            self._start_due()
            by_fd = {c.pidfd: c for c in self.children.values() if c.pidfd >= 0}
            due = [c.due_ns for c in self.children.values() if c.due_ns]
        poller = select.poll()
        poller.register(self._pipe[0], select.POLLIN)
        for descriptor in by_fd:
            poller.register(descriptor, select.POLLIN)
        wait = max(0, min(due) - time.monotonic_ns()) if due else None
        ready = poller.poll(None if wait is None else wait // MILLISECOND_NS + 1)
        for descriptor, _ in ready:
            if descriptor == self._pipe[0]:
                os.read(self._pipe[0], 4096)
            else:
                with self._lock:
                    self._ended(by_fd[descriptor])

    def _tell(self, text: str) -> None:
        with suppress(Exception):  # Whoever cannot be told must not keep children from starting.
            self.log(text)

    def _start_due(self) -> None:
        now = time.monotonic_ns()
        for child in self.children.values():
            if child.wanted and child.due_ns and child.due_ns <= now:
                child.due_ns = 0
                try:
                    self._start(child)
                except Exception as error:  # No process, memory or descriptor to be had: later.
                    why = told(error) if isinstance(error, OSError) else repr(error)
                    child.count_failure(why, begun=False)
                    self._tell(f"{child.name}: cannot be started: {why}")

    def _start(self, child: Child) -> None:
        pid, descriptor = open_holder(child.lock)
        if not pid:
            self._spawn(child)
            return
        child.pid, child.pidfd = pid, descriptor
        child.started_ns, child.begun = time.monotonic_ns(), True
        self._tell(f"{child.name}: runs already as process {pid}")

    def _spawn(self, child: Child) -> None:
        child.starts += 1
        child.lock.with_suffix(".end").unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-m", *child.words],
            stdin=subprocess.DEVNULL,
            close_fds=True,
            start_new_session=True,
            cwd="/",
            env=Paths.from_environment().environment(),
        )
        try:
            child.pidfd = os.pidfd_open(process.pid)
        except OSError:
            process.kill()  # Its end would not be noticed.
            process.wait()
            raise
        child.process, child.pid = process, process.pid
        child.started_ns, child.begun = time.monotonic_ns(), True
        self._tell(f"{child.name}: started as process {child.pid}")

    def _ended(self, child: Child) -> None:
        code: int | None = None
        if child.process is not None:
            code = child.process.wait()
        os.close(child.pidfd)
        lived_ns = time.monotonic_ns() - child.started_ns
        self._tell(f"{child.name}: process {child.pid} ended ({code})")
        child.pid, child.pidfd, child.process, child.code = 0, -1, None, code
        if lived_ns > HEALTHY_NS:
            child.delay_ns, child.failures = RESTART_NS, 0
        child.count_failure(last_words(child.lock), begun=True)
