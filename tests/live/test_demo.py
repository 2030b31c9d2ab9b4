"""The demonstration, as a user runs it."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.demo_work import interrupt, leftovers

pytestmark = pytest.mark.live
ROOT = Path(__file__).parents[2]
DEMO = [sys.executable, str(ROOT / "examples/mirror_on_one_machine.py"), "--plain"]


def recording() -> list[str]:
    """Return the command by which docs/research.md records a takeover into `my-traces`."""
    page = (ROOT / "docs/research.md").read_text(encoding="utf-8")
    command = re.search(r"^# python (.*mirror_on_one_machine.*)$", page, re.MULTILINE)
    assert command is not None
    script, *words = command[1].split()
    return [sys.executable, str(ROOT / script), *words]


@pytest.mark.timeout(300)
def test_the_demonstration_loses_no_record_and_leaves_nothing_but_traces(tmp_path: Path) -> None:
    with subprocess.Popen(
        recording(), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        out, err = demo.communicate(timeout=240)
    assert demo.returncode == 0, f"{out}\n{err}"
    rows = [[cell.strip() for cell in line.split("│")] for line in out.splitlines() if "│" in line]
    results = {row[1]: row[2] for row in rows}
    assert results["records lost"] == "0"
    assert results["records duplicated or altered"] == "0"
    assert int(results["records acknowledged"]) > 200
    assert not leftovers(demo.pid)
    assert [path.name for path in tmp_path.iterdir()] == ["my-traces"]
    replay = [sys.executable, str(ROOT / "examples/replay_a_takeover.py"), "my-traces"]
    told = subprocess.run(replay, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert told.count(" 0 differences\n") == 5, told
    assert "n2  became ALONE Ready" in told


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demonstration_leaves_nothing(number: signal.Signals) -> None:
    interrupt(DEMO, "the client begins", number)
