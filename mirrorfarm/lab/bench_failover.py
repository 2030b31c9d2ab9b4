"""How long clients wait at a failover, beside keepalived, in the same namespaces and minutes.

    python -m mirrorfarm.lab.bench_failover [--runs 10] [--json FILE]

A client probes the virtual address over UDP every 5 ms; every node answers with its name from
the address that was probed. The fault is the owner's cable. The result is the longest gap
between two answers. What is measured is the address only: no data, no application's start.
"""

import argparse
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from mirrorfarm.cli.show import table
from mirrorfarm.errors import MirrorfarmError, SystemUnsuitable, TimedOut
from mirrorfarm.lab.cluster import OneMachine
from mirrorfarm.lab.configuration import mirror_xml

PORT = 9999
PROBE_SECONDS = 0.005
STEADY_SECONDS = 1.0
FAILOVER_SECONDS = 20.0
SETTLE_SECONDS = 60.0
MODULE = "bench"

# Answers from the very address that was probed, so that only its owner can be heard.
RESPONDER = """
import socket, sys
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
link.bind(("0.0.0.0", int(sys.argv[2])))
while True:
    data, extra, _, source = link.recvmsg(64, 64)
    for level, kind, info in extra:
        if (level, kind) == (socket.IPPROTO_IP, 8):
            back = [(level, kind, bytes(4) + info[4:8] + bytes(4))]
            try:
                link.sendmsg([data + b" " + sys.argv[1].encode()], back, 0, source)
            except OSError:
                pass
"""

KEEPALIVED = """
global_defs {{ vrrp_version 3 }}
vrrp_instance bench {{
    interface eth0
    state BACKUP
    virtual_router_id 51
    priority {priority}
    advert_int {advert}
    virtual_ipaddress {{ {vip}/24 }}
}}
"""


