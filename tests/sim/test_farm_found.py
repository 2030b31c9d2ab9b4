"""Faults that random runs found in the protocol of the farm: each is a story that stays told."""

from typing import Any

import pytest

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.farm_filter.state import ACTOR
from mirrorfarm.limits import BUCKETS, MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import LARGE_FARM_TIMING
from mirrorfarm.sim.farm import MODULE, FarmWorld
from mirrorfarm.sim.meddling import Meddling
from mirrorfarm.transport import messages as msg
from mirrorfarm.transport.address import Address
from tests.sim.test_farm_stories import farm


def state(world: FarmWorld, name: str) -> Any:
    core = world.nodes[name].core
    assert core is not None
    return core.state


def test_a_node_frozen_with_a_promise_announces_it_anew_before_it_opens() -> None:
    """Its announcements were made before it froze; meanwhile the other one took over."""
    world = FarmWorld(1, 2)
    world.start("n1")
    assert world.run_until(lambda: state(world, "n1").bid is not None, 2_000)
    world.freeze("n1", 690)
    world.start("n2")
    world.run(4_000)  # The monitor would see both open.
    assert world.settled("n1", "n2")


def deaf_beside_a_serving_node() -> FarmWorld:
    """Return a farm in which n1 serves alone, and n2, which does not hear it, just promised."""
    world = farm(2)
    world.kill("n2")
    world.run(1_500)
    world.cut_one_way("n1", "n2")
    world.start("n2")
    return world


def test_what_nobody_heard_while_a_node_was_frozen_is_not_counted_as_said() -> None:
    world = deaf_beside_a_serving_node()
    world.drops = lambda source, *_: source == "n2"
    assert world.run_until(lambda: state(world, "n2").bid is not None, 2_000)
    world.freeze("n2", 590)
    world.run(50)
    world.drops = None
    world.run(3_000)  # n1 has to hear of it long enough before n2 opens.
    assert world.shares() == {"n1": 0, "n2": BUCKETS}


def test_an_announcement_that_ends_while_a_node_stands_still_is_made_anew_before_it_opens() -> None:
    """No heartbeat that its agent hands back can tell it so in time: it would open as it wakes."""
    world = deaf_beside_a_serving_node()
    world.drops = lambda source, *_: source == "n2"
    assert world.run_until(lambda: state(world, "n2").bid is not None, 2_000)
    world.run(700)
    world.freeze("n2", 300)  # Shorter than it takes to doubt its agent.
    world.run(10)
    world.drops = None
    world.run(290 + 140)
    assert world.answers("n1")
    assert not world.answers("n2")
    world.run(2_000)
    assert world.shares() == {"n1": 0, "n2": BUCKETS}


def test_a_node_that_begins_anew_waits_for_the_lease_of_one_that_can_neither_hear_nor_act() -> None:
    world = deaf_beside_a_serving_node()
    world.run(900)  # A moment before n2 promises.
    assert state(world, "n2").bid is None
    world.freeze("n1", 1_000)
    world.run(3_000)
    assert world.shares() == {"n1": 0, "n2": BUCKETS}


def test_a_stranger_is_tolerated_no_longer_by_a_node_that_freezes_beside_it() -> None:
    world = farm(2)
    world.kill("n2")
    world.run(1_500)
    world.cut_one_way("n1", "n2")  # n2 will not hear that n1 serves.
    world.start("n2")
    assert world.run_until(lambda: bool(state(world, "n1").peers["n2"].tolerated_ns), 3_000)
    world.freeze("n1", 2_000)
    world.run(140)
    assert world.answers("n1")
    world.run(20)
    assert not world.answers("n1")


def test_what_a_node_said_before_this_one_froze_is_no_news_of_its_leaving() -> None:
    """The last heartbeat before the freeze says `away`; its sender serves since."""
    world = FarmWorld(1, 2)
    world.start("n2")
    world.run(3_000)
    world.start("n1", wish="away")
    world.run(1_000)
    assert world.shares() == {"n1": 0, "n2": BUCKETS}
    world.freeze("n2", 3_500)
    world.run(200)
    world.wish("n1", "in")
    world.run(3_000)
    assert world.shares() == {"n1": BUCKETS, "n2": 0}
    world.run(2_500)  # The monitor would see n2 open on what it heard before.
    assert world.settled("n1", "n2")


def test_nobody_proposes_because_a_heartbeat_is_older_than_the_view() -> None:
    """n2 gets the commit before n1's heartbeat says so, and has something to change."""
    for seed in range(20):
        world = FarmWorld(seed, 2)
        for name in world.names:
            world.start(name)
        for _ in range(3_000):
            world.run(1)
            if state(world, "n2").bid is not None:
                break
        world.power("n2", 2)
        world.run(1_000)
        assert world.shares()["n2"] == 683
        assert not [line for line in world.story if " n2 view " in line]


