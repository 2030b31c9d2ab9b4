"""How fast the simulator is: `make bench-sim`. Prints one row for each figure, with its bar."""

import gc
import sys
import time
from collections.abc import Iterable

from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import PROFILES
from mirrorfarm.sim import running
from mirrorfarm.sim.monitors.all import MIRROR
from mirrorfarm.sim.monitors.monitor import Monitor
from mirrorfarm.sim.world import World

SEEDS = range(1, 21)
ROW = "{:<58} {:>12} {:>12}\n"


def pair(profile: str, monitors: Iterable[type[Monitor]] = (), *, digest: bool = False) -> World:
    """Return a pair in service that tells no story."""
    world = World(1, PROFILES[profile], monitors=monitors, digest=digest, extents=64)
    world.tells_story = False
    for name in world.nodes:
        world.start(name)
    world.run(100)
    world.command("n1", "prim")
    assert world.run_until(lambda: world.role("n1") == "ALONE Ready", 60_000)
    world.command("n2", "start")
    assert world.run_until(lambda: world.role("n2") == "SECOND Ready", 60_000)
    world.run(5_000)
    return world


def measure(world: World, seconds: int, writes: int = 0) -> tuple[float, float]:
    """Return events a second of CPU, and simulated hours in a minute of CPU."""
    gc.collect()
    gc.freeze()
    gc.disable()
    turns, began, start = world.turns, time.process_time(), world.now
    end = world.now + seconds * SECOND_NS
    while world.now < end:
        if writes:
            world.write()
            world.run_to(min(end, world.now + 1_000 * MILLISECOND_NS // writes))
        else:
            world.run_to(end)
    spent = time.process_time() - began
    gc.enable()
    return (world.turns - turns) / spent, (world.now - start) / SECOND_NS / 60 / spent


def tell(what: str, value: str, bar: str) -> None:
    """Print a row."""
    sys.stdout.write(ROW.format(what, value, bar))


def main() -> int:
    """Measure everything."""
    tell("what (one core)", "measured", "bar")
    rate, _ = measure(pair("default"), 900)
    tell("events/s, real cores, no trace", f"{rate:,.0f}", ">= 150,000")
    rate, _ = measure(pair("default", MIRROR, digest=True), 600)
    tell("events/s with digest and all monitors", f"{rate:,.0f}", ">= 60,000")
    for profile, seconds in (("safekit", 3_600), ("default", 900), ("fast", 200)):
        beat = PROFILES[profile].heartbeat_ns // MILLISECOND_NS
        _, hours = measure(pair(profile), seconds)
        tell(f"simulated h per CPU minute, idle pair, beat {beat} ms", f"{hours:.0f}", ">= 150")
        _, hours = measure(pair(profile), seconds // 4, 10)
        tell(f"the same with 10 writes/s, beat {beat} ms", f"{hours:.1f}", ">= 20")
    spent = [running.run(seed).cpu_s for seed in SEEDS]
    tell(
        "swarm seed of 30 simulated minutes, mean of 20, CPU s",
        f"{sum(spent) / len(spent):.2f}",
        "<= 2",
    )
    tell("the longest of them, CPU s", f"{max(spent):.2f}", "<= 2")
    return 0


if __name__ == "__main__":
    sys.exit(main())
