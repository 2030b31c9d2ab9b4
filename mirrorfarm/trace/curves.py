"""How one clock stands to another through a time: a line, or a curve where no line fits.

A message that left at `a` by one clock and came at `b` by the other says that the second clock
is ahead by at most `b - a`: it took some time. One in the other direction says by how much it is
ahead at least. Between the tightest of both lies the truth; half their distance is the error.
Clocks also run at different rates, so a line is laid through that (D. Mills, RFC 5905, takes the
same bounds, one pair of messages at a time).

A rate changes with the temperature, and when a clock is disciplined. If messages contradict the
line, each of them bounds the time around it only: the less, the further off it is. A clock that
jumped, or stood still with its machine, has a curve of its own on both sides of that.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

from mirrorfarm.limits import SECOND_NS

PARTS: Final = 32  # Of the time, for the rate.
PARTS_MIN: Final = 8  # With messages both ways: a line through fewer points is chance.
RATE_SPAN_NS: Final = 10 * SECOND_NS  # In a shorter time no rate can be told from delays.
RATE_CERTAINTY: Final = 4  # So many standard errors must a rate be from none.
RATE_MAX: Final = 0.001  # A clock that is off by more is not a clock.
KNOTS_MAX: Final = 1_024  # Of a curve.
KNOT_SPAN_NS: Final = SECOND_NS  # At least between two of them.
JUMPS_MAX: Final = 100  # Of one clock, that are told apart.
FALL_MAX: Final = 0.99  # Of a curve: one that falls as fast as time goes could not be turned round.

Point = tuple[int, float]  # A time by the first clock, and how far the second is ahead.


@dataclass(frozen=True, slots=True)
class Curve:
    """What one clock shows, minus what another does: `offsets_ns` at `times_ns` of the latter.

    It is straight in between; before and behind it has the slope `rate`.
    """

    times_ns: tuple[int, ...]
    offsets_ns: tuple[float, ...]
    rate: float = 0.0

    def ahead(self, first_ns: int) -> int:
        """Return by how much the second clock is ahead when the first one shows this."""
        knot = bisect_right(self.times_ns, first_ns) - 1
        since = first_ns - self.times_ns[max(knot, 0)]
        return round(self.offsets_ns[max(knot, 0)] + self._slope(knot) * since)

    def first(self, second_ns: int) -> int:
        """Return what the first clock shows when the second one shows this."""
        count = len(self.times_ns)
        knot = bisect_right(range(count), second_ns, key=self._second) - 1
        begin_ns, offset_ns = self.times_ns[max(knot, 0)], self.offsets_ns[max(knot, 0)]
        return begin_ns + round((second_ns - begin_ns - offset_ns) / (1.0 + self._slope(knot)))

    def _second(self, knot: int) -> int:
        return self.times_ns[knot] + round(self.offsets_ns[knot])

    def _slope(self, knot: int) -> float:
        if not 0 <= knot < len(self.times_ns) - 1:
            return self.rate
        rise = self.offsets_ns[knot + 1] - self.offsets_ns[knot]
        return rise / (self.times_ns[knot + 1] - self.times_ns[knot])


class Fit(NamedTuple):
    """A curve, how wrong it may be, and from how many messages it was found."""

    curve: Curve
    error_ns: int | None  # None: nothing went in one of the directions.
    messages: int


def fit(there: Iterable[tuple[int, int]], back: Iterable[tuple[int, int]]) -> Fit:
    """Return how the second clock stands to the first.

    `there`: times at which messages left by the first clock and came by the second; `back`: left
    by the second, came by the first. At least one of them is not empty.
    """
    above = sorted([(sent, received - sent) for sent, received in there])
    below = sorted([(received, sent - received) for sent, received in back])
    points = above + below
    begin, end = min(at for at, _ in points), max(at for at, _ in points)
    rate = _rate(above, below, begin, end)
    most = min((ahead - rate * (at - begin) for at, ahead in above), default=None)
    least = max((ahead - rate * (at - begin) for at, ahead in below), default=None)
    if most is None or least is None:
        known = most if least is None else least
        assert known is not None, "there are messages"
        return Fit(Curve((begin,), (known,), rate), None, len(points))
    if most < least:
        return Fit(*_bent(above, below, rate), len(points))
    middle = (most + least) / 2
    return Fit(Curve((begin,), (middle,), rate), round((most - least) / 2), len(points))


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


def _bent(
    above: list[tuple[int, int]], below: list[tuple[int, int]], rate: float
) -> tuple[Curve, int]:
    """Return the curve amid the bounds that messages set to the times around them; its error."""
    begin, end = min(above[0][0], below[0][0]), max(above[-1][0], below[-1][0])
    origin = above[0][1]  # Differences of large numbers, before they become floats.

    def rests(points: list[tuple[int, int]]) -> list[Point]:
        return [(at, ahead - origin - rate * (at - begin)) for at, ahead in points]

    parts = _parts(rests(above), rests(below))
    curves = [part.curve(KNOTS_MAX * part.length // (end - begin + 1)) for part in parts]
    knots: list[Point] = []
    for at, rest in (knot for own, _ in curves for knot in own):
        last, fallen = knots[-1] if knots else (at - 1, rest)
        if at > last and rest - fallen >= -FALL_MAX * (at - last):
            knots.append((at, rest))
    times = tuple(at for at, _ in knots)
    curve = Curve(times, tuple(rest for _, rest in knots))
    worst = max(
        error + max(abs(curve.ahead(at) - rest) for at, rest in own) for own, error in curves
    )
    jumps = [abs(own[0][1] - before[-1][1]) for (before, _), (own, _) in pairwise(curves)]
    offsets = [origin + rest + rate * (at - begin) for at, rest in knots]
    return Curve(times, tuple(offsets), rate), round(max([worst, *jumps]))


class _Part(NamedTuple):
    """A time in which a clock did not jump, as far as messages say: their bounds, sorted."""

    above: list[Point]
    below: list[Point]

    @property
    def begin(self) -> int:
        return min(self.above[0][0], self.below[0][0])

    @property
    def length(self) -> int:
        return max(self.above[-1][0], self.below[-1][0]) - self.begin

    def curve(self, knots_max: int) -> tuple[list[Point], float]:
        """Return the knots of the curve amid the bounds; its error."""
        begin, end = self.begin, self.begin + self.length
        count = max(1, min(knots_max, self.length // KNOT_SPAN_NS))
        most = _bound(self.above)
        under = _bound([(at, -ahead) for at, ahead in self.below])
        times = sorted({begin + (end - begin) * knot // count for knot in range(count + 1)})
        knots = [(at, (most(at) - under(at)) / 2) for at in times]
        curve = Curve(tuple(times), tuple(ahead for _, ahead in knots))
        worst = 0.0
        seen = sorted({at for at, _ in self.above + self.below})
        for at, after in pairwise([*seen, end]):
            here = curve.ahead(at)
            error = max(abs(most(at) - here), abs(under(at) + here))
            worst = max(worst, error + RATE_MAX * (after - at) / 2)  # In between nothing bounds it.
        return knots, worst


def _parts(above: list[Point], below: list[Point]) -> list[_Part]:
    """Return the times between jumps: behind one, messages contradict those before it.

    A machine that stood still with its clock makes one. What was under way then is left out, if it
    agrees with neither side: it bounds the clock in one direction only. What jumps all the time is
    taken for one that never does.
    """
    parts = [_Part([], [])]
    most, least, before = float("inf"), float("-inf"), 0
    bounds = [(*point, True) for point in above] + [(*point, False) for point in below]
    for at, ahead, is_above in sorted(bounds):
        drift = RATE_MAX * (at - before)
        most, least, before = most + drift, least - drift, at
        if ahead < least if is_above else ahead > most:
            parts.append(_Part([], []))
            most, least = float("inf"), float("-inf")
        part = parts[-1]
        if is_above:
            part.above.append((at, ahead))
            most = min(most, ahead)
        else:
            part.below.append((at, ahead))
            least = max(least, ahead)
    bounded = [part for part in parts if part.above and part.below]
    return bounded if 0 < len(bounded) <= JUMPS_MAX else [_Part(above, below)]


def _bound(points: list[Point]) -> Callable[[int], float]:
    """Return the lowest bound that sorted points set at a time: each rises on both its sides."""
    times, bounds = [at for at, _ in points], [value for _, value in points]
    last = len(points) - 1
    for one in range(last):
        reach = bounds[one] + RATE_MAX * (times[one + 1] - times[one])
        bounds[one + 1] = min(bounds[one + 1], reach)
    for one in range(last, 0, -1):
        reach = bounds[one] + RATE_MAX * (times[one] - times[one - 1])
        bounds[one - 1] = min(bounds[one - 1], reach)

    def at_time(at: int) -> float:
        after = bisect_right(times, at)
        before, after = max(after - 1, 0), min(after, last)
        return min(bounds[one] + RATE_MAX * abs(at - times[one]) for one in (before, after))

    return at_time
