"""A bar of the measurement says `reached` only of what is."""

from mirrorfarm.lab.bench_receive import Bar, ratios
from mirrorfarm.lab.flood import Sent


def test_a_bar_is_reached_from_above_or_from_below() -> None:
    assert Bar("rate", 400, 400).reached
    assert not Bar("rate", 399, 400).reached
    assert Bar("asked", 4_096, 4_096, at_most=True).reached
    assert not Bar("asked", 4_097, 4_096, at_most=True).reached
    assert Bar("rate", 399, 400).cells()[-1] == "NO"


def test_ratios_are_of_the_same_round() -> None:
    assert ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]


def test_time_without_the_processor_does_not_count() -> None:
    assert Sent(frames=1_000, seconds=3.0, waited=1.0).rate == 500
