"""What happens to a farm, told as stories on the simulated one; its monitors watch throughout."""

from typing import Any

import pytest

from mirrorfarm.actors.farm_filter.bitmaps import HARD, SOFT
from mirrorfarm.actors.farm_filter.core import FarmDue, FarmFilter
from mirrorfarm.limits import BUCKETS, MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import LARGE_FARM_TIMING, FarmTiming
from mirrorfarm.sim.farm import FarmWorld
from mirrorfarm.sim.farm_clients import Clients
from mirrorfarm.sim.meddling import Meddling
from mirrorfarm.sim.monitors.farm import Affinity
from mirrorfarm.transport.messages import FarmBeat


def farm(count: int = 3, seed: int = 1, **timing: Any) -> FarmWorld:
    """Return a farm in which every node serves."""
    world = FarmWorld(seed, count, FarmTiming(**timing))
    for name in world.names:
        world.start(name)
    assert world.run_until(lambda: world.settled(*world.names), 3_000)
    world.run(200)
    return world


def reason(world: FarmWorld, name: str) -> str:
    """Return why a node answers nobody."""
    picture = world.nodes[name].picture
    assert picture is not None
    return picture.reason


def why_not(world: FarmWorld, at: str, name: str) -> str:
    """Return what `at` says of `name`."""
    picture = world.nodes[at].picture
    assert picture is not None
    return next(node.reason for node in picture.nodes if node.name == name)


def resets(world: FarmWorld) -> int:
    """Return how many connections were reset."""
    monitor = world.watch.monitors["F5"]
    assert isinstance(monitor, Affinity)
    return monitor.resets


def streams(world: FarmWorld, count: int = 60) -> Clients:
    """Return clients with that many connections."""
    clients = Clients(world)
    while len(clients.flows) < count:
        clients.connect()
    return clients


def test_nodes_that_start_at_once_share_the_buckets_in_one_view() -> None:
    world = farm()
    assert sorted(world.shares().values()) == [341, 341, 342]
    assert all(len(owners) == 1 for owners in world.owners())
    pictures = [node.picture for node in world.nodes.values()]
    assert {picture.view for picture in pictures if picture} == {1}


def test_nodes_that_join_one_after_the_other_keep_nobody_from_being_answered() -> None:
    world = FarmWorld(1, 12)
    for name in world.names:
        world.start(name)
        world.run(250)  # Sooner than a view is agreed.
    assert sum(world.shares().values()) > BUCKETS // 3
    assert world.run_until(lambda: world.settled(*world.names), 3_000)


def test_a_farm_beats_in_one_rhythm_and_finds_another_leader() -> None:
    world = farm(5)
    sent: list[tuple[str, int]] = []

    def watch(source: str, _: str, message: Any) -> bool:
        if isinstance(message, FarmBeat):
            sent.append((source, world.now))
        return False

    world.drops = watch
    for leader, others in (("n1", ("n2", "n3", "n4", "n5")), ("n2", ("n3", "n4", "n5"))):
        sent.clear()
        world.run(1_000)
        beats = {name: sorted({at for source, at in sent if source == name}) for name in others}
        led = sorted({at for source, at in sent if source == leader})
        assert len(led) >= 8
        for times in beats.values():
            late = [min(at - led_at for led_at in led if led_at <= at) for at in times[1:]]
            assert max(late) < 5 * MILLISECOND_NS, "they beat when they hear it"
        world.kill(leader)
        world.run(2_000)


def test_no_lease_of_a_large_farm_ends_because_a_node_died() -> None:
    world = FarmWorld(3, 12, LARGE_FARM_TIMING)
    for name in world.names:
        world.start(name)
    assert world.run_until(lambda: world.settled(*world.names), 6_000)
    for dead in ("n12", "n1", "n7"):
        left = [name for name, node in world.nodes.items() if node.core and name != dead]
        world.kill(dead)
        for _ in range(150):
            world.run(10)
            assert all(world.answers(name) for name in left)
        assert world.settled(*left)


