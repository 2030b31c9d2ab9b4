"""What a walk needs of one kind of cluster: how it comes into each phase, and what it is given."""

from collections.abc import Callable
from dataclasses import dataclass
from errno import ENOSPC
from typing import Any

from mirrorfarm.actors.events import StoreFailed
from mirrorfarm.sim.cells.probe import Probe
from mirrorfarm.sim.cluster import Cluster
from mirrorfarm.sim.coverage.machines import Machine
from mirrorfarm.sim.host import Actor

Do = Callable[[Any], object]  # To a cluster.
# Gives an event; returns whether there was anything to give.
Give = Callable[[Probe, Actor], bool]


def _nothing(world: Any) -> None:
    del world


@dataclass(frozen=True, slots=True)
class Way:
    """How a node comes into a phase."""

    name: str
    node: str
    phase: str
    go: Do
    before: Do = _nothing


@dataclass(frozen=True, slots=True)
class Ground:
    """One kind of cluster."""

    machine: Machine
    build: Callable[[int], Cluster]  # From a seed.
    begin: Do  # Bring it into service.
    end: Do  # Mend everything; raise Violation if it does not serve again.
    ways: tuple[Way, ...]
    events: dict[str, Give]


def ways(*flows: tuple[str, str, tuple[str, ...], Do, Do | None]) -> tuple[Way, ...]:
    """Return a way for each phase that a node passes."""
    return tuple(
        Way(name, node, phase, go, before or _nothing)
        for name, node, phases, go, before in flows
        for phase in phases
    )


def news(event: Any) -> Give:
    """Return what gives an event to the state machine."""

    def give(probe: Probe, actor: Actor) -> bool:
        del probe
        actor.give(event)
        return True

    return give


def late(kind: str, *, own: bool, oldest: bool = False) -> Give:
    """Return what has something arrive that the machine was given before.

    `own`: by this very process; what is inside of a process ends with it.
    """

    def give(probe: Probe, actor: Actor) -> bool:
        known = probe.given(actor, kind, own=own)
        if not known or (oldest and len(known) == 1):
            return False
        actor.give(known[0 if oldest else -1])
        return True

    return give


def fault(do: Callable[[Any, str], None]) -> Give:
    """Return what is done to a node, or to what is around it, after this step."""

    def give(probe: Probe, actor: Actor) -> bool:
        probe.world.after(0, do, probe.world, actor.process.host.name)
        return True

    return give


def refuse_records(probe: Probe, actor: Actor) -> bool:
    """Have what this step, or the next one, writes down refused."""
    world: Any = probe.world
    world.nodes[actor.process.host.name].records.failures = 1
    return True


def refuse_late(probe: Probe, actor: Actor) -> bool:
    """Say that a record was refused: writing it took so long."""
    del probe
    core: Any = actor.core
    actor.give(StoreFailed(core.state.record.counter, ENOSPC, "no space"))
    return True


def refuse_addresses(probe: Probe, actor: Actor) -> bool:
    """Have the node's addresses not configured until it is mended."""
    world: Any = probe.world
    world.nodes[actor.process.host.name].hands.vip_fault = "no such device"
    return True


def hang_next_stop(probe: Probe, actor: Actor) -> bool:
    """Have the next script that stops the application hang."""
    world: Any = probe.world
    world.nodes[actor.process.host.name].hands.app.hangs_stop = 1
    return True
