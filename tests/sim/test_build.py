"""What counts as the build that plays a seed: all that a run loads, and no reader of traces."""

import subprocess
import sys

from mirrorfarm.sim.build import sources

_LOADED = """
import sys
import mirrorfarm.sim.running
print(*{one.__file__ for name, one in sys.modules.items() if name.startswith("mirrorfarm.")})
"""


def test_whoever_reads_traces_better_plays_no_other_runs() -> None:
    of_traces = {path.stem for path in sources() if path.parent.name == "trace"}
    assert of_traces == {"__init__", "causes", "facts", "registry", "step", "words"}


def test_what_a_run_loads_is_counted() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True
    )
    counted = {str(path) for path in sources()}
    assert "running.py" in loaded.stdout
    assert {path for path in loaded.stdout.split() if path not in counted} == set()