def test_a_node_that_is_alone_waits_for_the_others_leases_then_serves() -> None:
    world = FarmWorld(1, 3)
    world.start("n2")
    world.run(500)
    assert reason(world, "n2") == "the filter of an earlier process may still answer clients"
    world.run(700)
    assert world.shares()["n2"] == 0
    assert reason(world, "n2") == "nodes that are not heard may still answer clients"
    assert why_not(world, "n2", "n1") == "it was never heard"
    world.run(1_500)
    assert world.shares()["n2"] == BUCKETS


@pytest.mark.parametrize("count", [2, 3, 16])
def test_a_dead_nodes_clients_are_taken_over_within_a_second(count: int) -> None:
    world = farm(count)
    clients = streams(world, 100)
    died = world.now
    world.kill("n2")
    others = tuple(name for name in world.names if name != "n2")
    assert world.run_until(lambda: world.settled(*others), 2_000)
    assert world.now - died < 900 * MILLISECOND_NS
    assert sum(world.shares().values()) == BUCKETS
    assert all(SOFT not in world.nodes[name].filter.rows[0] for name in others)  # HARD: resets.
    of_dead = [flow for flow, (_, _, at, _) in clients.flows.items() if at == "n2"]
    kept = [flow for flow in clients.flows if flow not in of_dead]
    assert of_dead
    assert {clients.talk(flow) for flow in of_dead} == {"reset"}
    assert {clients.talk(flow) for flow in kept} == {"kept"}


def test_nobody_stops_answering_because_another_node_dies() -> None:
    world = farm(4)
    world.kill("n1")  # The coordinator, too.
    for _ in range(200):
        world.run(10)
        assert all(world.answers(name) for name in ("n2", "n3", "n4"))


def test_a_planned_leave_breaks_no_connection_and_waits_for_none_it_has_not() -> None:
    world = farm(scan_ns=200 * MILLISECOND_NS)
    clients = streams(world, 90)
    world.wish("n3", "drain")
    world.run(300)
    assert world.shares() == {"n1": 512, "n2": 512, "n3": 0}
    assert {clients.talk(flow) for flow in list(clients.flows)} == {"kept"}
    picture = world.nodes["n3"].picture
    mine = [flow for flow, (_, _, at, _) in clients.flows.items() if at == "n3"]
    assert picture is not None
    assert picture.connections == len(mine) > 0
    assert any(SOFT in world.nodes[name].filter.rows[0] for name in ("n1", "n2"))
    for flow in mine:
        clients.end(flow)
    world.run(600)
    assert all(SOFT not in world.nodes[name].filter.rows[0] for name in ("n1", "n2"))
    assert resets(world) == 0
    world.wish("n3", "away")
    world.run(100)
    assert why_not(world, "n1", "n3") == "its module does not take part"
    assert world.settled("n1", "n2")


