"""The page of the simulator lists every fault that there is, and no other."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from mirrorfarm.sim import farm_faults, faults, swarm, sweep
from mirrorfarm.sim.acts.vocabulary import FARM, MIRROR
from mirrorfarm.sim.chances import kept
from mirrorfarm.sim.swarm import Swarm

PAGE = Path(__file__).parents[2] / "docs" / "simulation.md"


def columns() -> tuple[set[str], set[str]]:
    """Return the names in the columns of a mirror and of a farm."""
    table = PAGE.read_text(encoding="utf-8").partition("| What goes wrong |")[2]
    rows = [row.split(" | ") for row in table.partition("\n\n")[0].splitlines() if "`" in row]
    mirror, farm = (set(re.findall(r"`(\w+)`", " ".join(row[n] for row in rows))) for n in (1, 2))
    return mirror, farm


def test_the_table_names_each_kind_of_fault_that_a_run_may_draw() -> None:
    mirror, farm = columns()
    assert set(faults.FAULTS) <= mirror
    assert set(farm_faults.FAULTS) <= farm


def test_every_name_in_the_table_is_a_fault_of_the_simulator() -> None:
    mirror, farm = columns()
    assert mirror <= set(faults.FAULTS) | set(MIRROR.acts)
    assert farm <= set(farm_faults.FAULTS) | set(FARM.acts)


def test_a_run_keeps_a_fault_or_not_whichever_others_there_are() -> None:
    names = tuple(faults.FAULTS)
    for seed in range(20):
        some = kept(seed, names)
        assert kept(seed, (*names[::2], "another")) == tuple(
            name for name in (*names[::2], "another") if name in (*some, *kept(seed, ("another",)))
        )
    often = sum(len(kept(seed, names)) for seed in range(200)) / 200 / len(names)
    assert 0.45 < often < 0.55


def test_faults_that_wait_for_a_phase_leave_the_others_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = replace(swarm.dense(5), faults=tuple(faults.FAULTS))
    usual = tuple(name for name in faults.FAULTS if name not in faults.IN_PHASE)
    all_of_them = drawn(plan, monkeypatch)
    others = [one for one in all_of_them if one[1] in usual]
    assert drawn(replace(plan, faults=usual), monkeypatch) == others
    assert len(all_of_them) > len(others) > 10


def test_several_modules_have_the_faults_that_a_single_one_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = drawn(swarm.dense(5), monkeypatch)
    assert drawn(swarm.dense(5, modules=3), monkeypatch) == alone


def drawn(plan: Swarm, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """Return when a run does which kinds of faults; nobody runs there, and nothing is done."""
    world, found = sweep.build(plan), list[tuple[int, str]]()
    with monkeypatch.context() as patched:
        patched.setattr(faults, "inject", lambda _, name, *__: found.append((world.now, name)))
        sweep.trouble(world, plan)
    return found
