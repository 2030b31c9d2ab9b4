"""Each node has the clocks of its own configuration: while those are changed, they differ."""

import msgspec
import pytest

from mirrorfarm.limits import SECOND_NS
from mirrorfarm.modules.clocks import timing_faults
from mirrorfarm.modules.settings import PROFILES
from mirrorfarm.sim import swarm
from mirrorfarm.sim.sweep import one_by_one, play
from mirrorfarm.sim.witness import WITNESS
from mirrorfarm.sim.world import NODES, World
from tests.sim.acts.clusters import pair


def gets_lease(world: World, name: str, lease_ns: int) -> None:
    """End the processes of a node, and start them with another lease."""
    node = world.nodes[name]
    world.kill(name, power=False)
    timing = msgspec.structs.replace(node.module.timing, lease_ns=lease_ns)
    node.module = msgspec.structs.replace(node.module, timing=timing)
    world.start(name, again=True)


def in_service(world: World) -> bool:
    return {world.role("n1"), world.role("n2")} == {"PRIM Ready", "SECOND Ready"}


def long_leases(*names: str) -> World:
    """Return a mirror in which some nodes have a lease of 4 s, and which n1 leads by promises."""
    world = pair()
    for name in names:
        gets_lease(world, name, 4 * SECOND_NS)
        world.run(1_000)
        assert world.run_until(lambda: in_service(world), 30_000)
    if world.role("n2") == "PRIM Ready":
        world.command("n2", "swap")
    assert world.run_until(lambda: world.role("n1") == "PRIM Ready", 20_000)
    world.set_link("n1", WITNESS, up=False)
    world.run(6_000)
    assert world.role("n1") == "PRIM Ready"
    return world


def test_a_primary_counts_a_promise_for_as_long_as_who_gave_it_keeps_it() -> None:
    world = long_leases("n1")
    world.set_link("n1", "n2", up=False)
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 10_000)
    assert world.role("n1").startswith("WAIT")


def test_a_process_with_a_shorter_lease_keeps_what_the_one_before_promised() -> None:
    world = long_leases("n1", "n2")
    gets_lease(world, "n2", 400_000_000)
    world.set_link("n1", "n2", up=False)
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 10_000)
    assert world.role("n1").startswith("WAIT")


def test_a_promise_that_is_over_is_not_kept_by_every_later_process() -> None:
    world = pair()
    gets_lease(world, "n2", 4 * SECOND_NS)
    assert world.run_until(lambda: world.role("n2") == "SECOND Ready", 20_000)
    gets_lease(world, "n2", 400_000_000)
    world.run(6_000)
    assert world.role("n2") == "SECOND Ready"
    gets_lease(world, "n2", 400_000_000)
    assert world.run_until(lambda: world.role("n2") == "SECOND Ready", 3_000)
    world.kill("n1")
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 2_000)


@pytest.mark.parametrize("profile", PROFILES)
def test_shorter_clocks_are_such_as_a_configuration_may_have(profile: str) -> None:
    longer = PROFILES[profile]
    world = World(1, longer, shorter="n2")
    timing = world.nodes["n2"].module.timing
    assert world.nodes["n1"].module.timing == longer
    assert timing.lease_ns < longer.lease_ns
    assert not timing_faults(timing)


@pytest.mark.parametrize("name", NODES)
def test_nodes_with_unlike_clocks_keep_all_bounds(name: str) -> None:
    one_by_one(pair(shorter=name))
    for seed in range(8):
        play(seed, shorter=name)


def test_some_runs_have_unlike_clocks() -> None:
    drawn = [dict(swarm.draw(seed).world)["shorter"] for seed in range(400)]
    assert 20 < len(drawn) - drawn.count("none") < 80
    assert set(drawn) == {"none", *NODES}
