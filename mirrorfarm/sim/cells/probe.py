"""Acts at one step of one phase of one node, and remembers what the state machines were given."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mirrorfarm.sim.cluster import Cluster
from mirrorfarm.sim.coverage.collector import name_of
from mirrorfarm.sim.coverage.machines import kind_of
from mirrorfarm.sim.host import Actor
from mirrorfarm.transport.address import MODULE_ACTOR

KEPT = 64  # Of each kind of event; the first one stays.


@dataclass(slots=True)
class Aim:
    """What happens once, at a step of a phase of a node."""

    node: str
    phase: str
    step: int  # 0: the one that enters the phase, before its effects.
    act: Callable[[Actor], None]
    taken: int = -1  # Steps since the phase was entered; -1: it was not.
    over: bool = False  # It happened, or the phase was left too soon.
    hit: bool = False


class Probe:
    """Looks at each step of the state machines of a cluster; to be made before its nodes start."""

    def __init__(self, world: Cluster) -> None:
        self.world = world
        self.aim: Aim | None = None
        self._given: dict[tuple[str, str], deque[tuple[int, Any]]] = {}
        self._note = world.record
        world.record = self._record  # type: ignore[method-assign]

    def given(self, actor: Actor, kind: str, *, own: bool) -> list[Any]:
        """Return what the machine of this actor was given of a kind, the oldest first.

        `own`: only what this process was given, and not an earlier one.
        """
        process = actor.process
        known = self._given.get((process.host.name, kind), ())
        return [event for number, event in known if not own or number == process.incarnation]

    def _record(self, actor: Actor, now: int, event: Any, effects: list[Any]) -> None:
        self._note(actor, now, event, effects)
        if actor.name == MODULE_ACTOR:
            self._remember(actor, event)
            if self.aim is not None and not self.aim.over:
                self._look(actor, self.aim)

    def _remember(self, actor: Actor, event: Any) -> None:
        process = actor.process
        place = (process.host.name, name_of(kind_of(event)))
        known = self._given.setdefault(place, deque())
        known.append((process.incarnation, event))
        if len(known) > KEPT:
            del known[1]

    def _look(self, actor: Actor, aim: Aim) -> None:
        if actor.process.host.name != aim.node:
            return
        core: Any = actor.core
        if core.state.phase.value != aim.phase:
            aim.over = aim.taken >= 0
            return
        aim.taken += 1
        if aim.taken == aim.step:
            aim.over = aim.hit = True
            aim.act(actor)
