"""What it costs to merge, explain and export traces: processor time and memory by format.

    python -m mirrorfarm.lab.bench_export [PATH…] [--records N] [--json FILE]

Without a PATH, traces of two nodes and a witness with N records are made first: heartbeats, and a
timer for each, as nearly all of a trace is. Every export is a process of its own, whose memory
the kernel measures; none may need more than MEMORY_MAX, however long the traces are.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mirrorfarm.actors.effects import Later, Send, Tell
from mirrorfarm.actors.events import Event, PeerHeard, Received
from mirrorfarm.actors.heartbeat.core import PulseDue
from mirrorfarm.cli.show import table
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import Announcement, Heartbeat
from mirrorfarm.transport.trace_ring import Origin, Ring

RECORDS = 1_000_000
MEMORY_MAX = 256  # MiB
FORMATS = ("jsonl", "jsonl --tla", "parquet", "perfetto", "shiviz", "mermaid", "pcapng")
PULSE_NS = 250 * MILLISECOND_NS
DELAY_NS = MILLISECOND_NS // 2
ABOUT = Announcement("PRIM", "Ready", "leading", 1, cons=True, was="prim")


class Side:
    """One node's trace."""

    def __init__(self, folder: Path, name: str, ahead_ns: int) -> None:
        origin = Origin("bench", "c" * 16, name, "web", 1, f"boot-{name}")
        self.name, self._ahead_ns = name, ahead_ns
        self._ring = Ring(folder / name, origin, 1 << 30, 8)
        self.steps = self.records = 0

    def step(self, actor: str, at_ns: int, event: Event, *effects: Any, sent: int = 0) -> None:
        """Add one step; now and then what was added is written."""
        self.steps += 1
        self.records += 1 + len(effects)
        now = at_ns + self._ahead_ns
        self._ring.ready(now, self.steps)
        self._ring.encoder.step(actor, now, event, effects, [sent] if sent else [])
        if self.steps % 500 == 0:
            self._ring.flush()

    def close(self) -> None:
        """Write the rest."""
        self._ring.flush(ends=True)


def record(folder: Path, records: int) -> int:
    """Write traces with about so many records; return how many there are."""
    sides = (Side(folder, "n1", 5 * SECOND_NS), Side(folder, "n2", 7_000 * SECOND_NS))
    at_ns, number = SECOND_NS, 0
    while sum(side.records for side in sides) < records:
        at_ns, number = at_ns + PULSE_NS, number + 1
        for here, there in (sides, sides[::-1]):
            beat = Heartbeat("red", number, at_ns, ABOUT)
            send = Send(Address(there.name, "web", "heartbeat"), beat, "red")
            due = PulseDue("red", 1, at_ns)
            later = Later(at_ns + PULSE_NS, PulseDue("red", 1, at_ns + PULSE_NS))
            here.step("heartbeat", at_ns, due, send, later, sent=number)
        for here, there in (sides, sides[::-1]):
            came = at_ns + DELAY_NS
            beat = Heartbeat("red", number, at_ns, ABOUT)
            source = Address(there.name, "web", "heartbeat")
            heard = PeerHeard("red", beat)
            received = Received(source, beat, "red", 1, number)
            here.step("heartbeat", came, received, Tell("module", heard))
            here.step("module", came + 20_000, heard)
    for side in sides:
        side.close()
    return sum(side.records for side in sides)


def measured(words: Sequence[str]) -> tuple[float, int, str]:
    """Run a command of mirrorfarm; return its processor time, its memory in MiB, its output."""
    command = [sys.executable, "-m", "mirrorfarm.cli.main", "trace", *words]
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read(1_000_000).decode(errors="replace")
    if child.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {child.returncode}: {text}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024, text


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files if file.is_file())


def rows(paths: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    """Measure everything."""
    _, _, told = measured(("export", "--to", "jsonl", "-o", f"{folder}/count", "--json", *paths))
    steps = int(json.loads(told)["steps"])
    with (folder / "count").open("rb") as lines:
        records = sum(1 + len(json.loads(line)["effects"]) for line in lines)
    found = []
    for words in ("merge --clocks", *(f"export --to {name}" for name in FORMATS)):
        output = folder / "out"
        more = ["-o", str(output)] if words.startswith("export") else []
        seconds, memory, _ = measured((*words.split(), *more, *paths))
        size = size_of(output) if more else 0
        found.append(
            {
                "what": words,
                "seconds": round(seconds, 1),
                "records_per_s": round(records / seconds),
                "memory_mib": memory,
                "output_mib": round(size / 1_048_576, 1),
                "steps": steps,
                "records": records,
            }
        )
        if output.is_dir():
            shutil.rmtree(output)
        output.unlink(missing_ok=True)
    return found


def main() -> None:
    """Measure, print, and end with 1 if something needs too much memory."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mirrorfarm-export-") as name:
        folder, paths = Path(name), given.paths
        if not paths:
            record(folder / "traces", given.records)
            paths = [str(folder / "traces")]
        found = rows(paths, folder)
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")
    heads = ("command", "CPU", "records/s", "memory", "output")
    sys.stdout.write(f"{found[0]['records']} records in {found[0]['steps']} steps\n")
    table(heads, [told_row(one) for one in found])
    sys.exit(any(one["memory_mib"] > MEMORY_MAX for one in found))


def told_row(one: dict[str, Any]) -> tuple[str, ...]:
    """Return a row of the table."""
    return (
        f"trace {one['what']}",
        f"{one['seconds']} s",
        f"{one['records_per_s']}",
        f"{one['memory_mib']} MiB",
        f"{one['output_mib']} MiB" if one["output_mib"] else "",
    )


if __name__ == "__main__":
    main()
