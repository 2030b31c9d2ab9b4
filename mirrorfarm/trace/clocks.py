"""How the clocks of machines stand to each other, from the messages that went both ways.

What machines believe the time of day to be decides nothing where a message joins them: it may be
wrong by hours. Two that no message joins are compared through a third one.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from mirrorfarm.durations import span
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.trace.curves import Curve, Fit, fit

SAMPLES_MAX: Final = 65_536  # Messages that are remembered for this.
SURE_NS: Final = 10 * MILLISECOND_NS  # A clock that may be more wrong helps to compare no other.
ALONE_MIN_NS: Final = SECOND_NS  # Shorter times without messages are not told.

Boot = tuple[str, str]  # A machine since it was booted: node, boot id. It has one clock.
# Who sent and who received messages: when, by both clocks.
Pairs = dict[tuple[Boot, Boot], list[tuple[int, int]]]


class NodeClock(msgspec.Struct, frozen=True):
    """What is known of one machine's clock."""

    node: str
    boot: str
    basis: str  # reference; messages: compared by them; time of day: no message joins it.
    messages: int  # That were compared.
    # How far its time of day is ahead of the reference's, in the middle of its trace. Of the
    # reference: of the times that are given, which are later if a clock stood before 1970.
    ahead_ns: int
    error_ns: int | None  # At most that wrong; None: nothing went in one of the directions.
    fast_ppm: float  # Faster than the reference, in millionths.
    alone_ns: int = 0  # So long nothing compared it with others that made steps as well.

    def __str__(self) -> str:
        if self.basis == "reference":
            told = f"{self.node}: all times are given by its clock"
            later = f", {span(-self.ahead_ns)} later: one stood before 1970"
            return told + later if self.ahead_ns else told
        if self.basis == "time of day":
            return (
                f"{self.node}: no message joins it with the nodes above, so its time of day is "
                "believed; record more of both, or name the traces of what lies between them"
            )
        direction = "ahead" if self.ahead_ns >= 0 else "behind"
        known = "no message went the other way"
        if self.error_ns is not None:
            known = f"at most {span(self.error_ns)} wrong"
            if self.alone_ns >= ALONE_MIN_NS:
                known += f", perhaps more in {span(self.alone_ns)} that no message compares"
        return (
            f"{self.node}: its time of day is {span(abs(self.ahead_ns))} {direction} "
            f"({known}; {self.messages} messages compared; {self.fast_ppm:+.1f} ppm)"
        )


@dataclass(slots=True)
class Samples:
    """Messages by who sent and who received them; of many, an evenly chosen part.

    The same part of sends and of receipts is kept, in whatever order they are told: memory is
    bounded, and no message need be near the other end of itself.
    """

    _sent: dict[tuple[str, int, int], tuple[Boot, int]] = field(default_factory=dict)
    _received: dict[tuple[str, int, int, Boot], int] = field(default_factory=dict)
    _mask: int = 0

    def _keeps(self, incarnation: int, sequence: int) -> bool:
        mixed = (sequence * 0x9E3779B97F4A7C15 + incarnation) >> 20
        return not mixed & self._mask

    def sent(self, boot: Boot, incarnation: int, sequence: int, at_ns: int) -> None:
        """Take note of a message that left."""
        if self._keeps(incarnation, sequence):
            self._sent[boot[0], incarnation, sequence] = (boot, at_ns)
            if len(self._sent) > SAMPLES_MAX:
                self._thin()

    def received(
        self, boot: Boot, source: str, incarnation: int, sequence: int, at_ns: int
    ) -> None:
        """Take note of a message that came."""
        if self._keeps(incarnation, sequence):
            self._received.setdefault((source, incarnation, sequence, boot), at_ns)
            if len(self._received) > SAMPLES_MAX:
                self._thin()

    def _thin(self) -> None:
        self._mask = self._mask << 1 | 1
        self._sent = {key: one for key, one in self._sent.items() if self._keeps(*key[1:3])}
        kept = {key: one for key, one in self._received.items() if self._keeps(*key[1:3])}
        self._received = kept

    def pairs(self) -> Pairs:
        """Return the times of sending and of receiving, by both clocks."""
        found: Pairs = {}
        for key, received_ns in self._received.items():
            sent = self._sent.get(key[:3])
            if sent is not None and sent[0] != key[3]:
                found.setdefault((sent[0], key[3]), []).append((sent[1], received_ns))
        return found


@dataclass(slots=True)
class Clocks:
    """The time of day on one machine, the reference, for every clock of the others."""

    report: list[NodeClock]
    curves: dict[Boot, list[Curve]]  # From the reference's clock outwards.
    epochs: dict[Boot, int]  # Of the reference that is at the end of a clock's curves.

    def at(self, boot: Boot, clock_ns: int) -> int:
        """Return the time of day on the reference when a machine's boot clock shows this."""
        return self.epochs[boot] + self.shown(boot, clock_ns)

    def shown(self, boot: Boot, clock_ns: int) -> int:
        """Return what the reference's boot clock shows then."""
        for curve in self.curves[boot]:
            clock_ns = curve.first(clock_ns)
        return clock_ns

    def begin_later(self, by_ns: int) -> None:
        """Give all times later than the reference has them."""
        self.epochs = {boot: epoch + by_ns for boot, epoch in self.epochs.items()}
        reference = self.report[0]
        self.report[0] = msgspec.structs.replace(reference, ahead_ns=reference.ahead_ns - by_ns)


