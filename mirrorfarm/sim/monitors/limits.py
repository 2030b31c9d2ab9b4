"""L8: every queue has a limit.

Threads, file descriptors and memory of the processes are measured by the flood of the live tests.
"""

from typing import ClassVar, Final

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.limits import QUEUE_MESSAGES_MAX
from mirrorfarm.sim.monitors import seen
from mirrorfarm.sim.monitors.monitor import Monitor
from mirrorfarm.sim.monitors.watch import Watch
from mirrorfarm.sim.steps import Step

TIMERS_MAX: Final = 64  # Of one core.
INBOX_MAX: Final = QUEUE_MESSAGES_MAX + 100  # With what the actors of a process tell each other.
HELD_MAX: Final = 1_024  # In one list, mapping or set of a core.


class Limits(Monitor):
    """L8, for timers, inboxes and what cores hold. Without observations: timers only."""

    id = "L8"
    statement = "Queues, timers and what cores remember are bounded."
    events: ClassVar[tuple[type, ...]] = (ev.Started, fx.Later, seen.Depths)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._due: dict[tuple[str, str, str], list[int]] = {}

    def on(self, step: Step) -> None:  # noqa: D102
        if step.event.__class__ is seen.Depths:
            self._depths(step.node, step.event)
            return
        actor = (step.node, step.process, step.actor)
        if step.event.__class__ is ev.Started:
            self._due[actor] = []  # The timers of its predecessor are gone, by whatever clock.
        due = self._due.setdefault(actor, [])
        for effect in step.effects:
            if effect.__class__ is fx.Later:
                due.append(effect.at_ns)
        if len(due) > TIMERS_MAX:  # Those that are over are only looked for now.
            due[:] = [at for at in due if at > step.now]
            if len(due) > TIMERS_MAX:
                self.fail(f"{step.actor} of {step.node} has {len(due)} timers under way")

    def _depths(self, node: str, depths: seen.Depths) -> None:
        if depths.inbox > INBOX_MAX:
            self.fail(f"an inbox of {node} holds {depths.inbox} events")
        if depths.held > HELD_MAX:
            self.fail(f"a core of {node} holds {depths.held} of something")


class FarmLimits(Limits):
    """L8 of a farm: the same but for timers, of which its cores have two."""

    events = (seen.Depths,)
