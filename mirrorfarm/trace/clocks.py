"""How the clocks of machines stand to each other, from the messages that went both ways.

A message that left at `a` by one clock and came at `b` by the other says that the second clock
is ahead by at most `b - a`: it took some time. One in the other direction says by how much it is
ahead at least. Between the tightest of both lies the truth; half their distance is the error.
Clocks also run at different rates, so this is done for parts of the time, and a line is laid
through it (D. Mills, RFC 5905, takes the same bounds, one pair of messages at a time).

What machines believe the time of day to be decides nothing where a message joins them: it may be
wrong by hours.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from mirrorfarm.limits import SECOND_NS

PARTS: Final = 32  # Of the time, for the rate.
PARTS_MIN: Final = 8  # With messages both ways: a line through fewer points is chance.
RATE_SPAN_NS: Final = 10 * SECOND_NS  # In a shorter time no rate can be told from delays.
RATE_CERTAINTY: Final = 4  # So many standard errors must a rate be from none.
RATE_MAX: Final = 0.001  # A clock that is off by more is not a clock.
SAMPLES_MAX: Final = 65_536  # Messages that are remembered for this.

Boot = tuple[str, str]  # A machine since it was booted: node, boot id. It has one clock.


class Line(NamedTuple):
    """What one clock shows, minus what another one does: `offset_ns` at `at_ns` of the latter."""

    at_ns: int
    offset_ns: float
    rate: float = 0.0

    def ahead(self, first_ns: int) -> int:
        """Return by how much the second clock is ahead when the first one shows this."""
        return round(self.offset_ns + self.rate * (first_ns - self.at_ns))

    def first(self, second_ns: int) -> int:
        """Return what the first clock shows when the second one shows this."""
        passed = (second_ns - self.at_ns - self.offset_ns) / (1.0 + self.rate)
        return self.at_ns + round(passed)


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


def span(ns: int) -> str:
    """Return a duration as a person says it."""
    if ns < 1_000_000:
        return f"{ns / 1_000:.0f} us"
    if ns < SECOND_NS:
        return f"{ns / 1_000_000:.1f} ms"
    seconds = ns / SECOND_NS
    if seconds < 120:
        return f"{seconds:.2f} s"
    hours, minutes = int(seconds // 3600), int(seconds % 3600 // 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60:.0f} s"


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


class Fit(NamedTuple):
    """A line, how wrong it may be, and from how many messages it was found."""

    line: Line
    error_ns: int | None
    messages: int


def fit(there: Iterable[tuple[int, int]], back: Iterable[tuple[int, int]]) -> Fit:
    """Return how the second clock stands to the first.

    `there`: times at which messages left by the first clock and came by the second; `back`: left
    by the second, came by the first. At least one of them is not empty.
    """
    above = [(sent, received - sent) for sent, received in there]
    below = [(received, sent - received) for sent, received in back]
    points = above + below
    begin, end = min(at for at, _ in points), max(at for at, _ in points)
    found = _between(above, below, begin, _rate(above, below, begin, end))
    return found if found.error_ns is None else found._replace(error_ns=abs(found.error_ns))


def _between(
    above: list[tuple[int, int]], below: list[tuple[int, int]], begin: int, rate: float
) -> Fit:
    """Return the line of this slope amid the bounds; a negative error: it contradicts one."""
    count = len(above) + len(below)
    most = min((ahead - rate * (at - begin) for at, ahead in above), default=None)
    least = max((ahead - rate * (at - begin) for at, ahead in below), default=None)
    if most is None or least is None:
        known = most if least is None else least
        assert known is not None, "there are messages"
        return Fit(Line(begin, known, rate), None, count)
    return Fit(Line(begin, (most + least) / 2, rate), round((most - least) / 2), count)


def _rate(
    above: list[tuple[int, int]], below: list[tuple[int, int]], begin: int, end: int
) -> float:
    """Return the slope of the line of least squares through the middles of the parts."""
    if end - begin < RATE_SPAN_NS or not above or not below:
        return 0.0
    most: dict[int, tuple[int, int]] = {}
    least: dict[int, tuple[int, int]] = {}
    for at, ahead in above:
        part = (at - begin) * PARTS // (end - begin + 1)
        most[part] = min(most.get(part, (ahead, at)), (ahead, at))
    for at, ahead in below:
        part = (at - begin) * PARTS // (end - begin + 1)
        least[part] = max(least.get(part, (ahead, at)), (ahead, at))
    origin = above[0][1]  # Differences of large numbers, before they become floats.
    middles = [
        (
            (most[part][1] + least[part][1]) / 2 - begin,
            (most[part][0] - origin + least[part][0] - origin) / 2,
        )
        for part in sorted(most.keys() & least.keys())
    ]
    if len(middles) < PARTS_MIN:
        return 0.0
    mean_at = sum(at for at, _ in middles) / len(middles)
    mean = sum(ahead for _, ahead in middles) / len(middles)
    square = sum((at - mean_at) ** 2 for at, _ in middles)
    rate = sum((at - mean_at) * (ahead - mean) for at, ahead in middles) / square if square else 0
    rest = sum((ahead - mean - rate * (at - mean_at)) ** 2 for at, ahead in middles)
    doubt = (rest / (len(middles) - 2) / square) ** 0.5 if square else 0  # Its standard error.
    return rate if RATE_CERTAINTY * doubt < abs(rate) <= RATE_MAX else 0.0


@dataclass(slots=True)
class Clocks:
    """The time of day on one machine, the reference, for every clock of the others."""

    report: list[NodeClock]
    lines: dict[Boot, list[Line]]  # From the reference's clock outwards.
    epochs: dict[Boot, int]  # Of the reference that is at the end of a clock's lines.

    def at(self, boot: Boot, clock_ns: int) -> int:
        """Return the time of day on the reference when a machine's boot clock shows this."""
        for line in self.lines[boot]:
            clock_ns = line.first(clock_ns)
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
        if first not in clocks.lines:
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
    lines, known = clocks.lines, {first: (0, 0)}  # Error, number of messages.
    lines[first], clocks.epochs[first] = [], epochs[first]
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
        lines[other] = [found.line, *lines[one]]
        clocks.epochs[other] = epochs[first]
        known[other] = (min(error, unknown), found.messages)
    main = not clocks.report
    for boot, (error, messages) in known.items():
        middle = sum(spans[boot]) // 2
        rate = 1.0
        for line in lines[boot]:
            rate *= 1.0 + line.rate
        basis = "messages" if boot != first else "reference" if main else "time of day"
        ahead = epochs[boot] + middle - clocks.at(boot, middle)
        bound = None if error >= unknown else error
        fast = (rate - 1.0) * 1e6
        clocks.report.append(NodeClock(*boot, basis, messages, ahead, bound, fast))