def test_a_move_leaves_connections_where_they_are_until_they_end() -> None:
    world = farm(scan_ns=100 * MILLISECOND_NS)
    clients = streams(world, 200)
    for power in (3, 0, 1, 5):
        world.power("n2", power)
        world.run(250)
        assert {clients.talk(flow) for flow in list(clients.flows)} == {"kept"}
        total = 2 + power
        assert abs(world.shares()["n2"] - BUCKETS * power // total) <= 1
    assert resets(world) == 0


def test_a_frozen_node_is_silent_before_it_is_replaced_and_joins_again_when_it_wakes() -> None:
    world = farm()
    world.freeze("n1", 3_000)
    world.run(640)
    assert world.shares()["n1"] > 0 or not world.answers("n1")
    world.run(60)
    assert not world.answers("n1")
    world.run(500)
    assert world.settled("n2", "n3")
    world.run(1_850)  # It wakes at 3 s.
    assert world.shares()["n1"] == 0
    assert world.run_until(lambda: world.settled(*world.names), 2_000)
    assert "lease ran out" in "\n".join(world.story)


def test_a_short_stall_changes_nothing() -> None:
    world = farm()
    for _ in range(5):
        world.freeze("n2", 280)
        world.run(1_000)
    assert world.settled(*world.names)
    assert world.nodes["n1"].picture is not None
    assert world.nodes["n1"].picture.view == 1


def test_a_node_that_was_away_itself_does_not_blame_the_others() -> None:
    world = farm()
    world.story.clear()
    world.freeze("n2", 600)
    world.run(1_500)
    blamed = [line for line in world.story if " n2 n" in line and "silent" in line]
    assert not blamed


def test_each_side_of_a_partition_serves_and_healing_needs_no_restart() -> None:
    world = farm(4)
    clients = streams(world, 80)
    world.partition(("n1", "n2"), ("n3", "n4"))
    world.run(1_500)
    assert world.settled("n1", "n2")
    assert world.settled("n3", "n4")
    assert world.shares() == dict.fromkeys(world.names, 512)
    world.heal()
    world.run(2 * 400)  # From now on the monitor allows no second answer.
    assert world.run_until(lambda: world.settled(*world.names), 3_000)
    assert any("which is the stronger" in line for line in world.story)
    assert sorted(world.shares().values()) == [256] * 4
    clients.flow_for(500)


def test_the_stronger_side_serves_on_when_a_partition_ends() -> None:
    world = farm(3)
    world.partition(("n1", "n2"), ("n3",))
    world.run(3_000)
    assert world.shares()["n3"] == BUCKETS
    world.heal()
    for _ in range(100):
        world.run(10)
        assert world.answers("n1")
        assert world.answers("n2")
    assert world.run_until(lambda: world.settled(*world.names), 3_000)


def test_three_way_partition_each_node_alone_serves_what_reaches_it() -> None:
    world = farm(3)
    world.partition(("n1",), ("n2",), ("n3",))
    world.run(900)
    assert "it may be the one that is cut off" in reason(world, "n1")
    world.run(2_500)
    assert world.shares() == dict.fromkeys(world.names, BUCKETS)
    world.heal()
    assert world.run_until(lambda: world.settled(*world.names), 4_000)


def test_who_lost_most_of_the_farm_closes_before_the_others_take_over() -> None:
    """Its own agent may hang: then clients still reach it."""
    world = farm(3)
    for other in ("n1", "n2"):
        world.cut_one_way("n3", other)
        world.cut_one_way(other, "n3")
    cut = world.now
    assert world.run_until(lambda: not world.answers("n3"), 1_000)
    assert world.shares()["n1"] < 512
    assert world.run_until(lambda: world.shares()["n1"] == 512, 1_000)
    assert world.now - cut < SECOND_NS


@pytest.mark.parametrize("milliseconds", [350, 500, 700, 1_000, 1_500])
@pytest.mark.parametrize(("name", "count"), [("n1", 3), ("n3", 3), ("n1", 2), ("n2", 2)])
def test_a_node_whose_agent_hangs_is_never_a_second_one_to_answer(
    name: str, count: int, milliseconds: int
) -> None:
    """Clients still reach it, and what was said meanwhile arrives afterwards, all at once."""
    world = farm(count)
    clients = Clients(world)
    world.hang(name, milliseconds)  # The monitor knows no excuse: no link is cut.
    clients.flow_for(milliseconds + 1_500)
    assert world.run_until(lambda: world.settled(*world.names), 4_000)


def test_the_last_node_says_that_its_agent_hangs_and_serves_again_when_it_does_not() -> None:
    """A node that starts meanwhile could not be told that this one answers everybody."""
    world = farm(2)
    world.kill("n2")
    assert world.run_until(lambda: world.settled("n1"), 3_000)
    world.run(3_000)
    assert world.answers("n1")
    world.hang("n1", 4_000)
    assert world.run_until(lambda: not world.answers("n1"), 700)
    world.start("n2")
    assert world.run_until(lambda: world.shares() == {"n1": 0, "n2": BUCKETS}, 3_000)
    assert reason(world, "n1") == "the agent of this node hands nothing on"
    assert world.run_until(lambda: world.settled("n1", "n2"), 4_000)


@pytest.mark.parametrize("deaf", ["n1", "n2"])
def test_of_two_nodes_the_one_that_is_not_heard_gives_way(deaf: str) -> None:
    world = farm(2)
    other = "n2" if deaf == "n1" else "n1"
    world.cut_one_way(other, deaf)  # `deaf` does not hear; both are reached by clients.
    world.run(3_000)
    assert world.shares() == {deaf: BUCKETS, other: 0}
    assert reason(world, other) == f"{deaf} answers clients and does not hear this node"
    world.heal()
    assert world.run_until(lambda: world.settled("n1", "n2"), 3_000)


def test_with_one_direction_of_one_link_cut_one_node_is_left_out_and_the_rest_serves() -> None:
    world = farm(3)
    world.cut_one_way("n2", "n3")
    world.run(3_000)
    shares = world.shares()
    assert sum(shares.values()) == BUCKETS
    assert sorted(shares.values()) == [0, 512, 512]
    left_out = min(shares, key=lambda name: shares[name])
    assert "hear" in why_not(world, "n1", left_out)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mode": "nft"}, "refused: n3 filters by nft, this node by bpf"),
        ({"seed": 8}, "refused: n3 hashes with seed 8, this node with 7"),
        ({"rules": "x"}, "refused: n3 has other nodes, powers, rules or addresses configured"),
    ],
)
def test_a_node_with_another_configuration_is_refused_with_words(
    changes: dict[str, Any], words: str
) -> None:
    world = FarmWorld(1, 3)
    world.start("n1")
    world.start("n2")
    world.start("n3", **changes)
    world.run(3_000)
    assert world.settled("n1", "n2")
    assert world.shares()["n3"] == 0
    assert why_not(world, "n1", "n3") == words
    assert reason(world, "n3").startswith("refused: n1 ")


