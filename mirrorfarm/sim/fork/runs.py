"""The runs of a what-if, in this process or in several: the results are the same."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.sim.fork.changes import Change
from mirrorfarm.sim.fork.farm import ForkedFarm
from mirrorfarm.sim.fork.measure import Result
from mirrorfarm.sim.fork.recording import Recording
from mirrorfarm.sim.fork.resuming import FORK_NS
from mirrorfarm.sim.fork.settings import Settings
from mirrorfarm.sim.fork.world import Forked
from mirrorfarm.sim.sweep import uncollected
from mirrorfarm.sim.sweeps.drive import drive
from mirrorfarm.sim.sweeps.engines import Wanted
from mirrorfarm.sim.sweeps.plan import Finished, Plan
from mirrorfarm.sim.sweeps.processes import Processes
from mirrorfarm.sim.trap import trap

# Processes take a second or two to begin: what is over sooner is played in this one.
ALONE_SECONDS: Final = 1.0
REST_SECONDS: Final = 4.0


@dataclass(frozen=True, slots=True)
class Variant:
    """What is otherwise than in the recording; nothing: the baseline."""

    name: str = "as recorded"
    settings: Settings = field(default_factory=Settings)
    changes: tuple[Change, ...] = ()


class Run(NamedTuple):
    """One run that was played."""

    number: int
    result: Result
    wall_seconds: float


Tell = Callable[[int, int], None]
Died = Callable[[Finished[Run]], None]


@dataclass(frozen=True, slots=True)
class Runs:
    """Every seed of every variant, by their numbers; it travels to other processes."""

    recording: Recording
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    for_ns: int
    keep_faults: bool

    def __len__(self) -> int:
        return len(self.variants) * len(self.seeds)

    def __call__(self, numbers: tuple[int, ...]) -> tuple[Run, ...]:
        """Play some of them."""
        return tuple(self.play(number) for number in numbers)

    def play(self, number: int) -> Run:
        """Play one."""
        begin = time.perf_counter()
        variant, seed = self.what(number)
        result = play(self.recording, variant, seed, self.for_ns, keep_faults=self.keep_faults)
        return Run(number, result, time.perf_counter() - begin)

    def what(self, number: int) -> tuple[Variant, int]:
        """Return what one of them plays."""
        place, seed = divmod(number, len(self.seeds))
        return self.variants[place], self.seeds[seed]

    def lost(self, number: int, why: str) -> Run:
        """Give up: without one of its runs a variant would look better or worse than it is."""
        variant, seed = self.what(number)
        raise SystemUnsuitable(
            f"seed {seed} of '{variant.name}' ended its process twice, then with nothing "
            f"beside it: {why}. Play shorter runs (--minutes), or use a machine with more memory"
        )


def play(
    recording: Recording, variant: Variant, seed: int, for_ns: int, *, keep_faults: bool = True
) -> Result:
    """Run one seed of one variant for so long behind the fork."""
    with uncollected(), trap():
        kind = Forked if recording.module.mode == "mirror" else ForkedFarm
        world = kind(
            recording, seed, variant.settings, list(variant.changes), keep_faults=keep_faults
        )
        world.measure.end_ns = FORK_NS + for_ns
        world.run_to(FORK_NS + for_ns)
        result: Result = world.measure.finish()
        return result


def play_all(
    runs: Runs,
    workers: int,
    tell: Tell = lambda done, total: None,
    died: Died = lambda finished: None,
    alone_seconds: float = ALONE_SECONDS,
) -> list[Result]:
    """Play all, in so many processes at most; return their results in the order of their numbers.

    `died` is told when a process ended: its runs are played again. Raise SystemUnsuitable if one
    of them ends it always.
    """
    found: dict[int, Result] = {}
    left = iter(range(len(runs)))
    begin = time.perf_counter()
    for number in left:
        found[number] = runs.play(number).result
        tell(len(found), len(runs))
        spent = time.perf_counter() - begin
        rest = spent / len(found) * (len(runs) - len(found))
        if workers > 1 and spent >= alone_seconds and rest >= alone_seconds * REST_SECONDS:
            break
    if len(found) < len(runs):
        plan: Plan[Run] = Plan(left, runs.lost)
        with closing(Processes(runs, Wanted(workers))) as engine:
            for played in drive(engine, plan, lambda: False, died):
                found |= {one.number: one.result for one in played}
                tell(len(found), len(runs))
    return [found[number] for number in range(len(runs))]
