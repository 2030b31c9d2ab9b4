"""The monitors of the simulation on recorded traces: whether every invariant held out there.

Traces lack what only a simulation can see, such as what is on a disk, so fewer invariants are
watched than in a simulation (`RECORDED`). Nodes are compared by the order of causes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mirrorfarm.actors.farm_filter.state import ACTOR as FILTER
from mirrorfarm.sim.monitors import farm
from mirrorfarm.sim.monitors.all import RECORDED
from mirrorfarm.sim.monitors.watch import Watch
from mirrorfarm.sim.steps import recorded
from mirrorfarm.trace.files import OnFault, raise_fault
from mirrorfarm.trace.merge import Merge

VIOLATIONS_MAX = 100  # Told; the others are counted.


@dataclass(frozen=True, slots=True)
class Broken:
    """An invariant that did not hold."""

    invariant: str
    at_ns: int  # Time of day of the step that shows it.
    text: str
    story: tuple[str, ...]  # The steps that led to it.


@dataclass(slots=True)
class Checked:
    """What a check came to."""

    steps: int = 0
    processes: tuple[str, ...] = ()
    invariants: tuple[str, ...] = ()
    gaps: int = 0  # Places where steps are missing: what happened there is not known.
    violations: int = 0
    broken: list[Broken] = field(default_factory=list)  # The first ones.


def check(paths: Iterable[Path], on_fault: OnFault = raise_fault) -> Checked:
    """Run all monitors over the merged traces in files and folders.

    Memory is bounded by the number of nodes and of writes under way. Raise TraceInvalid if there
    are no traces.
    """
    merged = Merge(paths, on_fault)
    mirrors = Watch(RECORDED)
    farms: dict[str, Watch] = {}
    result = Checked(processes=tuple(sorted(lane.name for lane in merged.lanes)))
    told: dict[int, int] = {}  # By watch: how many of its violations are known.
    for placed in merged.steps():
        result.steps += 1
        step = recorded(placed.step)
        if step.actor == FILTER and step.process not in farms:
            farms[step.process] = Watch(farm.RECORDED, farm=farm.FarmFacts())
        watch = farms[step.process] if step.actor == FILTER else mirrors
        watch.step(step, placed.at_ns)
        if len(watch.stories) > told.get(id(watch), 0):
            told[id(watch)] = len(watch.stories)
            _note(result, watch, placed.at_ns)
    for watch in (mirrors, *farms.values()):
        watch.finish()
        _note(result, watch, watch.at)
    watched = [mirrors, *farms.values()]
    result.invariants = tuple(dict.fromkeys(name for watch in watched for name in watch.monitors))
    result.violations = sum(len(watch.violations) for watch in watched)
    result.gaps = merged.gaps
    return result


def _note(result: Checked, watch: Watch, at_ns: int) -> None:
    known = {one.text for one in result.broken}
    for text, story in watch.stories.items():
        if text not in known and len(result.broken) < VIOLATIONS_MAX:
            result.broken.append(Broken(text.partition(":")[0], at_ns, text, tuple(story)))
