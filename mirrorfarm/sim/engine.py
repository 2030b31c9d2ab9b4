"""Virtual time and chance: what happens next, decided by a seed alone.

Nothing here reads a clock or a random source of the machine, hashes an object or iterates over
a set: the same seed gives the same run everywhere.
"""

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush, heappushpop
from typing import Any, TypeVar

import xxhash

from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS

T = TypeVar("T")

_WORD = 1 << 64
RATE_MILLIONTHS = 400  # Clocks differ at most by twice that: less than the error allowed for.
ODD = 0x9E3779B1  # 2^32 divided by the golden ratio: spreads a counter over its bits.


class Draws:
    """A stream of random numbers of one concern: value `n` is xxh3_64(seed, stream, n).

    Whatever other streams are asked for does not change it.
    """

    __slots__ = ("_key", "counter")

    def __init__(self, seed: int, stream: str) -> None:
        self._key = xxhash.xxh3_64_intdigest(stream.encode(), seed % _WORD)
        self.counter = 0

    def word(self) -> int:
        """Return the next 64 bits."""
        number = self.counter
        self.counter = number + 1
        return xxhash.xxh3_64_intdigest(number.to_bytes(8, "little"), self._key)

    def below(self, bound: int) -> int:
        """Return a number from 0 to `bound` - 1."""
        return self.word() * bound >> 64

    def between(self, low: int, high: int) -> int:
        """Return a number from `low` to `high`, both included."""
        return low + (self.word() * (high - low + 1) >> 64)

    def chance(self, thousandths: int) -> bool:
        """Return True so often."""
        number = self.counter  # As `word`, without its call: farms toss for every client.
        self.counter = number + 1
        key = self._key
        return (
            xxhash.xxh3_64_intdigest(number.to_bytes(8, "little"), key) * 1_000 >> 64 < thousandths
        )

    def choice(self, values: Sequence[T]) -> T:
        """Return one of the values."""
        return values[self.word() * len(values) >> 64]

    def some(self, values: Sequence[T], thousandths: int) -> list[T]:
        """Return each of the values with this chance, in their order."""
        return [value for value in values if self.chance(thousandths)]

    def shuffled(self, values: Sequence[T]) -> list[T]:
        """Return the values in another order."""
        keyed = sorted((self.word(), index) for index in range(len(values)))
        return [values[index] for _, index in keyed]


def exponential(word: int, mean: int) -> int:
    """Return a value of an exponential distribution, from 64 random bits, in integers only.

    -log2 of a uniform value: the number of leading zeros, and between two powers of two a line.
    """
    zeros = 64 - word.bit_length()
    rest = (word << (zeros + 1)) % _WORD  # Below the highest bit that is set.
    thousandths = zeros * 1_000 + ((_WORD - rest) * 1_000 >> 64)
    return mean * thousandths * 693 // 1_000_000


Entry = tuple[int, int, int, Callable[..., None], tuple[Any, ...]]  # When, tie, number, what.


