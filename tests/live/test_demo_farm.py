"""The demonstration of a farm, as a user runs it."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mirrorfarm.trace.steps import read_steps
from tests.live.demo_work import interrupt, leftovers

# Alone: a new connection that a busy machine leaves unanswered would fail with its node.
pytestmark = [pytest.mark.live, pytest.mark.alone]
ROOT = Path(__file__).parents[2]
DEMO = [sys.executable, str(ROOT / "examples/farm_in_namespaces.py"), "--plain", "--settle", "1.5"]
PLANNED = (
    *("nothing happens", "n2 is drained", "n2 takes clients", "n3 gets power 2"),
    *("n3 gets power 1", "n2 stops", "n2 joins", "n3's cable is back", "n1 is thawed"),
)
FAILURES = ("n3's cable is cut", "n1's module freezes")


def table_of(out: str) -> dict[str, list[str]]:
    """Return the cells of the table at the end by event."""
    rows = re.findall(r"^  (\S.*?)  +(\d+/\d+)((?: +\d+){5}) +([\d.]+) s *$", out, re.MULTILINE)
    return {event: [kept, *numbers.split(), wait] for event, kept, numbers, wait in rows}


@pytest.mark.timeout(300)
def test_the_demonstration_keeps_every_connection_at_planned_events_and_leaves_only_traces(
    tmp_path: Path,
) -> None:
    words = [*DEMO, "--traces", str(tmp_path / "kept")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        out, err = demo.communicate(timeout=240)
    assert demo.returncode == 0, f"{out}\n{err}"
    table = table_of(out)
    assert set(table) == {*PLANNED, *FAILURES}, out
    for event in PLANNED:
        kept, reset, silent, new, failed, twice, _ = table[event]
        assert (kept, reset, silent, failed, twice) == ("90/90", "0", "0", "0", "0"), out
        assert int(new) > 50, out
    for event in FAILURES:
        kept, reset, silent, _, failed, twice, _ = table[event]
        alive, streams = map(int, kept.split("/"))
        assert (streams, alive + int(reset) + int(silent)) == (90, 90), out
        # Silent are those of a dead node in whose bucket a third one still has a connection.
        assert int(silent) <= 5, out
        assert (failed, twice) == ("0", "0"), out
        assert int(reset) > 5, out
    assert not leftovers(demo.pid)
    recorded = {step.node for step in read_steps([tmp_path / "kept"])}
    assert recorded == {"n1", "n2", "n3"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demonstration_leaves_nothing(number: signal.Signals) -> None:
    interrupt(DEMO, "n2 is drained", number)
