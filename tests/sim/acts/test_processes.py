"""Faults of machines and processes do what they say."""

from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.acts.act import perform
from mirrorfarm.sim.acts.processes import Pause, PauseModule, Reconfigured, StandStill, Suspend
from mirrorfarm.sim.sweep import calm, heal
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


def test_the_guard_of_a_suspended_machine_acts_when_that_goes_on() -> None:
    world = pair()
    perform(world, Suspend("n1", 2 * SECOND_NS))
    perform(world, Suspend("n1", SECOND_NS))  # It does not end the longer one.
    world.run(1_900)
    assert world.role("n2") == "ALONE Ready"
    assert world.nodes["n1"].application
    world.run(110)
    assert not world.nodes["n1"].application
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


def test_a_node_that_comes_back_with_shorter_clocks_may_get_back_the_longer_ones() -> None:
    world = pair()
    for shorter in (True, False):
        perform(world, Reconfigured("n2", True, "manual", for_ns=SECOND_NS // 2, shorter=shorter))
        assert world.run_until(lambda: world.role("n2") == "SECOND Ready", 5_000)
        timing = world.nodes["n2"].machine.state.module.timing
        assert (timing.lease_ns < world.timing.lease_ns) is shorter
    calm(world)


def test_each_process_stands_only_for_as_long_as_it_was_paused() -> None:
    world = pair(modules=2)
    perform(world, PauseModule("n1", 3 * SECOND_NS))
    perform(world, PauseModule("n1", SECOND_NS, module="app2"))
    perform(world, Pause("n1", SECOND_NS // 5))
    seen = []
    for milliseconds in (100, 400, 1_000, 2_000):
        world.run(milliseconds)
        processes = world.hosts["n1"].processes.values()
        seen.append({one.name for one in processes if one.paused})
    assert seen == [{"app", "app.replica", "app2", "app2.replica"}, {"app", "app2"}, {"app"}, set()]


def test_pauses_end_with_all_other_faults() -> None:
    world = pair()
    perform(world, Pause("n2", 3_600 * SECOND_NS))
    perform(world, PauseModule("n1", 3_600 * SECOND_NS))
    world.run(1_000)
    heal(world)
    world.run(100)
    running = [one for host in world.hosts.values() for one in host.processes.values()]
    assert not any(one.paused for one in running)
    calm(world)


def test_machines_that_stand_still_are_waited_for() -> None:
    world = pair()
    perform(world, Suspend("n2", 90 * SECOND_NS))
    perform(world, StandStill("n1", 100 * SECOND_NS))
    ends_ns = world.now + 100 * SECOND_NS
    world.run(1_000)
    calm(world)
    assert world.now > ends_ns
