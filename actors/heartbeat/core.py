"""Decide whether the peer can be heard: pulses out, silences in.

Every network has its own pulse and its own silence; the peer is silent when no network has
carried a new heartbeat for the detection time. What the peer's silence *means* is for the
mirror to decide: this core knows nothing of roles.

Invariant, held as a property in tests/actors/heartbeat/test_core.py: the peer is never
declared silent if one of its heartbeats was handled within the detection time. A node that
was itself not scheduled must not take its own absence for its peer's: every timer knows when
it was due, a late one is a local stall, and a silence that ends in a stall is asked about
once more, with a Probe on every network, before it is believed.

A secondary promises a lease to each heartbeat of its primary. The promise travels in a
heartbeat of its own, sent at once, and the pulse rests meanwhile: the primary beats, the
secondary answers, and only a primary that is late finds its secondary beating by itself.
"""

from dataclasses import dataclass, field
from typing import assert_never

import msgspec

from mirrorfarm.actors import sites
from mirrorfarm.actors.effects import ANY_EFFECT, Later, Send, Tell
from mirrorfarm.actors.events import (
    Announce,
    Event,
    NetworkHeard,
    NetworkSilent,
    PeerHeard,
    PeerSilent,
    Promise,
    Received,
    Stalled,
    Started,
)
from mirrorfarm.actors.heartbeat.stall import Stalls
from mirrorfarm.limits import NETWORKS_MAX, Nanoseconds
from mirrorfarm.modules.settings import HeartbeatNetwork
from mirrorfarm.transport import messages
from mirrorfarm.transport.address import MODULE_ACTOR, Address
from mirrorfarm.transport.messages import Announcement

ACTOR = "heartbeat"
# A machine that stalls for ever must still notice that its peer died.
PROBES_MAX = 3
# A node that answers beats by itself when the next question is late by this part of a pulse.
PATIENCE_DIVISOR = 4


class PulseDue(Event, frozen=True):
    """Timer: the next heartbeat of this network was due at `due_ns`."""

    network: str
    generation: int
    due_ns: Nanoseconds


class WatchDue(Event, frozen=True):
    """Timer: look for silences; it was due at `due_ns`."""

    generation: int
    due_ns: Nanoseconds


ANY_EVENT = Started | Announce | Promise | Received | PulseDue | WatchDue


@dataclass(slots=True)
class _Hearing:
    """What was heard on one network."""

    settings: HeartbeatNetwork
    heard_ns: Nanoseconds = 0  # When the last new heartbeat was handled; the start until then.
    number: int = 0  # Of that heartbeat.
    incarnation: int = 0  # Of the peer, as that heartbeat said.
    up: bool = False  # Has carried a heartbeat, and was not declared silent since.
    told_silent: bool = False
    rests_until_ns: Nanoseconds = 0  # Of the own pulse: an answer went out instead.

    def silent_at(self) -> Nanoseconds:
        """When this network becomes silent, unless it is heard before."""
        return self.heard_ns + self.settings.timeout_ns


