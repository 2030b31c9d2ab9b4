"""What a mirror does when it should do nothing, what it costs, and what is lost: nothing.

    python -m mirrorfarm.lab.bench_mirror [--only TEXT] [--json FILE]

A ledger runs on two nodes, a witness and a client in namespaces of this machine. Measured are
takeovers that nobody needed (the primary frozen for a moment, a busy machine), the gap of a swap
beyond the application's own stop and start, the time from the application's death to its start
script, records lost in failovers of every kind, and what an idle node uses.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mirrorfarm.cli.show import table
from mirrorfarm.errors import MirrorfarmError, SystemUnsuitable
from mirrorfarm.lab.bench_failover import KEEPALIVED, Prober, inside, responders, wait
from mirrorfarm.lab.cluster import OneMachine
from mirrorfarm.lab.ledger import SETTLE_SECONDS, Ledger, busy, frozen
from mirrorfarm.lab.records import script_times

BUSY_LOOPS = 8
BUSY_SECONDS = 60.0
FREEZES = 10
RESTARTS = 5
SWAPS = 4
IDLE_SECONDS = 30.0
ROUNDS = 3  # Of every kind of failure.
OURS = ("agent", "module", "replica", "guard")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Row:
    """One line of the table: single results, and the most that is allowed of each."""

    name: str
    limit: float
    unit: str
    values: list[float] = field(default_factory=list)
    note: str = ""

    @property
    def reached(self) -> bool:
        """Whether every result is within the limit; no result is not."""
        return bool(self.values) and max(self.values) <= self.limit

    def cells(self) -> tuple[str, ...]:
        """Return the line as text."""
        allowed = f"{self.limit:g} {self.unit}" if math.isfinite(self.limit) else "(to compare)"
        if not self.values:
            return (self.name, "0", "", "", allowed, "no result", self.note)
        numbers = (f"{value:.4g}" for value in (statistics.median(self.values), max(self.values)))
        verdict = "yes" if self.reached else "NO"
        return (self.name, str(len(self.values)), *numbers, allowed, verdict, self.note)


Part = Callable[[list[Row]], None]

# --- nothing happened ------------------------------------------------------------------------


def unneeded(ledger: Ledger, name: str, rows: list[Row], trouble: Callable[[], None]) -> None:
    """Add how many takeovers and lease closings a trouble caused."""
    ledger.settle()
    primary, (term, over) = ledger.primary, ledger.troubles()
    trouble()
    ledger.settle()
    takeovers, closings = (
        after - before for after, before in zip(ledger.troubles(), (term, over), strict=True)
    )
    moved = int(ledger.primary != primary)
    title = f"{name}, {ledger.profile}"
    rows.append(Row(f"takeovers, {title}", 0, "", [float(max(takeovers, moved))]))
    rows.append(Row(f"leases that ended, {title}", 0, "", [float(closings)]))


def freeze_shortly(ledger: Ledger, rows: list[Row]) -> None:
    """Freeze the primary ten times, for less than the detection time."""
    seconds = 0.2 if ledger.profile == "fast" else 1.0

    def trouble() -> None:
        for _ in range(FREEZES):
            with frozen(ledger.lab, ledger.primary):
                time.sleep(seconds)
            time.sleep(0.5)

    unneeded(ledger, f"10 x frozen {seconds:g} s", rows, trouble)


def load(ledger: Ledger, rows: list[Row]) -> None:
    """Let more programs compute than there are processors."""

    def trouble() -> None:
        with busy(BUSY_LOOPS):
            time.sleep(BUSY_SECONDS)

    name = f"{BUSY_LOOPS} busy loops on {os.cpu_count()} cores {BUSY_SECONDS:g} s"
    unneeded(ledger, name, rows, trouble)


def freeze_keepalived(advert: str, seconds: float, rows: list[Row]) -> None:
    """Freeze keepalived's processes on the owner ten times; count changes of the owner."""
    with OneMachine(witness=False) as lab:
        commands = {}
        for priority, node in ((101, "n1"), (100, "n2")):
            folder = lab.machines[node].folder
            file = folder / "keepalived.conf"
            file.write_text(KEEPALIVED.format(priority=priority, advert=advert, vip=lab.vip))
            words = ["-p", str(folder / "k.pid"), "-r", str(folder / "v.pid")]
            commands[node] = ["keepalived", "-n", "-P", "-l", "-f", str(file), *words]
        takeovers = 0
        with inside(lab, responders(lab)), inside(lab, commands), Prober(lab) as prober:
            for _ in range(FREEZES):
                wait(lambda: prober.owner(1.0) == "n1", SETTLE_SECONDS, "n1 has the address")
                start = len(prober.answers)
                with frozen(lab, "n1"):
                    time.sleep(seconds)
                time.sleep(0.5)
                takeovers += any(name == "n2" for _, name in prober.answers[start:])
        title = f"keepalived advert {advert} s"
        rows.append(
            Row(f"takeovers, 10 x frozen {seconds:g} s, {title}", math.inf, "", [takeovers])
        )


