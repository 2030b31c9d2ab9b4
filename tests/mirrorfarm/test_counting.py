"""How many of something, in words."""

from mirrorfarm.counting import counted, counted_are


def test_one_is_one_and_several_are_several() -> None:
    assert [counted(count, "run") for count in (0, 1, 5_000)] == ["0 runs", "1 run", "5,000 runs"]
    assert [counted_are(count, "seed") for count in (1, 2)] == ["1 seed is", "2 seeds are"]
