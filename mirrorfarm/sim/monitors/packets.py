"""F6: packets that do not say by themselves whose they are.

Without observations nothing: a trace holds no packets, for the filters place them in the kernel.
"""

from mirrorfarm.sim.monitors import seen
from mirrorfarm.sim.monitors.monitor import Monitor
from mirrorfarm.sim.steps import Step


class Fragments(seen.Seen, frozen=True):
    """A datagram came in fragments, all at once; these nodes accepted each of them."""

    datagram: int
    accepted: tuple[tuple[str, ...], ...]  # First fragment first.


class IcmpError(seen.Seen, frozen=True):
    """A router told something about a connection; these nodes accepted it."""

    flow: int
    at: str  # The node whose connection it is.
    accepted: tuple[str, ...]


class FollowsItsFlow(Monitor):
    """F6, for fragments and ICMP errors: the sources of the filters place bytes as they come.

    That the programs in the kernel place them alike is for the live tests to say.
    """

    id = "F6"
    statement = "Fragments of a datagram go to one node, an ICMP error reaches its connection's."
    events = (Fragments, IcmpError)

    def on(self, step: Step) -> None:  # noqa: D102
        event = step.event
        if event.__class__ is Fragments:
            first, *rest = event.accepted
            parted = [who for who in rest if who != first]
            if parted:
                self.fail(
                    f"the first fragment of datagram {event.datagram} is accepted by "
                    f"{_names(first)}, a later one by {_names(parted[0])}"
                )
        elif event.at not in event.accepted and self.watch.farm.answers(event.at):
            self.fail(f"{event.at} has connection {event.flow}, but not the ICMP error about it")


def _names(nodes: tuple[str, ...]) -> str:
    return " and ".join(nodes) or "nobody"