@dataclass(slots=True)
class Heartbeat:
    """The heartbeat of one module with its peer.

    `networks` are the module's heartbeat networks, `detection_ns` the silence on all of them
    after which the peer counts as silent. Nothing is sent before the mirror has said what this
    node is (`Announce`), unless `about` is given: a peer decides by what it is told, so it is
    told nothing that may be wrong.
    """

    node: str
    peer: str
    module: str
    networks: tuple[HeartbeatNetwork, ...]
    detection_ns: Nanoseconds
    about: Announcement | None = None
    _hearings: dict[str, _Hearing] = field(init=False)
    _peer_heard_ns: Nanoseconds = field(default=0, init=False)
    _peer_silent: bool = field(default=False, init=False)
    _heard_about: Announcement = field(default_factory=Announcement, init=False)
    _number: int = field(default=0, init=False)
    _generation: int = field(default=0, init=False)
    _stalls: Stalls = field(init=False)
    _probes: int = field(default=0, init=False)  # Sent about the present silence.

    def __post_init__(self) -> None:
        assert 0 < len(self.networks) <= NETWORKS_MAX, "a heartbeat needs 1 to 8 networks"
        assert self.detection_ns > 0, "the detection time must be positive"
        assert all(n.pulse_ns > 0 and n.timeout_ns > 0 for n in self.networks), "no pulse"
        self._hearings = {network.name: _Hearing(network) for network in self.networks}
        self._stalls = Stalls(self._pulse_min_ns())

    def handle(self, event: ANY_EVENT, now: Nanoseconds) -> list[ANY_EFFECT]:
        """Apply one event at `now`, nanoseconds of the boot clock; return what to do."""
        match event:
            case PulseDue():
                return self._pulse(event, now)
            case Received(source, message, network):
                if (source.node, source.module, source.actor) != (self.peer, self.module, ACTOR):
                    return []
                return self._receive(message, network, now)
            case Promise():
                return self._promise(event, now)
            case WatchDue():
                return self._watch(event, now)
            case Announce():
                return self._announce(event, now)
            case Started():
                return self._start(now)
            case _:
                assert_never(event)

    # --- what this node says ---------------------------------------------------------------

    def _start(self, now: Nanoseconds) -> list[ANY_EFFECT]:
        """Begin to pulse and to listen; timers of an earlier start are void."""
        self._generation += 1
        self._peer_heard_ns = now
        self._peer_silent = False
        self._probes = 0
        for hearing in self._hearings.values():
            hearing.heard_ns = now
        effects = self._beat_everywhere(now)
        for network in self.networks:
            effects.append(self._pulse_at(network, now + network.pulse_ns))
        effects.append(self._watch_at(now))
        return effects

    def _announce(self, event: Announce, now: Nanoseconds) -> list[ANY_EFFECT]:
        """Say something else from now on; the pulse keeps its rhythm."""
        first = self.about is None
        self.about = event.about
        return self._beat_everywhere(now) if event.at_once or first else []

    def _pulse(self, event: PulseDue, now: Nanoseconds) -> list[ANY_EFFECT]:
        """Send one heartbeat on one network, and arm the next; a stall is not caught up."""
        hearing = self._hearings.get(event.network)
        if event.generation != self._generation or hearing is None:
            return []
        effects = self._notice_stall(event.due_ns, now)
        if now < hearing.rests_until_ns:
            effects.append(self._pulse_at(hearing.settings, hearing.rests_until_ns))
            return effects
        if not sites.trick("heartbeat.skip_pulse"):  # As if the network had lost it.
            effects += self._beat(event.network, now)
        next_ns = event.due_ns + hearing.settings.pulse_ns
        if next_ns <= now:
            next_ns = now + hearing.settings.pulse_ns
        effects.append(self._pulse_at(hearing.settings, next_ns))
        return effects

    def _promise(self, event: Promise, now: Nanoseconds) -> list[ANY_EFFECT]:
        """Beat with the promise, instead of the next pulse."""
        hearing = self._hearings.get(event.network)
        if hearing is None:
            return []
        pulse_ns = hearing.settings.pulse_ns
        hearing.rests_until_ns = now + pulse_ns + pulse_ns // PATIENCE_DIVISOR
        return self._beat(event.network, now, event)

    def _beat_everywhere(self, now: Nanoseconds) -> list[ANY_EFFECT]:
        return [effect for network in self.networks for effect in self._beat(network.name, now)]

    def _beat(
        self, network: str, now: Nanoseconds, promise: Promise | None = None
    ) -> list[ANY_EFFECT]:
        if self.about is None:
            return []
        self._number += 1
        promised = (promise.sent_ns, promise.term) if promise is not None else (0, 0)
        message = messages.Heartbeat(network, self._number, now, self.about, *promised)
        return [Send(Address(self.peer, self.module, ACTOR), message, network)]

    def _pulse_at(self, network: HeartbeatNetwork, at_ns: Nanoseconds) -> Later:
        return Later(at_ns, PulseDue(network.name, self._generation, at_ns))

    # --- what is heard ---------------------------------------------------------------------

    def _receive(
        self, message: messages.ANY_MESSAGE, network: str, now: Nanoseconds
    ) -> list[ANY_EFFECT]:
        match message:
            case messages.Heartbeat():
                return self._hear(message, network or message.network, now)
            case messages.Probe():
                name = network or message.network
                return self._beat(name, now) if name in self._hearings else []
            case _:
                return []  # Of the bus's making or a newer peer's: nothing for a heartbeat.

    def _hear(
        self, message: messages.Heartbeat, network: str, now: Nanoseconds
    ) -> list[ANY_EFFECT]:
        """Take a heartbeat, unless it repeats what was already heard."""
        hearing = self._hearings.get(network)
        if hearing is None or not self._is_new(hearing, message, now):
            return []
        hearing.number = message.number
        hearing.incarnation = message.about.incarnation
        hearing.heard_ns = now
        self._peer_heard_ns = now
        self._peer_silent = False
        self._probes = 0
        effects: list[ANY_EFFECT] = []
        if not hearing.up:
            effects.append(Tell(MODULE_ACTOR, NetworkHeard(network)))
        hearing.up = True
        hearing.told_silent = False
        if self._is_overtaken(hearing, now):
            message = msgspec.structs.replace(message, about=self._heard_about)
        self._heard_about = message.about
        effects.append(Tell(MODULE_ACTOR, PeerHeard(network, message)))
        return effects

    def _is_overtaken(self, hearing: _Hearing, now: Nanoseconds) -> bool:
        """Return whether another network has brought a newer heartbeat than this one just did.

        A network that held heartbeats back delivers them late and all at once; the peer is alive,
        but no longer what they say. A network that is silent by now says nothing of the present.
        """
        if len(self._hearings) == 1:
            return False
        last = (hearing.incarnation, hearing.number)
        return any(
            (other.incarnation, other.number) > last and now < other.silent_at()
            for other in self._hearings.values()
        )

    @staticmethod
    def _is_new(hearing: _Hearing, message: messages.Heartbeat, now: Nanoseconds) -> bool:
        """Tell news from repetition: numbers only grow within an incarnation of the peer.

        An older incarnation is a straggler while the newer one is being heard; after a silence
        it is a peer whose disk was replaced, and counts its starts anew.
        """
        if message.about.incarnation == hearing.incarnation:
            return message.number > hearing.number
        return message.about.incarnation > hearing.incarnation or now >= hearing.silent_at()

    # --- silence ---------------------------------------------------------------------------

    def _watch(self, event: WatchDue, now: Nanoseconds) -> list[ANY_EFFECT]:
        """Declare the silences that are due, unless a stall makes them doubtful."""
        if event.generation != self._generation:
            return []
        effects = self._notice_stall(event.due_ns, now)
        if self._is_doubtful(now) and self._decides(now) and self._probes < PROBES_MAX:
            self._probes += 1
            effects += self._probe_everywhere()
            until_ns = now + self._probe_period_ns()
            # The answers, and whatever waits in the inbox, are handled before this timer.
            effects.append(Later(until_ns, WatchDue(self._generation, until_ns)))
            return effects
        for hearing in self._hearings.values():
            if not hearing.told_silent and now >= hearing.silent_at():
                hearing.told_silent = True
                hearing.up = False
                effects.append(Tell(MODULE_ACTOR, NetworkSilent(hearing.settings.name)))
        silent_ns = now - self._peer_heard_ns
        if not self._peer_silent and silent_ns >= self.detection_ns:
            self._peer_silent = True
            effects.append(Tell(MODULE_ACTOR, PeerSilent(silent_ns)))
        effects.append(self._watch_at(now))
        return effects

    def _deadlines(self) -> list[Nanoseconds]:
        """When each silence that is not yet declared will be due."""
        deadlines = [h.silent_at() for h in self._hearings.values() if not h.told_silent]
        if not self._peer_silent:
            deadlines.append(self._peer_heard_ns + self.detection_ns)
        return deadlines

    def _decides(self, now: Nanoseconds) -> bool:
        return any(deadline <= now for deadline in self._deadlines())

    def _watch_at(self, now: Nanoseconds) -> Later:
        """Arm the one timer of all silences.

        Never farther away than the shortest silence there is: then a heartbeat, which can only
        move deadlines to that distance or beyond, never has to arm a second one.
        """
        shortest_ns = min(self.detection_ns, *(n.timeout_ns for n in self.networks))
        at_ns = min([now + shortest_ns, *self._deadlines()])
        return Later(at_ns, WatchDue(self._generation, at_ns))

    # --- stalls ----------------------------------------------------------------------------

    def _notice_stall(self, due_ns: Nanoseconds, now: Nanoseconds) -> list[ANY_EFFECT]:
        """Tell the mirror that this process was away."""
        late_ns = self._stalls.notice(due_ns, now)
        return [Tell(MODULE_ACTOR, Stalled(late_ns))] if late_ns else []

    def _is_doubtful(self, now: Nanoseconds) -> bool:
        """After a stall, the inbox and the network get one period to say what was missed."""
        return self._stalls.recent(now, self._probe_period_ns())

    def _probe_period_ns(self) -> Nanoseconds:
        return max(1, min(self.detection_ns // 4, 2 * self._pulse_min_ns()))

    def _probe_everywhere(self) -> list[ANY_EFFECT]:
        effects: list[ANY_EFFECT] = []
        for network in self.networks:
            self._number += 1
            message = messages.Probe(network.name, self._number)
            effects.append(Send(Address(self.peer, self.module, ACTOR), message, network.name))
        return effects

    def _pulse_min_ns(self) -> Nanoseconds:
        return min(network.pulse_ns for network in self.networks)
