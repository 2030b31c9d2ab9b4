"""Play the scenarios of `tests/sim/scenarios` on the mutants that they are named after.

`python -m tests.mutants.scenarios` plays all of them; exit code 1: one does not break there what
its heading says. Each must pass on the sources as they are: `tests/sim/scenario` sees to that.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.mutants.patches import FOLDER, ROOT, apply, copy_sources, load

SCENARIOS = ROOT / "tests" / "sim" / "scenarios"
_PLAY = """
import sys
from pathlib import Path
from mirrorfarm.sim.scenario.playing import play
from mirrorfarm.sim.scenario.reading import read
path = Path(sys.argv[1])
print(play(read(path.read_bytes(), path.name), tells=False).violation)
"""


def named() -> dict[str, Path]:
    """Return the scenarios by the names of the mutants that they are about."""
    paths = sorted(SCENARIOS.glob("*.yaml"))
    return {path.stem: path for path in paths if (FOLDER / f"{path.stem}.patch").exists()}


def meant(path: Path) -> str:
    """Return the invariant that a scenario's heading says it breaks."""
    found = re.match(r"# Breaks (\w+) when rule ", path.read_text(encoding="utf-8"))
    assert found is not None, f"{path}: it begins with `# Breaks S1 when rule R1 is broken:`"
    return found[1]


def broken(name: str) -> str:
    """Return what the scenario of a mutant breaks there; "": nothing."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder)
        copy_sources(copy)
        apply(load(FOLDER / f"{name}.patch"), copy)
        done = subprocess.run(
            [sys.executable, "-c", _PLAY, str(named()[name])],
            cwd=copy,
            env=os.environ | {"PYTHONPATH": str(copy), "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
    return done.stdout.strip() or done.stderr[-2_000:].strip()


def main(names: Iterable[str]) -> int:
    """Play the scenarios of these mutants, or of all."""
    failed = 0
    for name in names or named():
        violation, wanted = broken(name), meant(named()[name])
        good = violation.partition(":")[0] == wanted
        failed += not good
        told = violation or "nothing is broken"
        sys.stdout.write(f"{name}: {'' if good else f'NOT {wanted}: '}{told}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
