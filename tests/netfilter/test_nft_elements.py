"""Transactions between tables of buckets, as the bytes that the kernel reads."""

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorfarm.limits import BUCKETS, GROUPS_MAX
from mirrorfarm.netfilter.filter import NO_BUCKETS, BucketTable
from mirrorfarm.netfilter.nft_elements import ADD, DELETE, INET, Message, changes
from mirrorfarm.netfilter.rules import State

GROUPS = 3
Sets = dict[str, set[int]]

# Sixteen states, repeated: enough for every change there is.
groups = st.lists(
    st.binary(min_size=16, max_size=16).map(
        lambda drawn: bytes(byte % 3 for byte in drawn) * (BUCKETS // 16)
    ),
    max_size=GROUPS,
).map(tuple)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the attributes in `data` as the kernel walks over them: kind with flags, value."""
    at = 0
    while at < len(data):
        size, kind = struct.unpack_from("=HH", data, at)
        assert 4 <= size <= len(data) - at
        yield kind, data[at + 4 : at + size]
        at += (size + 3) // 4 * 4
    assert at == len(data)


def only(data: bytes, kind: int) -> bytes:
    """Return the value of the one attribute there is, which is of this kind."""
    ((found, value),) = attributes(data)
    assert found == kind
    return value


def content(message: Message) -> tuple[str, set[int] | None]:
    """Return the set that a message is about and the elements that it names; None: no list."""
    found = dict(attributes(message.attributes))
    assert message.family == INET
    assert found[1] == b"mirrorfarm_web\0"
    if 0x8003 not in found:
        return found[2].rstrip(b"\0").decode(), None
    elements = [value for kind, value in attributes(found[0x8003]) if kind == 0x8001]
    marks = [struct.unpack("=I", only(only(one, 0x8001), 1))[0] for one in elements]
    assert len(set(marks)) == len(marks)
    return found[2].rstrip(b"\0").decode(), set(marks)


def perform(messages: list[Message], kernel: Sets) -> None:
    """Do to `kernel` what nftables would do; what it would refuse is an error."""
    for message in messages:
        name, named = content(message)
        present = kernel.setdefault(name, set())
        if message.kind == DELETE:
            assert named is None or named <= present, "the kernel refuses: it is not there"
            present -= set(present) if named is None else named
        else:
            assert message.kind == ADD
            assert named
            present |= named


def expected(table: BucketTable) -> Sets:
    sets: Sets = {}
    for number, states in enumerate(table.groups):
        sets[f"open_{number}"] = {b for b in range(BUCKETS) if states[b] != State.FOREIGN}
        sets[f"soft_{number}"] = {b for b in range(BUCKETS) if states[b] == State.SOFT}
    return sets


def filled(sets: Sets) -> Sets:
    return {name: numbers for name, numbers in sets.items() if numbers}


def every(state: State) -> BucketTable:
    return BucketTable(1, (bytes([state]) * BUCKETS,))


@given(groups, groups)
def test_changes_lead_from_any_table_to_any_other(
    old: tuple[bytes, ...], new: tuple[bytes, ...]
) -> None:
    before, after = BucketTable(1, old), BucketTable(2, new)
    kernel: Sets = {}
    perform(changes("web", GROUPS, NO_BUCKETS, before), kernel)
    assert filled(kernel) == filled(expected(before))
    perform(changes("web", GROUPS, before, after), kernel)
    assert filled(kernel) == filled(expected(after))


@given(groups)
def test_whatever_was_left_over_is_gone_when_nobody_knew_of_it(new: tuple[bytes, ...]) -> None:
    kernel = {f"{name}_{group}": {3, 1023} for name in ("open", "soft") for group in range(GROUPS)}
    perform(changes("web", GROUPS, None, BucketTable(2, new)), kernel)
    assert filled(kernel) == filled(expected(BucketTable(2, new)))


@pytest.mark.parametrize(
    ("before", "after", "elements"),
    [
        (State.FOREIGN, State.HARD, 1),
        (State.HARD, State.FOREIGN, 1),
        (State.SOFT, State.HARD, 1),
        (State.FOREIGN, State.SOFT, 2),
    ],
)
def test_a_bucket_costs_one_element_but_where_it_becomes_soft(
    before: State, after: State, elements: int
) -> None:
    named = [content(message)[1] for message in changes("web", 1, every(before), every(after))]
    assert sum(len(marks or ()) for marks in named) == elements * BUCKETS


def test_only_buckets_that_change_are_named() -> None:
    after = BucketTable(2, (bytes([State.HARD] * 7 + [State.FOREIGN] + [State.HARD] * 1_016),))
    (message,) = changes("web", 1, every(State.HARD), after)
    assert (message.kind, *content(message)) == (DELETE, "open_0", {7})


def test_nothing_is_ordered_for_the_same_table() -> None:
    assert changes("web", 1, every(State.SOFT), every(State.SOFT)) == []


def test_a_message_says_in_words_what_it_asks_for() -> None:
    (message,) = changes("web", 1, NO_BUCKETS, every(State.HARD))
    assert message.meaning == "add buckets to open_0 of table inet mirrorfarm_web"


def test_the_largest_change_fits_into_lengths_of_16_bits() -> None:
    soft = BucketTable(1, (bytes([State.SOFT]) * BUCKETS,) * GROUPS_MAX)
    messages = changes("web", GROUPS_MAX, None, soft)
    assert len(messages) == 4 * GROUPS_MAX
    assert max(len(message.attributes) for message in messages) < 1 << 15
