"""One run of a seed, told: its options, what came out, and the digest of all its steps."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import xxhash

from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim import farm_sweep, swarm, sweep
from mirrorfarm.sim.cluster import Cluster
from mirrorfarm.sim.farm_sweep import FarmSwarm
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.monitors.seen import Fault
from mirrorfarm.sim.swarm import Swarm

MINUTES, FARM_MINUTES = 30, 2
_ROOT = Path(__file__).parents[1]
_SOURCES = ("actors", "transport", "modules", "sim")


class Outcome(msgspec.Struct, frozen=True):
    """What came out of a run."""

    seed: int
    build: str
    kind: str
    options: str
    minutes: int
    described: str
    outcome: str  # "ok", or the violation.
    digest: str
    steps: int
    simulated_s: float
    cpu_s: float
    faults: dict[str, int]
    bugs: dict[str, int]  # How often each site that plays tricks did.
    story: list[str]  # What led to the violation.

    @property
    def command(self) -> str:
        """The line that makes the same run again."""
        return (
            f"mirrorfarm sim run --seed {self.seed:#x} --kind {self.kind} "
            f"--options {self.options} --minutes {self.minutes}"
        )


def build_id() -> str:
    """Return a hash of everything that decides about a run."""
    digest = xxhash.xxh3_64()
    for folder in _SOURCES:
        for path in sorted((_ROOT / folder).rglob("*.py")):
            digest.update(path.relative_to(_ROOT / folder).as_posix().encode())
            digest.update(path.read_bytes())
    return f"{digest.intdigest():016x}"


def run(seed: int, kind: str = "mirror", options: str = "swarm", minutes: int = 0) -> Outcome:
    """Run one seed; `minutes`: of simulated trouble, 0: as many as usual."""
    began = time.process_time()
    plan, world, play = _prepare(seed, kind, options, minutes)
    counts: Counter[str] = Counter()
    _count(world, counts)
    outcome, story = "ok", []
    try:
        play()
    except Violation as violation:
        outcome, story = str(violation), violation.story
    assert world.digest is not None
    return Outcome(
        seed=seed,
        build=build_id(),
        kind=kind,
        options=options,
        minutes=plan.minutes,
        described=plan.describe(),
        outcome=outcome,
        digest=str(world.digest),
        steps=world.digest.steps,
        simulated_s=world.now / SECOND_NS,
        cpu_s=time.process_time() - began,
        faults=dict(sorted(counts.items())),
        bugs=dict(sorted(world.tricks.fired.items())),
        story=story,
    )


def _prepare(
    seed: int, kind: str, options: str, minutes: int
) -> tuple[Swarm | FarmSwarm, Cluster, Callable[[], None]]:
    """Return what a seed makes, its world, and what plays it."""
    if kind == "farm":
        farm = farm_sweep.draw(seed, minutes or FARM_MINUTES)
        nodes = farm_sweep.build(farm, digest=True)
        nodes.tells_story = False
        return farm, nodes, lambda: farm_sweep.play_out(nodes, farm)
    plan = swarm.draw(seed, minutes or MINUTES) if options == "swarm" else swarm.dense(seed)
    world = sweep.build(plan, digest=True, story=False)
    return plan, world, lambda: sweep.play_out(world, plan)


def _count(world: Any, counts: Counter[str]) -> None:
    """Have every fault counted as the monitors hear of it."""
    seen = world.seen

    def counting(node: str, observation: Any, module: str = "") -> None:
        if observation.__class__ is Fault:
            counts[observation.kind] += 1
        seen(node, observation, module)

    world.seen = counting
