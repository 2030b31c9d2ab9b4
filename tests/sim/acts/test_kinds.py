"""Values of scenario files: read, written, refused with a reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.sim.acts import kinds
from mirrorfarm.sim.acts.kinds import UNITS


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("300 ms", 300 * MILLISECOND_NS),
        ("1.25 s", 1_250 * MILLISECOND_NS),
        ("2min", 120 * SECOND_NS),
        ("0 s", 0),
        ("7 ns", 7),
        ("1253602350 us", 1_253_602_350_000),
    ],
)
def test_durations_have_a_unit_and_may_have_a_point(text: str, value: int) -> None:
    assert kinds.DURATION.read(text) == value


@pytest.mark.parametrize("text", ["3", "s", "1 year", "-1 s", "49 h", "1e3 s", "", "1. s", "٣ s"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"as in 300 ms|is not within"):
        kinds.DURATION.read(text)


@given(
    st.integers(-kinds.DURATION_NS_MAX, kinds.DURATION_NS_MAX),
    st.sampled_from([1, *UNITS.values()]),
)
def test_any_duration_is_written_exactly(value: int, unit: int) -> None:
    value -= value % unit  # What is whole in its unit is written with it.
    if abs(value) <= kinds.DURATION_NS_MAX:
        assert kinds.OFFSET.read(kinds.OFFSET.write(value)) == value


@given(st.integers(0, 1_000))
def test_any_share_is_written_exactly(value: int) -> None:
    assert kinds.SHARE.read(kinds.SHARE.write(value)) == value


@pytest.mark.parametrize("text", ["20", "101 %", "-1 %", "0.55 %"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a share"):
        kinds.SHARE.read(text)


@pytest.mark.parametrize("text", ["18446744073709551616", "-1", "0x", "seed", "1.5"])
def test_a_seed_has_64_bits(text: str) -> None:
    assert kinds.SEED.read("0xffffffffffffffff") == (1 << 64) - 1
    with pytest.raises(ValueError, match="64 bits"):
        kinds.SEED.read(text)


@pytest.mark.parametrize("text", ["n1", "n1 n1", "n1 n2 n3", "n1 N2"])
def test_a_pair_is_two_different_names(text: str) -> None:
    assert kinds.PAIR.read("n1  w1") == ("n1", "w1")
    with pytest.raises(ValueError, match="name"):
        kinds.PAIR.read(text)