def test_a_node_that_comes_and_goes_is_held_back_longer_each_time() -> None:
    world = farm(hold_ns=2 * SECOND_NS)
    took = []
    for _ in range(4):
        world.kill("n3")
        world.run(1_500)
        world.start("n3")
        started = world.now
        assert world.run_until(lambda: world.settled(*world.names), 20_000)
        took.append((world.now - started) // SECOND_NS)
    assert took == [1, 2, 4, 8]


def test_while_it_is_held_back_the_others_say_for_how_long_and_keep_their_buckets() -> None:
    world = farm(hold_ns=5 * SECOND_NS)
    for _ in range(2):
        world.kill("n3")
        world.run(1_500)
        world.start("n3")
        world.run(1_700)
    assert why_not(world, "n1", "n3").startswith("it left 2 times: taken back in 4.")
    assert world.shares() == {"n1": 512, "n2": 512, "n3": 0}


def test_power_zero_takes_no_client_and_strict_priority_passes_on() -> None:
    world = farm()
    world.power("n1", 0)
    world.run(300)
    assert world.shares() == {"n1": 0, "n2": 512, "n3": 512}
    for name, power in (("n1", 4096), ("n2", 64), ("n3", 1)):
        world.power(name, power)
    world.run(500)
    assert world.shares() == {"n1": BUCKETS, "n2": 0, "n3": 0}
    world.kill("n1")
    world.run(1_500)
    assert world.shares() == {"n1": 0, "n2": BUCKETS, "n3": 0}
    world.start("n1")
    world.run(2_500)
    assert world.shares()["n1"] == BUCKETS


def test_each_group_has_its_own_powers() -> None:
    world = FarmWorld(1, 3, groups=2)
    for name, powers in (("n1", (1, 0)), ("n2", (1, 2)), ("n3", (0, 1))):
        world.nodes[name].powers = powers
        world.start(name)
    assert world.run_until(lambda: world.settled(*world.names), 3_000)
    assert world.shares(0) == {"n1": 512, "n2": 512, "n3": 0}
    assert world.shares(1) == {"n1": 0, "n2": 683, "n3": 341}


def test_a_returning_node_finds_its_own_buckets_again() -> None:
    world = farm()
    before = world.owners()
    world.kill("n2")
    world.run(1_500)
    world.start("n2")
    assert world.run_until(lambda: world.settled(*world.names), 3_000)
    assert sum(a != b for a, b in zip(before, world.owners(), strict=True)) <= 3


def test_an_idle_connection_survives_that_its_node_was_excluded_for_a_while() -> None:
    """Its buckets are SOFT at their new owners from the moment that it is back."""
    world = farm()
    clients = streams(world, 60)
    mine = [flow for flow, (_, _, at, _) in clients.flows.items() if at == "n2"]
    world.freeze("n2", 1_500)
    world.run(1_600)
    assert world.run_until(lambda: world.settled(*world.names), 3_000)
    assert {clients.talk(flow) for flow in mine} == {"kept"}


def test_a_new_process_is_mute_until_what_its_predecessor_left_in_the_kernel_is_closed() -> None:
    world = farm()
    world.kill("n2", power=False)
    world.start("n2", wish="away")
    world.run(300)
    assert world.answers("n2")  # Its filter is not at hand before the module starts.
    assert HARD in world.nodes["n2"].filter.rows[0]
    assert world.shares()["n1"] < 512
    world.run(700)
    assert world.shares() == {"n1": 512, "n2": 0, "n3": 512}


def test_loss_of_many_messages_gives_nobody_two_answers() -> None:
    world = farm()
    clients = Clients(world)
    world.network.quality.loss = 100
    world.links_changed()
    clients.flow_for(20_000, every=50)
    world.network.quality.loss = 0
    world.links_changed()
    assert world.run_until(lambda: world.settled(*world.names), 70_000)


def test_two_networks_one_of_them_cut_changes_nothing() -> None:
    world = FarmWorld(1, 2, networks=2)
    for name in world.names:
        world.start(name)
    assert world.run_until(lambda: world.settled("n1", "n2"), 3_000)
    world.network.down.add("second")
    world.run(2_000)
    assert world.settled("n1", "n2")
    picture = world.nodes["n1"].picture
    assert picture is not None
    assert dict(picture.nodes[1].networks) == {"default": "up", "second": "down"}


def test_a_node_that_came_back_keeps_its_connections_although_an_owner_lags_behind() -> None:
    """It may use the new view sooner than the owner of their buckets hears that it is agreed."""
    world = farm()
    clients = streams(world)
    world.kill("n1", power=False)
    assert world.run_until(lambda: world.settled("n2", "n3"), 3_000)
    world.power("n3", 4)  # So that not all of its buckets come back to n1.
    world.run(2_500)  # Until both have counted: neither has connections in a bucket of the other.
    world.meddle(Meddling("ViewCommit", "n2", "n3", count=9, late_ns=200 * MILLISECOND_NS))
    world.start("n1")
    assert world.run_until(lambda: world.answers("n1"), 3_000)
    theirs = [flow for flow, (_, _, name, _) in clients.flows.items() if name == "n1"]
    assert theirs
    assert {clients.talk(flow) for flow in theirs} == {"kept"}
    assert not world.settled(*world.names), "n3 has not heard it yet"
    assert world.run_until(lambda: world.settled(*world.names), 3_000)


def test_timers_that_an_earlier_one_replaced_do_not_multiply(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = farm()
    for power in (3, 1, 5, 2, 3, 1):
        world.power("n2", power)
        world.run(700)
    rang = dict.fromkeys(world.names, 0)
    handle = FarmFilter.handle

    def counted(core: FarmFilter, event: Any, now: int) -> Any:
        rang[core.state.settings.node] += isinstance(event, FarmDue)
        return handle(core, event, now)

    monkeypatch.setattr(FarmFilter, "handle", counted)
    world.run(3_000)
    assert all(25 <= count <= 35 for count in rang.values()), rang
