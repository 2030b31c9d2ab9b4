"""What of the silent side was heard last, and what it sent since: by actor, and by network.

`mirrorfarm.trace.causes` counts by node, in the pass in which nobody knows yet which silence is of
interest. In the next pass each is looked at as the actor noticed it: what other actors got is no
loss, and a network that carries nothing says nothing of the others.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from mirrorfarm.actors.effects import Send, Tell
from mirrorfarm.actors.events import ArbiterSilent, NetworkSilent, PeerSilent, Received
from mirrorfarm.trace.causes import Absence
from mirrorfarm.trace.step import MessageId, Placed, Step
from mirrorfarm.trace.words import absent, clock_time

KEPT_MAX: Final = 64  # Messages of one actor to another one by one network.
WAYS_MAX: Final = 4_096  # Each command line that is answered makes a new one.

_Way = tuple[str, str, str, str]  # From a node; to a node, its process, its actor.


@dataclass(frozen=True, slots=True)
class Silence:
    """A silence as the actor noticed it that tells of it."""

    absence: Absence
    at_ns: int  # When it told of it.
    network: str = ""  # Nothing came by this one; "": by any.
    elsewhere: bool = False  # But by another one something came later.

    def __str__(self) -> str:
        one = self.absence
        if not one.peer or not one.traced:
            return absent(one)
        by = f" by network {self.network}" if self.network else ""
        last = f"the last message from {one.peer}{by} came at {clock_time(one.heard_ns)}"
        if one.heard < 0:
            last = f"no message from {one.peer}{by} ever came"
        if self.network and one.unheard:
            many = f"{one.unheard} messages" if one.unheard > 1 else "one message"
            return f"{last}, while {one.peer} sent {many} more by it: it lost them"
        if self.elsewhere:
            return f"{last}: {one.peer} sent nothing more by it"
        if self.ran:
            return f"{last}: {one.peer} ran, and sent nothing more"
        return absent(one)

    @property
    def ran(self) -> bool:
        """Whether the silent side went on, and had nothing to say."""
        one = self.absence
        if self.elsewhere and not one.unheard:
            return True
        if one.unheard or one.last < 0 or not one.next_ns or one.restarted:
            return False
        return 2 * (one.next_ns - one.last_ns) < self.at_ns - one.heard_ns


@dataclass(slots=True)
class _Heard:
    """The last message that came by a network."""

    step: int
    at_ns: int
    sending: int  # Step; -1: it is not known.


@dataclass(slots=True)
class Silences:
    """Fed all steps in their merged order."""

    # By network, and of those that have not come by message: which step sent it.
    _sent: dict[_Way, dict[str, dict[MessageId, int]]] = field(default_factory=dict)
    _heard: dict[_Way, dict[str, _Heard]] = field(default_factory=dict)

    def add(self, placed: Placed) -> None:
        """Take the next step in."""
        step, event = placed.step, placed.step.event
        if isinstance(event, Received):
            way = (event.source.node, step.node, step.process, step.actor)
            sending = placed.sending.number if placed.sending is not None else -1
            heard = _Heard(placed.number, placed.at_ns, sending)
            self._heard.setdefault(way, {})[event.network] = heard
            message = step.received_id
            if message is not None:
                for row in self._sent.get(way, {}).values():
                    row.pop(message, None)
        sends = (effect for effect in step.effects if type(effect) is Send)
        for effect, message in zip(sends, step.sent_ids, strict=False):
            if message is None:
                continue  # Nobody knows whether it left.
            for node in effect.to.nodes:
                way = (step.node, node, effect.to.process, effect.to.actor)
                rows = self._sent[way] = self._sent.pop(way, {})
                row = rows.setdefault(effect.network, {})
                row[message] = placed.number
                if len(row) > KEPT_MAX:
                    del row[next(iter(row))]
        while len(self._sent) > WAYS_MAX:
            del self._sent[next(iter(self._sent))]  # That was used least lately.

    def seen(self, placed: Placed, absence: Absence) -> Silence:
        """Return a silence that a step tells of, which was taken in last."""
        step = placed.step
        network = _network(step)
        way = (absence.peer, step.node, step.process, step.actor)
        came, sent = self._heard.get(way, {}), self._sent.get(way, {})
        own = [one for name, one in came.items() if name == network or not network]
        last = max(own, key=lambda one: one.step, default=_Heard(-1, 0, -1))
        others = max((one.step for one in came.values()), default=-1)
        rows = [row for name, row in sent.items() if name == network or not network]
        unheard = sum(number > last.sending for row in rows for number in row.values())
        if last.step >= 0 and last.sending < 0:
            unheard = 0  # Which of them were sent later is not known.
        found = replace(absence, heard=last.step, heard_ns=last.at_ns, unheard=unheard)
        return Silence(found, placed.at_ns, network, elsewhere=others > last.step)


def _network(step: Step) -> str:
    """Return the network that a step calls silent; "": it calls the other side so."""
    told = list(_told(step))
    if any(isinstance(event, PeerSilent | ArbiterSilent) for event in told):
        return ""
    return next((event.network for event in told if isinstance(event, NetworkSilent)), "")


def _told(step: Step) -> Iterator[object]:
    return (effect.event for effect in step.effects if type(effect) is Tell)
