"""A running ledger with a client that writes, and the ways to trouble it: for benchmarks."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from mirrorfarm.errors import MirrorfarmError, TimedOut
from mirrorfarm.lab.bench_failover import wait
from mirrorfarm.lab.cluster import OneMachine
from mirrorfarm.lab.records import Writer, time_scripts

SETTLE_SECONDS = 60.0
LEASE_OVER = "renewed the lease: writes are held"  # A line of the module's log.


class Ledger:
    """A running mirror with a client that writes, and the ways to trouble it."""

    def __init__(self, profile: str) -> None:
        self.profile = profile
        self.lab = OneMachine(profile=profile)
        self.writer = Writer(self.lab)

    def __enter__(self) -> "Ledger":
        self.lab.__enter__()
        try:
            self.lab.module = "ledger"
            text = self.lab.userconfig(service='maxloop="10000"')
            self.lab.install("ledger", text, folders=["/var/lib/ledger"])
            time_scripts(self.lab)
            self.lab.begin("n1", "n2")
        except BaseException:
            self.lab.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.end()
        self.lab.close()

    @property
    def primary(self) -> str:
        """Return the node that is PRIM; raise TimedOut while none is."""
        for node in self.lab.nodes:
            if self.lab.state(node).get("state") == "PRIM":
                return node
        raise TimedOut("no node is PRIM")

    def other(self, node: str) -> str:
        """Return the peer."""
        return next(name for name in self.lab.nodes if name != node)

    def settle(self) -> None:
        """Wait until the nodes are PRIM and SECOND and records flow; the first one begins."""
        lab, writer = self.lab, self.writer
        writer.begin()

        def paired() -> bool:
            for node in lab.nodes:
                if lab.state(node).get("state") == "STOP":
                    with contextlib.suppress(MirrorfarmError):  # It stops still: later again.
                        lab.order(node, "start", seconds=SETTLE_SECONDS)
            return lab.is_pair()

        wait(paired, SETTLE_SECONDS, "PRIM and SECOND")
        before = len(writer.acknowledged)
        wait(lambda: len(writer.acknowledged) > before + 20, SETTLE_SECONDS, "records flow")

    def troubles(self) -> tuple[int, int]:
        """Return the register's term and how often a lease was over, on both nodes."""
        terms, over = [0], 0
        for node in self.lab.nodes:
            terms.append(int(self.lab.state(node, seconds=5.0).get("term", 0)))
            log = self.lab.paths(node).module_log("ledger") / "log.jsonl"
            over += log.read_text(encoding="utf-8").count(LEASE_OVER)
        return max(terms), over

    def kill(self, role: str) -> None:
        """Kill the primary's processes of a role."""
        for pid in self.lab.pids(self.primary)[role]:
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def frozen(lab: OneMachine, node: str) -> Iterator[None]:
    """Stop every process of a node but its first in the block, as a paused machine's."""
    pids = [pid for some in lab.pids(node).values() for pid in some]
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        # A program that entered the node to run one of them stops with it: continue it first.
        for pid in [*map(parent, pids), *pids]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def parent(pid: int) -> int:
    """Return the parent of a process; the process itself when it is gone."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return int(words[1])
    return pid


@contextlib.contextmanager
def busy(loops: int) -> Iterator[None]:
    """Keep the processors busy in the block."""
    argv = [sys.executable, "-I", "-S", "-c", "while True: pass"]
    running = [subprocess.Popen(argv) for _ in range(loops)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()
