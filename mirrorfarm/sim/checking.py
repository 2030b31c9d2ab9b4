"""The monitors of the simulation on recorded traces: whether every invariant held out there.

Traces lack what only a simulation can see, such as what is on a disk, so fewer invariants are
watched than in a simulation (`RECORDED`). Nodes are compared by the order of causes, and where
that is not enough by their clocks, as far as messages compare them. The recording of a simulated
run tells of faults as well: they excuse what they excused in that run. No other trace has any.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mirrorfarm.actors import snapshot
from mirrorfarm.actors.events import Started
from mirrorfarm.actors.farm_filter.core import FarmFilter
from mirrorfarm.actors.farm_filter.state import ACTOR as FILTER
from mirrorfarm.modules.settings import FarmTiming
from mirrorfarm.sim.budget import excuse_told
from mirrorfarm.sim.monitors import farm_recorded
from mirrorfarm.sim.monitors.all import RECORDED
from mirrorfarm.sim.monitors.causes import WORLD
from mirrorfarm.sim.monitors.limits import Limits
from mirrorfarm.sim.monitors.liveness import CommandsEnd
from mirrorfarm.sim.monitors.observed import observed
from mirrorfarm.sim.monitors.seen import Begun, Fault
from mirrorfarm.sim.monitors.watch import Watch
from mirrorfarm.sim.monitors.watches import Watches
from mirrorfarm.sim.steps import Step, recorded
from mirrorfarm.sim.witness import ACTOR as REGISTER
from mirrorfarm.trace.clocks import NodeClock
from mirrorfarm.trace.files import OnFault, Source, raise_fault, sources
from mirrorfarm.trace.merge import Merge
from mirrorfarm.trace.modules import first_states, missing
from mirrorfarm.trace.step import Placed
from mirrorfarm.trace.step import Step as RecordedStep
from mirrorfarm.trace.words import clock_time
from mirrorfarm.transport.address import WITNESS_PROCESS

VIOLATIONS_MAX = 100  # Told; the others are counted.
_OTHERS: Final = {WITNESS_PROCESS, WORLD}  # Processes that are no module's.
# Invariants that compare nodes by their clocks.
_COMPARING: Final = {"X1", "X2", *(kind.id for kind in farm_recorded.TIMED)}
_ANY: Final = {CommandsEnd.id, Limits.id}  # Invariants of mirrors and farms.

Start = tuple[str, str, int]  # Of a process: its node, its name, its incarnation.


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
    # Those that compare nodes by their clocks, where no message compares these: not looked at.
    uncompared: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()  # Processes of the modules that have no trace, as n2/ledger.
    # Processes from which messages came that their traces lack. A node that loses its power has
    # some; so has one whose trace is cut off, or whose earlier start was not named.
    partial: tuple[str, ...] = ()
    gaps: int = 0  # Places where steps are missing: what happened there is not known.
    violations: int = 0
    broken: list[Broken] = field(default_factory=list)  # The first ones.


def check(paths: Iterable[Path], on_fault: OnFault = raise_fault) -> Checked:
    """Run all monitors over the merged traces in files and folders.

    Memory is bounded by the number of nodes and of writes under way. Raise TraceInvalid if there
    are no traces.
    """
    paths = list(paths)
    watches = _Watches(Merge(paths, on_fault), timings(paths), retimed(paths))
    result = watches.result
    result.missing = tuple(missing(sources(paths, lambda _: None)))
    for placed in watches.merged.steps():
        result.steps += 1
        watches.take(placed)
    watches.finish()
    return result


def timings(paths: Iterable[Path]) -> dict[str, FarmTiming]:
    """Return the clocks of farms, by module, as far as the states of their cores are recorded."""
    found: dict[str, FarmTiming] = {}
    for source in sources(paths, lambda _: None):
        timing = _timing(source) if source.process not in found else None
        if timing is not None:
            found[source.process] = timing
    return found


def retimed(paths: Iterable[Path]) -> dict[Start, FarmTiming]:
    """Return the clocks of the starts that had others than the first one of their module."""
    first: dict[str, FarmTiming] = {}
    found: dict[Start, FarmTiming] = {}
    for source in sources(paths, lambda _: None):
        timing = _timing(source)
        if timing is not None and first.setdefault(source.process, timing) != timing:
            found[source.node, source.process, source.incarnation] = timing
    return found


def _timing(source: Source) -> FarmTiming | None:
    """Return the clocks with which a process of a farm began, if its state says so."""
    for item in first_states(source):
        if item.kind == FarmFilter.__name__:
            try:
                core = snapshot.restore(FarmFilter, item.state)
            except ValueError:  # Of a build whose cores have another state.
                return None
            timing: FarmTiming = core.state.settings.timing
            return timing
    return None


def apart_ns(clocks: Iterable[NodeClock]) -> int | None:
    """Return by how much the times of two nodes may be wrong; None: some cannot be compared."""
    errors = []
    for clock in clocks:
        if clock.basis == "reference":
            continue
        if clock.basis != "messages" or clock.error_ns is None:
            return None
        errors.append(clock.error_ns)
    return 2 * max(errors, default=0)


class _Watches:
    """One watch for each module, and one more for the filters of each farm."""

    def __init__(
        self, merged: Merge, farm_timings: dict[str, FarmTiming], others: dict[Start, FarmTiming]
    ) -> None:
        self.merged, self._timings, self._others = merged, farm_timings, others
        self.result = Checked(processes=tuple(sorted(lane.name for lane in merged.lanes)))
        self._recorded = {lane.process for lane in merged.lanes}  # No command line, no agent.
        self._partial: set[str] = set()
        self._unordered = 0  # Before this step.
        # Who decides for others alone has nothing that another node might have as well.
        nodes = {lane.node for lane in merged.lanes if lane.process not in _OTHERS}
        self._apart_ns = apart_ns(clock for clock in merged.clocks if clock.node in nodes)
        self._ahead: dict[str, int] = {}  # Of a node's time, to what its boot clock shows.
        names = [lane.process.removesuffix(".replica") for lane in merged.lanes]
        modules = sorted({*names} - _OTHERS) or [""]
        self._named = {name: self._hung(Watch(RECORDED)) for name in modules}
        self._modules = Watches(self._named)
        self._farms: dict[str, Watch] = {}
        self._boots = {  # In which boot of its system each process began.
            (source.node, source.process, source.incarnation): str(source.header.get("os_boot", ""))
            for lane in merged.lanes
            for source in lane.starts
        }
        self._told: dict[int, int] = {}  # By watch: how many of its violations are known.

    def _hung(self, watch: Watch) -> Watch:
        watch.apart_ns = self._apart_ns
        watch.moment = lambda node, now: now + self._ahead.get(node, 0)
        watch.clock = clock_time
        return watch

    def _farm(self, process: str, start: Start) -> Watch:
        """Return the watch of a farm, for a step of one start: a farm may get other clocks."""
        watch = self._farms.get(process)
        if watch is None:
            timing, kinds = self._timings.get(process), farm_recorded.UNTIMED
            facts = farm_recorded.Facts(timing or FarmTiming(), apart_ns=self._apart_ns or 0)
            if timing is not None and self._apart_ns is not None:
                kinds = (*farm_recorded.TIMED, *kinds)
            watch = self._farms[process] = self._hung(Watch(kinds, farm=facts))
        if process in self._timings:
            watch.farm.timing = self._others.get(start, self._timings[process])
        return watch

    def take(self, placed: Placed) -> None:
        """Take the next step in."""
        self._came(placed)
        step = recorded(placed.step)
        self._ahead[step.node] = placed.at_ns - step.now
        if step.process == WORLD and not self.merged.lanes[placed.lane].starts[0].has_cores:
            self._excuse(step, placed.at_ns)
            return
        if step.event.__class__ is Started and step.process.endswith(".replica"):
            self._begins(placed.step, step, placed.at_ns)
        if step.actor == FILTER:
            start = (step.node, step.process, placed.step.incarnation)
            watches: Iterable[Watch] = (self._farm(step.process, start),)
        else:
            watches = self._modules.of(step)
        for watch in watches:
            watch.step(step, placed.at_ns)
            if len(watch.stories) > self._told.get(id(watch), 0):
                self._told[id(watch)] = len(watch.stories)
                self._note(watch, placed.at_ns)

    def _came(self, placed: Placed) -> None:
        """Note who sent a message that its trace lacks."""
        early, self._unordered = self.merged.unordered > self._unordered, self.merged.unordered
        if placed.sending is not None or placed.step.received_id is None or early:
            return
        source = placed.step.event.source
        process = WITNESS_PROCESS if source.actor == REGISTER else source.process
        if process in self._recorded or process == WITNESS_PROCESS:
            self._partial.add(f"{source.node}/{process}")

    def _begins(self, placed: RecordedStep, step: Step, at_ns: int) -> None:
        """Tell of a new replicator: what an earlier one mounted in this boot is dead, not gone."""
        boot = self._boots.get((placed.node, placed.process, placed.incarnation), "")
        begun = Begun(step.process, placed.incarnation, boot)
        for watch in self._modules.of(step):
            watch.step(Step(step.node, step.process, WORLD, step.now, begun), at_ns)

    def _excuse(self, step: Step, at_ns: int) -> None:
        """Take in what a simulation saw, if it excuses anything."""
        seen = observed(step)
        if seen is None:
            return
        for watch in self._modules.of(seen):
            watch.step(seen, at_ns)
        if isinstance(seen.event, Fault):
            excuse_told(self._modules.allowed, seen.event, at_ns)

    def finish(self) -> None:
        """The steps are over."""
        watched = [*self._modules.all, *self._farms.values()]
        for watch in watched:
            watch.finish()
            self._note(watch, watch.at)
        result = self.result
        names = dict.fromkeys(self._watched())
        mute = _COMPARING if self._apart_ns is None else set()
        result.invariants = tuple(name for name in names if name not in mute)
        result.uncompared = tuple(name for name in names if name in mute)
        result.violations = sum(len(watch.violations) for watch in watched)
        result.gaps = self.merged.gaps
        result.partial = tuple(sorted(self._partial.difference(result.missing)))
        # The states of cores, which say whose traces there must be, are not in redacted copies.
        result.missing += tuple(one for one in result.partial if one not in result.processes)

    def _watched(self) -> Iterator[str]:
        """Yield what was looked at: of the module of a farm not what only a mirror can break."""
        for module, watch in self._named.items():
            yield from (
                name for name in watch.monitors if module not in self._farms or name in _ANY
            )
        for module, watch in self._farms.items():
            yield from watch.monitors
            if self._apart_ns is None and module in self._timings:
                yield from (kind.id for kind in farm_recorded.TIMED)

    def _note(self, watch: Watch, at_ns: int) -> None:
        broken = self.result.broken
        known = {one.text for one in broken}
        for text, story in watch.stories.items():
            if text not in known and len(broken) < VIOLATIONS_MAX:
                broken.append(Broken(text.partition(":")[0], at_ns, text, tuple(story)))
