"""Several modules on the same machines, each with monitors of its own.

A step is for the monitors of the module that it is about. What happens to a machine, or to all of
the cluster, is for all of them.
"""

from collections import deque
from collections.abc import Mapping, Sequence

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.effects import RegisterStore
from mirrorfarm.sim.monitors.causes import Moment
from mirrorfarm.sim.monitors.monitor import Monitor
from mirrorfarm.sim.monitors.seen import Fault
from mirrorfarm.sim.monitors.watch import Watch
from mirrorfarm.sim.steps import Step
from mirrorfarm.transport.address import WITNESS_PROCESS


class Watches:
    """The watches of several modules, as one; each says in its violations whom they are about."""

    def __init__(self, watches: Mapping[str, Watch]) -> None:
        """`watches`: by the names of the modules, at least one."""
        self._by_name = {name: (watch,) for name, watch in watches.items()}
        self.all: Sequence[Watch] = tuple(watches.values())
        self._writing: dict[tuple[str, int], str] = {}  # By a witness: node and number, whose.
        for name, watch in watches.items():
            watch.about = f"{name}: " if len(watches) > 1 else ""
            watch.allowed = self.all[0].allowed

    def of(self, step: Step) -> Sequence[Watch]:
        """Return the watches that a step is for."""
        process = step.process
        if step.event.__class__ is Fault:
            return self.all
        name = self._asker(step) if process == WITNESS_PROCESS else process.removesuffix(".replica")
        return self._by_name.get(name, self.all)

    def _asker(self, step: Step) -> str:
        """Return whose register a step of a witness is about; "": it is not known."""
        for effect in step.effects:
            if effect.__class__ is RegisterStore:
                self._writing[step.node, effect.counter] = effect.module
        match step.event:
            case ev.Received(source):
                return source.module
            case ev.RegisterLoaded(_, module):
                return module
            case ev.RegisterStored(counter) | ev.StoreFailed(counter):
                return self._writing.pop((step.node, counter), "")
        return ""

    def step(self, step: Step, at: int | None = None) -> None:
        """Take one step; `at`: the time by which nodes are compared, if there is one."""
        for watch in self.of(step):
            watch.step(step, at)

    def keep(self, steps: int) -> None:
        """Keep so many steps of each module for stories, from now on."""
        for watch in self.all:
            watch.keep(steps)

    def finish(self) -> list[str]:
        """End; return all violations."""
        return [text for watch in self.all for text in watch.finish()]

    @property
    def violations(self) -> list[str]:
        """Everything that was found."""
        return [text for watch in self.all for text in watch.violations]

    @property
    def monitors(self) -> dict[tuple[str, str], Monitor]:
        """Every monitor, by module and invariant."""
        return {
            (name, invariant): monitor
            for name, (watch,) in self._by_name.items()
            for invariant, monitor in watch.monitors.items()
        }

    @property
    def allowed(self) -> dict[str, tuple[int, str]]:
        """Until when faults break what, and why: of all modules alike."""
        return self.all[0].allowed

    @property
    def excused(self) -> int:
        """How often they did."""
        return sum(watch.excused for watch in self.all)

    @property
    def stories(self) -> dict[str, list[str]]:
        """What led to each violation."""
        return {text: story for watch in self.all for text, story in watch.stories.items()}

    @property
    def recent(self) -> deque[Step]:
        """The last steps of the first module that has a violation; without one, of the first."""
        found = next((watch for watch in self.all if watch.stories), self.all[0])
        return found.recent

    @property
    def moment(self) -> Moment:
        """At which time of the whole a node's clock showed something."""
        return self.all[0].moment

    @moment.setter
    def moment(self, moment: Moment) -> None:
        for watch in self.all:
            watch.moment = moment


def together(watches: Mapping[str, Watch]) -> "Watch | Watches":
    """Return one watch for all modules; of a single one its own, which is faster."""
    return next(iter(watches.values())) if len(watches) == 1 else Watches(watches)
