"""Clocks are compared by the messages that went between the machines, whatever they show."""

from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.trace.clocks import SAMPLES_MAX, Boot, Clocks, Pairs, Samples, compare
from tests.mirrorfarm.trace.clock_messages import Clock, exchanged, messages

A: Boot = ("n1", "b")
B: Boot = ("n2", "b")
C: Boot = ("n3", "b")


def test_clocks_are_compared_through_a_third_one() -> None:
    there, back = messages(10 * SECOND_NS, 0)
    far_there, far_back = messages(-4 * SECOND_NS, 0, seed=2)
    spans = {boot: (0, 100 * SECOND_NS) for boot in (A, B, C)}
    pairs = {(B, A): there, (A, B): back, (B, C): far_there, (C, B): far_back}
    clocks = compare({A: 1_000, B: 0, C: 2_000}, spans, pairs)
    assert [one.node for one in clocks.report] == ["n2", "n1", "n3"]
    assert clocks.report[0].basis == "reference", "it spoke with both"
    assert abs(clocks.at(A, 15 * SECOND_NS) - 5 * SECOND_NS) < 2 * MILLISECOND_NS
    assert abs(clocks.at(C, SECOND_NS) - 5 * SECOND_NS) < 2 * MILLISECOND_NS
    assert clocks.at(B, 77) == 77


def test_clocks_are_compared_through_a_chain() -> None:
    ends: Boot = ("n4", "b")
    spans = {boot: (0, 100 * SECOND_NS) for boot in (A, B, C, ends)}
    pairs = {}
    for seed, (one, other) in enumerate(((A, B), (B, C), (C, ends))):
        pairs[one, other], pairs[other, one] = messages(10 * SECOND_NS, 0, seed=seed)
    clocks = compare(dict.fromkeys(spans, 0), spans, pairs)
    assert clocks.report[0].node == "n2"
    assert abs(clocks.at(ends, 50 * SECOND_NS) - 30 * SECOND_NS) < 3 * MILLISECOND_NS
    far = clocks.report[-1]
    near = next(clock for clock in clocks.report if clock.node == "n3")
    assert far.node == "n4"
    assert far.error_ns is not None
    assert near.error_ns is not None
    assert far.error_ns > near.error_ns, "errors add up"


def test_a_machine_that_no_message_joins_is_believed() -> None:
    spans = {A: (0, 10), B: (0, 10)}
    clocks = compare({A: 500, B: 90_000}, spans, {})
    assert [one.basis for one in clocks.report] == ["reference", "time of day"]
    assert clocks.at(B, 5) == 90_005
    assert "no message joins it" in str(clocks.report[1])


def test_many_messages_are_thinned_alike_on_both_sides() -> None:
    samples = Samples()
    count = 3 * SAMPLES_MAX
    for sequence in range(count):  # All sends first: no receipt is near its own.
        samples.sent(A, 1, sequence, sequence)
    for sequence in range(count):
        samples.received(B, "n1", 1, sequence, sequence + 7)
    kept = samples.pairs()[A, B]
    assert SAMPLES_MAX // 4 < len(kept) <= SAMPLES_MAX
    assert {came - sent for sent, came in kept} == {7}


STILL = Clock(0, 35 * SECOND_NS, 38 * SECOND_NS)


def compared(
    lives: dict[Boot, tuple[Clock, int, int]], joined: dict[tuple[Boot, Boot], float]
) -> Clocks:
    """Return the comparison of machines that live from a true second to another.

    `joined`: how many seconds there are between messages of two of them.
    """
    pairs: Pairs = {}
    for (one, other), every in joined.items():
        first, second = lives[one], lives[other]
        begin, end = max(first[1], second[1]), min(first[2], second[2])
        there, back = exchanged(
            first[0], second[0], begin * SECOND_NS, end * SECOND_NS, round(every * SECOND_NS)
        )
        pairs[one, other], pairs[other, one] = there, back
    spans = {
        boot: (clock.shown(begin * SECOND_NS), clock.shown(end * SECOND_NS))
        for boot, (clock, begin, end) in lives.items()
    }
    return compare(dict.fromkeys(lives, 0), spans, pairs)


def test_a_short_life_behind_a_standstill_says_nothing_of_the_time_before() -> None:
    """n2 was booted again when n1 had stood still, and what it says of n1 is very certain."""
    again: Boot = ("n2", "c")
    lives = {A: (STILL, 0, 60), B: (Clock(), 0, 48), again: (Clock(), 49, 51), C: (Clock(), 0, 60)}
    joined = {(A, B): 0.05, (A, again): 0.05, (A, C): 0.3, (B, C): 0.75, (again, C): 0.75}
    clocks = compared(lives, joined)
    assert clocks.report[0].node == "n3", "of those that spoke with all it did not stand still"
    for second in (1, 20, 34, 39, 47):
        at = second * SECOND_NS
        for boot in (A, B, C):
            wrong_ns = clocks.at(boot, lives[boot][0].shown(at)) - at
            assert abs(wrong_ns) < 5 * MILLISECOND_NS, (boot, second)
    told = {(one.node, one.boot): one.error_ns or 0 for one in clocks.report}
    assert told[A] > 2 * SECOND_NS, "while it stood still nobody knows"
    assert max(told[B], told[again]) < 5 * MILLISECOND_NS


def test_all_clocks_that_are_sure_say_when_another_one_went_on() -> None:
    lives = {A: (STILL, 0, 60), B: (Clock(), 0, 60), C: (Clock(), 0, 60)}
    clocks = compared(lives, {(A, B): 0.05, (A, C): 10, (B, C): 1})
    assert clocks.report[0].node == "n2"
    clocks = compared(lives | {C: (Clock(), 0, 61)}, {(A, B): 10, (A, C): 0.05, (B, C): 1})
    for milliseconds in (34_900, 38_100):
        at = milliseconds * MILLISECOND_NS
        assert abs(clocks.at(A, STILL.shown(at)) - at) < 5 * MILLISECOND_NS


def test_the_time_that_no_message_compares_is_told() -> None:
    spans = {A: (0, 60 * SECOND_NS), B: (0, 60 * SECOND_NS)}
    there, back = exchanged(Clock(), Clock(), 20 * SECOND_NS, 50 * SECOND_NS, 100_000_000)
    pairs = {(A, B): there, (B, A): back}
    told = str(compare({A: 0, B: 0}, spans, pairs).report[1])
    assert "wrong, perhaps more in 30." in told
    assert "s that no message compares; 600 messages compared" in told
    alive = {A: (20 * SECOND_NS, 50 * SECOND_NS), B: spans[B]}
    assert "perhaps" not in str(compare({A: 0, B: 0}, alive, pairs).report[1]), "n2 was alone"
