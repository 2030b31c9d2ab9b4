"""The change map: a superset of what changed, whatever happens to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorfarm.actors.replicator import changes
from mirrorfarm.actors.replicator.changes import Change, ChangeMap, Marks
from mirrorfarm.actors.replicator.operations import (
    SET_SIZE,
    Create,
    Rename,
    SetAttr,
    Unlink,
    Write,
)
from mirrorfarm.errors import RecordInvalid
from mirrorfarm.limits import ZONE_BYTES


@given(st.lists(st.tuples(st.integers(0, 2**30), st.integers(0, 2**20)), max_size=20))
def test_exactly_the_zones_of_the_ranges_are_marked(ranges: list[tuple[int, int]]) -> None:
    change = Change()
    wanted: set[int] = set()
    for offset, length in ranges:
        change.mark(offset, length)
        if length:
            wanted |= set(range(offset // ZONE_BYTES, (offset + length - 1) // ZONE_BYTES + 1))
    assert list(change.marked()) == sorted(wanted)


def test_a_file_too_large_for_zones_is_changed_as_a_whole() -> None:
    change = Change()
    change.mark(changes.ZONES_MAX * ZONE_BYTES, 1)
    assert change.whole


def test_a_file_that_was_cut_is_compared_as_a_whole() -> None:
    found = ChangeMap()
    found.mark_change(SetAttr(0, 9, SET_SIZE, size=5))
    assert found.nodes[0, 9].whole


def test_names_mark_directories_and_inodes() -> None:
    found = ChangeMap()
    found.mark_names(Create(0, 9, 3, b"x", 0o100600, 0, 0, 0), (9,))
    found.mark_names(Rename(0, 3, b"y", 4, b"z"), (11, 12))
    found.mark_names(Unlink(0, 5, b"z"), (10,))
    assert {key for key, change in found.nodes.items() if change.names} == {(0, 3), (0, 4), (0, 5)}
    for node in (9, 10, 11, 12):
        assert found.nodes[0, node].attributes
        assert found.nodes[0, node].whole, "where it lies now the peer may have something else"


@given(
    st.dictionaries(
        st.tuples(st.integers(0, 31), st.integers(1, 2**62)),
        st.builds(Change, st.booleans(), st.booleans(), st.booleans(), st.binary().map(bytearray)),
        max_size=10,
    ),
    st.text(max_size=32),
)
def test_a_map_is_read_back_as_it_was_written(
    nodes: dict[tuple[int, int], Change], base: str
) -> None:
    found = ChangeMap(nodes)
    assert changes.load(changes.dump(found, base, ((1, 2),))) == (found, base, ((1, 2),))


@given(st.integers(0, 200), st.integers(1, 255))
def test_a_damaged_map_is_not_used(place: int, flip: int) -> None:
    found = ChangeMap()
    found.mark_write(Write(0, 9, 100, 200_000))
    data = bytearray(changes.dump(found, "base", ((1, 2),)))
    data[place % len(data)] ^= flip
    with pytest.raises(RecordInvalid):
        changes.load(bytes(data))


def test_a_map_counts_only_when_its_beginning_is_known() -> None:
    marks = Marks()
    assert marks.name("g", new=False) == ""
    assert marks.name("g", new=True) == "g"
    assert marks.name("g", new=False) == "g"
    assert marks.name("other", new=False) == ""


def test_a_map_that_began_in_step_gets_its_name_later() -> None:
    marks = Marks()
    marks.in_step()
    assert marks.trusted == ""
    assert marks.name("g", new=False) == "g"


def test_a_checkpoint_drops_only_what_the_peer_flushed() -> None:
    marks = Marks()
    marks.current.mark_write(Write(0, 1, 0, 10))
    assert marks.begin_checkpoint()
    marks.current.mark_write(Write(0, 2, 0, 10))
    assert not marks.begin_checkpoint()
    assert set(marks.snapshot().nodes) == {(0, 1), (0, 2)}
    marks.end_checkpoint(durable=True)
    assert set(marks.snapshot().nodes) == {(0, 2)}
    marks.begin_checkpoint()
    marks.end_checkpoint(durable=False)
    assert set(marks.snapshot().nodes) == {(0, 2)}


def test_a_map_that_overflowed_is_worth_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "NODES_MAX", 2)
    marks = Marks()
    marks.name("g", new=True)
    for node in range(1, 4):
        marks.current.mark_write(Write(0, node, 0, 10))
    assert marks.trusted == ""
