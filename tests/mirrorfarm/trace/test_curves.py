"""How one clock stands to another is a line, or a curve; the truth is within the error."""

from random import Random

import pytest

from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.trace.curves import RATE_MAX, Curve, fit
from tests.mirrorfarm.trace.clock_messages import Clock, between, exchanged, messages


@pytest.mark.parametrize("ahead_ns", [0, 7 * 3_600 * SECOND_NS, -11 * 3_600 * SECOND_NS])
@pytest.mark.parametrize("millionths", [0, 90, -400])
def test_the_true_offset_lies_within_the_error(ahead_ns: int, millionths: int) -> None:
    there, back = messages(ahead_ns, millionths)
    found = fit(there, back)
    assert found.messages == 400
    assert found.error_ns is not None
    assert found.error_ns < 2 * MILLISECOND_NS
    for at in range(0, 100 * SECOND_NS, SECOND_NS):
        true = ahead_ns + at * millionths // 1_000_000
        assert abs(found.curve.ahead(at) - true) < 2 * MILLISECOND_NS
        assert abs(found.curve.first(at + true) - at) < 2 * MILLISECOND_NS


def test_the_truth_is_amid_the_bounds() -> None:
    there = [(at * SECOND_NS, at * SECOND_NS + 7_000_000 + 1_000_000) for at in range(9)]
    back = [(at * SECOND_NS + 7_000_000, at * SECOND_NS + 1_000_000) for at in range(9)]
    assert fit(there, back).curve.ahead(0) == 7_000_000
    assert fit(there, back).error_ns == 1_000_000


def test_a_rate_that_may_be_chance_is_not_told() -> None:
    for seed in range(20):
        there, back = messages(0, 0, count=60, seconds=12, seed=seed)
        assert fit(there, back).curve.rate == 0.0


def test_one_direction_alone_gives_a_bound_without_an_error() -> None:
    there, _ = messages(5 * SECOND_NS, 0)
    found = fit(there, [])
    assert found.error_ns is None
    assert 0 < found.curve.ahead(0) - 5 * SECOND_NS < MILLISECOND_NS
    _, back = messages(5 * SECOND_NS, 0)
    assert -MILLISECOND_NS < fit([], back).curve.ahead(0) - 5 * SECOND_NS < 0


def test_a_curve_is_straight_between_its_knots_and_goes_on_at_both_ends() -> None:
    curve = Curve((1_000, 2_000, 4_000), (10.0, 20.0, 0.0), 0.01)
    assert [curve.ahead(at) for at in (0, 1_000, 1_500, 3_000, 4_000, 5_000)] == [
        0,
        10,
        15,
        10,
        0,
        10,
    ]
    for at in range(0, 6_000, 50):
        assert curve.first(at + curve.ahead(at)) == pytest.approx(at, abs=1)


def walk(seed: int, seconds: int) -> list[int]:
    """Return by how much a clock is ahead at each second; its rate changes now and then."""
    random, ahead, rate = Random(seed), [0], 0
    for _ in range(seconds):
        if random.random() < 0.02:
            rate = random.randint(-400, 400)  # Millionths.
        ahead.append(ahead[-1] + rate * 1_000)
    return ahead


