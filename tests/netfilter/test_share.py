"""Who owns what: exactly proportional, nothing moved in vain, the same everywhere."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh64_hexdigest

from mirrorfarm.netfilter.share import BUCKETS, NOBODY, bucket_of, quotas, share

SEED = 0x5EED
NAMES = [f"n{number}" for number in range(1, 17)]
POWERS = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 100), min_size=1, max_size=16)
SEEDS = st.integers(0, 2**64 - 1)


def moved(before: tuple[str, ...], after: tuple[str, ...]) -> int:
    return sum(a != b for a, b in zip(before, after, strict=True))


def digest(table: tuple[str, ...]) -> str:
    return xxh64_hexdigest(" ".join(table).encode())


# Computed once; another value on any platform or version of Python is a fault there.
GOLDEN = [
    ({"n1": 1}, None, "n1 n1 n1 n1 n1 n1 n1 n1", "19904e531faa516d"),
    ({"n1": 1, "n2": 1, "n3": 1}, None, "n3 n3 n2 n1 n3 n1 n1 n2", "3146480b190d4d06"),
    ({"n1": 3, "n2": 1, "n3": 1}, None, "n3 n3 n2 n1 n3 n1 n1 n2", "c924b34f92d26c20"),
    ({f"n{i}": 1 for i in range(1, 17)}, None, "n6 n15 n13 n7 n14 n1 n1 n14", "3b15152fab65011a"),
    (
        {"n1": 1, "n3": 1},
        {"n1": 1, "n2": 1, "n3": 1},
        "n3 n3 n3 n1 n3 n1 n1 n1",
        "cb8dbad975806562",
    ),
    (
        {"n1": 1, "n2": 5, "n3": 1, "n4": 2},
        {"n1": 1, "n2": 1, "n3": 1},
        "n3 n3 n2 n1 n3 n1 n1 n2",
        "10e32901fa49c129",
    ),
]


@pytest.mark.parametrize(("members", "former", "first", "whole"), GOLDEN)
def test_the_table_is_the_same_on_every_platform_and_version(
    members: dict[str, int], former: dict[str, int] | None, first: str, whole: str
) -> None:
    before = share(former, SEED) if former else None
    table = share(members, SEED, before)
    assert (" ".join(table[:8]), digest(table)) == (first, whole)


def test_the_order_in_which_members_are_named_does_not_matter() -> None:
    assert share((("b", 1), ("a", 2)), SEED) == share({"a": 2, "b": 1}, SEED)


@given(POWERS, SEEDS)
def test_every_bucket_has_one_owner_that_may_have_traffic(
    powers: dict[str, int], seed: int
) -> None:
    table = share(powers, seed)
    strongest = max(powers.values())
    able = {name for name, power in powers.items() if power * 64 > strongest}
    assert len(table) == BUCKETS
    assert set(table) <= (able or {NOBODY})


@given(POWERS, POWERS, SEEDS)
def test_shares_are_proportional_to_within_one_bucket_whatever_was_before(
    former: dict[str, int], powers: dict[str, int], seed: int
) -> None:
    owned = Counter(share(powers, seed, share(former, seed)))
    strongest = max(powers.values())
    able = {name: power for name, power in powers.items() if power * 64 > strongest}
    total = sum(able.values())
    for name, power in able.items():
        assert abs(owned[name] * total - BUCKETS * power) < total
    assert {name: owned[name] for name in able if total} == dict(quotas(powers, seed))


@given(POWERS, POWERS, SEEDS)
def test_as_many_buckets_move_as_are_gained(
    former: dict[str, int], powers: dict[str, int], seed: int
) -> None:
    before = share(former, seed)
    after = share(powers, seed, before)
    had, has = Counter(before), Counter(after)
    if before[0] != NOBODY:
        assert moved(before, after) == sum(max(0, has[name] - had[name]) for name in has)
    for name in set(before) & set(after):
        kept = sum(a == b == name for a, b in zip(before, after, strict=True))
        assert kept == min(had[name], has[name])


@given(st.integers(2, 16), st.integers(0, 15), SEEDS)
def test_with_equal_powers_only_the_buckets_of_who_comes_or_goes_move(
    number: int, which: int, seed: int
) -> None:
    all_of_them = dict.fromkeys(NAMES[:number], 1)
    one = NAMES[which % number]
    rest = {name: power for name, power in all_of_them.items() if name != one}
    with_all = share(all_of_them, seed)
    without = share(rest, seed, with_all)
    assert all(a in (b, one) for a, b in zip(with_all, without, strict=True))
    joined = share(all_of_them, seed, share(rest, seed))
    pairs = zip(share(rest, seed), joined, strict=True)
    assert all(b in (a, one) for a, b in pairs)


@given(POWERS, st.integers(0, 15), SEEDS)
def test_rounding_passes_on_at_most_one_bucket_of_a_member_that_stays(
    powers: dict[str, int], which: int, seed: int
) -> None:
    one = sorted(powers)[which % len(powers)]
    before = share(powers, seed)
    rest = {name: power for name, power in powers.items() if name != one}
    counts, later = dict(quotas(powers, seed)), dict(quotas(rest, seed))
    if set(counts) - {one} != set(later):
        return  # The strongest left: the cascade let others in.
    table = share(rest, seed, before)
    for name in later:
        lost = sum(a == name != b for a, b in zip(before, table, strict=True))
        assert lost <= 1


@given(POWERS, st.integers(0, 15), SEEDS)
def test_a_member_that_leaves_and_returns_finds_its_own_buckets(
    powers: dict[str, int], which: int, seed: int
) -> None:
    one = sorted(powers)[which % len(powers)]
    before = share(powers, seed)
    without = share({name: powers[name] for name in powers if name != one}, seed, before)
    assert share(powers, seed, without) == before


@given(POWERS, st.integers(0, 15), st.integers(0, 100), SEEDS)
def test_a_power_that_is_changed_and_changed_back_leaves_no_trace(
    powers: dict[str, int], which: int, power: int, seed: int
) -> None:
    one = sorted(powers)[which % len(powers)]
    before = share(powers, seed)
    changed = share({**powers, one: power}, seed, before)
    assert share(powers, seed, changed) == before


@given(POWERS, POWERS, SEEDS)
def test_nothing_moves_when_nothing_changes(
    former: dict[str, int], powers: dict[str, int], seed: int
) -> None:
    table = share(powers, seed, share(former, seed))
    assert share(powers, seed, table) == table


def test_a_power_of_one_sixty_fourth_is_a_rank_and_not_a_share() -> None:
    cascade = {"n1": 4096, "n2": 64, "n3": 1}
    assert set(share(cascade, SEED)) == {"n1"}
    assert set(share({"n2": 64, "n3": 1}, SEED)) == {"n2"}
    assert set(share({"n3": 1}, SEED)) == {"n3"}
    assert Counter(share({"n1": 63, "n2": 1}, SEED)) == {"n1": 1008, "n2": 16}


def test_without_power_nobody_owns_anything_and_the_first_to_have_some_takes_all() -> None:
    nothing = share({"n1": 0}, SEED)
    assert nothing == (NOBODY,) * BUCKETS == share({}, SEED)
    assert share({"n1": 1}, SEED, nothing) == ("n1",) * BUCKETS
    assert share({}, SEED, share({"n1": 1}, SEED)) == nothing


def test_the_bucket_of_a_client_is_the_low_bits_of_its_hash() -> None:
    assert bucket_of(0xFFFF_FFFF_FFFF_FFFF) == 1023
    assert bucket_of(1024) == 0
