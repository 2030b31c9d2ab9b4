"""Every rule of docs/protocols/mirror.md has a minimal scenario that hits its mark."""

from pathlib import Path

import pytest

from mirrorfarm.sim.coverage.collector import Collector, watching
from mirrorfarm.sim.coverage.properties import FARM_SOMETIMES, MIRROR_SOMETIMES, RULES
from mirrorfarm.sim.scenario.playing import play
from mirrorfarm.sim.scenario.reading import read

FOLDER = Path(__file__).parents[1] / "rules"


@pytest.mark.parametrize("mark", RULES)
def test_a_rule_has_a_scenario_that_hits_its_mark(mark: str) -> None:
    number = int(mark.partition(" ")[0].removeprefix("R"))
    path = FOLDER / f"rule_{number:02}.yaml"
    collector = Collector()
    with watching(collector):
        outcome = play(read(path.read_bytes(), path.name))
    assert outcome.as_expected, (outcome.violation, outcome.unmet)
    assert collector.sometimes[mark], f"{path.name} does not come by: {mark}"


def test_all_fifteen_rules_have_marks_and_nothing_is_named_twice() -> None:
    assert [name.split()[0] for name in RULES] == [f"R{number}" for number in range(1, 16)]
    assert len(list(FOLDER.iterdir())) == len(RULES)
    names = (*MIRROR_SOMETIMES, *FARM_SOMETIMES)
    assert len(set(names)) == len(names)