# --- something happened ----------------------------------------------------------------------


def swaps(ledger: Ledger, rows: list[Row]) -> None:
    """Add the gaps of swaps beyond the application's own stop and start, in ms."""
    lab, row = ledger.lab, Row("swap: gap beyond the application's stop + start", 150, "ms")
    between = Row("swap: from the end of stop_prim to the start of start_prim", 150, "ms")
    rows += [row, between]
    own = []
    for _ in range(SWAPS):
        ledger.settle()
        old, start = ledger.primary, time.monotonic()
        lab.order(old, "swap", seconds=SETTLE_SECONDS)
        ledger.settle()
        stop = script_times(lab, old, "stop_prim")[-1]
        begin = script_times(lab, ledger.other(old), "start_prim")[-1]
        between.values.append(1_000 * (begin[0] - stop[1]))
        own.append(1_000 * (stop[1] - stop[0] + begin[1] - begin[0]))
        row.values.append(1_000 * ledger.writer.gap_after(start) - own[-1])
    row.note = f"the application's stop + start: {statistics.median(own):.0f} ms"


def restarts(ledger: Ledger, rows: list[Row]) -> None:
    """Add the times from the application's death to the first step of its start script, in ms."""
    row = Row("application killed: until its start script runs", 100, "ms")
    rows.append(row)
    for _ in range(RESTARTS):
        ledger.settle()
        node = ledger.primary
        before = len(script_times(ledger.lab, node, "start_prim"))
        death = time.time()
        ledger.kill("application")

        def began(node: str = node, before: int = before) -> bool:
            return len(script_times(ledger.lab, node, "start_prim")) > before

        wait(began, SETTLE_SECONDS, "the application is started again")
        row.values.append(1_000 * (script_times(ledger.lab, node, "start_prim")[before][0] - death))


def cut_power(ledger: Ledger) -> None:
    """Cut the power of the primary until the peer leads."""
    node = ledger.primary
    ledger.lab.kill_node(node)
    ledger.lab.wait_state(ledger.other(node), "ALONE", SETTLE_SECONDS)
    ledger.lab.start_node(node)


def cut_cable(ledger: Ledger) -> None:
    """Pull the cable of the primary until the peer leads."""
    node = ledger.primary
    ledger.lab.cut(node)
    ledger.lab.wait_state(ledger.other(node), "ALONE", SETTLE_SECONDS)
    ledger.lab.mend(node)


def freeze_long(ledger: Ledger) -> None:
    """Freeze the primary for longer than its lease."""
    node = ledger.primary
    with frozen(ledger.lab, node):
        ledger.lab.wait_state(ledger.other(node), "ALONE", SETTLE_SECONDS)
        time.sleep(0.3)


def order(verb: str) -> Callable[[Ledger], None]:
    """Return what gives an order to the primary."""

    def give(ledger: Ledger) -> None:
        ledger.lab.order(ledger.primary, verb, seconds=SETTLE_SECONDS)

    return give


