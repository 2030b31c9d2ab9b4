"""Faults of machines and processes do what they say."""

from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.acts.act import perform
from mirrorfarm.sim.acts.processes import Reconfigured, StandStill
from tests.sim.acts.clusters import pair


def test_a_machine_that_stood_still_does_not_know_that_time_has_passed() -> None:
    world = pair()
    clocks = world.hosts["n1"].clocks
    before = clocks.boot(world.now)
    perform(world, StandStill("n1", 2 * SECOND_NS))
    world.run(1_900)
    assert world.role("n2") == "ALONE Ready"
    assert world.nodes["n1"].application  # Nothing ended it, and nothing is told against it:
    assert world.watch.excused
    world.run(100)
    assert abs(clocks.boot(world.now) - before) < 1_000
    assert world.run_until(lambda: not world.nodes["n1"].application, 1_000)
    assert world.run_until(lambda: world.role("n1") == "SECOND Ready", 5_000)


def test_a_node_comes_back_with_another_configuration_than_its_peer() -> None:
    world = pair()
    perform(world, Reconfigured("n2", failover=False, divergence="manual", for_ns=SECOND_NS // 2))
    assert not world.nodes["n2"].up
    assert world.run_until(lambda: world.role("n2") == "SECOND Ready", 5_000)
    assert not world.fails_over
    world.kill("n1")
    world.run(3_000)
    assert world.role("n2") == "WAIT NotReady"
    assert "failover is off" in world.reason("n2")