class Engine:
    """The agenda: calls at times; what is due at the same time comes in an order of the seed's.

    `salt`, `number`, `heap` and `next_turn` are for `Actor`, which puts its turns on the agenda
    itself: that is done for every event of a run.
    """

    __slots__ = ("heap", "next_turn", "now", "number", "salt", "turns")

    def __init__(self, seed: int) -> None:
        self.now = SECOND_NS
        self.number = 0  # Of the last entry.
        self.turns = 0  # Events that cores were given.
        self.salt = xxhash.xxh3_64_intdigest(b"ties", seed % _WORD) >> 32
        self.heap: list[Entry] = []
        self.next_turn: Entry | None = None  # Not in the heap: a turn is often what comes next.

    def at(self, when: int, what: Callable[..., None], *arguments: Any) -> None:
        """Call something at a time; at once if that is past."""
        self.number = number = self.number + 1
        if when < self.now:  # noqa: PLR1730 - A call of max costs more than all the rest here.
            when = self.now
        heappush(self.heap, (when, (number + self.salt) * ODD & 0xFFFFF, number, what, arguments))

    def after(self, delay_ns: int, what: Callable[..., None], *arguments: Any) -> None:
        """Call something after a while."""
        self.at(self.now + delay_ns, what, *arguments)

    def move(self, moved: Callable[[Entry], Entry]) -> None:
        """Put entries to other times: `moved` says of each what it is now."""
        self.heap[:] = map(moved, self.heap)
        heapify(self.heap)

    def jitter(self) -> int:
        """Return up to 16 microseconds: what a thread needs to take its next event."""
        return ((self.number + self.salt) * ODD >> 8) & 0x3FFF

    def run_to(self, end: int) -> None:
        """Do everything up to a time."""
        heap = self.heap
        while True:
            entry = self.next_turn
            if entry is not None:
                self.next_turn = None
                entry = heappushpop(heap, entry)
                if entry[0] > end:
                    heappush(heap, entry)
                    break
            elif heap and heap[0][0] <= end:
                entry = heappop(heap)
            else:
                break
            self.now, _, _, what, arguments = entry
            what(*arguments)
        self.now = max(self.now, end)

    def run(self, milliseconds: int) -> None:
        """Let time pass."""
        self.run_to(self.now + milliseconds * MILLISECOND_NS)

    def run_until(self, condition: Callable[[], bool], milliseconds: int, every: int = 5) -> bool:
        """Let time pass until the condition, looked at every so often, holds; return whether."""
        for _ in range(milliseconds // every):
            if condition():
                return True
            self.run(every)
        return condition()


class Clocks:
    """The three clocks of one machine: each an offset and a rate, and steps of the time of day."""

    __slots__ = ("_boot", "_day", "_rate", "_still_until", "_suspended")

    def __init__(self, boot: int = 0, day: int = 0, millionths: int = 0) -> None:
        """`boot`, `day`: what they show at time 0; `millionths`: by how much they are fast."""
        self._boot, self._day, self._rate = boot, day, millionths
        self._suspended = 0  # How long the machine was suspended: the monotonic clock stood still.
        self._still_until = 0  # Until when it stands still or is suspended.

    def boot(self, now: int) -> int:
        """Return CLOCK_BOOTTIME."""
        return self._boot + now + now * self._rate // 1_000_000

    def monotonic(self, engine: Engine) -> Callable[[], int]:
        """Return what reads CLOCK_MONOTONIC, as a process does: with one call, it is frequent."""

        def clock() -> int:
            now = engine.now
            return self._boot + now + now * self._rate // 1_000_000 - self._suspended

        return clock

    def day(self, now: int) -> int:
        """Return CLOCK_REALTIME."""
        return self._day + now + now * self._rate // 1_000_000

    def moment(self, boot: int) -> int:
        """Return the first time at which the boot clock shows at least this."""
        if not self._rate:
            return boot - self._boot
        passed = boot - self._boot
        guess = passed * 1_000_000 // (1_000_000 + self._rate)
        while guess + guess * self._rate // 1_000_000 < passed:
            guess += 1
        return guess

    def step(self, by_ns: int) -> None:
        """Set the time of day."""
        self._day += by_ns

    def stood(self, now: int, for_ns: int) -> None:
        """Note that the machine stands still with all of its clocks for a while, from now on."""
        longer_ns = self._longer(now, for_ns)
        self._boot -= longer_ns
        self._day -= longer_ns

    def suspended(self, now: int, for_ns: int) -> None:
        """Note that the machine is suspended for a while, from now on."""
        self._suspended += self._longer(now, for_ns)

    def _longer(self, now: int, for_ns: int) -> int:
        """Return by how much longer it stands still than it would have: no clock goes back."""
        until = max(self._still_until, now)
        self._still_until = max(until, now + for_ns)
        return self._still_until - until

    def drift(self, now: int, millionths: int) -> None:
        """Change the rate from now on; what the clocks show does not jump."""
        change = now * self._rate // 1_000_000 - now * millionths // 1_000_000
        self._boot += change
        self._day += change
        self._rate = millionths
