"""Every example runs as it stands, and shows what it says."""

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
RECORD_AGAIN = """The cores do something else than when examples/traces/takeover was recorded.
If that is what you want, record it again as root, and commit it: make example-traces"""


def run(name: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_an_embedded_mirror_becomes_primary_and_its_peer_hears_it_fall_silent() -> None:
    told = run("embed_heartbeat.py")
    heard = told.index("n2: PeerHeard: n1 is heard")
    primary = told.index("n1: SequenceEnded: Local state ALONE Ready")
    silent = told.index("n2: PeerSilent: no heartbeat from n1")
    assert heard < primary < silent


def test_a_recorded_takeover_comes_again_and_is_told_step_by_step() -> None:
    """The trace may be of another build, as long as every step of it is compared and the same."""
    told = run("replay_a_takeover.py")
    replayed = re.findall(r"^(\S+): (\d+) steps, 0 differences(?! *,)", told, re.MULTILINE)
    processes = ["n1/ledger", "n1/ledger.replica", "n2/ledger", "n2/ledger.replica", "w/witness"]
    assert [process for process, _ in replayed] == processes, f"{RECORD_AGAIN}\n{told}"
    assert sum(int(steps) for _, steps in replayed) > 500

    rows = re.findall(r"^ *([0-9.]+) +([0-9.]+) ms  (\S+)  (.+)$", told, re.MULTILINE)
    story = [f"{node} {what}" for _, _, node, what in rows]
    milestones = [
        "n2 heard from n1 for the last time",
        "n2 had heard nothing from its peer for 0.30 s",
        "n2 asked the register for term 2 with {n1, n2} in sync",
        "w had it on its disk: n2 holds term 2 with {n1, n2}",
        "n2 became PRIM in term 2",
        "w had it on its disk: n2 holds term 2 with {n2}",
        "n2 became ALONE in term 2",
        "n2 had the virtual addresses up",
        "n2 had its application started",
        "n2 became ALONE Ready",
    ]
    assert [one for one in story if one in milestones] == milestones, told
    since, took = ([float(row[column]) for row in rows] for column in (0, 1))
    assert since == sorted(since)
    assert abs(sum(took) - since[-1]) < 0.1 * len(rows)
    assert "n1 ended without a word" in told
