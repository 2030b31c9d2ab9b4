"""The scenarios of mutants break there what they say: each of them in each run."""

import pytest

from tests.mutants.patches import FOLDER, load
from tests.mutants.scenarios import broken, main, meant, named


def test_there_are_scenarios_of_mutants_and_each_says_what_it_breaks() -> None:
    assert len(named()) >= 14
    for name, path in named().items():
        assert load(FOLDER / f"{name}.patch").what
        assert meant(path)


@pytest.mark.parametrize("name", sorted(named()))
def test_a_scenario_breaks_on_its_mutant_what_it_says(name: str) -> None:
    violation = broken(name)
    assert violation.partition(":")[0] == meant(named()[name]), violation


def test_a_scenario_that_breaks_nothing_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tests.mutants.scenarios.broken", lambda name: "")
    assert main(["no_guard"]) == 1
    assert capsys.readouterr().out == "no_guard: NOT X5: nothing is broken\n"
