"""The scenarios of mutants break there what they say: some of them in each run, all at times."""

from random import Random

import pytest

from tests.mutants.patches import FOLDER, load
from tests.mutants.scenarios import broken, main, meant, named

PLAYED = 2


def test_there_are_scenarios_of_mutants_and_each_says_what_it_breaks() -> None:
    assert len(named()) >= 14
    for name, path in named().items():
        assert load(FOLDER / f"{name}.patch").what
        assert meant(path)


def test_some_scenarios_break_on_their_mutants_what_they_say() -> None:
    for name in Random().sample(sorted(named()), PLAYED):
        violation = broken(name)
        assert violation.partition(":")[0] == meant(named()[name]), f"{name}: {violation}"


def test_a_scenario_that_breaks_nothing_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tests.mutants.scenarios.broken", lambda name: "")
    assert main(["no_guard"]) == 1
    assert capsys.readouterr().out == "no_guard: NOT S11: nothing is broken\n"
