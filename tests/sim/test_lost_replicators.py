"""A secondary that lost its replicator says so for as long as nobody can resynchronise it."""

import pytest

from mirrorfarm.actors.module.mirror.describe import explanation
from mirrorfarm.sim.pair import MirrorNode
from mirrorfarm.sim.witness import WITNESS
from mirrorfarm.sim.world import World
from tests.sim.acts.clusters import pair


def never_again(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """End the replicator of a node; no other one comes to run, as without FUSE."""
    node = world.nodes[name]
    start = type(node).start_replica

    def start_others(one: MirrorNode) -> None:
        if one is not node:
            start(one)

    monkeypatch.setattr(type(node), "start_replica", start_others)
    world.kill_plane(name)


@pytest.mark.parametrize("later_ms", [0, 37, 450])
def test_a_primary_whose_replicator_never_comes_back_gives_way_to_its_secondary(
    later_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = pair()
    world.run(later_ms)
    never_again(world, "n1", monkeypatch)
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 20_000)
    assert world.role("n1") == "WAIT Transient"
    assert "its replicator has not said yet" in world.reason("n1")
    monkeypatch.undo()
    world.nodes["n1"].start_replica()
    assert world.run_until(lambda: world.role("n1") == "SECOND Ready", 20_000)


@pytest.mark.parametrize("later_ms", [0, 2, 4])
def test_who_takes_the_role_and_gets_no_replicator_leaves_it_to_its_peer(
    later_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = pair()
    for name in ("n1", "n2"):
        world.kill(name)
    world.run(3_000)
    for name in ("n1", "n2"):
        world.start(name, again=True)
    assert world.run_until(lambda: world.role("n1").startswith("WAIT"), 5_000)
    world.run(later_ms)
    never_again(world, "n1", monkeypatch)
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 40_000)
    assert world.role("n1") == "WAIT Transient"
    assert "its replicator has not said yet" in world.reason("n1")
    monkeypatch.undo()
    world.nodes["n1"].start_replica()
    assert world.run_until(lambda: world.role("n1") == "SECOND Ready", 20_000)


def test_a_second_whose_replicator_died_says_so_while_the_arbiter_is_away() -> None:
    world = pair()
    for name in ("n1", "n2"):
        world.set_link(name, WITNESS, up=False)
    world.kill_plane("n2")
    world.run(2_000)
    assert world.role("n2") == "SECOND Transient"
    reason, would_change, _ = explanation(world.nodes["n2"].machine.state)
    assert reason == "the replicator died: what was under way may not be on this node's disk"
    assert would_change.startswith("n1 offers a resynchronisation, once the arbiter")
    for name in ("n1", "n2"):
        world.set_link(name, WITNESS, up=True)
    assert world.run_until(lambda: world.role("n2") == "SECOND Ready", 5_000)
    assert explanation(world.nodes["n2"].machine.state) == ("", "", "")