def compare(epochs: dict[Boot, int], spans: dict[Boot, tuple[int, int]], pairs: Pairs) -> Clocks:
    """Compare the clocks of machines.

    `epochs`: the time of day at which each one's boot clock was 0, as it believed; `spans`: when
    its trace begins and ends, by its boot clock; `pairs`: as `Samples.pairs` returns them. The
    reference is the machine that exchanged messages with most others; of these one that did not
    stand still, the first of them by name.
    """
    fits: dict[tuple[Boot, Boot], Fit] = {}
    for one in sorted(epochs):
        for other in sorted(epochs):
            there, back = pairs.get((one, other), []), pairs.get((other, one), [])
            if one != other and (there or back):
                fits[one, other] = fit(there, back)
    peers, stood = dict.fromkeys(epochs, 0), dict.fromkeys(epochs, 0)
    for (one, _), found in fits.items():
        peers[one] += 1
        stood[one] = max(stood[one], found.stood_ns)
    clocks, comparison = Clocks([], {}, {}), _Comparison(epochs, spans, pairs, fits)
    for first in sorted(epochs, key=lambda boot: (-peers[boot], stood[boot], boot)):
        if first not in clocks.curves:
            comparison.reach(clocks, first)
    clocks.report.sort(key=lambda one: (one.basis != "reference", one.node, one.boot))
    return clocks


class _Known(NamedTuple):
    """What is known of a clock that is compared with the reference."""

    error_ns: int | None
    messages: int

    def error_behind(self, found: Fit) -> int | None:
        """Return how wrong one is that is compared with this one."""
        if self.error_ns is None or found.error_ns is None:
            return None
        return self.error_ns + found.error_ns


@dataclass(frozen=True, slots=True)
class _Comparison:
    """What is known of all machines; `fits`: how the clocks of each two of them stand."""

    epochs: dict[Boot, int]
    spans: dict[Boot, tuple[int, int]]
    pairs: Pairs
    fits: dict[tuple[Boot, Boot], Fit]

    def reach(self, clocks: Clocks, first: Boot) -> None:
        """Set all clocks right that messages join with `first`."""
        known = {first: _Known(0, 0)}
        clocks.curves[first] = []
        while (edge := self._next(known)) is not None:
            one, other = edge
            found = self.fits[edge]
            error_ns, behind = known[one].error_behind(found), clocks.curves[one]
            sure = [boot for boot in known if self._is_sure(boot, known, other)]
            if one in sure and len(sure) > 1:
                found, behind = self._joint(clocks, known, sure, other), []
                error_ns = found.error_ns
            clocks.curves[other] = [found.curve, *behind]
            known[other] = _Known(error_ns, found.messages)
        basis = "time of day" if clocks.report else "reference"
        for boot in known:
            clocks.epochs[boot] = self.epochs[first]
            told = basis if boot == first else "messages"
            clocks.report.append(self._told(clocks, boot, told, known))

    def _next(self, known: dict[Boot, _Known]) -> tuple[Boot, Boot] | None:
        """Return a clock that is known, and the one that is to be compared with it next.

        They exchanged messages for most of its trace: without messages nobody knows whether it,
        or the other one, stands still. Of such the most certain ones.
        """
        edges = []
        for (one, other), found in self.fits.items():
            if one in known and other not in known:
                error = known[one].error_behind(found)
                alone = _beyond(self.spans[other], found.span) // SECOND_NS
                edges.append((error is None, alone, error or 0, one, other))
        return min(edges)[3:] if edges else None

    def _is_sure(self, boot: Boot, known: dict[Boot, _Known], other: Boot) -> bool:
        error_ns = known[boot].error_ns
        return error_ns is not None and error_ns <= SURE_NS and (boot, other) in self.fits

    def _joint(
        self, clocks: Clocks, known: dict[Boot, _Known], sure: list[Boot], other: Boot
    ) -> Fit:
        """Compare a clock with the reference by what went between it and all clocks that are sure.

        Each message says the less, the less sure the clock at its other end is.
        """
        there: list[tuple[int, int]] = []
        back: list[tuple[int, int]] = []
        for boot in sure:
            wrong = known[boot].error_ns or 0
            for sent, came in self.pairs.get((boot, other), ()):
                there.append((clocks.shown(boot, sent), came + wrong))
            for sent, came in self.pairs.get((other, boot), ()):
                back.append((sent - wrong, clocks.shown(boot, came)))
        return fit(there, back)

    def _alone(self, clocks: Clocks, boot: Boot, known: dict[Boot, _Known]) -> int:
        """Return how long nothing compared a clock, while there were steps of other machines."""
        fits = [
            found
            for (one, other), found in self.fits.items()
            if other == boot and one in known and found.error_ns is not None
        ]
        others = [clocks.shown(one, at) for one in known if one != boot for at in self.spans[one]]
        begin, end = (clocks.shown(boot, at) for at in self.spans[boot])
        together = max(begin, min(others)), min(end, max(others))
        if not fits:
            return max(0, together[1] - together[0])
        first, last = min(one.span[0] for one in fits), max(one.span[1] for one in fits)
        return _beyond(together, (clocks.shown(boot, first), clocks.shown(boot, last)))

    def _told(self, clocks: Clocks, boot: Boot, basis: str, known: dict[Boot, _Known]) -> NodeClock:
        middle = sum(self.spans[boot]) // 2
        rate = 1.0
        for curve in clocks.curves[boot]:
            rate *= 1.0 + curve.rate
        ahead_ns = self.epochs[boot] + middle - clocks.at(boot, middle)
        alone_ns = self._alone(clocks, boot, known) if basis == "messages" else 0
        error_ns, messages = known[boot]
        fast = (rate - 1.0) * 1e6
        return NodeClock(*boot, basis, messages, ahead_ns, error_ns, fast, alone_ns)


def _beyond(time: tuple[int, int], compared: tuple[int, int]) -> int:
    """Return how much of a time is before and behind another one."""
    return max(0, compared[0] - time[0]) + max(0, time[1] - compared[1])
