"""Durations are told in one way."""

import pytest

from mirrorfarm.durations import span
from mirrorfarm.limits import SECOND_NS


@pytest.mark.parametrize(
    ("ns", "told"),
    [
        (88_000, "88 us"),
        (999_499, "999 us"),
        (999_600, "1.0 ms"),
        (2_500_000, "2.5 ms"),
        (300_312_000, "300.3 ms"),
        (999_949_999, "999.9 ms"),
        (999_960_000, "1.00 s"),
        (3_210_000_000, "3.21 s"),
        (125 * SECOND_NS, "2 min 5 s"),
        (5 * 3_600 * SECOND_NS + 60 * SECOND_NS, "5 h 1 min"),
    ],
)
def test_durations_are_told_as_persons_say_them(ns: int, told: str) -> None:
    assert span(ns) == told


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (119.4, "119.40 s"),
        (119.996, "2 min 0 s"),
        (120.4, "2 min 0 s"),
        (359.4, "5 min 59 s"),
        (359.7, "6 min 0 s"),
        (3_599.7, "1 h 0 min"),
        (7_199.7, "2 h 0 min"),
        (7_150, "1 h 59 min"),
    ],
)
def test_a_duration_has_no_minute_of_60_seconds(seconds: float, text: str) -> None:
    assert span(round(seconds * SECOND_NS)) == text