def test_a_member_bound_by_a_promise_that_was_forgotten_is_freed_by_a_newer_view() -> None:
    world = farm(2)
    view = state(world, "n1").view
    forgotten = msg.ViewProposal(
        99, view.incarnation, view.members, (1, 1), view.weights, view.owners
    )
    world.nodes["n2"].give(ev.Received(Address("n1", MODULE, ACTOR), forgotten, "default"))
    world.run(1)
    assert state(world, "n2").bid.number == 99
    assert world.run_until(lambda: world.settled("n1", "n2"), 1_000)
    assert state(world, "n1").view.number == 100


def test_a_promise_that_nobody_keeps_is_replaced() -> None:
    """The coordinator dies between the promise and the use; then it returns."""
    world = farm(3)
    world.drops = lambda source, _, message: isinstance(message, msg.ViewCommit) and source == "n1"
    world.power("n2", 3)
    world.run(30)
    assert state(world, "n2").bid is not None
    world.drops = None
    world.kill("n1")
    world.run(1_500)
    assert world.settled("n2", "n3")


def test_a_lost_commit_is_repeated_also_to_a_node_that_would_coordinate() -> None:
    world = farm(3)
    world.kill("n1")
    world.run(1_500)
    lost: list[Any] = []

    def drop(_: str, to: str, message: Any) -> bool:
        is_first = isinstance(message, msg.ViewCommit) and to == "n1" and not lost
        if is_first:
            lost.append(message)
        return is_first

    world.drops = drop
    world.start("n1")
    assert world.run_until(lambda: world.settled(*world.names), 2_000)
    assert lost


def test_a_member_that_restarts_within_the_detection_time_is_taken_in_again() -> None:
    world = farm(3)
    world.kill("n1")
    world.run(50)
    world.start("n1")
    assert world.run_until(lambda: world.settled(*world.names), 2_000)


def test_a_member_that_gave_up_is_not_waited_for_as_coordinator() -> None:
    """n1 hears that it was excluded; n2, alone in the old view, has to take it back."""
    world = farm(2)
    world.cut_one_way("n1", "n2")
    assert world.run_until(lambda: state(world, "n1").view is None, 2_000)
    world.heal()
    assert world.run_until(lambda: world.settled("n1", "n2"), 2_000)


def test_a_higher_bid_of_ones_own_does_not_hide_that_one_is_excluded() -> None:
    """n2 has bid for view 3 when n4 goes on without it in view 2: its own view is over."""
    world = farm(4)
    for other in ("n1", "n3"):
        world.set_link("n2", other, up=False)  # n4 hears everybody.
    world.drops = lambda source, to, message: (
        source == "n4" and to == "n2" and isinstance(message, msg.ViewAck)
    )
    world.run(3_000)
    assert world.settled("n1", "n3", "n4")
    assert world.shares()["n2"] == 0


def test_one_node_configured_otherwise_does_not_shut_the_others_out() -> None:
    world = FarmWorld(1, 3)
    world.start("n3", seed=8)
    world.run(2_500)
    assert world.shares()["n3"] == BUCKETS
    world.start("n1")
    world.start("n2")
    world.run(3_000)
    assert world.shares() == {"n1": 512, "n2": 512, "n3": 0}


def test_a_joiner_is_ready_before_anybody_closes_a_bucket_for_it() -> None:
    """One node of the farm is off: the joiner may have to wait for its lease, clients may not."""
    world = farm(4)
    world.kill("n4")
    world.kill("n3")
    world.run(1_500)
    world.start("n3")
    gaps, missing = 0, 0
    for _ in range(300):
        world.run(10)
        before, missing = missing, BUCKETS - sum(world.shares().values())
        gaps = max(gaps, min(before, missing))  # Longer than the move itself takes.
        if world.settled("n1", "n2", "n3"):
            break
    assert world.settled("n1", "n2", "n3")
    started = world.now
    world.power("n1", 2)
    world.run(30)
    assert world.now - started == 30 * MILLISECOND_NS
    assert world.shares() == {"n1": 512, "n2": 256, "n3": 256, "n4": 0}
    assert gaps == 0


def test_who_notices_a_death_first_is_not_left_out_for_that() -> None:
    """Its heartbeat says that it does not hear the dead node, whose silence is not due at n1."""
    for seed in range(60):
        world = farm(3, seed)
        world.run(300 + 7 * seed)
        world.story.clear()
        died = world.now
        world.kill("n2")
        assert world.run_until(lambda world=world: world.settled("n1", "n3"), 2_000)  # type: ignore[misc]
        assert world.now - died < 700 * MILLISECOND_NS
        assert "stops answering" not in "\n".join(world.story)