FAILOVERS: dict[str, Callable[[Ledger], None]] = {
    "power cut": cut_power,
    "cable cut": cut_cable,
    "frozen": freeze_long,
    "swap": order("swap"),
    "stop": order("stop"),
    **{
        f"{role} killed": lambda ledger, role=role: ledger.kill(role)  # type: ignore[misc]
        for role in (*OURS, "application")
    },
    "stopstart": order("stopstart"),
}


def losses(ledger: Ledger, rows: list[Row]) -> None:
    """Break the primary in every way, three times; add the acknowledged records lost."""
    row = Row("acknowledged records lost", 0, "")
    rows.append(row)
    waits: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, failure in FAILOVERS.items():
            ledger.settle()
            start = time.monotonic()
            failure(ledger)
            ledger.settle()
            waits.setdefault(name, []).append(ledger.writer.gap_after(start))
            sys.stderr.write(f"  {name}: longest wait {waits[name][-1]:.3f} s\n")
    row.values.append(len(ledger.writer.lost()))
    count = sum(len(some) for some in waits.values())
    row.note = f"{len(ledger.writer.acknowledged)} acknowledged, {count} failures"


# --- nothing to do ---------------------------------------------------------------------------


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process used."""
    words = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1_048_576


def idle(ledger: Ledger, rows: list[Row]) -> None:
    """Add what the processes of a node use when nobody writes."""
    processor = Row("idle node: processor", 2, "% of a core")
    memory = Row("idle node: resident memory", 200, "MiB")
    rows += [processor, memory]
    time.sleep(3)
    pids = {
        node: [pid for role, some in ledger.lab.pids(node).items() if role in OURS for pid in some]
        for node in ledger.lab.nodes
    }
    before = {node: sum(map(processor_seconds, some)) for node, some in pids.items()}
    start = time.monotonic()
    time.sleep(IDLE_SECONDS)
    for node, some in pids.items():
        used = sum(map(processor_seconds, some)) - before[node]
        processor.values.append(100 * used / (time.monotonic() - start))
        memory.values.append(sum(map(resident_mib, some)))


# --- all of it -------------------------------------------------------------------------------


def with_ledger(profile: str, *parts: Callable[[Ledger, list[Row]], None]) -> Part:
    """Return what measures parts on one running ledger."""

    def measure(rows: list[Row]) -> None:
        with Ledger(profile) as ledger:
            for part in parts:
                sys.stderr.write(f"{profile}: {part.__name__}\n")
                part(ledger, rows)

    return measure


PARTS: dict[str, Part] = {
    "application": with_ledger("fast", restarts, swaps),
    "fast": with_ledger("fast", freeze_shortly, load),
    "losses": with_ledger("fast", losses),
    "default": with_ledger("default", idle, freeze_shortly, load),
    "keepalived 0.1": lambda rows: freeze_keepalived("0.1", 0.2, rows),
    "keepalived 1": lambda rows: freeze_keepalived("1", 1.0, rows),
}


def measure_parts(description: str, parts: dict[str, Part]) -> int:
    """Measure the parts wanted, print a table; return 1 if one broke off or is beyond its limit."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, help="write the single results here")
    parser.add_argument("--only", default="", help=f"parts that contain this: {', '.join(parts)}")
    options = parser.parse_args()
    rows: list[Row] = []
    broken = False
    for name, measure in parts.items():
        if options.only not in name:
            continue
        sys.stderr.write(f"{name}\n")
        try:
            measure(rows)
        except SystemUnsuitable as error:
            sys.stderr.write(f"{error}\n")
            return error.exit_code
        except (MirrorfarmError, OSError, subprocess.SubprocessError) as error:
            broken = True
            sys.stderr.write(f"{name}: the measurement broke off: {error}\n")
    heads = ("what", "runs", "median", "most", "allowed", "reached", "")
    table(heads, [row.cells() for row in rows])
    if options.json:
        found = {row.name: [round(value, 4) for value in row.values] for row in rows}
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0 if not broken and all(row.reached for row in rows) else 1


def main() -> int:
    """Measure a mirror."""
    return measure_parts(str(__doc__).partition("\n")[0], PARTS)


if __name__ == "__main__":
    sys.exit(main())