@dataclass
class Prober:
    """The client: probes in a thread, remembers when who answered."""

    lab: OneMachine
    answers: list[tuple[float, str]] = field(default_factory=list)
    ending: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Prober":
        self.thread = threading.Thread(target=self.run, name="prober", daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self.thread.join(timeout=5)

    def run(self) -> None:
        """Send a probe every 5 ms and take every answer."""
        with self.lab.as_client(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
            link.settimeout(PROBE_SECONDS)
            due = time.monotonic()
            while not self.ending.is_set():
                with contextlib.suppress(OSError):  # Nobody has the address just now.
                    link.sendto(b"?", (self.lab.vip, PORT))
                due += PROBE_SECONDS
                while (left := due - time.monotonic()) > 0:
                    link.settimeout(left)
                    with contextlib.suppress(OSError):
                        name = link.recv(64).decode(errors="replace").rpartition(" ")[2]
                        self.answers.append((time.monotonic(), name))

    def owner(self, seconds: float = 0.3) -> str:
        """Return the only node that answered in the last `seconds`; empty when none or several."""
        now = time.monotonic()
        names = {name for at, name in self.answers[-500:] if now - at < seconds}
        return names.pop() if len(names) == 1 else ""

    def gap_after(self, start: float) -> float:
        """Return the longest time without an answer that ended after `start`."""
        times = [at for at, _ in self.answers]
        gaps = (late - early for early, late in pairwise(times) if late >= start)
        return max(gaps, default=0.0)


def wait(check: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for something; raise TimedOut."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise TimedOut(f"waited {seconds:g} s in vain: {what}")
        time.sleep(0.02)


@contextlib.contextmanager
def inside(lab: OneMachine, commands: dict[str, list[str]]) -> Iterator[None]:
    """Run one command on each node in the block; the nodes' end ends them too."""
    running = [
        subprocess.Popen(
            lab.machines[node].inside(argv),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for node, argv in commands.items()
    ]
    try:
        yield
    finally:
        for process in running:
            process.terminate()
            process.wait(timeout=10)


def responders(lab: OneMachine) -> dict[str, list[str]]:
    """Return the commands that answer probes."""
    python = [sys.executable, "-I", "-S", "-c", RESPONDER]
    return {node: [*python, node, str(PORT)] for node in lab.nodes}


def one_gap(lab: OneMachine, prober: Prober) -> float:
    """Cut the owner's cable; return the gap that the client saw. Leaves the cable cut."""
    wait(lambda: bool(prober.owner(STEADY_SECONDS)), SETTLE_SECONDS, "one steady owner")
    owner = prober.owner()
    start = time.monotonic()
    lab.cut(owner)
    other = next(node for node in lab.nodes if node != owner)
    wait(lambda: prober.owner() == other, FAILOVER_SECONDS, f"{other} answers")
    gap = prober.gap_after(start)
    lab.mend(owner)
    return gap


def settled(lab: OneMachine) -> bool:
    """Return whether one node is PRIM and the other SECOND."""
    return {str(lab.state(node).get("state")) for node in lab.nodes} == {"PRIM", "SECOND"}


def mirror_gaps(profile: str, runs: int, say: Callable[[float], None]) -> Iterator[float]:
    """Yield the gaps of a mirror with a witness and an empty directory."""
    with OneMachine(profile=profile) as lab:
        networks = lab.networks
        folders = (f"/var/lib/{MODULE}",)
        text = mirror_xml(
            networks=networks,
            vips=(lab.vip,),
            directories=folders,
            witness=lab.witness,
            profile=profile,
        )
        lab.module = MODULE
        lab.install(MODULE, text, source="mirror", folders=folders)
        lab.begin("n1", "n2")
        with inside(lab, responders(lab)), Prober(lab) as prober:
            for _ in range(runs):
                gap = one_gap(lab, prober)
                say(gap)
                yield gap
                wait(lambda: settled(lab), SETTLE_SECONDS, "PRIM and SECOND again")


def keepalived_gaps(advert: str, runs: int, say: Callable[[float], None]) -> Iterator[float]:
    """Yield the gaps of keepalived with VRRP version 3."""
    with OneMachine(witness=False) as lab:
        commands = {}
        for priority, node in ((101, "n1"), (100, "n2")):
            folder = lab.machines[node].folder
            file = folder / "keepalived.conf"
            file.write_text(KEEPALIVED.format(priority=priority, advert=advert, vip=lab.vip))
            words = ["-p", str(folder / "k.pid"), "-r", str(folder / "v.pid")]
            commands[node] = ["keepalived", "-n", "-P", "-l", "-f", str(file), *words]
        with inside(lab, responders(lab)), inside(lab, commands), Prober(lab) as prober:
            for _ in range(runs):
                # The higher priority takes the address back, which is not what is measured.
                back = 4 * float(advert) + STEADY_SECONDS
                wait(
                    lambda back=back: prober.owner(back) == "n1",  # type: ignore[misc]
                    SETTLE_SECONDS,
                    "n1 has the address again",
                )
                gap = one_gap(lab, prober)
                say(gap)
                yield gap


SUBJECTS: dict[str, Callable[[int, Callable[[float], None]], Iterator[float]]] = {
    "mirrorfarm, profile fast": lambda runs, say: mirror_gaps("fast", runs, say),
    "keepalived, advert 0.1 s": lambda runs, say: keepalived_gaps("0.1", runs, say),
    "mirrorfarm, profile default": lambda runs, say: mirror_gaps("default", runs, say),
    "keepalived, advert 1 s": lambda runs, say: keepalived_gaps("1", runs, say),
}


def main() -> int:
    """Measure all subjects, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--json", type=Path, help="write the single results here")
    parser.add_argument("--only", default="", help="subjects that contain this text")
    options = parser.parse_args()
    results: dict[str, list[float]] = {}
    try:
        for name, measure in SUBJECTS.items():
            if options.only not in name:
                continue

            def say(gap: float, name: str = name) -> None:
                sys.stderr.write(f"{name}: {gap:.3f} s\n")

            results[name] = [round(gap, 4) for gap in measure(options.runs, say)]
    except SystemUnsuitable as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except MirrorfarmError as error:
        sys.stderr.write(f"the measurement broke off: {error}\n")
    rows = [
        (name, str(len(gaps)), *(f"{value(gaps):.3f}" for value in (min, statistics.median, max)))
        for name, gaps in results.items()
        if gaps
    ]
    table(("gap of the virtual address, s", "runs", "least", "median", "most"), rows)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0 if len(results) == sum(options.only in name for name in SUBJECTS) else 1


if __name__ == "__main__":
    sys.exit(main())
