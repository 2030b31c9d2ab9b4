"""One bus and its peers: which frames are taken in, and what stands on those that go out.

Decides, for each frame that an authenticated peer sent, whether it is news for this node or is
counted and dropped. Invariant: of all frames with the same process address, incarnation and
sequence at most one is accepted, and none of an incarnation older than one seen before.

Control messages are sent on every network of a pair. The copies are dropped here as
duplicates, so that a network which still works is used without anybody choosing it. That a
peer cannot replay the frames of another is the work of CURVE; this core holds a peer to its own
name and keeps what it says twice from being heard twice.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from mirrorfarm.errors import FrameInvalid
from mirrorfarm.limits import (
    MILLISECOND_NS,
    NAME_PATTERN,
    NETWORKS_MAX,
    PEERS_MAX,
    REPLAY_WINDOW_FRAMES,
    SECOND_NS,
)
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.codec import decode
from mirrorfarm.transport.messages import ANY_MESSAGE, Frame

PROCESSES_MAX: Final = 1_024  # Remembered per peer; command lines come and go.
FRAMES_PER_SECOND: Final = 10_000  # Per peer, on average.
FRAMES_BURST: Final = 20_000  # Per peer, at once.
CLOCK_AHEAD_MAX_NS: Final = 60 * SECOND_NS  # A peer's clock further ahead is not followed.

REASONS: Final = (
    "accepted",
    "bad_frame",
    "foreign_cluster",
    "forged_source",
    "unknown_peer",
    "wrong_destination",
    "old_incarnation",
    "duplicate",
    "replayed",
    "flood",
)
_NAME: Final = re.compile(NAME_PATTERN)
_WINDOW_MASK: Final = (1 << REPLAY_WINDOW_FRAMES) - 1


@dataclass(slots=True)
class NetworkNews:
    """What one network brought from one peer since this node's bus started."""

    peer: str
    network: str
    heard_ns: int = 0  # Boot clock of the last well-formed frame, duplicates included; 0: never.
    frames: int = 0
    bytes: int = 0
    dropped: int = 0  # Everything but accepted frames and duplicates.


@dataclass(slots=True)
class Window:
    """The last REPLAY_WINDOW_FRAMES sequences of one incarnation of one process."""

    incarnation: int
    highest: int
    seen: int = 1  # Bit i: sequence `highest` - i was accepted.

    def refusal(self, incarnation: int, sequence: int) -> str:
        """Note a sequence and return "", or why it is refused."""
        if incarnation < self.incarnation:
            return "old_incarnation"
        if incarnation > self.incarnation:
            self.incarnation, self.highest, self.seen = incarnation, sequence, 1
            return ""
        ahead = sequence - self.highest
        if ahead > 0:
            moved = self.seen << ahead if ahead < REPLAY_WINDOW_FRAMES else 0
            self.seen = (moved & _WINDOW_MASK) | 1
            self.highest = sequence
            return ""
        if -ahead >= REPLAY_WINDOW_FRAMES:
            return "replayed"
        bit = 1 << -ahead
        if self.seen & bit:
            return "duplicate"
        self.seen |= bit
        return ""


@dataclass(slots=True)
class _Bucket:
    """Tokens of one peer: one frame each. In nanotokens, so that no fraction is lost."""

    nanotokens: int
    filled_ns: int

    def take(self, per_second: int, burst: int, now: int) -> bool:
        passed_ns = max(0, now - self.filled_ns)
        self.nanotokens = min(burst * SECOND_NS, self.nanotokens + passed_ns * per_second)
        self.filled_ns = now
        if self.nanotokens < SECOND_NS:
            return False
        self.nanotokens -= SECOND_NS
        return True


@dataclass(slots=True)
class _Peer:
    """What is remembered of one peer; `processes` with the longest unheard first."""

    bucket: _Bucket
    processes: OrderedDict[str, Window] = field(default_factory=OrderedDict)
    networks: dict[str, NetworkNews] = field(default_factory=dict)


