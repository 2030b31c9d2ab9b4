"""The page about coverage names every gap, and is what the command prints."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from mirrorfarm.sim.coverage.__main__ import main
from mirrorfarm.sim.coverage.counts import Coverage
from mirrorfarm.sim.coverage.machines import MACHINES
from mirrorfarm.sim.coverage.page import page
from mirrorfarm.sim.coverage.properties import FARM_SOMETIMES, MIRROR_SOMETIMES
from mirrorfarm.sim.sweeps.results import Appender, Header
from tests.sim.sweeps.stand_in import quick

PAGE = Path(__file__).parents[3] / "docs" / "coverage.md"


def test_cells_are_told_apart_and_gaps_are_listed() -> None:
    coverage = Coverage()
    coverage.add({"mirror leading Tick": 12_345, "farm up FarmTick": 1}, {"cut down": 2}, {}, {})
    text = page(coverage, ["a sweep"], [(10, 7)])
    assert "| Tick | – | – | – | – | – | – | – | – | 12k | – | – | – | – |" in text
    assert "| CablesOut | × |" in text
    assert "| Started | – | · |" in text
    assert "* `Tick` while stopped, resetting," in text
    assert "* `VipProbed` never while resetting: a process that has just begun" in text
    assert "| cut | 2 |" in text
    assert "| 10 | 7 |" in text


def test_the_page_is_printed_from_files_of_results(tmp_path: Path) -> None:
    first = quick("mirror", 1)
    appender = Appender(tmp_path / "r.jsonl", Header(options="mirror", build=first.build))
    appender.append([first, quick("mirror", 2)])
    appender.close()
    shown = CliRunner().invoke(main, [str(tmp_path / "r.jsonl")])
    assert shown.exit_code == 0, shown.output
    assert "* `--options mirror`: 2 seeds, none failed" in shown.output


@pytest.mark.parametrize("name", MACHINES)
def test_the_page_in_the_documentation_is_of_the_tables_of_today(name: str) -> None:
    text = PAGE.read_text()
    machine = MACHINES[name]
    for event in machine.events:
        assert f"| {event} | " in text, "run make coverage"
    for only in machine.only.values():
        assert only.why in text, "run make coverage"
    for what in (*MIRROR_SOMETIMES, *FARM_SOMETIMES):
        assert f"| {what}" in text, "run make coverage"
