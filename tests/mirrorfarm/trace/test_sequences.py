"""Numbers of messages: what was added is there, whatever the order, in as few rows as there are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorfarm.trace import sequences
from mirrorfarm.trace.sequences import Sequences


@given(st.lists(st.integers(0, 40), unique=True))
def test_exactly_what_was_added_is_there(numbers: list[int]) -> None:
    found = Sequences()
    for number in numbers:
        found.add(number)
    assert [number for number in range(-1, 43) if number in found] == sorted(numbers)


def test_numbers_that_follow_one_another_are_one_row() -> None:
    found = Sequences()
    for number in (1, 2, 5, 4, 3, 9):
        found.add(number)
    assert found._last == {1: 5, 9: 9}


def test_beyond_the_bound_numbers_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequences, "ROWS_MAX", 2)
    found = Sequences()
    for number in (1, 5, 9, 6):
        found.add(number)
    assert [number for number in range(12) if number in found] == [1, 5, 6]


def test_numbers_that_come_twice_are_taken_in() -> None:
    """Only a trace that lies has them: what is forgotten is not awaited."""
    found = Sequences()
    for number in (1, 2, 3, 2, 1, 3, 4):
        found.add(number)
    assert {number for number in range(9) if number in found} <= {1, 2, 3, 4}
