"""Look for a violation: the one place that knows how the simulator is called.

`python -m tests.mutants.hunt WORLD FIRST STEP COUNT SECONDS NAMES` plays the seeds FIRST,
FIRST+STEP, … and prints one line of JSON (`Found`). It ends after COUNT seeds or SECONDS of
processor time. NAMES: invariants that count, as `S3,S4`; empty: all.
"""

import dataclasses
import sys
import time
from collections.abc import Callable

import msgspec

from mirrorfarm.sim import farm_sweep, swarm, sweep
from mirrorfarm.sim.monitors import Violation
from tests.mutants import farms, mirrors, worlds

POLICIES = ("keep-primary", "keep-newer", "keep-more-changes", "manual")


class Found(msgspec.Struct, frozen=True):
    """What a hunt found."""

    violation: str  # Empty: nothing.
    seed: int  # The one that found it, or the last one played.
    played: int
    seconds: float  # Of processor time.
    others: tuple[str, ...] = ()  # Violations of invariants that did not count.


def _mirror(seed: int) -> None:
    sweep.play(seed, failover=seed % 10 != 7, directories=seed % 10 != 9)


def _received(seed: int) -> None:
    sweep.play(seed, ack_mode="received")


def _split(seed: int) -> None:
    arbiter = ("none", "ping")[seed % 2]
    sweep.play(seed, arbiter=arbiter, divergence=POLICIES[seed // 2 % len(POLICIES)])


def _farm(seed: int) -> None:
    farm_sweep.play(seed, lossy=bool(seed % 2))


HOLDS = ("hold",) * 3
HELD = (*HOLDS, "isolate", "power", "kill_module", "pause_module", "stream_reset", "operator")
FARM_HELD = (*HOLDS, "hold", "killed", "frozen", "hung", "parted", "mended", "ordered")


def _held(seed: int) -> None:
    """Most of what goes wrong is that messages are late: overtaken, or for somebody of the past."""
    sweep.run(dataclasses.replace(swarm.dense(seed), faults=HELD))


def _farm_held(seed: int) -> None:
    plan = farm_sweep.FarmSwarm(seed, 3 + seed % 2, "default", 1, steps=25, faults=FARM_HELD)
    plan = dataclasses.replace(plan, machines=False)
    farm_sweep.play_out(farm_sweep.build(plan), plan)


WORLDS: dict[str, Callable[[int], None]] = {
    "mirror": _mirror,
    "received": _received,
    "split": _split,
    "farm": _farm,
    "held": _held,
    "farm_held": _farm_held,
    "walk": worlds.walk,
    "exchanges": worlds.exchanges,
    "witness": worlds.witness,
    "leases": worlds.leases,
    "torn": worlds.torn,
    "merging": farms.merging,
    "clocks": farms.clocks,
    "overtaken": farms.overtaken,
    "triangle": farms.triangle,
    "stalls": farms.stalls,
    "hangs": farms.hangs,
    "hangs_in_turn": farms.hangs_in_turn,
    "promised_and_gone": farms.promised_and_gone,
    "unheard": farms.unheard,
    "ring": farms.ring,
    "reborn": farms.reborn,
    "counts": farms.counts,
    "outnumbered": farms.outnumbered,
    "led_by_another": farms.led_by_another,
    "parting": farms.parting,
    "restored": worlds.restored,
    "forced": worlds.forced,
    "late_words": mirrors.late_words,
    "forgotten": mirrors.forgotten,
    "rolled_back": mirrors.rolled_back,
    "half_copied": mirrors.half_copied,
    "decided": mirrors.decided,
    "returned": mirrors.returned,
    "dead_planes": mirrors.dead_planes,
    "promisers": mirrors.promisers,
    "cut_off": mirrors.cut_off,
    "early_swaps": mirrors.early_swaps,
    "power_cuts": mirrors.power_cuts,
    "replaced_while_asked": mirrors.replaced_while_asked,
}


def hunt(world: str, seed: int) -> str | None:
    """Play one seed; return what was violated, beginning with the invariant's name, or None.

    `world`: one of WORLDS, or several with commas, which take turns.
    """
    names = world.split(", ")
    try:
        WORLDS[names[seed % len(names)]](seed // len(names))
    except Violation as violation:
        return str(violation)
    except AssertionError as error:  # One of a core's own: we are wrong.
        return f"assert: {error}"
    return None


def hunt_many(
    world: str, *, first: int, step: int, count: int, seconds: float, names: tuple[str, ...] = ()
) -> Found:
    """Play seeds until one is violated in a way that counts."""
    began = time.process_time()
    others: dict[str, None] = {}
    played, seed = 0, first
    while played < count and time.process_time() - began < seconds:
        seed = first + played * step
        played += 1
        text = hunt(world, seed)
        if text is None:
            continue
        if not names or text.partition(":")[0] in names:
            return Found(text, seed, played, time.process_time() - began, tuple(others))
        others.setdefault(text.partition(":")[0])
    return Found("", seed, played, time.process_time() - began, tuple(others))


def main(words: list[str]) -> None:
    """Hunt as the words say."""
    world, first, step, count, seconds, names = words
    wanted = tuple(names.split(",")) if names else ()
    found = hunt_many(
        world,
        first=int(first),
        step=int(step),
        count=int(count),
        seconds=float(seconds),
        names=wanted,
    )
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
