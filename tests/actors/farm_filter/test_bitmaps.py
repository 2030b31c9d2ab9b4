"""Sets of buckets survive the wire, and a table gives each bucket one state."""

from hypothesis import given
from hypothesis import strategies as st

from mirrorfarm.actors.farm_filter.bitmaps import (
    ALL,
    FOREIGN,
    HARD,
    NO_OWNER,
    SOFT,
    assign,
    owned,
    pack,
    pack_all,
    states,
    unpack,
    unpack_all,
)
from mirrorfarm.limits import BUCKETS

SETS = st.integers(0, ALL)


@given(SETS)
def test_a_set_of_buckets_comes_back(buckets: int) -> None:
    assert unpack(pack(buckets)) == buckets


def test_what_cannot_be_read_is_everything() -> None:
    assert unpack(b"short") == ALL
    assert unpack_all((pack(1),), 2) == [ALL, ALL]


def test_nothing_takes_no_room() -> None:
    assert pack_all([0, 0]) == ()
    assert unpack_all((), 2) == [0, 0]


@given(SETS, SETS)
def test_a_bucket_is_soft_hard_or_foreign(opened: int, soft: int) -> None:
    row = states(opened, soft)
    for bucket in (0, 1, 511, BUCKETS - 1):
        wanted = FOREIGN
        if opened >> bucket & 1:
            wanted = SOFT if soft >> bucket & 1 else HARD
        assert row[bucket] == wanted


def test_owner_tables_name_members_by_number() -> None:
    table = assign(("n1", "n2"), (1, 3), 7, None)
    assert table.count(1) == 768
    assert owned(table, 0) | owned(table, 1) == ALL
    assert assign(("n1", "n2"), (0, 0), 7, None) == bytes([NO_OWNER]) * BUCKETS
    after = assign(("n2", "n3"), (1, 1), 7, (("n1", "n2"), table))
    assert sum(after[b] == 0 and table[b] == 1 for b in range(BUCKETS)) == 512
