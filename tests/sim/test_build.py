"""What counts as the build that plays a seed: what a run loads, no door, no reader of traces."""

import subprocess
import sys
from pathlib import Path

from mirrorfarm.sim import running
from mirrorfarm.sim.build import sources

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
DOORS = ("actors/replicator/fuse", "actors/replicator/resync.py", "actors/vip/door.py")


def test_the_build_is_told_by_all_that_a_run_loads() -> None:
    played = subprocess.run(
        [sys.executable, "-c", PLAYS], capture_output=True, text=True, check=True, timeout=60
    )
    root = Path(running.__file__).parents[1]
    loaded = {Path(line).relative_to(root).as_posix() for line in played.stdout.splitlines()}
    covered = {path.relative_to(root).as_posix() for path in sources()}
    assert {"sim/running.py", "limits.py", "trace/step.py"} <= loaded
    assert sorted(loaded - covered - set(BESIDE)) == []


def test_doors_and_what_only_tells_of_runs_are_no_part_of_the_build() -> None:
    covered = [path.as_posix() for path in sources()]
    folders = {path.parent.name for path in sources()}
    assert not folders & {"sweeps", "shrinking", "cells", "export", "cli"}
    assert not [path for path in covered if any(door in path for door in DOORS)]


def test_whoever_reads_traces_better_plays_no_other_runs() -> None:
    of_traces = {path.stem for path in sources() if path.parent.name == "trace"}
    assert of_traces == {"__init__", "causes", "facts", "registry", "step", "words"}
