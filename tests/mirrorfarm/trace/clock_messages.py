"""Messages between two machines with clocks of their own."""

from collections.abc import Callable
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
