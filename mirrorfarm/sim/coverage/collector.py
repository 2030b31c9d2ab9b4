"""Counts what the real cores of one run are given, in which states.

`watching` has every mirror, farm module and farm filter of this process tell the collector,
whoever drives them: a sweep, a scenario, a test.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import xxhash

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.farm_filter.core import FarmFilter
from mirrorfarm.actors.module.farm.core import FarmModule
from mirrorfarm.actors.module.mirror.core import Mirror
from mirrorfarm.sim.coverage.machines import FARM, FILTER, MIRROR, Machine, kind_of, standing
from mirrorfarm.sim.coverage.properties import GIVEN, MOVED, OFFERED, Taken
from mirrorfarm.sim.monitors.monitor import Violation
from mirrorfarm.transport import messages as msg

DOWN = "down"  # No process runs.
Place = tuple[str, str]  # Module and node.


@dataclass(slots=True)
class Collector:
    """What one run came by. Cells are machine, state before, and kind of event."""

    cells: dict[tuple[str, str, Any], int] = field(default_factory=dict)
    sometimes: Counter[str] = field(default_factory=Counter)
    fault_states: Counter[str] = field(default_factory=Counter)
    states: set[tuple[tuple[str, ...], ...]] = field(default_factory=set)
    standings: dict[str, str] = field(default_factory=dict)  # Of each node, the newest state.
    _nodes: dict[Place, tuple[str, ...]] = field(default_factory=dict)

    def count(self, machine: Machine, state: str, kind: Any) -> None:
        """Count one step. Raises Violation if a cell is hit that cannot be."""
        cell = (machine.name, state, kind)
        known = self.cells.get(cell, 0)
        self.cells[cell] = known + 1
        if not known and (why := machine.impossible(state, name_of(kind))):
            raise Violation(
                f"matrix: the {machine.name} is given {name_of(kind)} while {state}, which cannot "
                f"be: {why}"
            )

    def mirror(self, core: Mirror, before: str, event: Any, effects: list[Any]) -> None:
        """Take a step of a mirror, which was in a state `before` it."""
        kind = kind_of(event)
        self.count(MIRROR, before, kind)
        state = core.state
        after = state.phase._value_
        node = state.settings.node
        asked = GIVEN.get(kind)
        moved = before != after
        if asked is not None or moved:
            step = Taken(before, after, event, effects, state)
            for name, happens in asked or ():
                if happens(step):
                    self.sometimes[name] += 1
            if moved:
                self.sometimes.update(MOVED.get((before, after), ()))
                self.standings[node] = after
        if effects or moved:
            self._note((state.settings.module.name, node), after, effects)

    def _note(self, place: Place, after: str, effects: list[Any]) -> None:
        """Note what the nodes look like from outside: phase, data plane, what they announce."""
        known = self._nodes.get(place, ("", "", ""))
        _, plane, about = known
        for effect in effects:
            kind = effect.__class__
            if kind is fx.Send:
                said = effect.message
                if said.__class__ is msg.PlaneWish:
                    plane = f"{said.role} {said.gate} {said.plan} {bool(said.sid)}"
                elif said.__class__ is msg.SyncOffer:
                    self.sometimes[OFFERED[said.plan]] += 1
            elif kind is fx.Tell and effect.event.__class__ is ev.Announce:
                said = effect.event.about
                about = f"{said.role} {said.status} {said.was} {said.cons} {said.lone}"
        found = (after, plane, about)
        if found != known:
            self._joined(place, found)

    def _joined(self, place: Place, state: tuple[str, ...]) -> None:
        """Note what all nodes of a module are, now that one of them is something else."""
        nodes, module = self._nodes, place[0]
        nodes[place] = state
        self.states.add(tuple((one[1], *nodes[one]) for one in sorted(nodes) if one[0] == module))

    def farm(self, core: FarmModule, before: str, event: Any) -> None:
        """Take a step of the state machine of a farm's module."""
        self.count(FARM, before, kind_of(event))
        after = core.state.phase._value_
        if before != after:
            self.sometimes.update(MOVED.get((f"farm {before}", after), ()))

    def filter(self, core: FarmFilter, before: str, event: Any) -> None:
        """Take a step of who decides which clients a farm's node answers."""
        kind = kind_of(event)
        self.count(FILTER, before, kind)
        state = core.state
        after = standing(state)
        node = state.settings.node
        place = (state.settings.module, node)
        if before != after or place not in self._nodes:
            self.sometimes.update(MOVED.get((f"filter {before}", after), ()))
            self.standings[node] = after
            members = len(state.view.members) if state.view is not None else 0
            self._joined(place, (after, str(members)))

    def fault(self, kind: str, node: str, down: frozenset[str]) -> None:
        """Count a fault in the state of its node; one of no node, in those of all nodes."""
        names = [node] if node in self.standings else sorted(self.standings)
        for name in names:
            state = DOWN if name in down else self.standings[name]
            self.fault_states[f"{kind} {state}"] += 1

    def named_cells(self) -> dict[str, int]:
        """Return the cells in words: `mirror leading Tick`."""
        return {
            f"{machine} {state} {name_of(kind)}": count
            for (machine, state, kind), count in sorted(
                self.cells.items(), key=lambda cell: (*cell[0][:2], name_of(cell[0][2]))
            )
        }

    def hashes(self) -> tuple[int, ...]:
        """Return 32 bits for each distinct abstract state of all nodes together."""
        return tuple(
            sorted({xxhash.xxh32_intdigest(repr(state).encode()) for state in self.states})
        )


def name_of(kind: Any) -> str:
    """Return the name of a kind of events."""
    return kind if isinstance(kind, str) else str(kind.__name__)


@contextmanager
def watching(collector: Collector) -> Iterator[None]:
    """Have all cores of this process tell the collector what they are given."""
    mirror, farm, filtered = Mirror.handle, FarmModule.handle, FarmFilter.handle

    def of_mirror(core: Mirror, event: Any, now: int) -> list[fx.ANY_EFFECT]:
        before = core.state.phase._value_
        effects = mirror(core, event, now)
        collector.mirror(core, before, event, effects)
        return effects

    def of_farm(core: FarmModule, event: Any, now: int) -> list[fx.ANY_EFFECT]:
        before = core.state.phase._value_
        effects = farm(core, event, now)
        collector.farm(core, before, event)
        return effects

    def of_filter(core: FarmFilter, event: Any, now: int) -> list[fx.ANY_EFFECT]:
        before = standing(core.state)
        effects = filtered(core, event, now)
        collector.filter(core, before, event)
        return effects

    _replace(of_mirror, of_farm, of_filter)
    try:
        yield
    finally:
        _replace(mirror, farm, filtered)


def _replace(*functions: Callable[..., Any]) -> None:
    for core, function in zip((Mirror, FarmModule, FarmFilter), functions, strict=True):
        setattr(core, "handle", function)  # noqa: B010 - the checker takes it for a field.
