"""The connections between replicators: in order, retransmitted after a short cut, else lost.

One end is a `Dial` (the source's), the other a `Listening` (the target's); both are what
`mirrorfarm.actors.replicator` needs of a wire.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from mirrorfarm.limits import MICROSECOND_NS, MILLISECOND_NS, SECOND_NS
from mirrorfarm.sim.engine import Draws, Engine
from mirrorfarm.sim.network import Network

Parts = list[bytes]
Inbox = Callable[[list[Parts]], None]  # Takes what came in at once.
Deliver = Callable[[list[Parts]], None]
TRAVEL_NS = 150 * MICROSECOND_NS
AGAIN_NS = 60 * MILLISECOND_NS  # Until a lost segment is sent again, at the least.
LOST_NS = SECOND_NS  # A cut this long ends a connection, with all that was under way.


@dataclass(slots=True)
class _Way:
    """One direction between two machines."""

    last_ns: int = 0  # When the last frame arrives: none overtakes it.
    sent_ns: int = -1  # When the last ones were sent: what is sent together arrives together.
    batch: list[Parts] = field(default_factory=list)
    held: list[tuple[Deliver, list[Parts]]] = field(default_factory=list)
    cut_ns: int = 0  # Since when nothing passes.


class Streams:
    """All connections of a cluster."""

    def __init__(self, engine: Engine, network: Network, draws: Draws) -> None:
        self._engine, self._network, self._draws = engine, network, draws
        self._ways: dict[tuple[str, str], _Way] = {}
        self.listening: dict[str, Listening] = {}
        self._dials: dict[bytes, Dial] = {}
        self._number = 0
        self.resets = 0

    def dial(self, node: str, peer: str, inbox: Inbox) -> "Dial":
        """Connect a source; `inbox` gets what comes back."""
        self._number += 1
        dial = Dial(self, node, peer, b"%d" % self._number, inbox)
        self._dials[dial.identity] = dial
        return dial

    def listen(self, node: str, inbox: Inbox) -> "Listening":
        """Let a target listen, in place of whoever did."""
        listening = self.listening[node] = Listening(self, node, inbox)
        return listening

    def forget(self, identity: bytes) -> None:
        """Drop what comes for a source that is gone."""
        self._dials.pop(identity, None)

    def to_listener(self, dial: "Dial", parts: Parts) -> None:
        """Carry a frame of a source."""
        self._carry(dial.node, dial.peer, self._arrived, [dial.identity, *parts])

    def to_dial(self, node: str, parts: Parts) -> None:
        """Carry a frame of a target; the first part says to whom."""
        dial = self._dials.get(parts[0])
        if dial is not None:
            self._carry(node, dial.node, self._returned, parts)

    def _arrived(self, batch: list[Parts]) -> None:
        dial = self._dials.get(batch[0][0])
        listening = self.listening.get(dial.peer) if dial is not None else None
        if listening is not None:
            listening.inbox(batch)

    def _returned(self, batch: list[Parts]) -> None:
        dial = self._dials.get(batch[0][0])
        if dial is not None:
            dial.inbox([parts[1:] for parts in batch])

    # --- the ways --------------------------------------------------------------------------

    def _carry(self, source: str, to: str, deliver: Deliver, parts: Parts) -> None:
        way = self._ways.get((source, to))
        if way is None:
            way = self._ways[source, to] = _Way()
        engine, network = self._engine, self._network
        stuck = network.narrow and network.too_long(source, to, sum(map(len, parts)))
        cut = (network.cuts or network.down) and not network.both_ways(source, to)
        if way.held or stuck or cut:
            self._hold(way, source, to, deliver, [parts])
            return
        now = engine.now
        if way.sent_ns == now and way.batch and way.batch[0][0] == parts[0]:
            way.batch.append(parts)
            return
        way.sent_ns, way.batch = now, [parts]
        arrives_ns = now + TRAVEL_NS + engine.jitter()
        if network.lates:
            arrives_ns += network.lates.get((source, to), 0)
        if network.clogs:
            arrives_ns = max(arrives_ns, network.clogs.get((source, to), 0))
        if arrives_ns <= way.last_ns:
            arrives_ns = way.last_ns + 1
        way.last_ns = arrives_ns
        engine.at(arrives_ns, self._deliver, way, source, to, deliver, way.batch)

    def _deliver(
        self, way: _Way, source: str, to: str, deliver: Deliver, batch: list[Parts]
    ) -> None:
        if self._ways.get((source, to)) is not way:
            return  # Its connection was reset.
        network = self._network
        cut = (network.cuts or network.down) and not network.both_ways(source, to)
        if way.held or cut:
            self._hold(way, source, to, deliver, batch)  # Lost, and sent again.
        else:
            deliver(batch)

    def _hold(self, way: _Way, source: str, to: str, deliver: Deliver, batch: list[Parts]) -> None:
        if not way.held:
            way.cut_ns = self._engine.now
            self._engine.after(AGAIN_NS, self._again, way, source, to)
        way.held.append((deliver, batch))

    def _again(self, way: _Way, source: str, to: str) -> None:
        """Send again what was held; drop it when the connection is given up."""
        engine = self._engine
        if self._ways.get((source, to)) is not way:
            return
        if engine.now - way.cut_ns > LOST_NS:
            way.held.clear()
            self.resets += 1
            return
        if not self._network.both_ways(source, to):
            engine.after(AGAIN_NS, self._again, way, source, to)
            return
        held, way.held = way.held, []
        for deliver, batch in held:
            for parts in batch:
                self._carry(source, to, deliver, parts)

    def reset(self, a: str, b: str) -> None:
        """End the connections of two machines, with all that is under way."""
        self.resets += 1
        for pair in ((a, b), (b, a)):
            self._ways[pair] = _Way()


class Dial:
    """The source's end."""

    def __init__(
        self,
        streams: Streams,
        node: str,
        peer: str,
        identity: bytes,
        inbox: Inbox,
    ) -> None:
        self._streams, self.node, self.peer, self.identity = streams, node, peer, identity
        self.inbox = inbox

    def send(self, parts: Parts) -> None:
        """Send one frame."""
        self._streams.to_listener(self, parts)

    def receive(self, count_max: int, wait_ns: int) -> list[Parts]:
        """Return nothing: what comes in is put into the inbox."""
        del count_max, wait_ns
        return []

    def ring(self) -> None:
        """Do nothing: nobody waits."""

    def close(self) -> None:
        """Hear nothing more."""
        self._streams.forget(self.identity)


class Listening:
    """The target's end."""

    def __init__(self, streams: Streams, node: str, inbox: Inbox) -> None:
        self._streams, self._node, self.inbox = streams, node, inbox

    def send(self, parts: Parts) -> None:
        """Send one frame to the source that its first part names."""
        self._streams.to_dial(self._node, parts)

    def receive(self, count_max: int, wait_ns: int) -> list[Parts]:
        """Return nothing: what comes in is put into the inbox."""
        del count_max, wait_ns
        return []

    def ring(self) -> None:
        """Do nothing: nobody waits."""

    def close(self) -> None:
        """Hear nothing more."""
        if self._streams.listening.get(self._node) is self:
            del self._streams.listening[self._node]
