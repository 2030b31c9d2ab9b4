"""Decide when the module's virtual addresses are put up, announced, and taken down.

The mirror orders, this core sees to it that the last order wins. An order to take the
addresses down is obeyed even while they are being put up: the doors perform in order, and
the late result of the older order is ignored. Nothing here trusts that an address is still
as it was left (the guard may have removed it, a crash may have left it behind), so every
order goes to the doors, which do nothing where nothing is to be done.

Invariant X2 (one node has the addresses) is the mirror's; this core's share is that
`VipIsDown` is passed on only for the last order, and that nothing is announced after it.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import assert_never

from mirrorfarm.actors.effects import (
    ANY_EFFECT,
    AddressAdd,
    AddressAnnounce,
    AddressProbe,
    AddressRemove,
    Later,
    Log,
    Tell,
)
from mirrorfarm.actors.events import (
    Event,
    Started,
    VipDown,
    VipIsDown,
    VipIsUp,
    VipProbe,
    VipProbed,
    VipUp,
)
from mirrorfarm.limits import SECOND_NS, Nanoseconds
from mirrorfarm.modules.settings import VirtualAddress
from mirrorfarm.transport.address import MODULE_ACTOR

PRESENCE = "vip.presence"  # Resource: down while an address that was set is gone.

# Routers and switches may miss a frame: the first announcement is part of adding the address,
# these follow it, counted from there.
ANNOUNCE_AFTER_NS = tuple(seconds * SECOND_NS for seconds in (1, 2, 4, 8))


class State(Enum):
    """Where the addresses are, as far as the doors have said."""

    DOWN = "down"
    ADDING = "adding"
    UP = "up"
    REMOVING = "removing"


MOVES: dict[State, tuple[State, ...]] = {
    State.DOWN: (State.ADDING, State.REMOVING),
    State.ADDING: (State.ADDING, State.UP, State.REMOVING),
    State.UP: (State.ADDING, State.REMOVING),
    State.REMOVING: (State.ADDING, State.DOWN, State.REMOVING),
}


class AnnounceDue(Event, frozen=True):
    """Timer: announcement number `step` of the time the addresses came up was due."""

    rise: int
    step: int


ANY_EVENT = Started | VipProbe | VipProbed | VipUp | VipIsUp | VipDown | VipIsDown | AnnounceDue


@dataclass(slots=True)
class Vip:
    """The virtual addresses of one module on one node; `vips` may be empty."""

    vips: tuple[VirtualAddress, ...] = ()
    state: State = field(default=State.DOWN, init=False)
    _run: int = field(default=0, init=False)  # Of the last order to go up or down.
    _probe_run: int | None = field(default=None, init=False)  # Of the probe under way.
    _rise: int = field(default=0, init=False)  # How often the addresses came up.
    _up_ns: Nanoseconds = field(default=0, init=False)
    _failures: tuple[str, ...] = field(default=(), init=False)  # Of the last order to go up.

    def handle(self, event: ANY_EVENT, now: Nanoseconds) -> list[ANY_EFFECT]:
        """Apply one event at `now`, nanoseconds of the boot clock; return what to do."""
        match event:
            case Started():
                return []
            case VipProbe(run):
                return self._probe(run)
            case VipProbed(run):
                if run != self._probe_run:
                    return []
                self._probe_run = None
                return [Tell(MODULE_ACTOR, event)]
            case VipUp(run):
                return self._go_up(run)
            case VipIsUp():
                return self._is_up(event, now)
            case VipDown(run):
                return self._go_down(run)
            case VipIsDown(run):
                if self.state is not State.REMOVING or run != self._run:
                    return []
                self._become(State.DOWN)
                return [Tell(MODULE_ACTOR, event)]
            case AnnounceDue(rise, step):
                return self._announce(rise, step)
            case _:
                assert_never(event)

    def _probe(self, run: int) -> list[ANY_EFFECT]:
        if not self.vips:
            return [Tell(MODULE_ACTOR, VipProbed(run))]
        self._probe_run = run
        return [AddressProbe(run)]

    def _go_up(self, run: int) -> list[ANY_EFFECT]:
        if not self.vips:
            return [Tell(MODULE_ACTOR, VipIsUp(run))]
        self._run = run
        self._become(State.ADDING)
        return [AddressAdd(run)]

    def _go_down(self, run: int) -> list[ANY_EFFECT]:
        if not self.vips:
            return [Tell(MODULE_ACTOR, VipIsDown(run))]
        self._run, self._failures = run, ()
        self._become(State.REMOVING)
        return [AddressRemove(run)]

    def _is_up(self, event: VipIsUp, now: Nanoseconds) -> list[ANY_EFFECT]:
        """Pass the result on, and begin to repeat the announcement."""
        if self.state is not State.ADDING or event.run != self._run:
            return []
        self._become(State.UP)
        self._rise += 1
        self._up_ns = now
        new = [failure for failure in event.failures if failure not in self._failures]
        self._failures = event.failures  # The mirror tries again: what is known is not told again.
        effects: list[ANY_EFFECT] = [Log("C", f"virtual address: {failure}") for failure in new]
        effects.append(Tell(MODULE_ACTOR, event))
        effects.append(Later(now + ANNOUNCE_AFTER_NS[0], AnnounceDue(self._rise, 0)))
        return effects

    def _announce(self, rise: int, step: int) -> list[ANY_EFFECT]:
        if self.state is not State.UP or rise != self._rise:
            return []
        effects: list[ANY_EFFECT] = [AddressAnnounce()]
        if step + 1 < len(ANNOUNCE_AFTER_NS):
            at_ns = self._up_ns + ANNOUNCE_AFTER_NS[step + 1]
            effects.append(Later(at_ns, AnnounceDue(rise, step + 1)))
        return effects

    def _become(self, state: State) -> None:
        assert state in MOVES[self.state], f"no way from {self.state} to {state}"
        self.state = state
