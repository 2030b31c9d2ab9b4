"""A run that is told: what decides about it, and the story of what it violates."""

import subprocess
import sys
from pathlib import Path

import pytest

from mirrorfarm.actors.module.mirror import leading
from mirrorfarm.sim import running
from mirrorfarm.sim.monitors.watch import STEPS_KEPT
from mirrorfarm.sim.plans import plan_of

SEEDS = 60
PLAYS = """
import sys
from mirrorfarm.sim import running
for options in ("mirror", "mirror,modules=2", "farm"):
    running.run(1, options)
for name, module in sys.modules.items():
    if name.partition(".")[0] == "mirrorfarm" and module.__file__:
        print(module.__file__)
"""
# Loaded, but it decides nothing.
BESIDE = {"__init__.py": "says the version, for the heads of traces"}


def story(seed: int, keeps: int) -> list[str]:
    violation = running.play(plan_of("mirror", seed), keeps=keeps).violation
    return violation.story if violation is not None else []


def test_the_build_is_told_by_all_that_a_run_loads() -> None:
    played = subprocess.run(
        [sys.executable, "-c", PLAYS], capture_output=True, text=True, check=True, timeout=60
    )
    root = Path(running.__file__).parents[1]
    loaded = {Path(line).relative_to(root).as_posix() for line in played.stdout.splitlines()}
    covered = {path.relative_to(root).as_posix() for path in running.sources()}
    assert {"sim/running.py", "limits.py", "trace/steps.py"} <= loaded
    assert sorted(loaded - covered - set(BESIDE)) == []


def test_what_only_tells_of_runs_is_no_part_of_the_build() -> None:
    folders = {path.parent.name for path in running.sources()}
    assert not folders & {"sweeps", "shrinking", "cells", "export", "cli"}


def test_a_violated_seed_is_played_again_for_its_whole_story(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = leading.gate_of
    monkeypatch.setattr(leading, "gate_of", lambda s: "self" if s.leading.lost else honest(s))
    for seed in range(SEEDS):
        whole = story(seed, STEPS_KEPT)
        if whole != story(seed, running.FEW_STEPS):
            break  # Runs that hold keep little, for speed.
    else:
        pytest.fail("no story is longer than what such runs keep")
    outcome = running.run(seed, "mirror")
    assert outcome.outcome != "ok"
    assert outcome.story == whole
