"""Durable writes, generations, and what is believed of the arbiter."""

import msgspec
import pytest

from mirrorfarm.actors.module.mirror import orders
from mirrorfarm.actors.module.mirror.phases import Phase
from mirrorfarm.actors.module.mirror.state import Target
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.transport.messages import Register
from tests.actors.module.mirror.building import BOTH, state

KNOWN = NodeRecord(ver_seen=5, wit_instance="i0", isr_seen=("n1", "n2"))
CURRENT = msgspec.structs.replace(BOTH, ver=5)
ASKED_NOW = 1 << 60  # A request after all others.


def test_a_move_that_no_table_allows_is_an_invariant_broken() -> None:
    with pytest.raises(AssertionError, match="LEADING"):
        orders.become(state(), Phase.LEADING, 1, "")


def test_every_record_has_its_number_and_its_incarnation() -> None:
    s = state(NodeRecord(counter=8, inc=3, os_boot="boot-0"))
    assert orders.store(s, "", wanted=True) == 9
    assert (s.record.inc, s.record.node, s.record.os_boot) == (7, "n1", "boot-0")
    orders.store(s, "", was="second")
    assert s.record.os_boot == "boot-1"  # The boot in which `was` became true.


def test_generations_are_new_and_remember_where_they_came_from() -> None:
    s = state(NodeRecord(gen_cur="g0", gen_hist=tuple(f"h{i}" for i in range(16))))
    changes = orders.branch(s)
    orders.store(s, "", **changes)
    assert s.record.gen_base == "g0"
    assert s.record.gen_hist[0] == "g0"
    assert len(s.record.gen_hist) == 16
    assert orders.new_generation(s) != s.record.gen_cur


@pytest.mark.parametrize(
    ("register", "believed"),
    [
        (CURRENT, True),
        (msgspec.structs.replace(CURRENT, ver=6), True),
        (msgspec.structs.replace(CURRENT, ver=4), False),  # Restored from an old copy.
        (msgspec.structs.replace(CURRENT, instance="i1"), False),  # Created anew.
        (None, False),  # Reset.
    ],
)
def test_an_arbiter_that_went_back_is_not_believed(register: object, believed: bool) -> None:
    s = state(KNOWN)
    assert orders.learn(s, register, ASKED_NOW) is believed  # type: ignore[arg-type]
    assert bool(s.arbiter.distrust) is not believed


def test_an_answer_that_news_overtook_is_not_taken_for_an_arbiter_that_went_back() -> None:
    s = state(KNOWN)
    s.arbiter.request = 2
    orders.learn(s, CURRENT, 3)  # The peer's news.
    before = msgspec.structs.replace(CURRENT, ver=4)
    assert not orders.learn(s, before, 2)
    assert not s.arbiter.distrust
    assert s.arbiter.register == CURRENT
    assert not orders.learn(s, before, 3)  # It was asked afterwards.
    assert s.arbiter.distrust


def test_an_arbiter_that_went_back_behind_what_was_not_written_down_is_not_believed() -> None:
    s = state(KNOWN)
    s.phase = Phase.LEADING
    left_behind = msgspec.structs.replace(CURRENT, ver=6, isr=("n1",))
    orders.learn(s, left_behind, 1)
    assert not orders.learn(s, CURRENT, ASKED_NOW)
    assert "from version 6 to 5" in s.arbiter.distrust
    assert s.arbiter.register == left_behind


@pytest.mark.parametrize(
    ("made", "step", "believed"),
    [
        (Register(3, 8, "n2", ("n1", "n2"), "g1", "i1"), "done", True),
        (Register(3, 8, "n2", ("n1", "n2"), "g1", "i1"), "copying", False),
        (Register(3, 8, "n2", ("n2",), "g1", "i1"), "done", False),  # It is not counted in.
        (Register(3, 6, "n2", ("n1", "n2"), "g1", "i1"), "done", False),  # Of before the session.
        (Register(2, 8, "n2", ("n1", "n2"), "g1", "i1"), "done", False),
        (Register(3, 8, "n1", ("n1", "n2"), "g1", "i1"), "done", False),
        (Register(3, 4, "n2", ("n1", "n2"), "g1", "i0"), "done", False),
    ],
)
def test_a_target_believes_the_register_that_its_primary_made_with_it_in_it(
    made: Register, step: str, believed: bool
) -> None:
    s = state(KNOWN)
    orders.learn(s, CURRENT, ASKED_NOW)
    s.phase, s.target = Phase.SYNCING, Target(3, 1, "full", "g1", "", (), 7, step)
    assert orders.learn(s, made, ASKED_NOW) is believed
    assert (s.arbiter.register == made) is believed
    assert bool(s.arbiter.distrust) is not believed


def test_a_primary_never_forgets_who_may_be_promoted() -> None:
    s = state(KNOWN)
    s.phase = Phase.LEADING
    orders.learn(s, CURRENT, ASKED_NOW)
    assert not orders.learn(s, None, ASKED_NOW)
    assert s.peer_in_isr


def test_only_one_swap_is_asked_at_a_time() -> None:
    s = state()
    orders.ask_swap(s, "shrink", BOTH)
    orders.ask_read(s, 1)
    assert not s.arbiter.reading
    with pytest.raises(AssertionError, match="under way"):
        orders.ask_swap(s, "grow", BOTH)


def test_a_lease_is_renewed_four_times_in_its_length_and_not_more() -> None:
    s = state()
    start, first = 10**12, s.arbiter.request
    for now in range(start, start + s.lease.lease_ns, s.lease.lease_ns // 40):
        orders.ask_renew(s, now)
    assert s.arbiter.request == first + 4
