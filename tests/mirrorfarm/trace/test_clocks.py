"""Clocks are compared by the messages that went between the machines, whatever they show."""

from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.trace.clocks import SAMPLES_MAX, Boot, Samples, compare
from tests.mirrorfarm.trace.clock_messages import messages

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
