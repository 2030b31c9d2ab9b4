"""The guard's actor: hands the mirror's deadline on, and the guard's report back."""

from dataclasses import dataclass

from mirrorfarm.actors.effects import ANY_EFFECT, GuardOrder, Log, Tell
from mirrorfarm.actors.events import Event, GuardActed, GuardArm, GuardDisarm
from mirrorfarm.limits import Nanoseconds
from mirrorfarm.transport.address import MODULE_ACTOR


@dataclass(slots=True)
class Guard:
    """Remembers the deadline only to leave out orders that change nothing."""

    deadline_ns: Nanoseconds = 0

    def handle(self, event: Event, now: Nanoseconds) -> list[ANY_EFFECT]:
        """Apply one event."""
        del now
        match event:
            case GuardArm(deadline_ns=deadline):
                assert deadline > 0
                return self._order(deadline)
            case GuardDisarm():
                return self._order(0)
            case GuardActed():  # Nor is it disarmed by that: scripts wait for an order.
                text = "The guard removed the addresses and ended the application at its deadline"
                return [Log("C", text), Tell(MODULE_ACTOR, event)]
            case _:
                return []

    def _order(self, deadline: Nanoseconds) -> list[ANY_EFFECT]:
        if deadline == self.deadline_ns:
            return []
        self.deadline_ns = deadline
        return [GuardOrder(deadline)]