@pytest.mark.parametrize("seed", range(6))
def test_a_clock_whose_rate_changes_is_followed(seed: int) -> None:
    seconds = 600
    ahead = walk(seed, seconds)

    def true(at: int) -> int:
        second, rest = divmod(min(at, seconds * SECOND_NS - 1), SECOND_NS)
        return ahead[second] + (ahead[second + 1] - ahead[second]) * rest // SECOND_NS

    found = fit(*between(true, count=3_000, seconds=seconds, seed=seed))
    assert found.error_ns is not None
    assert found.error_ns < 5 * MILLISECOND_NS, "messages came many times a second"
    for at in range(SECOND_NS, (seconds - 1) * SECOND_NS, SECOND_NS // 3):
        assert abs(found.curve.ahead(at) - true(at)) <= found.error_ns


def test_where_no_message_passed_a_clock_may_be_wrong_by_more() -> None:
    def true(at: int) -> int:
        return max(at - 300 * SECOND_NS, 0) * 300 // 1_000_000

    there, back = between(true, count=3_000, seconds=600)
    silence = range(250 * SECOND_NS, 350 * SECOND_NS)
    there = [one for one in there if one[0] not in silence]
    back = [one for one in back if one[1] not in silence]
    found = fit(there, back)
    assert found.error_ns is not None
    assert abs(found.curve.ahead(300 * SECOND_NS) - true(300 * SECOND_NS)) > 5 * MILLISECOND_NS
    assert found.error_ns == pytest.approx(RATE_MAX * 50 * SECOND_NS, rel=0.2)


def test_a_clock_that_stood_still_is_told_to_be_wrong_by_that() -> None:
    found = fit(*between(lambda at: -5 * SECOND_NS * (at > 50 * SECOND_NS)))
    assert found.error_ns is not None
    assert 2 * SECOND_NS < found.error_ns <= 5 * SECOND_NS


def test_a_clock_that_stood_still_is_known_before_and_after() -> None:
    begin, end = 300 * SECOND_NS, 305 * SECOND_NS

    def shown(at: int) -> int:
        return at + at * 20 // 1_000_000 - max(0, min(at, end) - begin)

    there, back = between(lambda at: shown(at) - at, count=3_000, seconds=600)
    still = range(begin, end)
    woken = [(sent, shown(end)) for sent, came in there if sent + came - shown(sent) in still]
    there = [one for one in there if one[0] not in still] + woken
    back = [one for one in back if one[1] not in still]
    found = fit(there, back)
    for second in (*range(299), *range(307, 600)):
        at = second * SECOND_NS
        assert abs(found.curve.ahead(at) - (shown(at) - at)) < MILLISECOND_NS, second
        assert abs(found.curve.first(shown(at)) - at) < MILLISECOND_NS, second
    assert found.error_ns == pytest.approx(end - begin, rel=0.01), "while it stood still"


@pytest.mark.parametrize("which", [0, 1])
def test_a_clock_is_known_until_it_stands_still_and_as_soon_as_it_goes_on(which: int) -> None:
    begin, end, every = 30 * SECOND_NS + 40 * MILLISECOND_NS, 33 * SECOND_NS, 50 * MILLISECOND_NS
    clocks = [Clock(), Clock()]
    clocks[which] = Clock(7, begin, end)
    first, second = clocks
    found = fit(*exchanged(first, second, 0, 60 * SECOND_NS, every))
    for at in (*range(0, begin, every), begin - 4 * MILLISECOND_NS, *range(end + every, 60, every)):
        assert abs(found.curve.first(second.shown(at)) - first.shown(at)) < 2 * MILLISECOND_NS, at
    assert found.error_ns == pytest.approx(end - begin, rel=0.01)
    stood = found.stood_ns > 0
    assert stood == (which == 0), "it is told of the first clock"


def test_a_message_that_took_as_long_as_a_clock_stood_still_was_sent_behind_that() -> None:
    """The second clock stood still for 1 s; a request is the first thing that is heard of it."""
    there = [(1_000, 1_001), (1_752, 1_753), (5_833, 4_835)]
    back = [(1_000, 1_001), (1_750, 1_752), (4_832, 5_833)]
    found = fit(
        *([(at * MILLISECOND_NS, to * MILLISECOND_NS) for at, to in row] for row in (there, back))
    )
    assert abs(found.curve.ahead(6 * SECOND_NS) + SECOND_NS) < 2 * MILLISECOND_NS
    assert abs(found.curve.ahead(SECOND_NS)) < 2 * MILLISECOND_NS
    assert found.error_ns == pytest.approx(SECOND_NS, rel=0.01)


def test_a_clock_that_stood_still_is_told_to_be_wrong_if_messages_went_one_way_since() -> None:
    second = Clock(0, 50 * SECOND_NS, 55 * SECOND_NS)
    there, back = exchanged(Clock(), second, 0, 60 * SECOND_NS, 50 * MILLISECOND_NS)
    found = fit(there, [one for one in back if one[1] < 50 * SECOND_NS])
    assert abs(found.curve.ahead(58 * SECOND_NS) + 5 * SECOND_NS) < MILLISECOND_NS
    assert abs(found.curve.ahead(40 * SECOND_NS)) < MILLISECOND_NS
    assert found.error_ns == pytest.approx(5 * SECOND_NS, rel=0.01)
