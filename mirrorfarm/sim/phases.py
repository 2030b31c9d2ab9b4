"""What waits for a node to enter a phase: one that lasts for milliseconds is rarely hit by chance.

A phase is a state of the module's own state machine, or what a node of a farm is for the others
(`coverage.machines.standing`). While nothing waits, nothing is looked at.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mirrorfarm.actors.farm_filter.core import FarmFilter
from mirrorfarm.actors.module.farm.core import FarmModule
from mirrorfarm.actors.module.mirror.core import Mirror
from mirrorfarm.sim.coverage.machines import standing
from mirrorfarm.sim.host import Actor, Host

_Place = tuple[str, int, str]  # Node, incarnation, actor.


def _ready() -> bool:
    return True


def _nothing() -> None:
    pass


@dataclass(slots=True, eq=False)
class Waiting:
    """Something that happens once a module enters a phase on a node."""

    node: str
    module: str
    phase: str
    # Called in the midst of the step that enters the phase, before its effects.
    happens: Callable[[Actor], None]
    ready: Callable[[], bool] = _ready  # If not, it waits for the next time.
    given_up: Callable[[], None] = _nothing  # It waited in vain.


class Phases:
    """Everything that waits in one cluster."""

    def __init__(self, hosts: Mapping[str, Host]) -> None:
        self._hosts = hosts
        self.waiting: list[Waiting] = []
        self._present: dict[_Place, str] = {}

    def wait(self, one: Waiting) -> None:
        """Have something happen when its node enters its phase from another one."""
        if not self.waiting:
            self._present.clear()  # Nobody has looked since.
        self.waiting.append(one)
        host = self._hosts.get(one.node)
        for process in host.processes.values() if host is not None else ():
            for actor in process.actors.values() if process.alive else ():
                self._changed(actor)

    def look(self, actor: Actor) -> None:
        """An actor has taken an event: do what waited for the phase that it is in now."""
        phase = self._changed(actor)
        if not phase:
            return
        place = (actor.process.host.name, actor.process.name, phase)
        for one in list(self.waiting):
            if (one.node, one.module, one.phase) == place and one.ready():
                self.waiting.remove(one)
                one.happens(actor)

    def _changed(self, actor: Actor) -> str:
        """Note the phase of an actor; return it if it is a new one, else ""."""
        phase = _phase_of(actor.core)
        if not phase:
            return ""
        process = actor.process
        place = (process.host.name, process.incarnation, actor.name)
        if self._present.get(place) == phase:
            return ""
        self._present[place] = phase
        return phase

    def give_up(self, one: Waiting) -> None:
        """Let something wait no longer, if it still does."""
        if one in self.waiting:
            self.waiting.remove(one)
            one.given_up()

    def end(self) -> None:
        """Let nothing wait any longer."""
        while self.waiting:
            self.give_up(self.waiting[0])


def _phase_of(core: Any) -> str:
    """Return the phase of a core; "" if it has none."""
    kind = core.__class__
    if kind is Mirror or kind is FarmModule:
        return str(core.state.phase.value)
    return standing(core.state) if kind is FarmFilter else ""
