"""Clocks of a farm: what follows from the pulse, and that no file can make an unsafe farm."""

import pytest

from mirrorfarm.actors.farm_filter.state import assert_farm_timing
from mirrorfarm.limits import FARM_PULSE_NS_MIN, SLOST_COUNT_MAX, SLOST_COUNT_MIN
from mirrorfarm.modules.farmclocks import farm_timing, farm_timing_faults, pulse_of, with_pulse
from mirrorfarm.modules.settings import LARGE_FARM_TIMING, FarmTiming

MS = 1_000_000


@pytest.mark.parametrize("pulse_ns", [FARM_PULSE_NS_MIN, 21 * MS, 66_666_667, 205 * MS, 10**12])
def test_clocks_within_the_bounds_are_those_of_a_safe_farm(pulse_ns: int) -> None:
    for count in range(SLOST_COUNT_MIN, SLOST_COUNT_MAX + 1):
        assert farm_timing_faults(pulse_ns, count) == []
        assert_farm_timing(with_pulse(FarmTiming(), pulse_ns, count))


@pytest.mark.parametrize(
    ("pulse_ns", "count", "key", "reason"),
    [
        (19 * MS, 4, "farm.pulse", "19 ms is shorter than 20 ms"),
        (0, 4, "farm.pulse", "0 ms is shorter than 20 ms"),
        (50 * MS, 2, "farm.slost_count", "2 is not within 3 to 28, in pulses of 50 ms"),
        (50 * MS, 29, "farm.slost_count", "29 is not within 3 to 28"),
    ],
)
def test_what_is_beyond_a_bound_is_told(pulse_ns: int, count: int, key: str, reason: str) -> None:
    (found,) = farm_timing_faults(pulse_ns, count)
    assert found[0] == key
    assert found[1].startswith(reason)


def test_a_large_farm_follows_as_a_small_one_once_its_file_says_a_pulse_or_a_count() -> None:
    assert farm_timing(8, 0, 0) == FarmTiming()
    assert farm_timing(9, 0, 0) == LARGE_FARM_TIMING
    assert farm_timing(9, 0, 4) == farm_timing(9, 100 * MS, 0) == FarmTiming()
    slow = farm_timing(9, 200 * MS, 5)
    assert (slow.silent_ns, slow.lease_ns, slow.retry_ns) == (1_000 * MS, 1_500 * MS, 100 * MS)


def test_who_changes_one_of_both_in_a_file_keeps_the_other_one() -> None:
    assert pulse_of(FarmTiming(), 3) == (100 * MS, 4)
    assert pulse_of(LARGE_FARM_TIMING, 9) == (100 * MS, 4)  # Its file said neither.
    assert pulse_of(farm_timing(9, 200 * MS, 7), 9) == (200 * MS, 7)


def test_what_does_not_follow_from_the_pulse_stays() -> None:
    before = FarmTiming(slow_start_ns=7, hold_ns=8)
    after = with_pulse(before, 200 * MS, 4)
    assert (after.slow_start_ns, after.hold_ns, after.silent_ns) == (7, 8, 800 * MS)