def test_a_member_that_another_one_does_not_hear_now_and_then_is_kept_out_longer_each_time() -> (
    None
):
    """The coordinator hears both all the time: it counts from when one was left out (L5)."""
    world = farm(4, hold_ns=5 * SECOND_NS)
    changes, before = 0, ""
    for _ in range(20):
        for up, length in ((False, 700), (True, 2_300)):
            world.set_link("n2", "n3", up=up)
            world.run(length)
        picture = world.nodes["n1"].picture
        members = " ".join(picture.members) if picture else ""
        changes, before = changes + (members != before), members
    assert changes <= 8  # The monitor would see the first return that is too early.


def test_a_proposal_made_before_a_view_was_used_is_made_anew_on_top_of_it() -> None:
    """The coordinator leaves as soon as it has sent a commit, and that comes after its farewell."""
    world = farm(3, seed=58)
    world.kill("n3")
    assert world.run_until(lambda: world.settled("n1", "n2"), 3_000)
    world.start("n3")
    world.meddle(Meddling("ViewCommit", "n1", "n2", 1, 20 * MILLISECOND_NS))
    assert world.run_until(lambda: state(world, "n1").present == ("n1", "n2", "n3"), 3_000, 1)
    world.wish("n1", "away")
    assert world.run_until(lambda: world.settled("n2", "n3"), 5_000)  # The monitor sees F4.


def test_a_node_that_was_asleep_when_it_was_cut_off_is_alone_no_sooner_for_that() -> None:
    """Its lease ends while it sleeps: whom it does not hear any more it learns only afterwards."""
    world = farm(3)
    world.hang("n3", 1_500)  # Its clients still reach it.
    world.run(260)
    world.freeze("n3", 500)
    assert world.run_until(lambda: world.shares()["n1"] == 512, 1_500)
    world.run(1_500)  # The monitor would see it answer beside the others.
    assert world.run_until(lambda: world.settled(*world.names), 4_000)


def unanswered_ms(world: FarmWorld, names: tuple[str, ...], milliseconds: int) -> int:
    """Return for how many milliseconds of the next ones one of these nodes answered nobody."""
    missing = 0
    for _ in range(milliseconds // 5):
        world.run(5)
        missing += not all(world.answers(name) for name in names)
    return 5 * missing


@pytest.mark.parametrize("after", [0, 30, 60, 90])
def test_who_stood_still_and_says_that_it_closed_ends_nobodys_lease(after: int) -> None:
    """What it echoes is old, and the next pulse, at which leases are renewed, is too late."""
    for seed in range(1, 5):
        world = farm(4, seed)
        world.run(after)  # Between two pulses.
        world.freeze("n1", 450)
        assert unanswered_ms(world, ("n2", "n3", "n4"), 1_000) == 0


def test_nobody_waits_for_the_lease_of_a_node_that_said_that_it_leaves() -> None:
    """A member that promises the next view before it hears that tells of a lease to wait for."""
    for seed in range(1, 12):
        world = farm(3, seed)
        world.wish("n3", "away")
        missing = 0
        for _ in range(200):
            world.run(5)
            missing += not all(len(owners) == 1 for owners in world.owners())
        assert 5 * missing <= 60  # A proposal may have to be repeated.


@pytest.mark.parametrize("seed", range(3))
def test_an_old_echo_of_a_node_whose_agent_hung_ends_nobodys_lease_once_there_is_a_newer_one(
    seed: int,
) -> None:
    """Its newer one comes a moment after the others' pulse, and the next pulse is too late."""
    world = FarmWorld(seed, 12, LARGE_FARM_TIMING)
    for name in world.names:
        world.start(name)
    assert world.run_until(lambda: world.settled(*world.names), 9_000)
    world.run(700 + 31 * seed)
    world.hang("n5", 300)
    for _ in range(100):
        world.run(10)
        assert [name for name in world.names if not world.answers(name)] == []


@pytest.mark.parametrize("dies", [False, True], ids=["leaves", "dies"])
def test_who_comes_while_a_member_is_lost_does_not_hold_up_that_ones_clients(dies: bool) -> None:
    """It cannot promise before it has told for a lease that it goes on without the other one."""
    world = FarmWorld(1, 4)
    for name in ("n1", "n2", "n3"):
        world.start(name)
    assert world.run_until(lambda: world.settled("n1", "n2", "n3"), 3_000)
    world.start("n4")
    world.run(900)
    assert not world.settled(*world.names)
    if dies:
        world.kill("n2")
    else:
        world.wish("n2", "away")
    world.run(700 if dies else 300)
    assert sum(world.shares().values()) == BUCKETS
    assert world.run_until(lambda: world.settled("n1", "n3", "n4"), 1_000)
