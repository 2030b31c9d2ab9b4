"""Messages between two machines with clocks of their own."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from mirrorfarm.limits import SECOND_NS

Times = list[tuple[int, int]]


def messages(
    ahead_ns: int, millionths: int, count: int = 200, seconds: int = 100, seed: int = 1
) -> tuple[Times, Times]:
    """Return messages there and back between two clocks; each takes 0.1 to 3 ms."""
    return between(
        lambda at: ahead_ns + at * millionths // 1_000_000, count=count, seconds=seconds, seed=seed
    )


def between(
    ahead: Callable[[int], int], count: int = 200, seconds: int = 100, seed: int = 1
) -> tuple[Times, Times]:
    """Return messages there and back; `ahead`: how far the second clock is, by the first's."""
    random, there, back = Random(seed), [], []
    for _ in range(count):
        sent = random.randrange(seconds * SECOND_NS)
        came = sent + random.randint(100_000, 3_000_000)
        there.append((sent, came + ahead(came)))
        sent = random.randrange(seconds * SECOND_NS)
        came = sent + random.randint(100_000, 3_000_000)
        back.append((sent + ahead(sent), came))
    return there, back


@dataclass(frozen=True, slots=True)
class Clock:
    """Of a machine that stands still once, from a true time to another; its clock does as well."""

    ahead_ns: int = 0
    begin: int = 0
    end: int = 0

    def shown(self, at: int) -> int:
        """Return what it shows at a true time."""
        return at + self.ahead_ns - max(0, min(at, self.end) - self.begin)


def exchanged(one: Clock, other: Clock, begin: int, end: int, every: int) -> tuple[Times, Times]:
    """Return messages there and back; what comes to a machine that stands still waits."""
    random = Random(1)

    def sent(source: Clock, to: Clock) -> Times:
        told = []
        for at in range(begin, end, every):
            if not source.begin <= at < source.end:
                came = at + random.randint(100_000, 3_000_000)
                came = to.end if to.begin <= came < to.end else came
                told.append((source.shown(at), to.shown(came)))
        return told

    return sent(one, other), sent(other, one)
