"""Faults that wait for a phase do what they say, when it is entered and never before."""

import pytest

from mirrorfarm.actors import events as ev
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.sim.acts.act import perform
from mirrorfarm.sim.acts.people import Command
from mirrorfarm.sim.acts.phases import (
    CommandInPhase,
    CrashInPhase,
    FailureInPhase,
    FarmCommandInPhase,
    FarmCrashInPhase,
    FarmLateInPhase,
    LateInPhase,
)
from mirrorfarm.sim.coverage.collector import Collector, watching
from mirrorfarm.sim.monitors.seen import Fault
from mirrorfarm.sim.world import World
from tests.sim.acts.clusters import farm, pair


def told(world: World) -> list[str]:
    """Return the faults that monitors have heard of, without those that wait."""
    kinds = [step.event.kind for step in world.watch.recent if isinstance(step.event, Fault)]
    return [kind for kind in kinds if not kind.endswith("_in_phase")]


def test_an_order_comes_when_its_phase_is_entered() -> None:
    world, seen = pair(), Collector()
    with watching(seen):
        perform(world, CommandInPhase("stop", "n1", "restarting"))
        world.run(300)
        assert world.role("n1") == "PRIM Ready"
        assert not told(world)
        perform(world, Command("restart", "n1"))
        assert world.run_until(lambda: world.role("n1") == "STOP NotReady", 3_000)
    assert seen.cells["mirror", "restarting", "Command stop"] == 1
    assert told(world) == ["command", "command"]
    assert not world.phases.waiting


def test_an_order_that_is_refused_in_its_phase_is_there_before_the_next_one() -> None:
    world, seen = pair(), Collector()
    with watching(seen):
        perform(world, CommandInPhase("primforce", "n1", "stopping"))
        perform(world, Command("stop", "n1"))
        world.run(2_000)
    assert seen.cells["mirror", "stopping", "Command primforce"] == 1
    assert world.role("n1") == "STOP NotReady"
    assert world.monitors.register is not None  # It gave nothing up.


def test_a_module_crashes_in_the_midst_of_the_step_that_enters_its_phase() -> None:
    world, seen = pair(), Collector()
    process = world.hosts["n1"].processes["app"]
    with watching(seen):
        perform(world, CrashInPhase("n1", "leaving", "crash", effects=1))
        perform(world, Command("swap", "n1"))
        assert world.run_until(lambda: not process.alive, 1_000)
        world.run(5)
    assert not any(state == "leaving" for _, state, _ in seen.cells)  # That step was its last one.
    assert told(world) == ["command", "crash"]


@pytest.mark.parametrize("how", ["power", "processes"])
def test_a_node_ends_in_its_phase_and_comes_back(how: str) -> None:
    world = pair()
    perform(world, CrashInPhase("n1", "stopping", how, MILLISECOND_NS, for_ns=SECOND_NS // 2))
    perform(world, Command("stop", "n1"))
    assert world.run_until(lambda: world.role("n1") == "down", 2_000, 1)
    assert world.run_until(lambda: world.role("n1") != "down", 1_000)


def test_a_record_cannot_be_written_when_its_node_enters_a_phase() -> None:
    world, seen = pair(), Collector()
    with watching(seen):
        perform(world, FailureInPhase("n2", "taking", "record"))
        world.kill("n1")
        world.run(2_000)
    assert seen.cells["mirror", "taking", ev.StoreFailed]


def test_a_message_of_the_past_arrives_in_its_phase() -> None:
    world, seen = pair(), Collector()
    with watching(seen):
        perform(world, LateInPhase("Leave", ("n2", "n1"), "leaving"))
        perform(world, Command("stop", "n2"))
        world.run(1_000)
        assert world.role("n1") == "ALONE Ready"
        perform(world, Command("stop", "n1"))
        world.run(1_000)
    leaves = {state: count for (_, state, kind), count in seen.cells.items() if named(kind)}
    assert leaves == {"leaving": 1}


def named(kind: object) -> bool:
    """Return whether cells of this kind are about Leave."""
    return getattr(kind, "__name__", "") == "Leave"


def test_a_message_whose_phase_never_comes_arrives_all_the_same() -> None:
    world, seen = pair(), Collector()
    with watching(seen):
        perform(world, LateInPhase("Leave", ("n2", "n1"), "demoting", within_ns=SECOND_NS))
        perform(world, Command("stop", "n2"))
        world.run(990)
        assert not any(named(kind) for _, _, kind in seen.cells)
        world.run(20)
        assert any(named(kind) for _, _, kind in seen.cells)


def test_nothing_waits_once_everything_was_mended() -> None:
    world = pair()
    perform(world, CrashInPhase("n1", "restarting", "power"))
    world.mend_network()
    assert not world.phases.waiting
    perform(world, Command("restart", "n1"))
    world.run(2_000)
    assert world.role("n1") == "PRIM Ready"


def test_an_order_reaches_a_node_of_a_farm_that_drains() -> None:
    world, seen = farm(machines=True), Collector()
    with watching(seen):
        perform(world, FarmCommandInPhase("start", "n2", "falling"))
        world.command("n2", "stop")
        world.run(8_000)
    assert seen.cells["farm", "falling", "Command start"] == 1


def test_a_node_of_a_farm_loses_its_power_once_it_has_promised() -> None:
    world = farm()
    perform(world, FarmCrashInPhase("n1", "promised", "power"))
    world.kill("n3")
    assert world.run_until(lambda: world.nodes["n1"].process is None, 3_000)
    assert world.run_until(lambda: world.settled("n2"), 12_000)


def test_a_proposal_of_the_past_reaches_a_node_that_is_away() -> None:
    world, seen = farm(), Collector()
    with watching(seen):
        perform(world, FarmLateInPhase("ViewProposal", ("n1", "n2"), "away", 3))
        world.kill("n3")
        world.run(2_000)
        world.wish("n2", "away")
        world.run(2_000)
    assert any(
        state == "away" and getattr(kind, "__name__", "") == "ViewProposal"
        for _, state, kind in seen.cells
    )