@dataclass(slots=True)
class Inspector:
    """Says which frames of authenticated peers are accepted, and counts the others by reason."""

    cluster: str
    node: str  # The own name: what frames must be addressed to.
    frames_per_second: int = FRAMES_PER_SECOND
    frames_burst: int = FRAMES_BURST
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    _peers: dict[str, _Peer] = field(default_factory=dict)

    def inspect(self, data: bytes, user: str, network: str, now: int) -> Frame | None:
        """Return the frame in `data` if it is accepted, else None.

        `user` is the node whose key authenticated the connection, `network` where it came in,
        `now` the boot clock in nanoseconds.
        """
        peer = self._peer(user, now)
        if peer is None:
            self.counts["unknown_peer"] += 1
            return None
        news = self._news(peer, user, network)
        if not peer.bucket.take(self.frames_per_second, self.frames_burst, now):
            return self._drop("flood", news)
        try:
            frame = decode(data)
        except FrameInvalid:
            return self._drop("bad_frame", news)
        reason = self._envelope_refusal(frame, user)
        if reason:
            return self._drop(reason, news)
        news.heard_ns = now
        news.frames += 1
        news.bytes += len(data)
        reason = self._repetition(peer, frame)
        if reason == "duplicate":
            self.counts[reason] += 1
            return None
        if reason:
            return self._drop(reason, news)
        self.counts["accepted"] += 1
        return frame

    def networks(self) -> tuple[NetworkNews, ...]:
        """Return what is known of each peer on each network, in order of first hearing."""
        return tuple(
            NetworkNews(
                news.peer, news.network, news.heard_ns, news.frames, news.bytes, news.dropped
            )
            for peer in tuple(self._peers.values())
            for news in tuple(peer.networks.values())
        )

    def _drop(self, reason: str, news: NetworkNews) -> Frame | None:
        self.counts[reason] += 1
        news.dropped += 1
        return None

    def _envelope_refusal(self, frame: Frame, user: str) -> str:
        if frame.cluster != self.cluster:
            return "foreign_cluster"
        if frame.source.node != user:
            return "forged_source"
        if self.node not in frame.to.nodes:
            return "wrong_destination"
        return ""

    def _repetition(self, peer: _Peer, frame: Frame) -> str:
        process = frame.source.process
        window = peer.processes.get(process)
        if window is not None:
            peer.processes.move_to_end(process)
            return window.refusal(frame.incarnation, frame.sequence)
        if len(peer.processes) >= PROCESSES_MAX:
            # The one unheard for longest. A peer that wants to be heard twice may say so twice
            # anyway: what is forgotten here endangers nobody.
            peer.processes.popitem(last=False)
        peer.processes[process] = Window(frame.incarnation, frame.sequence)
        return ""

    def _peer(self, user: str, now: int) -> _Peer | None:
        peer = self._peers.get(user)
        if peer is None and len(self._peers) < PEERS_MAX and _NAME.fullmatch(user):
            peer = _Peer(_Bucket(self.frames_burst * SECOND_NS, now))
            self._peers[user] = peer
        return peer

    def _news(self, peer: _Peer, user: str, network: str) -> NetworkNews:
        news = peer.networks.get(network)
        if news is None:
            news = NetworkNews(user, network)
            if len(peer.networks) < NETWORKS_MAX:
                peer.networks[network] = news
        return news


@dataclass(slots=True)
class Sequencer:
    """Puts the envelope on the messages of one process. Not for several threads at once.

    The clock is a hybrid logical one (Kulkarni et al., "Logical Physical Clocks", 2014): as near
    to the time of day as can be, yet later than that of every frame this process has seen.
    """

    cluster: str
    node: str
    incarnation: int
    sequence: int = 0
    clock: int = 0

    def stamp(
        self, module: str, actor: str, to: Address, message: ANY_MESSAGE, time_ns: int
    ) -> Frame:
        """Return `message` of `actor` in its envelope; `time_ns` is the time of day."""
        self.sequence += 1
        self.clock = max(self.clock + 1, _physical(time_ns))
        return Frame(
            cluster=self.cluster,
            source=Address(self.node, module, actor),
            incarnation=self.incarnation,
            sequence=self.sequence,
            clock=self.clock,
            to=to,
            message=message,
        )

    def observe(self, clock: int, time_ns: int) -> None:
        """Note the clock of a frame received, unless it is absurdly far ahead."""
        if self.clock < clock <= _physical(time_ns + CLOCK_AHEAD_MAX_NS):
            self.clock = clock


def _physical(time_ns: int) -> int:
    return (time_ns // MILLISECOND_NS) << 16
