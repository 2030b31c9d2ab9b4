"""Every example runs as it stands, and shows what it says."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.actors.events import Received
from mirrorfarm.trace.step import Placed, Step
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import Announcement, Heartbeat

EXAMPLES = Path(__file__).parents[2] / "examples"
TRACES = EXAMPLES / "traces"
RECORD_AGAIN = """The cores do something else than when examples/traces was recorded.
If that is what you want, record again as root, and commit that: make example-traces"""


def run(name: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
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


def trace(command: str, name: str) -> dict[str, Any]:
    words = ["-m", "mirrorfarm.cli.main", "trace", command, "--json", str(TRACES / name)]
    done = subprocess.run(
        [sys.executable, "-W", "error", *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.stdout, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize(("name", "processes"), [("takeover", 5), ("farm", 3)])
def test_recorded_examples_come_again_and_broke_no_invariant(name: str, processes: int) -> None:
    """They may be of another build, as long as every step of them is compared and the same."""
    replayed = trace("replay", name)
    told = f"{RECORD_AGAIN}\n{json.dumps(replayed, indent=1)}"
    assert (replayed["differences"], replayed["skipped"], replayed["gaps"]) == (0, 0, 0), told
    assert replayed["steps"] > 500
    checked = trace("check", name)
    assert (checked["violations"], checked["broken"]) == (0, [])
    assert len(checked["processes"]) == processes


def test_a_recorded_takeover_is_told_step_by_step() -> None:
    told = run("replay_a_takeover.py")
    rows = re.findall(r"^ *([0-9.]+) +([0-9.]+) ms  (\S+)  (.+)$", told, re.MULTILINE)
    story = list(dict.fromkeys(f"{node} {what}" for _, _, node, what in rows))
    milestones = [
        "n2 heard from n1 for the last time",
        "n2 had heard nothing from its peer for 300.3 ms",
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


def test_timeouts_are_compared_on_the_recorded_takeover() -> None:
    told = run("compare_timeouts.py", "--seeds", "2", "--timeouts", "0.3s,0.6s,2s")
    gap = re.search(r"^\d+ gaps between heartbeats from n1 to n2, ms: .*median ([0-9.]+)", told)
    assert gap is not None
    assert 40 < float(gap[1]) < 80
    assert "n1 lost its power, or all its processes were killed" in told
    rows = re.findall(r"^(300 ms|600 ms|2 s) +(\d+) +(\d+) +([0-9.]+)", told, re.MULTILINE)
    assert [(timeout, *counts) for timeout, *counts, _ in rows] == [
        ("300 ms", "2", "0"),
        ("600 ms", "2", "0"),
        ("2 s", "2", "0"),
    ]
    took = [float(row[-1]) for row in rows]
    assert took == sorted(took)
    assert took[-1] > 2


@pytest.mark.parametrize(
    "words",
    [
        ("compare_timeouts.py", "--seeds", "0"),
        ("compare_timeouts.py", "--seeds", "-3"),
        ("compare_timeouts.py", "--seeds", f"{10**20}"),
        ("farm_in_namespaces.py", "--settle", "nan"),
        ("farm_in_namespaces.py", "--settle", "-1"),
    ],
)
def test_a_number_that_makes_no_sense_is_refused_before_anything_begins(
    words: tuple[str, ...],
) -> None:
    name, option, number = words
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), f"{option}={number}"],
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 2
    assert f"{option} {number}: from " in done.stderr
    assert not done.stdout


def test_a_heartbeat_that_another_overtook_is_no_gap_and_a_new_process_begins_again() -> None:
    gaps = runpy.run_path(str(EXAMPLES / "compare_timeouts.py"))["gaps"]
    source = Address("n1", "shop", "heartbeat")

    def heard(at_ms: int, incarnation: int, number: int, network: str) -> Placed:
        message = Heartbeat(network, number, 0, Announcement())
        event = Received(source, message, network, incarnation, sequence=1)
        step = Step("n2", "heartbeat", 0, event, [])
        return Placed(step, 0, 0, at_ms * 10**6, 0, None, ())

    steps = [
        heard(0, 7, 40, "a"),
        heard(50, 7, 41, "a"),
        heard(90, 7, 40, "b"),  # Late, by the slower network.
        heard(100, 7, 42, "a"),
        heard(101, 7, 42, "b"),
        heard(900, 8, 1, "a"),  # Of the next process.
        heard(950, 8, 2, "a"),
    ]
    found = {way: [ns // 10**6 for ns in values] for way, values in gaps(steps).items()}
    assert found == {"n1 to n2": [50, 50, 50, 800]}


def test_silences_are_compared_on_the_recorded_farm() -> None:
    told = run(
        "compare_timeouts.py", "--seeds", "1", "--timeouts", "0.4s,30s", str(TRACES / "farm")
    )
    gap = re.search(r"^\d+ gaps between heartbeats from n1 to n2, ms: .*median ([0-9.]+)", told)
    assert gap is not None
    assert 90 < float(gap[1]) < 110
    assert "n1 did not run for " in told
    assert "outage, s          no node, s" in told
    rows = re.findall(r"^(400 ms|30 s) +(\d+) +(\d+) ", told, re.MULTILINE)
    assert rows == [("400 ms", "1", "1"), ("30 s", "0", "0")], told
