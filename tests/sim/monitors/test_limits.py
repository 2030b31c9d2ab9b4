"""L8: what piles up in a simulated cluster is noticed, whoever piles it up."""

import pytest

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.modules.settings import PROFILES
from mirrorfarm.sim import sweep
from mirrorfarm.sim.depths import longest
from mirrorfarm.sim.farm import FarmWorld
from mirrorfarm.sim.host import Call
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.monitors.limits import TIMERS_MAX, Limits
from mirrorfarm.sim.monitors.watch import Watch
from mirrorfarm.sim.steps import Step
from mirrorfarm.sim.world import MODULE, World


def in_service() -> World:
    world = World(1, PROFILES["fast"])
    sweep.first_start(world)
    return world


def test_an_inbox_that_is_filled_faster_than_it_is_emptied_is_seen() -> None:
    world = in_service()
    process = world.nodes["n2"].host.processes[MODULE]
    process.slow_ns = 10_000_000_000
    for _ in range(1_500):
        process.due(process.actors["checker"], ev.ProcessesSeen(1, 1, 1))
    with pytest.raises(Violation, match=r"L8: an inbox of n2 holds 1[45]"):
        world.run(2_000)


def test_what_waits_for_a_slow_replicator_is_the_connections_affair() -> None:
    world = in_service()
    process = world.nodes["n2"].host.processes[f"{MODULE}.replica"]
    process.slow_ns = 10_000_000_000
    for _ in range(1_500):
        process.due(process.actors["plane"], Call(lambda: None))
    world.run(2_000)


def test_what_waits_for_a_process_that_stands_still_is_the_sockets_affair() -> None:
    world = in_service()
    process = world.nodes["n2"].host.processes[MODULE]
    process.pause()
    for _ in range(1_500):
        process.due(process.actors["checker"], ev.ProcessesSeen(1, 1, 1))
    world.run(2_000)


def test_a_core_that_remembers_everything_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    world = in_service()
    pending = world.nodes["n1"].machine.state.pending
    monkeypatch.setattr("mirrorfarm.sim.monitors.limits.HELD_MAX", len(pending) + 40)
    monkeypatch.setattr("mirrorfarm.sim.depths.LOOK_NS", 1_000_000)
    monkeypatch.setattr("mirrorfarm.sim.depths.TURNS", 1)
    assert longest(world.nodes["n1"].machine) <= 64
    world.nodes["n1"].machine.state.answered.update({str(n): ("", "") for n in range(500)})
    with pytest.raises(Violation, match="L8: a core of n1 holds 5"):
        world.run_until(lambda: False, 500, 1)


def test_the_queues_of_a_farm_are_looked_at_too() -> None:
    world = FarmWorld(1, 2)
    world.start("n1")
    process = world.nodes["n1"].process
    assert process is not None
    process.slow_ns = 10_000_000_000
    for _ in range(1_500):
        process.due(process.actors["farm_filter"], ev.FarmPower(1))
    with pytest.raises(Violation, match="L8: an inbox of n1"):
        world.run(2_000)


def test_the_timers_of_processes_that_are_gone_do_not_count() -> None:
    """Their clock may have been ahead of that of the next one: a machine that stood still."""
    watch = Watch([Limits], strict=True)
    later = [fx.Later(SECOND_NS, ev.Started())]
    for _ in range(TIMERS_MAX + 1):
        watch.step(Step("n2", MODULE, "heartbeat", 0, ev.Started(), later))
    with pytest.raises(Violation, match="L8: heartbeat of n2 has 65 timers"):
        watch.step(Step("n2", MODULE, "heartbeat", 0, ev.ArbiterTick(), TIMERS_MAX * later))
