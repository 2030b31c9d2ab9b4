"""What a trace costs the node that records it, how large it is, and how fast it is replayed.

    python -m mirrorfarm.lab.bench_trace [--seconds N] [--json FILE]

A ledger runs on two nodes with a witness, in namespaces of this machine; a client writes 100
records a second, then none. Measured are the processor time that the trace's thread uses, beside
what all processes of the node use (the application apart), bytes for each record, and the replay
of everything that was recorded: every effect must come again.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from mirrorfarm.actors.effects import Later, Send
from mirrorfarm.actors.events import PeerSilent
from mirrorfarm.cli.show import table
from mirrorfarm.errors import MirrorfarmError
from mirrorfarm.lab.bench_mirror import OURS, Row
from mirrorfarm.lab.cluster import OneMachine
from mirrorfarm.lab.ledger import Ledger
from mirrorfarm.trace.files import frames, raise_fault, sources
from mirrorfarm.trace.replay import Replay
from mirrorfarm.trace.steps import read_items
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import Probe
from mirrorfarm.transport.trace import TraceWriter
from mirrorfarm.transport.trace_ring import Origin

SHARE_MAX = 3.0  # Percent.
PLAIN_MAX, PACKED_MAX = 40.0, 8.0  # Bytes for each record.
RATE_MIN = 100_000  # Records a second of processor time.
CALLS = 4_000
FLUSHED_SECONDS = 1.5


def used_ns(lab: OneMachine, node: str) -> tuple[int, int]:
    """Return the processor time that a node's threads of traces used, and all its threads."""
    trace = total = 0
    for role, pids in lab.pids(node).items():
        for pid in pids if role in OURS else ():
            for task in Path(f"/proc/{pid}/task").iterdir():
                spent = int((task / "schedstat").read_text().split()[0])
                total += spent
                trace += spent if (task / "comm").read_text() == "trace\n" else 0
    return trace, total


def step_ns() -> float:
    """Return what a core's thread spends to hand over one step with a message and a timer."""
    to = Address("n2", "web", "module")
    effects = [Send(to, Probe("red", 1)), Later(5, PeerSilent(1))]
    with tempfile.TemporaryDirectory() as folder:
        writer = TraceWriter(Path(folder), Origin("", "", "n1", "web", 1, ""))
        begun = time.thread_time_ns()
        for number in range(CALLS):
            writer.step("module", number, PeerSilent(1), effects)
            writer.sent("module", number)
        spent = time.thread_time_ns() - begun
        writer.close()
    return spent / CALLS


def steps_in(lab: OneMachine, node: str) -> int:
    """Return how many steps a node has recorded."""
    found = sources([lab.paths(node).log])
    return sum(1 for one in found for item in read_items(one) if hasattr(item, "effects"))


def cost(lab: OneMachine, seconds: float, name: str, each_ns: float, rows: list[Row]) -> None:
    """Add the share of each node's processor time that recording takes."""
    before = {node: (used_ns(lab, node), steps_in(lab, node)) for node in lab.nodes}
    time.sleep(seconds)
    for node, ((trace, total), steps) in before.items():
        trace_now, total_now = used_ns(lab, node)
        handed = (steps_in(lab, node) - steps) * each_ns
        spent, whole = trace_now - trace + handed, total_now - total
        note = f"{spent / 1e7 / seconds:.3f} % of a core; the node {whole / 1e7 / seconds:.2f} %"
        limit = SHARE_MAX if name == "100 records/s" else float("inf")
        rows.append(Row(f"share of {node}, {name}", limit, "%", [100 * spent / whole], note))


def measure_traces(folders: list[Path], rows: list[Row]) -> None:
    """Add sizes and the replay of everything in some folders."""
    counts = Counter[str]()
    spent = 0
    for source in sources(folders):
        for path in source.files:
            places = list(frames(path, raise_fault))
            counts["plain"] += sum(len(content) for offset, content in places if offset)
            counts["packed"] += path.stat().st_size - (places[1][0] if len(places) > 1 else 0)
        replay = Replay()
        begun = time.process_time_ns()
        counts["differences"] += sum(1 for _ in replay.run(read_items(source)))
        spent += time.process_time_ns() - begun
        counts.update(replay.counts)
    records = counts["records"]
    rate = records / (spent / 1e9)
    note = f"{records} records in {counts['steps']} steps"
    rows += [
        Row("bytes of a record, plain", PLAIN_MAX, "B", [counts["plain"] / records], note),
        Row("bytes of a record, packed", PACKED_MAX, "B", [counts["packed"] / records]),
        Row("effects that differ in replay", 0, "", [float(counts["differences"])]),
        Row("steps that could not be replayed", 0, "", [float(counts["skipped"])]),
        Row(
            "replay: time of a record", 1e6 / RATE_MIN, "µs", [1e6 / rate], f"{rate:.0f} records/s"
        ),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a table, return 1 if a limit was missed."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="of each measurement")
    parser.add_argument("--profile", default="fast", choices=("fast", "default"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    each_ns = step_ns()
    rows = [Row("handing over a step", float("inf"), "µs", [each_ns / 1_000])]
    try:
        with Ledger(options.profile) as ledger:
            lab = ledger.lab
            ledger.settle()
            cost(lab, options.seconds, "100 records/s", each_ns, rows)
            ledger.writer.end()
            time.sleep(FLUSHED_SECONDS)
            measure_traces([lab.paths(name).log for name in (*lab.nodes, "w")], rows)
            cost(lab, options.seconds, "no records", each_ns, rows)
    except MirrorfarmError as error:
        sys.stderr.write(f"mirrorfarm: {error}\n")
        return error.exit_code
    heads = ("what", "n", "median", "most", "allowed", "reached", "note")
    table(heads, [row.cells() for row in rows])
    if options.json:
        options.json.write_text(json.dumps([{"name": r.name, "values": r.values} for r in rows]))
    return 0 if all(row.reached for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
