"""The one place where sweeps meet the simulator: a pure function of (options, seed)."""

import time
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from mirrorfarm.sim import build, running
from mirrorfarm.sim.plans import plan_of
from mirrorfarm.sim.running import Moment, Played, command_of
from mirrorfarm.sim.scenario.outcome import cause_of
from mirrorfarm.sim.shrinking.seeds import shrink
from mirrorfarm.sim.sweeps.result import (
    MESSAGE_CHARACTERS_MAX,
    SIGNATURE_CHARACTERS_MAX,
    SeedResult,
)

# (options, seed) -> the text of the shortest scenario that fails likewise; None: none is made.
Shrink = Callable[[str, int], str]
SHRINK: Final[Shrink | None] = shrink

build_id = cache(build.build_id)


def run_seed(options: str, seed: int) -> SeedResult:
    """Play one seed; the same result, but for `wall_seconds`, on every machine."""
    return replay_seed(options, seed)[0]


def replay_seed(options: str, seed: int) -> tuple[SeedResult, list[Moment]]:
    """Play one seed and tell its time line as well. Raises UsageInvalid for unknown options."""
    begin = time.perf_counter()
    played = running.play(plan_of(options, seed))
    failure = str(played.violation or "")
    invariant = failure.partition(":")[0]
    world = played.world
    assert world.digest is not None
    result = SeedResult(
        seed,
        options,
        build_id(),
        _outcome(invariant),
        invariant,
        _signature(played)[:SIGNATURE_CHARACTERS_MAX],
        simulated_ns=world.now,
        steps=world.digest.steps,
        digest=str(world.digest),
        faults=dict(sorted(played.faults.items())),
        failover_ns=failovers(played.moments),
        states=played.coverage.hashes(),
        cells=played.coverage.named_cells(),
        fault_states=dict(sorted(played.coverage.fault_states.items())),
        sometimes=dict(sorted(played.coverage.sometimes.items())),
        tricks={name: count for name, count in sorted(world.tricks.fired.items()) if count},
        wall_seconds=time.perf_counter() - begin,
        message=failure[:MESSAGE_CHARACTERS_MAX],
    )
    return result, played.moments


def failovers(timeline: list[Moment]) -> tuple[int, ...]:
    """Return how long nobody led, each time that another node than the last one led next.

    Each module has a leader of its own; those of all modules are told in the order of their ends.
    """
    found = []
    last: dict[str, tuple[str, int]] = {}  # Module -> who led last, and until when (-1: it does).
    for moment in timeline:
        if moment.kind != "state":
            continue
        module = moment.node.partition("/")[2]
        leader, ended_ns = last.get(module, ("", -1))
        if moment.text == "leading":
            if ended_ns >= 0 and moment.node != leader:
                found.append(moment.time_ns - ended_ns)
            last[module] = moment.node, -1
        elif moment.node == leader and ended_ns < 0:
            last[module] = leader, moment.time_ns
    return tuple(found)


def _outcome(invariant: str) -> Any:
    if not invariant:
        return "ok"
    return "no-convergence" if invariant.startswith("L") else "violation"


def _signature(played: Played) -> str:
    """Return the abstract state at the end: what every node is; before it, which assertion failed.

    All assertions are of one invariant: without that, different faults would be one class.
    """
    last = {one.node: one.text for one in played.moments if one.kind == "state"}
    state = ", ".join(f"{node} {text}" for node, text in sorted(last.items()))
    broken = played.violation
    cause = cause_of(str(broken), broken.story) if broken else ""
    _, apart, which = cause.partition(": ")
    return f"{which}: {state}" if apart else state


__all__ = ["SHRINK", "Shrink", "build_id", "command_of", "failovers", "replay_seed", "run_seed"]
