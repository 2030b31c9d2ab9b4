"""Pairs of nodes in words: short for farms of any size, and true."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mirrorfarm.netfilter.pairs import between, between_in_words, not_reached

FEW = ("n1", "n2", "n3")
MANY = tuple(f"n{number}" for number in range(1, 17))
HALF, OTHERS = MANY[:8], MANY[8:]


def every(nodes: tuple[str, ...]) -> list[tuple[str, str]]:
    return list(itertools.permutations(nodes, 2))


def with_one_of(*names: str) -> list[tuple[str, str]]:
    return [pair for pair in every(MANY) if set(pair) & set(names)]


def test_few_nodes_are_told_one_by_one() -> None:
    assert not_reached(every(FEW), FEW) == "no node reaches another"
    both = [pair for pair in every(FEW) if "n2" in pair]
    assert not_reached(both, FEW) == "n2 and the others do not reach each other"
    assert not_reached([("n2", "n1"), ("n2", "n3")], FEW) == "n2 reaches no node"
    assert not_reached([("n1", "n2")], FEW) == "n1 does not reach n2"
    assert not_reached([("n1", "n2"), ("n2", "n1")], FEW) == "n1 and n2 do not reach each other"
    assert not_reached([("n1", "n3"), ("n2", "n3"), ("n2", "n1")], FEW) == (
        "no node reaches n3, n2 reaches no node"
    )


def test_nodes_that_are_cut_off_together_are_told_together() -> None:
    told = not_reached(with_one_of("n2", "n9"), MANY)
    assert told == "n2 and n9 reach no node and are reached by none"
    to = [pair for pair in every(MANY) if pair[1] in {"n2", "n9"}]
    assert not_reached(to, MANY) == "no node reaches n2 or n9"
    pair = {("n2", "n9"), ("n9", "n2")}
    told = not_reached([one for one in with_one_of("n2", "n9") if one not in pair], MANY)
    assert told == "nothing passes between n2 and n9 on one side and the others on the other"


def test_nodes_that_did_not_send_are_only_not_reached() -> None:
    senders = tuple(node for node in MANY if node not in {"n3", "n16"})
    pairs = [(a, b) for a in senders for b in ("n3", "n16")]
    assert not_reached(pairs, senders, MANY) == "no node reaches n3 or n16"


def test_two_halves_are_told_as_two_sides() -> None:
    pairs = [(a, b) for a, b in every(MANY) if (a in HALF) != (b in HALF)]
    assert not_reached(pairs, MANY) == (
        "nothing passes between n1, n2, n3, n4, n5, n6, n7 and n8 on one side and "
        "the others on the other"
    )


def test_where_most_do_not_reach_a_node_those_are_told_that_do() -> None:
    pairs = [(a, "n5") for a in MANY if a not in {"n1", "n5"}]
    assert not_reached(pairs, MANY) == "only n1 reaches n5"


def test_pairs_of_a_loop_or_of_loss_are_told_shortly_as_well() -> None:
    assert between_in_words(every(MANY), MANY) == "every node to every other node"
    to = [pair for pair in every(MANY) if pair[1] == "n3"]
    assert between_in_words(to, MANY) == "every other node to n3"
    of = [pair for pair in every(MANY) if pair[0] == "n3"]
    assert between_in_words(of, MANY) == "n3 to every other node"
    assert between_in_words([("n1", "n2"), ("n3", "n2")], FEW) == "every other node to n2"
    assert between_in_words([("n1", "n2")], FEW) == "n1 to n2"


@given(st.sets(st.sampled_from(every(MANY)), min_size=1))
def test_whatever_is_lost_it_takes_few_words(pairs: set[tuple[str, str]]) -> None:
    for told in (not_reached(pairs, MANY), between_in_words(pairs, MANY)):
        assert told
        assert len(told) < 800
    assert len(between(pairs, MANY)) <= len(MANY) + 1
