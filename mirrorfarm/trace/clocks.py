"""How the clocks of machines stand to each other, from the messages that went both ways.

What machines believe the time of day to be decides nothing where a message joins them: it may be
wrong by hours. Two that no message joins are compared through a third one.
"""

from dataclasses import dataclass, field
from typing import Final

import msgspec

from mirrorfarm.durations import span
from mirrorfarm.trace.curves import Curve, Fit, fit

SAMPLES_MAX: Final = 65_536  # Messages that are remembered for this.

Boot = tuple[str, str]  # A machine since it was booted: node, boot id. It has one clock.


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

    def pairs(self) -> dict[tuple[Boot, Boot], list[tuple[int, int]]]:
        """Return the times of sending and of receiving, by both clocks."""
        found: dict[tuple[Boot, Boot], list[tuple[int, int]]] = {}
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
        for curve in self.curves[boot]:
            clock_ns = curve.first(clock_ns)
        return self.epochs[boot] + clock_ns

    def begin_later(self, by_ns: int) -> None:
        """Give all times later than the reference has them."""
        self.epochs = {boot: epoch + by_ns for boot, epoch in self.epochs.items()}
        reference = self.report[0]
        self.report[0] = msgspec.structs.replace(reference, ahead_ns=reference.ahead_ns - by_ns)


def compare(
    epochs: dict[Boot, int],
    spans: dict[Boot, tuple[int, int]],
    pairs: dict[tuple[Boot, Boot], list[tuple[int, int]]],
) -> Clocks:
    """Compare the clocks of machines.

    `epochs`: the time of day at which each one's boot clock was 0, as it believed; `spans`: when
    its trace begins and ends, by its boot clock; `pairs`: as `Samples.pairs` returns them. The
    reference is the machine that exchanged messages with most others, the first of them by name.
    """
    fits: dict[tuple[Boot, Boot], Fit] = {}
    for one in sorted(epochs):
        for other in sorted(epochs):
            there, back = pairs.get((one, other), []), pairs.get((other, one), [])
            if one != other and (there or back):
                fits[one, other] = fit(there, back)
    peers = {boot: sum(boot == one for one, _ in fits) for boot in epochs}
    order = sorted(epochs, key=lambda boot: (-peers[boot], boot))
    clocks = Clocks([], {}, {})
    for first in order:
        if first not in clocks.curves:
            _reach(clocks, first, epochs, spans, fits)
    clocks.report.sort(key=lambda one: (one.basis != "reference", one.node, one.boot))
    return clocks


def _reach(
    clocks: Clocks,
    first: Boot,
    epochs: dict[Boot, int],
    spans: dict[Boot, tuple[int, int]],
    fits: dict[tuple[Boot, Boot], Fit],
) -> None:
    """Set all clocks right that messages join with `first`, the most certain ones first."""
    curves, known = clocks.curves, {first: (0, 0)}  # Error, number of messages.
    curves[first], clocks.epochs[first] = [], epochs[first]
    unknown = 1 << 62
    while True:
        edges = [
            (known[one][0] + (unknown if found.error_ns is None else found.error_ns), one, other)
            for (one, other), found in fits.items()
            if one in known and other not in known
        ]
        if not edges:
            break
        error, one, other = min(edges)
        found = fits[one, other]
        curves[other] = [found.curve, *curves[one]]
        clocks.epochs[other] = epochs[first]
        known[other] = (min(error, unknown), found.messages)
    main = not clocks.report
    for boot, (error, messages) in known.items():
        middle = sum(spans[boot]) // 2
        rate = 1.0
        for curve in curves[boot]:
            rate *= 1.0 + curve.rate
        basis = "messages" if boot != first else "reference" if main else "time of day"
        ahead = epochs[boot] + middle - clocks.at(boot, middle)
        bound = None if error >= unknown else error
        fast = (rate - 1.0) * 1e6
        clocks.report.append(NodeClock(*boot, basis, messages, ahead, bound, fast))
