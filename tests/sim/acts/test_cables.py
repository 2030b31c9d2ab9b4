"""Faults of cables do what they say."""

from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.sim.acts.act import perform
from mirrorfarm.sim.acts.cables import (
    AddressFails,
    Corrupt,
    Cut,
    Flap,
    Isolate,
    Mtu,
    NetworkDown,
    OneWay,
    Swizzle,
)
from tests.sim.acts.clusters import farm, pair


def test_machines_lose_their_links_one_by_one_and_come_back_in_another_order() -> None:
    world = pair()
    tenth = SECOND_NS // 10
    perform(world, Swizzle(("n1", "w1"), ("w1", "n1"), tenth, 2 * tenth))
    ways = {"n1 gw": [], "w1 gw": [], "n1 w1": [], "n2 gw": []}  # type: ignore[var-annotated]
    for _ in range(5):
        world.run(1)
        for way, seen in ways.items():
            seen.append(world.passes(*way.split()))
        world.run(99)
    assert ways == {
        "n1 gw": [False, False, False, False, True],
        "w1 gw": [True, False, False, True, True],
        "n1 w1": [False, False, False, False, True],  # Of two that are cut both must be back.
        "n2 gw": [True] * 5,
    }
    assert not world.network.cuts


def test_a_cut_of_one_network_mends_only_that_one_at_its_end() -> None:
    world = pair(networks=2)
    perform(world, Cut(("n1", "n2"), "second"))
    perform(world, Cut(("n1", "n2"), "default", SECOND_NS // 10))
    assert not world.passes("n1", "n2")
    world.run(200)
    assert world.network.cuts == {("second", "n1", "n2"), ("second", "n2", "n1")}


def test_a_ping_whose_answer_is_lost_is_not_answered() -> None:
    world = pair(arbiter="ping")
    perform(world, OneWay(("gw", "n2"), 3 * SECOND_NS))
    world.kill("n1")
    world.run(2_500)
    assert world.role("n2") == "WAIT NotReady"
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 5_000)


def test_addresses_that_cannot_be_configured_are_told_and_tried_again() -> None:
    world = pair()
    perform(world, AddressFails("n2", 3 * SECOND_NS))
    world.kill("n1")
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 3_000)
    hands = world.nodes["n2"].hands
    assert not hands.vip
    assert "clients may not reach it: no such device" in world.reason("n2")
    assert world.run_until(lambda: hands.vip and not world.reason("n2"), 20_000)


def test_after_the_faults_have_ended_nobody_is_cut_off_any_more() -> None:
    world = pair()
    perform(world, Swizzle(("n1", "n2"), ("n1", "n2"), SECOND_NS, SECOND_NS))
    world.mend_network()
    world.run(5_000)
    assert not world.network.cuts


def test_only_what_is_long_does_not_pass() -> None:
    world = pair()
    perform(world, Mtu(("n1", "n2"), 130))  # Heartbeats are longer, modifications are not.
    number = world.write()
    world.run(50)
    assert number in world.monitors.acked
    assert world.network.counts["big"]
    assert world.run_until(lambda: world.role("n1") == "ALONE Ready", 3_000)


def test_in_a_farm_nodes_hear_each_other_and_no_view_passes() -> None:
    world = farm()
    perform(world, Mtu(("n1", "n3"), 700, SECOND_NS))
    world.kill("n2")
    world.run(900)
    assert world.network.counts["big"]
    assert not world.settled("n1", "n3")
    assert world.run_until(lambda: world.settled("n1", "n3"), 20_000)


def test_nodes_of_a_farm_whose_heartbeats_are_too_long_are_parted() -> None:
    """Each serves the clients that reach it, as behind a cut, until heartbeats pass again."""
    world = farm(2)
    perform(world, Mtu(("n1", "n2"), 60, 6 * SECOND_NS))
    world.run(5_000)
    assert world.apart("n1", "n2")
    assert world.settled("n1")
    assert world.settled("n2")
    world.run(2_000)
    assert not world.apart("n1", "n2")
    assert world.run_until(lambda: world.settled("n1", "n2"), 3_000)


def test_a_stream_stands_at_a_frame_that_is_too_long() -> None:
    world = pair()
    perform(world, Mtu(("n1", "n2"), 30, SECOND_NS // 20))
    number = world.write()
    world.run(40)
    assert number not in world.monitors.acked
    world.run(300)
    assert number in world.monitors.acked


def test_a_farm_goes_on_when_links_are_bad_for_a_while() -> None:
    world = farm(networks=2)
    perform(world, NetworkDown("second", SECOND_NS))
    perform(world, Corrupt(50, SECOND_NS))
    perform(world, Flap(("n1", "n2"), 20 * MILLISECOND_NS, 50 * MILLISECOND_NS, 3))
    world.run(900)
    assert world.network.counts["corrupt"]
    assert world.network.down == {"second"}
    world.run(2_000)
    assert world.settled(*world.names)
    assert not world.network.down


def test_a_node_of_a_farm_that_loses_every_link_is_out_and_comes_back() -> None:
    world = farm()
    perform(world, Isolate("n3", 2 * SECOND_NS))
    world.run(1_900)
    assert world.settled("n1", "n2")
    assert world.run_until(lambda: world.settled(*world.names), 20_000)
