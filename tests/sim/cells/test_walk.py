"""A sample of the walk through the cells; `make cells` is all of it."""

from itertools import islice
from pathlib import Path

import pytest
from click.testing import CliRunner

from mirrorfarm.actors.module.mirror import demotion
from mirrorfarm.sim.cells import farm, mirror
from mirrorfarm.sim.cells.__main__ import main as walk
from mirrorfarm.sim.cells.walk import attempt, cases
from mirrorfarm.sim.coverage.__main__ import main as coverage
from mirrorfarm.sim.coverage.collector import Collector
from mirrorfarm.sim.sweeps.results import Appender, Header

GROUNDS = {"mirror": mirror.GROUND, "farm": farm.GROUND}
# What a cluster is given anyway.
BY_ITSELF = {"Started", "Tick", "PeerHeard"}
# Every so many cases: primes, so that the sample has other events in each phase.
STRIDES = {"mirror": 173, "farm": 67}


@pytest.mark.parametrize("name", GROUNDS)
def test_whatever_is_given_in_any_phase_all_serve_afterwards(name: str) -> None:
    collector, sample = Collector(), islice(cases(GROUNDS[name], [0]), 0, None, STRIDES[name])
    tried = [attempt(case, collector) for case in sample]
    assert [f"{one.case}: {one.fault}" for one in tried if one.fault] == []
    assert sum(one.given for one in tried) > len(tried) // 2
    assert len({one.case.way.phase for one in tried}) > len(GROUNDS[name].machine.states) // 2


@pytest.mark.parametrize("name", GROUNDS)
def test_a_walk_comes_into_every_phase_and_has_every_event(name: str) -> None:
    ground = GROUNDS[name]
    assert {way.phase for way in ground.ways} == set(ground.machine.states)
    given = {case.row for case in cases(ground, [0])}
    assert set(ground.machine.events) - BY_ITSELF <= given


def test_a_core_that_goes_on_without_its_application_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(demotion, "demote", lambda *_: None)
    wanted = "n1 leading (restart) +0: GuardActed"
    case = next(case for case in cases(mirror.GROUND, [0]) if str(case) == wanted)
    assert "its application does not run" in attempt(case, Collector()).fault


def test_the_command_writes_what_the_page_about_coverage_counts(tmp_path: Path) -> None:
    cells = tmp_path / "cells.json"
    only = ("--only", "n2 up (restart) +0: Command resume", "--steps", "0")
    shown = CliRunner().invoke(walk, [*only, "-o", str(cells)])
    assert shown.exit_code == 0, shown.output
    assert shown.output.endswith("1 cases, 1 given, 0 failed\n")
    results = tmp_path / "r.jsonl"
    Appender(results, Header(options="farm", build="b")).close()
    page = CliRunner().invoke(coverage, [str(results), "--walk", str(cells)])
    assert page.exit_code == 0, page.output
    assert "* `make cells`: 1 cases, none failed" in page.output
    assert "| Command resume | – " in page.output


def test_the_command_tells_each_case_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demotion, "demote", lambda *_: None)
    shown = CliRunner().invoke(walk, ["--only", "n1 leading (restart) +0: GuardActed"])
    assert shown.exit_code == 1
    assert "n1 leading (restart) +0: GuardActed\n    L4: n1 is" in shown.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--steps", "x"), "'x': numbers with commas are wanted"),
        (("--steps", "0,,1"), "numbers with commas are wanted"),
        (("--steps", "0", "--only", "nonsense"), "no case is as --only"),
        (("--every", "0"), "0 is not in the range"),
        (("--steps", "0", "-o", "/nowhere/cells.json"), "there is no folder /nowhere"),
    ],
)
def test_a_walk_through_nothing_is_an_error(words: tuple[str, ...], told: str) -> None:
    result = CliRunner().invoke(walk, words)
    assert result.exit_code == 2
    assert told in result.output
