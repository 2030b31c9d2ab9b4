"""What is done to a forked mirror, as somebody writes it."""

import pytest

from mirrorfarm.errors import UsageInvalid
from mirrorfarm.sim.fork.changes import Change, parse

SECOND_NS = 10**9
NODES = ("n1", "n2")


def test_the_words_of_all_four() -> None:
    found = parse(
        {
            "drop": ["Heartbeat n1->n2 5s", "any n1->w 2s +1s"],
            "delay": ["n2->n1 200ms 5s"],
            "crash": ["n1"],
            "pause": ["n2 500ms +10s"],
        },
        NODES,
        "w",
    )
    assert found == [
        Change("drop", "n1", "n2", "Heartbeat", for_ns=5 * SECOND_NS),
        Change("drop", "n1", "w", for_ns=2 * SECOND_NS, after_ns=SECOND_NS),
        Change("delay", "n2", "n1", late_ns=SECOND_NS // 5, for_ns=5 * SECOND_NS),
        Change("crash", "n1"),
        Change("pause", "n2", for_ns=SECOND_NS // 2, after_ns=10 * SECOND_NS),
    ]
    assert [str(one) for one in found] == [
        "drop Heartbeat n1->n2 5 s",
        "drop any n1->w 2 s +1 s",
        "delay n2->n1 200 ms 5 s",
        "crash n1",
        "pause n2 500 ms +10 s",
    ]


@pytest.mark.parametrize(
    ("kind", "words", "why"),
    [
        ("drop", "Heartbet n1->n2 5s", "did you mean Heartbeat"),
        ("drop", "Heartbeat n1->n1 5s", "write 'KIND"),
        ("drop", "Heartbeat n1->n3 5s", "n3 is not there"),
        ("drop", "Heartbeat n1 n2 5s", "write 'KIND"),
        ("drop", "", "write 'KIND"),
        ("delay", "n1->n2 5s", "write 'n1->n2"),
        ("delay", "n1->n2 0s 5s", "not within"),
        ("crash", "w", "w is not there"),
        ("crash", "n1 +later", "not a duration"),
        ("pause", "n1", "write 'n1 500ms"),
        ("pause", "n1 soon", "not a duration"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_form(kind: str, words: str, why: str) -> None:
    with pytest.raises(UsageInvalid, match=f"--{kind}.*{why}"):
        parse({kind: [words]}, NODES, "w")
