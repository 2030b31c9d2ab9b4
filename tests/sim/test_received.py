"""`async="second"`: confirmed when received. What a secondary that lost its memory may not do."""

import pytest

from mirrorfarm.limits import SECOND_NS
from mirrorfarm.modules.settings import PROFILES
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.storage import Latency
from mirrorfarm.sim.sweep import play
from mirrorfarm.sim.world import World
from tests.sim.test_stories import write

FROM_MEMORY = "this node crashed while it acknowledged from memory: it may lack the last writes"


def pair(seed: int = 1) -> World:
    """Return a cluster in which n1 is PRIM and n2 SECOND, whose disk is in no hurry."""
    world = World(seed, PROFILES["fast"], ack_mode="received")
    for name in ("n1", "n2"):
        world.start(name)
        world.nodes[name].disk.lazy = True
        world.nodes[name].flushes = Latency(0, minimum_ns=3 * SECOND_NS)
    world.run(100)
    world.command("n1", "prim")
    assert world.run_until(lambda: world.role("n1") == "ALONE Ready", 5_000)
    world.command("n2", "start")
    assert world.run_until(lambda: world.role("n2") == "SECOND Ready", 5_000)
    assert world.run_until(lambda: world.role("n1") == "PRIM Ready", 5_000)
    return world


def test_a_write_is_told_before_the_second_has_flushed_it() -> None:
    world = pair()
    done = write(world)
    assert len(done) == 5
    assert world.nodes["n2"].disk.volatile == set(done)


def test_a_second_whose_processes_died_still_counts_as_in_sync() -> None:
    world = pair()
    done = write(world)
    world.kill("n1", power=False)
    world.kill("n2", power=False)
    world.run(100)
    world.start("n2", again=True)
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 5_000)
    assert set(done) <= world.nodes["n2"].disk.data


def test_a_second_whose_kernel_died_waits_with_the_reason_until_its_prim_returns() -> None:
    world = pair()
    done = write(world)
    world.kill("n1")
    world.kill("n2")
    world.run(100)
    world.start("n2", again=True)
    world.run(5_000)
    assert world.role("n2") == "WAIT NotReady"
    assert world.reason("n2") == FROM_MEMORY
    for verb in ("stop", "start"):  # That does not make it forget what it is waiting for.
        world.command("n2", verb)
        world.run(3_000)
    assert world.reason("n2") == FROM_MEMORY
    world.start("n1", again=True)
    assert world.run_until(lambda: world.role("n1") == "PRIM Ready", 10_000)
    assert world.run_until(lambda: world.role("n2") == "SECOND Ready", 10_000)
    assert set(done) <= world.nodes["n2"].disk.data


def test_power_that_fails_during_the_take_over_is_not_mistaken_for_a_primary_s_crash() -> None:
    """The record says `prim` already, but what was confirmed before is in memory only."""
    world = pair()
    done = write(world)
    world.kill("n1")
    node = world.nodes["n2"]
    node.store_crashes = "after"
    assert world.run_until(lambda: not node.up, 5_000)
    assert node.record is not None
    assert node.record.was == "prim"
    assert not set(done) & node.disk.data
    world.start("n2", again=True)
    world.run(5_000)
    assert world.reason("n2") == FROM_MEMORY


@pytest.mark.parametrize("verb", ["swap", "stop"])
def test_a_planned_exchange_has_the_second_flush_before_it_gets_the_role(verb: str) -> None:
    world = pair()
    done = write(world)
    world.command("n1", verb)
    register = world.monitors.register
    assert register is not None
    assert world.run_until(
        lambda: world.monitors.register is not None and world.monitors.register.holder == "n2",
        10_000,
    )
    assert not world.nodes["n2"].disk.volatile
    world.kill("n2")
    world.run(100)
    world.start("n2", again=True)
    world.run(1_000)
    assert set(done) <= world.nodes["n2"].disk.data


def test_whoever_is_left_with_the_only_copy_that_counts_is_told_what_to_do() -> None:
    world = pair()
    world.command("n1", "stop")
    world.run_until(lambda: world.role("n2") == "ALONE Ready", 10_000)
    node = world.nodes["n2"]
    assert node.record is not None
    assert not node.record.from_memory, "whoever leads has flushed"


@pytest.mark.parametrize("first", range(0, 40, 20))
def test_nothing_is_lost_silently_whatever_fails(first: int) -> None:
    for seed in range(first, first + 20):
        try:
            play(seed, ack_mode="received")
        except Violation as violation:
            pytest.fail(f"seed {seed}: {violation}")
