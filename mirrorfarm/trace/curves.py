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
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil
from typing import Final, NamedTuple

from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS

PARTS: Final = 32  # Of the time, for the rate.
PARTS_MIN: Final = 8  # With messages both ways: a line through fewer points is chance.
RATE_SPAN_NS: Final = 10 * SECOND_NS  # In a shorter time no rate can be told from delays.
RATE_CERTAINTY: Final = 4  # So many standard errors must a rate be from none.
RATE_MAX: Final = 0.001  # A clock that is off by more is not a clock.
KNOTS_MAX: Final = 1_024  # Of a curve.
KNOT_SPAN_NS: Final = SECOND_NS  # At least between two of them.
JUMPS_MAX: Final = 100  # Of one clock, that are told apart.
STOOD_MIN_NS: Final = 100 * MILLISECOND_NS  # A jump that is smaller may be another rate.
FALL_MAX: Final = 0.999  # Of a curve: if it fell as fast as time goes, no time could be found.

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
    span: tuple[int, int]  # Between these times of the second clock they went both ways.
    stood_ns: int = 0  # How long the first clock stood still, by the second one.


def fit(there: Iterable[tuple[int, int]], back: Iterable[tuple[int, int]]) -> Fit:
    """Return how the second clock stands to the first.

    `there`: times at which messages left by the first clock and came by the second; `back`: left
    by the second, came by the first. At least one of them is not empty.
    """
    above = sorted([(sent, received - sent) for sent, received in there])
    below = sorted([(received, sent - received) for sent, received in back])
    points = above + below
    begin, end = min(at for at, _ in points), max(at for at, _ in points)
    seconds = [[at + ahead for at, ahead in row] for row in (above, below) if row]
    span = max(map(min, seconds)), min(map(max, seconds))
    rate = _rate(above, below, begin, end)
    most = min((ahead - rate * (at - begin) for at, ahead in above), default=None)
    least = max((ahead - rate * (at - begin) for at, ahead in below), default=None)
    if most is None or least is None:
        known = most if least is None else least
        assert known is not None, "there are messages"
        return Fit(Curve((begin,), (known,), rate), None, len(points), span)
    if most < least:
        curve, error_ns, stood_ns = _bent(above, below, rate)
        return Fit(curve, error_ns, len(points), span, stood_ns)
    middle = (most + least) / 2
    error_ns = round((most - least) / 2)
    return Fit(Curve((begin,), (middle,), rate), error_ns, len(points), span)


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
) -> tuple[Curve, int, int]:
    """Return the curve amid the bounds that messages set to the times around them; its error.

    And for how long the first clock stood still, in all.
    """
    begin, end = min(above[0][0], below[0][0]), max(above[-1][0], below[-1][0])
    origin = above[0][1]  # Differences of large numbers, before they become floats.

    def rests(points: list[tuple[int, int]]) -> list[Point]:
        return [(at, ahead - origin - rate * (at - begin)) for at, ahead in points]

    parts = _parts(rests(above), rests(below))
    curves = [part.curve(KNOTS_MAX * part.length // (end - begin + 1)) for part in parts]
    knots = _joined(parts, [own for own, _ in curves])
    times = tuple(at for at, _ in knots)
    curve = Curve(times, tuple(rest for _, rest in knots))
    worst = max(
        error + max(abs(curve.ahead(at) - rest) for at, rest in own) for own, error in curves
    )
    jumps = [own[0][1] - before[-1][1] for (before, _), (own, _) in pairwise(curves)]
    offsets = [origin + rest + rate * (at - begin) for at, rest in knots]
    error_ns = round(max([worst, *map(abs, jumps)]))
    stood_ns = round(sum(jump for jump in jumps if jump >= STOOD_MIN_NS))
    return Curve(times, tuple(offsets), rate), error_ns, stood_ns


@dataclass(slots=True)
class _Side:
    """What the messages in one direction say: bounds from above; those from below, negated."""

    points: list[Point] = field(default_factory=list)  # By time.
    tight: Point = (0, float("inf"))  # The one that says most of the present time, and
    seen: int = 0  # how many points there are up to it.

    def bound(self, at: int) -> float:
        """Return the bound at a time that is not before the last point."""
        return self.tight[1] + RATE_MAX * (at - self.tight[0])

    def add(self, at: int, bound: float) -> None:
        """Take the next point."""
        self.points.append((at, bound))
        if bound <= self.bound(at):
            self.tight, self.seen = (at, bound), len(self.points)

    def split(self, bound: float) -> "_Side":
        """Move what came last and fits a bound of the other side, which contradicts the tightest.

        It says less than that one, so it fits what was before a jump as well: a message that took
        as long as the jump would be a rare one.
        """
        first = len(self.points)
        while first > self.seen and self.points[first - 1][1] + bound >= 0:
            first -= 1
        later = _Side()
        for point in self.points[first:]:
            later.add(*point)
        del self.points[first:]
        return later


class _Part(NamedTuple):
    """A time in which a clock did not jump, as far as messages say."""

    above: _Side
    below: _Side

    @property
    def is_bounded(self) -> bool:
        """Whether messages went in both directions."""
        return bool(self.above.points and self.below.points)

    @property
    def begin(self) -> int:
        return min(side.points[0][0] for side in self if side.points)

    @property
    def length(self) -> int:
        return max(side.points[-1][0] for side in self if side.points) - self.begin

    @property
    def shown(self) -> float:
        """What the second clock showed when its machine first sent or received one of them."""
        above = [at + bound for at, bound in self.above.points]
        return min(above + [at - bound for at, bound in self.below.points])

    def curve(self, knots_max: int) -> tuple[list[Point], float]:
        """Return the knots of the curve amid the bounds, or along those there are; its error."""
        begin, end = self.begin, self.begin + self.length
        count = max(1, min(knots_max, self.length // KNOT_SPAN_NS))
        times = sorted({begin + (end - begin) * knot // count for knot in range(count + 1)})
        if not self.is_bounded:
            sign, side = (1, self.above) if self.above.points else (-1, self.below)
            along = _bound(side.points)
            return [(at, sign * along(at)) for at in times], 0.0
        most, under = _bound(self.above.points), _bound(self.below.points)
        knots = [(at, (most(at) - under(at)) / 2) for at in times]
        curve = Curve(tuple(times), tuple(ahead for _, ahead in knots))
        worst = 0.0
        seen = sorted({at for at, _ in self.above.points + self.below.points})
        for at, after in pairwise([*seen, end]):
            here = curve.ahead(at)
            error = max(abs(most(at) - here), abs(under(at) + here))
            worst = max(worst, error + RATE_MAX * (after - at) / 2)  # In between nothing bounds it.
        return knots, worst


def _parts(above: list[Point], below: list[Point]) -> list[_Part]:
    """Return the times between jumps: behind one, messages contradict those before it.

    A machine that stood still with its clock makes one. What jumps all the time is taken for one
    that never does.
    """
    parts = [_Part(_Side(), _Side())]
    bounds = [(*point, True) for point in above] + [(*point, False) for point in below]
    for at, ahead, is_above in sorted(bounds):
        bound, other = (ahead, 1) if is_above else (-ahead, 0)
        before = parts[-1][other]
        if bound + before.bound(at) < 0:
            if len(parts) > JUMPS_MAX:
                return [_whole(above, below)]
            later = before.split(bound)
            parts.append(_Part(_Side(), later) if is_above else _Part(later, _Side()))
        parts[-1][1 - other].add(at, bound)
    return parts if any(part.is_bounded for part in parts) else [_whole(above, below)]


def _whole(above: list[Point], below: list[Point]) -> _Part:
    """Return all that messages say as one part."""
    negated = [(at, -ahead) for at, ahead in below]
    return _Part(_Side(list(above)), _Side(negated))


def _joined(parts: list[_Part], curves: list[list[Point]]) -> list[Point]:
    """Return the knots of all parts as those of one curve.

    A jump is as late as possible: what a machine does first when it goes on is to receive what
    came meanwhile, so there are messages soon behind a jump, and fewer just before it.
    """
    knots: list[Point] = []
    for part, own in zip(parts, curves, strict=True):
        if knots:
            last, held = knots[-1]
            curve = Curve(tuple(at for at, _ in own), tuple(rest for _, rest in own))
            begin = max(own[0][0], ceil(part.shown - own[0][1]))
            rest = curve.ahead(begin)
            takes = max(1, ceil((held - rest) / FALL_MAX))  # As long as it falls.
            if begin - takes > last:
                knots.append((begin - takes, held))
            knots.append((max(begin, last + takes), rest))
        for at, ahead in own:
            last, fallen = knots[-1] if knots else (at - 1, ahead)
            if at > last and ahead - fallen >= -FALL_MAX * (at - last):
                knots.append((at, ahead))
    return knots


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
