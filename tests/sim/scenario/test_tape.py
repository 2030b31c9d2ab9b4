"""The tape of a seed goes as the seed went, turn by turn."""

import pytest

from mirrorfarm.sim import farm_sweep, swarm, sweep
from mirrorfarm.sim.acts.people import Write
from mirrorfarm.sim.scenario.playing import play
from mirrorfarm.sim.scenario.reading import read
from mirrorfarm.sim.scenario.tape import record
from mirrorfarm.sim.scenario.writing import write


@pytest.mark.parametrize(("seed", "modules"), [*((seed, 1) for seed in range(5)), (5, 2)])
def test_a_mirror_goes_from_its_tape_as_it_went_from_its_seed(seed: int, modules: int) -> None:
    plan = swarm.dense(seed, modules=modules)
    tape, violation = record(plan)
    assert not violation
    assert len(tape.events) > 20
    faults = [event.act for event in tape.events if not isinstance(event.act, Write)]
    assert len({getattr(act, "module", "") for act in faults}) == modules, "each has some"
    outcome = play(read(write(tape).encode(), "f"), tells=False)
    assert outcome.turns == sweep.run(plan, story=False).turns


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_so_does_a_farm(seed: int) -> None:
    plan = farm_sweep.dense(seed, lossy=bool(seed % 2))
    tape, violation = record(plan)
    assert not violation
    world = farm_sweep.build(plan)
    farm_sweep.play_out(world, plan)
    assert play(read(write(tape).encode(), "f"), tells=False).turns == world.turns


def test_a_plan_can_be_played_again_and_again() -> None:
    """Faults change the quality of the world's network, never that of the plan."""
    bad = next(
        plan
        for plan in map(swarm.dense, range(100))
        if {"loss", "late", "repeat", "corrupt"} <= set(plan.faults)
    )
    before = repr(bad)
    assert record(bad) == record(bad)
    assert repr(bad) == before


def test_what_a_seed_draws_can_all_be_written() -> None:
    for seed in range(12):
        plan = swarm.draw(seed, 0)
        tape, _ = record(sweep_short(plan))
        assert read(write(tape).encode(), "f") == tape


def sweep_short(plan: swarm.Swarm) -> swarm.Swarm:
    from dataclasses import replace  # noqa: PLC0415

    return replace(plan, profile="fast", minutes=0, interval_ms=20, write_ms=500)
