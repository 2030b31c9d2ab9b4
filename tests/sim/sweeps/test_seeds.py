"""Seeds and shards: what the words mean, and which are refused."""

import pytest

from mirrorfarm.errors import UsageInvalid
from mirrorfarm.sim.sweeps.seeds import (
    Shard,
    count_missing,
    parse_seeds,
    parse_shard,
    require_playable,
)


def test_a_range_leaves_its_end_out() -> None:
    assert parse_seeds("0..10000") == range(10_000)
    assert parse_seeds("0x10..0x20") == range(16, 32)
    assert parse_seeds("7") == range(7, 8)
    assert parse_seeds(f"{2**64 - 1}..{2**64}")[0] == 2**64 - 1


@pytest.mark.parametrize(
    "text",
    ["", "..", "5..5", "9..3", "-1..3", "a..b", "0..1..2", "9" * 5_000, f"0..{2**64 + 1}", "0,1"],
)
def test_what_is_no_range_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageInvalid, match="--seeds"):
        parse_seeds(text)


def test_shards_divide_the_seeds_without_gap_or_overlap() -> None:
    seeds = range(3, 1_000)
    parts = [Shard(number, 64).of(seeds) for number in range(1, 65)]
    assert sorted(seed for part in parts for seed in part) == list(seeds)
    assert parse_shard("3/64") == Shard(3, 64)
    assert str(Shard(3, 64)) == "3/64"


@pytest.mark.parametrize(
    "text", ["", "0/4", "5/4", "3", "3/", "/4", "1/0", "-1/4", "1/1000000", "1/" + "9" * 5_000]
)
def test_what_is_no_shard_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageInvalid, match="from 1/64 to 64/64"):
        parse_shard(text)


def test_what_is_missing_is_counted_without_a_look_at_every_seed() -> None:
    assert count_missing(range(10), {3, 4, 99}) == 8
    assert count_missing(Shard(2, 3).of(range(10)), {0, 1, 4}) == 1
    assert count_missing(range(2**64), {5}) == 2**64 - 1
    assert count_missing(range(0), {5}) == 0


def test_a_part_of_more_seeds_than_a_sweep_takes_is_refused_with_the_parts_to_play() -> None:
    require_playable(range(10**8), Shard())
    require_playable(range(10**12), Shard(1, 10_000))
    with pytest.raises(UsageInvalid, match=r"from --shard 1/2 to --shard 2/2$"):
        require_playable(range(10**8 + 1), Shard())
    with pytest.raises(UsageInvalid, match=r"name a smaller range: 100,000 parts \(--shard\)"):
        require_playable(range(2**64), Shard(1, 100_000))
