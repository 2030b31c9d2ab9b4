"""Stories of the virtual addresses: orders in, effects and results out."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mirrorfarm.actors.effects import (
    AddressAdd,
    AddressAnnounce,
    AddressProbe,
    AddressRemove,
    Later,
    Log,
    Tell,
)
from mirrorfarm.actors.events import (
    Started,
    VipDown,
    VipIsDown,
    VipIsUp,
    VipProbe,
    VipProbed,
    VipUp,
)
from mirrorfarm.actors.vip.core import State, Vip
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.modules.settings import VirtualAddress

VIPS = (VirtualAddress("198.18.0.100"),)


def up(vip: Vip, run: int, now: int = 0) -> Any:
    vip.handle(VipUp(run), now)
    (later,) = [e for e in vip.handle(VipIsUp(run), now) if isinstance(e, Later)]
    return later


def test_an_order_to_go_up_adds_the_addresses_and_passes_the_result_on() -> None:
    vip = Vip(VIPS)
    assert vip.handle(Started(), 0) == []
    assert vip.handle(VipUp(1), 0) == [AddressAdd(1)]
    effects = vip.handle(VipIsUp(1), 5)
    assert effects[0] == Tell("module", VipIsUp(1))
    assert vip.state is State.UP


def test_announcements_follow_after_1_2_4_and_8_seconds_and_then_no_more() -> None:
    vip = Vip(VIPS)
    later, times = up(vip, 1, 5), []
    while later is not None:
        times.append((later.at_ns - 5) // SECOND_NS)
        effects = vip.handle(later.event, later.at_ns)
        assert effects[0] == AddressAnnounce()
        later = effects[1] if len(effects) > 1 else None
    assert times == [1, 2, 4, 8]


def test_a_failure_is_told_once_however_often_it_is_tried_again() -> None:
    vip = Vip(VIPS)
    told = []
    for run, failures in enumerate([("a",), ("a",), ("a", "b"), (), ("a",)]):
        vip.handle(VipUp(run), 0)
        told += [e.text for e in vip.handle(VipIsUp(run, failures), 0) if isinstance(e, Log)]
    assert told == ["virtual address: a", "virtual address: b", "virtual address: a"]


def test_nothing_is_announced_once_the_order_to_go_down_came() -> None:
    vip = Vip(VIPS)
    later = up(vip, 1)
    assert vip.handle(VipDown(2), 0) == [AddressRemove(2)]
    assert vip.handle(later.event, later.at_ns) == []


def test_going_up_again_does_not_multiply_the_announcements() -> None:
    vip = Vip(VIPS)
    first = up(vip, 1)
    second = up(vip, 1)
    assert vip.handle(first.event, first.at_ns) == []
    assert AddressAnnounce() in vip.handle(second.event, second.at_ns)


def test_an_order_to_go_down_wins_over_one_to_go_up_that_is_under_way() -> None:
    vip = Vip(VIPS)
    vip.handle(VipUp(1), 0)
    assert vip.handle(VipDown(2), 0) == [AddressRemove(2)]
    assert vip.handle(VipIsUp(1), 0) == []
    assert vip.handle(VipIsDown(2), 0) == [Tell("module", VipIsDown(2))]
    assert vip.state is State.DOWN


def test_results_of_older_orders_are_ignored() -> None:
    vip = Vip(VIPS)
    vip.handle(VipDown(1), 0)
    vip.handle(VipUp(2), 0)
    assert vip.handle(VipIsDown(1), 0) == []
    assert vip.handle(VipIsUp(1), 0) == []
    assert vip.state is State.ADDING


def test_orders_are_idempotent_and_every_one_is_answered() -> None:
    vip = Vip(VIPS)
    for run in (1, 2):
        assert vip.handle(VipDown(run), 0) == [AddressRemove(run)]
        assert vip.handle(VipIsDown(run), 0) == [Tell("module", VipIsDown(run))]
    for run in (3, 4):
        assert vip.handle(VipUp(run), 0) == [AddressAdd(run)]
        assert Tell("module", VipIsUp(run)) in vip.handle(VipIsUp(run), 0)


def test_what_could_not_be_added_is_logged_and_passed_on() -> None:
    vip = Vip(VIPS)
    vip.handle(VipUp(1), 0)
    effects = vip.handle(VipIsUp(1, ("no interface",)), 0)
    assert Log("C", "virtual address: no interface") in effects
    assert Tell("module", VipIsUp(1, ("no interface",))) in effects


def test_a_probe_runs_beside_the_orders_and_a_newer_one_replaces_it() -> None:
    vip = Vip(VIPS)
    assert vip.handle(VipProbe(1), 0) == [AddressProbe(1)]
    vip.handle(VipUp(7), 0)
    assert vip.handle(VipProbe(2), 0) == [AddressProbe(2)]
    assert vip.handle(VipProbed(1), 0) == []
    answer = VipProbed(2, ("198.18.0.100=02:00:00:00:00:01",))
    assert vip.handle(answer, 0) == [Tell("module", answer)]
    assert vip.handle(answer, 0) == []


def test_without_addresses_every_order_is_answered_at_once() -> None:
    vip = Vip(())
    assert vip.handle(VipProbe(1), 0) == [Tell("module", VipProbed(1))]
    assert vip.handle(VipUp(2), 0) == [Tell("module", VipIsUp(2))]
    assert vip.handle(VipDown(3), 0) == [Tell("module", VipIsDown(3))]


ORDERS = st.sampled_from([VipUp, VipDown, VipIsUp, VipIsDown, VipProbe, VipProbed])


@given(st.lists(st.tuples(ORDERS, st.integers(0, 4)), max_size=40))
def test_any_event_is_accepted_in_any_state_and_down_is_told_only_for_the_last_order(
    steps: list[tuple[Any, int]],
) -> None:
    vip = Vip(VIPS)
    last: Any = None
    for kind, run in steps:
        event = kind(run)
        effects = vip.handle(event, 0)
        if kind in (VipUp, VipDown):
            last = event
        if Tell("module", VipIsDown(run)) in effects:
            assert last == VipDown(run)
