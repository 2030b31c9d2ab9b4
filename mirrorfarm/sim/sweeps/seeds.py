"""Which seeds a sweep plays: `0..10000`, and the part of it that is shard 3 of 64."""

import re
from collections.abc import Set
from dataclasses import dataclass

from mirrorfarm.errors import UsageInvalid
from mirrorfarm.modules.faults import shown
from mirrorfarm.sim.sweeps.result import SEED_END

SHARDS_MAX = 100_000
PART_SEEDS_MAX = 100_000_000  # Days of many processors; all of their numbers are in memory.


def parse_seeds(text: str) -> range:
    """Return the seeds of `FIRST..END` (END is the first one left out) or of one number.

    Numbers are decimal, or hexadecimal after 0x. Raises UsageInvalid.
    """
    first, dots, end = text.partition("..")
    try:
        begin = int(first, 0)
        seeds = range(begin, int(end, 0) if dots else begin + 1)
    except ValueError:
        raise UsageInvalid(
            f"--seeds {shown(text)!r}: not a range; write FIRST..END, as in 0..10000 for the seeds "
            "from 0 to 9999, or one number"
        ) from None
    if not 0 <= seeds.start < seeds.stop <= SEED_END:
        raise UsageInvalid(
            f"--seeds {shown(text)!r}: holds no seed; FIRST must be 0 or more, END larger "
            "than it and at most 2^64"
        )
    return seeds


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `number` (from 1) of `count`: every count-th seed, so that parts take equally long."""

    number: int = 1
    count: int = 1

    def of(self, seeds: range) -> range:
        """Return the seeds that belong to this part."""
        return seeds[self.number - 1 :: self.count]

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def parse_shard(text: str) -> Shard:
    """Return the shard that `3/64` names. Raises UsageInvalid."""
    if found := re.fullmatch("([0-9]{1,9})/([0-9]{1,9})", text):
        shard = Shard(*map(int, found.groups()))
        if 1 <= shard.number <= shard.count <= SHARDS_MAX:
            return shard
    raise UsageInvalid(
        f"--shard {shown(text)!r}: write NUMBER/COUNT, from 1/64 to 64/64 for 64 parts "
        f"(at most {SHARDS_MAX})"
    )


def how_many(seeds: range) -> int:
    """Return how many seeds there are; `len` ends at 63 bits."""
    return max(0, -(-(seeds.stop - seeds.start) // seeds.step))


def count_missing(seeds: range, done: Set[int]) -> int:
    """Return how many seeds are not done, in no more time than there are results."""
    return how_many(seeds) - sum(seed in seeds for seed in done)


def require_playable(seeds: range, shard: Shard) -> None:
    """Raise UsageInvalid if a part has more seeds than one sweep can take."""
    have = how_many(shard.of(seeds))
    if have > PART_SEEDS_MAX:
        parts = -(-how_many(seeds) // PART_SEEDS_MAX)
        cure = f"play it in parts, from --shard 1/{parts} to --shard {parts}/{parts}"
        if parts > SHARDS_MAX:
            cure = f"name a smaller range: {SHARDS_MAX:,} parts (--shard) are the most"
        raise UsageInvalid(
            f"--seeds {seeds.start}..{seeds.stop}: {have:,} seeds are more than one sweep takes "
            f"({PART_SEEDS_MAX:,}); {cure}"
        )
