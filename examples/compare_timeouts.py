"""What would another timeout have done to a recorded period: needless takeovers, and slow ones.

    python examples/compare_timeouts.py [--timeouts 0.3s,2s,30s] [--seeds 20] [FOLDER ...]

Reads `examples/traces/takeover`, or folders copied from all nodes of a mirror or farm, and from the
witness. Tells the gaps between heartbeats, the pauses and the failures that were recorded; then the
cluster goes on from the moment when it was first in service, with these disturbances and each
timeout, in the simulator. A timeout is the detection time of a mirror, and the silence of a farm. A
pulse that does not fit to it becomes a sixth of it.
"""

import argparse
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from mirrorfarm.actors.events import Received
from mirrorfarm.errors import MirrorfarmError, UsageInvalid
from mirrorfarm.limits import SLOST_COUNT_MAX, SLOST_COUNT_MIN
from mirrorfarm.modules.settings import Module
from mirrorfarm.sim.acts.kinds import duration_ns, duration_text
from mirrorfarm.sim.fork.recording import Recording, read
from mirrorfarm.sim.fork.runs import Variant
from mirrorfarm.sim.fork.settings import Settings
from mirrorfarm.sim.fork.whatif import Summary, compare, horizon_ns, spread
from mirrorfarm.trace.merge import Merge
from mirrorfarm.trace.step import Placed
from mirrorfarm.transport.messages import FarmBeat, Heartbeat

RECORDED = Path(__file__).parent / "traces/takeover"
SECOND_NS = 10**9
SEEDS_MAX = 100_000
PULSES = 6  # In a timeout to which the recorded pulse does not fit.


def gaps(steps: Iterable[Placed]) -> dict[str, list[int]]:
    """Return the times between two heartbeats, by the way that they went; sorted."""
    last: dict[str, tuple[tuple[int, int], int]] = {}  # Its process and number, and when it came.
    found: dict[str, list[int]] = {}
    for placed in steps:
        event = placed.step.event
        if isinstance(event, Received) and isinstance(event.message, Heartbeat | FarmBeat):
            source, node = event.source.node, placed.step.node
            if source == node:
                continue  # Its own agent handed it back.
            way, number = f"{source} to {node}", (event.incarnation, event.message.number)
            if way in last:
                if number <= last[way][0]:
                    continue  # The same one by another network, or one that another overtook.
                found.setdefault(way, []).append(placed.at_ns - last[way][1])
            last[way] = number, placed.at_ns
    return {way: sorted(values) for way, values in sorted(found.items())}


def variants(recording: Recording, timeouts: list[int]) -> list[Variant]:
    """Return one variant for each timeout."""
    of_kind = of_mirror if recording.module.mode == "mirror" else of_farm
    return [
        Variant(duration_text(timeout_ns), Settings(of_kind(recording.module, timeout_ns)))
        for timeout_ns in timeouts
    ]


def of_mirror(module: Module, timeout_ns: int) -> dict[str, int]:
    """Return what is set of a mirror: it is more than three pulses."""
    settings = {"heart.detection": timeout_ns}
    if module.timing.heartbeat_ns * 3 >= timeout_ns:
        settings["heart.pulse"] = timeout_ns // PULSES
    return settings


def of_farm(module: Module, timeout_ns: int) -> dict[str, int]:
    """Return what is set of a farm: its silence is a number of pulses."""
    pulse_ns = module.farm.timing.pulse_ns
    count, rest_ns = divmod(timeout_ns, pulse_ns)
    if rest_ns or not SLOST_COUNT_MIN <= count <= SLOST_COUNT_MAX:
        pulse_ns, count = timeout_ns // PULSES, PULSES
    return {"farm.pulse": pulse_ns, "farm.slost_count": count}


def seconds(values: list[int]) -> str:
    """Return median and 99th percentile."""
    found = spread(values)
    if found["median"] is None or found["p99"] is None:
        return f"{'-':>17}"
    return f"{found['median'] / SECOND_NS:8.3f} {found['p99'] / SECOND_NS:8.3f}"


def tell_period(recording: Recording, folders: list[Path]) -> None:
    """Print what the recorded period was like."""
    for way, values in gaps(Merge(folders).steps()).items():
        told = ", ".join(f"{name} {(ns or 0) / 1e6:.1f}" for name, ns in spread(values).items())
        print(f"{len(values)} gaps between heartbeats from {way}, ms: {told}")
    for incident in recording.told:
        print(incident)


def tell(found: list[Summary], mode: str) -> None:
    """Print what each timeout did; of a farm, how it was for a client without a node."""
    times = ("failover, s", "no service, s") if mode == "mirror" else ("outage, s", "no node, s")
    print(f"\n{'':10} takeovers in runs    {times[0]:19}{times[1]}")
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
    if not 1 <= given.seeds <= SEEDS_MAX:
        raise UsageInvalid(f"--seeds {given.seeds}: from 1 to {SEEDS_MAX} runs with each timeout")
    folders = given.folders or [RECORDED]
    try:
        timeouts = [duration_ns(text) for text in given.timeouts.split(",")]
    except ValueError as error:
        raise UsageInvalid(f"--timeouts: {error}") from None
    recording = read(folders, "service")
    tell_period(recording, folders)
    wanted = variants(recording, timeouts)
    found = compare(recording, wanted, range(given.seeds), horizon_ns(recording, wanted))
    tell(found, recording.module.mode)
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # End quietly once `head` has read enough.
    try:
        sys.exit(main())
    except MirrorfarmError as error:
        print(f"mirrorfarm: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
