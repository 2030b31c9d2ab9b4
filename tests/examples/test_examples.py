"""Every example runs as it stands, and shows what it says."""

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


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
