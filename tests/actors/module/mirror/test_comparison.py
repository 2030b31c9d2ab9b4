"""Who synchronises whom, and how much of it: every row of the table."""

import msgspec
import pytest

from mirrorfarm.actors.module.mirror.comparison import (
    Side,
    both_diverged,
    diverged,
    plan_for,
    unrelated,
    winner,
)
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.transport.messages import Announcement

SOURCE = NodeRecord(gen_cur="g1", gen_base="g0", gen_hist=("g0",), cons=True, was="prim")


def peer(gen: str = "g1", was: str = "idle", **changes: object) -> Announcement:
    return Announcement(gen_cur=gen, was=was, cons=True, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "base", "exact", "full", "plan"),
    [
        # The planned exchange: the same generation, and both ended cleanly.
        (peer(), "", True, False, "none"),
        # The same generation, but the source did not follow until it led.
        (peer(), "", False, False, "full"),
        # A map is complete since what the target has.
        (peer("g0"), "g0", False, False, "map"),
        (peer("g0", "second"), "g0", False, False, "map"),
        # The map is complete since something else.
        (peer("g0"), "g9", False, False, "full"),
        (peer("g0"), "", False, False, "full"),
        # Equal identities do not mean equal bytes after a crash of the kernel.
        (peer("g0", "second", os_crashed=True), "g0", False, False, "full"),
        # A target that led wrote something that nobody confirmed.
        (peer("g0", "prim"), "g0", False, False, "full"),
        (peer("g0", "alone"), "g0", False, False, "full"),
        (peer("g1", "prim"), "", True, False, "full"),
        (peer("g1", "second"), "", True, False, "full"),
        # No usable data, or an administrator's order.
        (Announcement(gen_cur="g0", was="idle", cons=False), "g0", False, False, "full"),
        (peer(""), "", True, False, "full"),
        (peer(), "", True, True, "full"),
    ],
)
def test_a_session_copies_as_little_as_is_certain_to_be_enough(
    target: Announcement, base: str, exact: bool, full: bool, plan: str
) -> None:
    assert plan_for(SOURCE, target, base, exact=exact, full=full) == plan


def test_a_source_that_went_on_alone_copies_something_even_after_an_exact_start() -> None:
    alone = NodeRecord(gen_cur="g1", gen_base="g0", cons=True, was="alone")
    assert plan_for(alone, peer(), "", exact=True, full=False) == "full"


@pytest.mark.parametrize(
    ("cur", "base", "history", "foreign", "split"),
    [
        ("g1", "g0", ("g0",), False, False),  # The same.
        ("g0", "", (), False, False),  # It stayed where the source began.
        ("g2", "g1", ("g1", "g0"), False, False),  # It went on from the source's data.
        ("g7", "g0", ("g0",), False, True),  # Both went on alone from g0.
        ("g7", "g6", ("g6",), True, False),  # Nothing in common.
        ("", "", (), False, False),  # Fresh.
    ],
)
def test_histories_tell_a_split_from_foreign_data(
    cur: str, base: str, history: tuple[str, ...], foreign: bool, split: bool
) -> None:
    about = Announcement(gen_cur=cur, gen_base=base, gen_hist=history, cons=True)
    assert unrelated(SOURCE, about) is foreign
    went_on = msgspec.structs.replace(about, lone=True)
    # Data that are unrelated are refused for that; else only lone writes can be lost.
    assert foreign or diverged(SOURCE, went_on) is (split or cur == "g2")
    assert not diverged(SOURCE, about)
    gave_up = msgspec.structs.replace(SOURCE, given_up=(cur,))
    assert not diverged(gave_up, went_on)
    mine = msgspec.structs.replace(SOURCE, lone=True, cons=True)
    assert both_diverged(mine, went_on) is (split or foreign)
    # Of a copy that did not end nothing can be kept.
    assert not both_diverged(mine, msgspec.structs.replace(went_on, cons=False))
    assert not both_diverged(msgspec.structs.replace(mine, cons=False), went_on)


def side(node: str, term: int, *, lone: bool = True, changes: int = -1) -> Side:
    return Side(node, term, lone, changes)


@pytest.mark.parametrize(
    ("policy", "one", "other", "kept"),
    [
        # n1 stayed primary of term 4; n2 took over in term 5.
        ("keep-primary", side("n1", 4), side("n2", 5), "n1"),
        ("keep-newer", side("n1", 4), side("n2", 5), "n2"),
        ("keep-more-changes", side("n1", 4, changes=3), side("n2", 5, changes=9), "n2"),
        ("keep-more-changes", side("n1", 4, changes=9), side("n2", 5, changes=9), "n1"),
        ("keep-more-changes", side("n1", 4), side("n2", 5, changes=9), ""),
        ("zero-changes", side("n1", 4), side("n2", 5), ""),
        ("manual", side("n1", 4), side("n2", 5), ""),
        # Where only one of them wrote, nothing is lost, whatever the policy.
        ("zero-changes", side("n1", 4, lone=False), side("n2", 5), "n2"),
        ("manual", side("n1", 4), side("n2", 5, lone=False), "n1"),
        ("keep-primary", side("n1", 4, lone=False), side("n2", 5), "n2"),
        ("manual", side("n1", 4, lone=False), side("n2", 5, lone=False), "n1"),
        # Both were promoted into one and the same term.
        ("keep-primary", side("n1", 5), side("n2", 5), "n1"),
    ],
)
def test_both_nodes_come_to_the_same_after_a_split(
    policy: str, one: Side, other: Side, kept: str
) -> None:
    assert winner(policy, one, other) == kept
    assert winner(policy, other, one) == kept
