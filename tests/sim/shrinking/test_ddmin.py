"""What is needed is found, and nothing else is left."""

from hypothesis import given
from hypothesis import strategies as st

from mirrorfarm.sim.shrinking.ddmin import ddmin


@given(st.sets(st.integers(0, 60), max_size=6), st.integers(61, 80))
def test_exactly_what_is_needed_is_left(needed: set[int], count: int) -> None:
    assert ddmin(range(count), lambda kept: needed <= set(kept)) == sorted(needed)


def test_few_of_many_are_found_with_few_tries() -> None:
    tried = []

    def happens(kept: list[int]) -> bool:
        tried.append(kept)
        return {3, 500} <= set(kept)

    assert ddmin(range(1_000), happens) == [3, 500]
    assert len(tried) < 100


def test_what_was_tried_is_not_tried_again_after_each_piece_that_is_left_out() -> None:
    tried = []

    def happens(kept: list[int]) -> bool:
        tried.append(kept)
        return set(range(0, 200, 10)) <= set(kept)

    assert ddmin(range(200), happens) == list(range(0, 200, 10))
    assert len(tried) < 400
