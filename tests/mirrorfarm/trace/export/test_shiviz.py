"""ShiViz and TSViz read what is written by their own parsers, and find clocks that make sense."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mirrorfarm.trace.export import Options, export
from mirrorfarm.trace.export.shiviz import Shiviz

# The default parsers of both tools, in Python's spelling of groups.
PARSERS = {
    "shiviz": r"(?P<event>.*)\n(?P<host>\S*) (?P<clock>{.*})",
    "tsviz": r"(?P<timestamp>(\d*)) (?P<event>.*)\n(?P<host>\w*) (?P<clock>.*)",
}


def events(recorded: Path, folder: Path, name: str, limit: int = 5_000) -> list[re.Match[str]]:
    export([recorded], Options(name, folder / "out", limit=limit))
    text = (folder / "out").read_text()
    found = list(re.finditer(PARSERS[name], text))
    assert "".join(match.group() + "\n" for match in found) == text, "nothing is left over"
    return found


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_the_tools_parser_reads_all_of_it(name: str, recorded: Path, tmp_path: Path) -> None:
    found = events(recorded, tmp_path, name)
    assert 30 < len(found) < 300
    counts: dict[str, int] = {}
    known: dict[str, dict[str, int]] = {}
    for match in found:
        host, clock = match["host"], json.loads(match["clock"])
        counts[host] = counts.get(host, 0) + 1
        assert clock[host] == counts[host], "the own entry counts the host's events, from 1 on"
        for other, count in clock.items():
            assert count <= counts.get(other, 0), "nobody knows what has not happened"
            assert count >= known.get(host, {}).get(other, 0), "nobody forgets"
        known[host] = clock
    assert len(counts) == 3
    assert any(len(json.loads(match["clock"])) == 3 for match in found)


def test_what_a_node_learnt_through_events_that_are_left_out_is_kept(
    recorded: Path, tmp_path: Path
) -> None:
    found = events(recorded, tmp_path, "shiviz")
    prim = next(match for match in found if "became PRIM in term 2" in match["event"])
    clock = json.loads(prim["clock"])
    of_n1 = [match for match in found if match["host"] == "n1/ledger"]
    assert clock["n1/ledger"] == len(of_n1), "heartbeats carried all that n1 ever did"


def test_times_are_those_of_the_merged_traces(recorded: Path, tmp_path: Path) -> None:
    times = [int(match["timestamp"]) for match in events(recorded, tmp_path, "tsviz")]
    assert times == sorted(times)
    assert times[-1] - times[0] < 40 * 10**9, "although clocks are hours apart"


def test_there_is_a_bound_and_it_is_told(recorded: Path, tmp_path: Path) -> None:
    assert len(events(recorded, tmp_path, "shiviz", limit=10)) == 10
    report = export([recorded], Options("shiviz", tmp_path / "out", limit=10))
    assert re.search(r"\d+ events after the first 10 are left out", report.message)


def test_hosts_that_tsviz_cannot_tell_apart_are_called_differently() -> None:
    lanes = [SimpleNamespace(name=name) for name in ("n-1/ledger", "n_1/ledger", "n.1/ledger")]
    subject: Any = SimpleNamespace(merge=SimpleNamespace(lanes=lanes))
    timed, plain = (Shiviz(subject, lambda _: None, timed=timed) for timed in (True, False))
    hosts = ["n_1_ledger", "n_1_ledger_", "n_1_ledger__"]
    assert [timed._host(lane) for lane in (0, 1, 2, 0, 1, 2)] == hosts * 2
    assert [plain._host(lane) for lane in (2, 1)] == ["n.1/ledger", "n_1/ledger"]
