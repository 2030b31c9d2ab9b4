"""A farm with a slow start: who joins is spared, whoever it is and whoever leads then."""

import pytest

from mirrorfarm.limits import SECOND_NS
from mirrorfarm.modules.settings import FarmTiming
from mirrorfarm.sim.farm import FarmWorld
from tests.sim.test_farm_stories import farm, resets

SLOW = {"slow_start_ns": 3 * SECOND_NS, "slow_start_steps": 4}


def shares_of(world: FarmWorld, node: str, milliseconds: int = 6_000) -> list[int]:
    """Return the different shares of a node while time passes."""
    seen = [world.shares()[node]]
    for _ in range(milliseconds // 100):
        world.run(100)
        if world.shares()[node] != seen[-1]:
            seen.append(world.shares()[node])
    return seen


@pytest.mark.parametrize("node", ["n1", "n2", "n3"])  # The first node leads as soon as it is in.
def test_a_joiner_starts_slowly(node: str) -> None:
    world = farm(**SLOW)
    world.kill(node)
    world.run(5_000)
    world.start(node)
    assert shares_of(world, node) in ([0, 114, 205, 279, 341], [0, 114, 205, 279, 342])
    assert resets(world) == 0


def test_the_second_node_starts_slowly_while_the_first_one_is_away() -> None:
    world = farm(**SLOW)
    world.kill("n1")
    world.run(1_500)
    world.kill("n2")
    world.run(5_000)
    world.start("n2")
    assert shares_of(world, "n2") == [0, 205, 341, 439, 512]


def test_a_leader_that_was_left_out_and_is_taken_back_starts_slowly() -> None:
    world = farm(**SLOW)
    world.run(3_000)
    world.freeze("n1", 1_500)
    world.run(1_000)
    assert world.shares()["n1"] == 0
    assert shares_of(world, "n1") in ([0, 114, 205, 279, 341], [0, 114, 205, 279, 342])


def test_a_node_that_still_starts_slowly_goes_on_so_when_another_joins_and_leads() -> None:
    world = farm(**SLOW)
    world.kill("n1")
    world.run(1_500)
    world.kill("n3")
    world.run(5_000)
    world.start("n3")
    assert world.run_until(lambda: world.shares()["n3"] == 341, 4_000)
    world.start("n1")  # When it is in, n3 is at the third of four steps.
    assert shares_of(world, "n1") == [0, 128, 205, 279, 341]
    assert sorted(world.shares().values()) == [341, 341, 342]


def test_a_farm_that_starts_as_a_whole_spares_nobody_nor_who_is_a_little_late() -> None:
    world = FarmWorld(1, 3, FarmTiming(slow_start_ns=30 * SECOND_NS, slow_start_steps=16))
    world.start("n2")
    world.start("n3")
    assert world.run_until(lambda: world.settled("n2", "n3"), 3_000)
    assert world.shares() == {"n1": 0, "n2": 512, "n3": 512}
    world.start("n1")
    assert shares_of(world, "n1", 40_000) == [0, 341]
