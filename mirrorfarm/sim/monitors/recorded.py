"""Monitors of recorded mirrors, for what a simulation sees directly and a trace tells indirectly.

Nodes are compared by the clocks that the merge of the traces has compared (`Watch.apart_ns`: by
how much two of them may be wrong): what overlaps by less is no violation. That a machine lost
its power is in no trace, but the deadline of its guard is: after that nothing of it runs.
"""

from dataclasses import dataclass
from typing import Final

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.sim.monitors.mirror_safety import gates
from mirrorfarm.sim.monitors.monitor import Monitor
from mirrorfarm.sim.monitors.watch import Watch
from mirrorfarm.sim.steps import Step

GUARD: Final = "guard"  # The actor.


@dataclass(slots=True)
class _Holder:
    """One node of a module: whether it has the thing, and until when its guard lets it."""

    has: bool = False
    until_ns: int = 0  # 0: no guard is armed, so its peer cannot be promoted.


class _OnOne(Monitor):
    """Base: something that one node of a module has at a time."""

    what = ""

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._holders: dict[str, dict[str, _Holder]] = {}

    def on(self, step: Step) -> None:
        holders = self._holders.setdefault(step.process, {})
        mine = holders.setdefault(step.node, _Holder())
        before = (mine.has, mine.until_ns)
        if self._ends(step):
            mine.has = False
        for effect in step.effects:
            if effect.__class__ is fx.GuardOrder:
                deadline = effect.deadline_ns
                mine.until_ns = self.watch.at + deadline - step.now if deadline else 0
            elif self._begins(effect):
                mine.has = True
        if not mine.has or (mine.has, mine.until_ns) == before or self.watch.apart_ns is None:
            return
        for name, other in holders.items():
            left_ns = other.until_ns - self.watch.at
            if name != step.node and other.has and left_ns > self.watch.apart_ns:
                self.fail(
                    f"{self.what} on {step.node}, and for {left_ns // MILLISECOND_NS} ms more on "
                    f"{name}"
                )

    @staticmethod
    def _ends(step: Step) -> bool:
        raise NotImplementedError

    @staticmethod
    def _begins(effect: object) -> bool:
        raise NotImplementedError


class OneApplication(_OnOne):
    """X1 by scripts and guards: not an application that goes on beside its scripts."""

    id = "X1"
    statement = "The application runs on one node at a time."
    events = (fx.StartScript, fx.GuardOrder, ev.ScriptEnded, ev.ApplicationGone, ev.GuardActed)
    what = "the application is started"

    @staticmethod
    def _ends(step: Step) -> bool:
        event = step.event
        stopped = event.__class__ is ev.ScriptEnded and event.name == "stop_prim"
        return stopped or event.__class__ in (ev.ApplicationGone, ev.GuardActed)

    @staticmethod
    def _begins(effect: object) -> bool:
        return isinstance(effect, fx.StartScript) and effect.name == "start_prim"


class OneAddress(_OnOne):
    """X2 by the orders to the door and guards: not what others do to the interface."""

    id = "X2"
    statement = "The virtual addresses are on one node at a time."
    events = (fx.AddressAdd, fx.AddressRemove, fx.GuardOrder, ev.VipIsDown, ev.GuardActed)
    what = "the addresses are put up"

    @staticmethod
    def _ends(step: Step) -> bool:
        return step.event.__class__ in (ev.VipIsDown, ev.GuardActed)

    @staticmethod
    def _begins(effect: object) -> bool:
        return isinstance(effect, fx.AddressAdd)


class ClosesInTime(Monitor):
    """X3 by gates that open: steps do not tell of writes."""

    id = "X3"
    statement = "No gate is opened after the deadline that the guard was given."
    events = (fx.PlaneOrder, fx.GuardOrder, ev.GuardActed, ev.Started)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._until: dict[tuple[str, str], int] = {}  # By the node's own clock.

    def on(self, step: Step) -> None:  # noqa: D102
        key = (step.node, step.process.removesuffix(".replica"))
        if step.actor == GUARD and step.event.__class__ in (ev.GuardActed, ev.Started):
            self._until.pop(key, None)
        for effect in step.effects:
            if effect.__class__ is fx.GuardOrder:
                self._until[key] = effect.deadline_ns
        late_ns = step.now - (self._until.get(key) or step.now)
        if gates(step) and late_ns > MILLISECOND_NS:
            late = late_ns // MILLISECOND_NS
            self.fail(f"{step.node} opens its gate {late} ms after its guard's deadline")
