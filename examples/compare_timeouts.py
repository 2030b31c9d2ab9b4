"""What would another timeout have done to a recorded period: needless takeovers, and slow ones.

    python examples/compare_timeouts.py [--timeouts 0.3s,2s,30s] [--seeds 20] [FOLDER ...]

Reads `examples/traces/takeover`, or folders copied from both nodes and the witness. Tells the gaps
between heartbeats, the pauses and the failures that were recorded; then the mirror goes on from the
moment when it was first in service, with these disturbances and each timeout, in the simulator. A
pulse that is too slow for a timeout becomes a sixth of it.
"""

import argparse
import sys
from pathlib import Path

from mirrorfarm.actors.events import Received
from mirrorfarm.errors import MirrorfarmError, UsageInvalid
from mirrorfarm.sim.acts.kinds import duration_ns, duration_text
from mirrorfarm.sim.fork.recording import Recording, read
from mirrorfarm.sim.fork.settings import Settings
from mirrorfarm.sim.fork.whatif import Summary, Variant, compare, horizon_ns, spread
from mirrorfarm.trace.merge import Merge
from mirrorfarm.transport.messages import Heartbeat

RECORDED = Path(__file__).parent / "traces/takeover"
SECOND_NS = 10**9


def gaps(folders: list[Path]) -> dict[str, list[int]]:
    """Return the times between two heartbeats, by the way that they went; sorted."""
    last: dict[str, int] = {}
    found: dict[str, list[int]] = {}
    for placed in Merge(folders).steps():
        event = placed.step.event
        if isinstance(event, Received) and isinstance(event.message, Heartbeat):
            way = f"{event.source.node} to {placed.step.node}"
            if way in last:
                found.setdefault(way, []).append(placed.at_ns - last[way])
            last[way] = placed.at_ns
    return {way: sorted(values) for way, values in sorted(found.items())}


def variants(recording: Recording, timeouts: list[int]) -> list[Variant]:
    """Return one variant for each timeout."""
    found = []
    for timeout_ns in timeouts:
        settings = {"heart.detection": timeout_ns}
        if recording.module.timing.heartbeat_ns * 3 >= timeout_ns:
            settings["heart.pulse"] = timeout_ns // 6
        found.append(Variant(duration_text(timeout_ns), Settings(settings)))
    return found


def seconds(values: list[int]) -> str:
    """Return median and 99th percentile."""
    found = spread(values)
    if found["median"] is None or found["p99"] is None:
        return f"{'-':>17}"
    return f"{found['median'] / SECOND_NS:8.3f} {found['p99'] / SECOND_NS:8.3f}"


def tell_period(recording: Recording, folders: list[Path]) -> None:
    """Print what the recorded period was like."""
    for way, values in gaps(folders).items():
        told = ", ".join(f"{name} {(ns or 0) / 1e6:.1f}" for name, ns in spread(values).items())
        print(f"{len(values)} gaps between heartbeats from {way}, ms: {told}")
    for incident in recording.outside:
        print(incident)


def tell(found: list[Summary]) -> None:
    """Print what each timeout did."""
    print(f"\n{'':10} takeovers in runs    failover, s         no service, s")
    print(f"{'timeout':10} {'all':>6} {'needless':>9}     median      p99     median      p99")
    for one in found:
        row = f"{one.variant.name:10} {one.took_over:6} {one.needless:9}  "
        print(f"{row} {seconds(one.failover_ns)}  {seconds(one.without_ns)}")


def main() -> int:
    """Read, play, tell."""
    parser = argparse.ArgumentParser(description="Compare timeouts on a recorded period.")
    parser.add_argument("--timeouts", default="0.3s,2s,30s", help="with commas between them")
    parser.add_argument("--seeds", type=int, default=20, help="runs with each timeout")
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    given = parser.parse_args()
    folders = given.folders or [RECORDED]
    try:
        timeouts = [duration_ns(text) for text in given.timeouts.split(",")]
    except ValueError as error:
        raise UsageInvalid(f"--timeouts: {error}") from None
    recording = read(folders, "service")
    tell_period(recording, folders)
    wanted = variants(recording, timeouts)
    tell(compare(recording, wanted, range(given.seeds), horizon_ns(recording, wanted)))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MirrorfarmError as error:
        print(f"mirrorfarm: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
