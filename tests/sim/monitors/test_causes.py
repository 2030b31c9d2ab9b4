"""A violation is told by what led to it, in words, on one clock, and by nothing else."""

import pytest

from mirrorfarm.actors.module.mirror import leading
from mirrorfarm.modules.settings import PROFILES
from mirrorfarm.sim import farm_sweep, running, sweep
from mirrorfarm.sim.farm import FarmWorld
from mirrorfarm.sim.monitors.watch import STEPS_KEPT
from mirrorfarm.sim.plans import plan_of
from mirrorfarm.sim.scenario.playing import play
from mirrorfarm.sim.scenario.reading import read
from mirrorfarm.sim.world import World

CLOCKS_APART = b"""
mirror: {profile: fast, apart: yes}
events:
  - {at: 0 s, write: 5}
  - {at: 1 s, power: n2}
  - {at: 1010 ms, write: 2}
end: 3 s
"""


def goes_on_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Break R2: who lost its peer acknowledges alone, whatever the register says."""
    honest = leading.gate_of
    monkeypatch.setattr(leading, "gate_of", lambda s: "self" if s.leading.lost else honest(s))


def test_a_story_goes_from_the_fault_to_the_step_that_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    goes_on_alone(monkeypatch)
    outcome = play(read(CLOCKS_APART, "apart.yaml"))
    assert outcome.invariant == "S6"
    *story, last = outcome.story
    assert len(story) < 8, story
    assert "n2 had a fault: power: n2" in story[0] or "n2 lost its power" in story[0]
    assert "n1 had heard nothing from its peer" in story[1]
    assert "n2 ended without a word" in story[1]
    assert "'self'" in last
    times = [float(line.split()[0]) for line in outcome.story]
    assert times == sorted(times)
    assert times[0] == 1.0, "as in the scenario"
    assert times[-1] - times[0] < 1, "whatever the clocks of the nodes show"
    assert [step.node for step in outcome.chain][-1] == "n1"


def test_a_story_crosses_nodes_by_the_messages_between_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    goes_on_alone(monkeypatch)
    played = running.play(plan_of("mirror", 0), keeps=STEPS_KEPT)
    assert played.violation is not None
    nodes = {line.split()[1].partition("'")[0] for line in played.violation.story}
    assert {"n1", "n2"} <= nodes
    assert not any("Heartbeat(" in line for line in played.violation.story)


def test_who_does_not_converge_gives_its_reasons() -> None:
    world = World(1, PROFILES["fast"], monitors=())
    sweep.first_start(world)
    world.restart_witness()
    world.kill("n2")
    world.run(2_000)
    violation = sweep.unsettled(world, "not in service")
    assert str(violation).startswith("L4: not in service: n1 is ALONE Ready, because: ")
    assert any("n1 is out of" in line or line.startswith("n1: ") for line in violation.story)
    assert violation.story[-1] == "n2 is down"


def test_a_farm_that_does_not_converge_gives_its_reasons() -> None:
    world = FarmWorld(1, 2)
    world.start("n1")
    world.run(100)
    told = farm_sweep.reasons(world)
    assert told[0].startswith("n1 uses view 0, because: ")
    assert told[-1] == "n2 is off, or has said nothing yet"
