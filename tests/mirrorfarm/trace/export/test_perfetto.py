"""Perfetto's JSON: every event has the form that the trace-event format asks for."""

import json
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.trace.export import Options, export
from mirrorfarm.trace.facts import Facts
from mirrorfarm.trace.merge import Merge

# What each phase must have, after the Trace Event Format.
FIELDS: dict[str, dict[str, Any]] = {
    "M": {"name": str, "pid": int, "tid": int, "args": dict},
    "X": {"name": str, "cat": str, "pid": int, "tid": int, "ts": (int, float), "dur": (int, float)},
    "B": {"name": str, "cat": str, "pid": int, "tid": int, "ts": (int, float)},
    "E": {"pid": int, "tid": int, "ts": (int, float)},
    "s": {"name": str, "cat": str, "id": int, "pid": int, "tid": int, "ts": (int, float)},
    "f": {"name": str, "cat": str, "id": int, "pid": int, "tid": int, "bp": str},
    "C": {"name": str, "pid": int, "ts": (int, float), "args": dict},
}


@pytest.fixture(name="events")
def fixture_events(recorded: Path, tmp_path: Path) -> list[dict[str, Any]]:
    export([recorded], Options("perfetto", tmp_path / "out"))
    document = json.loads((tmp_path / "out").read_text())
    assert document["displayTimeUnit"] == "ns"
    assert document["otherData"]["begin"].startswith("2027-01-15T08:00:01")
    found: list[dict[str, Any]] = document["traceEvents"]
    return found


def test_every_event_has_the_fields_of_its_phase(events: list[dict[str, Any]]) -> None:
    for event in events:
        for name, kind in FIELDS[event["ph"]].items():
            assert isinstance(event[name], kind), (name, event)
        assert event.get("ts", 0) >= 0
        assert event.get("dur", 0) >= 0


def test_processes_are_nodes_and_tracks_are_actors(events: list[dict[str, Any]]) -> None:
    named = [event for event in events if event["ph"] == "M"]
    nodes = {e["pid"]: e["args"]["name"] for e in named if e["name"] == "process_name"}
    tracks = {e["tid"]: e["args"]["name"] for e in named if e["name"] == "thread_name"}
    assert set(nodes.values()) == {"n1", "n2", "w"}
    assert set(tracks.values()) >= {"ledger/module", "ledger/arbiter", "witness/register"}
    assert {event["pid"] for event in events} == nodes.keys()
    assert {event["tid"] for event in events} - {0} <= tracks.keys()


def test_steps_of_a_track_do_not_overlap(recorded: Path, events: list[dict[str, Any]]) -> None:
    steps = [event for event in events if event["ph"] == "X"]
    assert len(steps) == Merge([recorded]).total
    ends: dict[int, float] = {}
    for event in steps:
        assert event["ts"] >= ends.get(event["tid"], 0) - 1e-6
        ends[event["tid"]] = event["ts"] + event["dur"]


def test_arrows_join_a_sending_with_its_receipt(events: list[dict[str, Any]]) -> None:
    begins = {event["id"]: event for event in events if event["ph"] == "s"}
    ends = {event["id"]: event for event in events if event["ph"] == "f"}
    assert begins.keys() == ends.keys()
    assert len(begins) > 300
    places = {(e["tid"], e["ts"]) for e in events if e["ph"] == "X"}
    for number, begin in begins.items():
        assert 0 <= ends[number]["ts"] - begin["ts"] < 2_000
        assert (begin["tid"], begin["ts"]) in places, "it begins in a slice"
        assert (ends[number]["tid"], ends[number]["ts"]) in places


def test_roles_are_slices_that_end(events: list[dict[str, Any]]) -> None:
    depth: dict[int, int] = {}
    for event in events:
        change = {"B": 1, "E": -1}.get(event["ph"], 0)
        if change:
            depth[event["tid"]] = depth.get(event["tid"], 0) + change
            assert depth[event["tid"]] in {0, 1}
    assert depth
    assert set(depth.values()) == {0}
    names = [event["name"] for event in events if event["ph"] == "B"]
    assert names[-3:] == ["PRIM Transient", "ALONE Transient", "ALONE Ready"]


def test_a_role_ends_with_its_process(
    restarted: Path, lives: dict[str, list[tuple[int, int]]], tmp_path: Path
) -> None:
    export([restarted], Options("perfetto", tmp_path / "out"))
    events = json.loads((tmp_path / "out").read_text())["traceEvents"]
    nodes = {e["args"]["name"]: e["pid"] for e in events if e.get("name") == "process_name"}
    begin_ns = next(Merge([restarted]).steps()).at_ns
    for node, spans in lives.items():
        states = [e for e in events if e["ph"] in {"B", "E"} and e["pid"] == nodes[node]]
        assert [e["ph"] for e in states] == ["B", "E"] * (len(states) // 2)
        changes = zip(states[1:-1:2], states[2::2], strict=True)
        holes = [one for one, two in changes if one["ts"] != two["ts"]]
        ends = [(end_ns - begin_ns) / 1_000 for _, end_ns in spans]
        assert [e["ts"] for e in (*holes, states[-1])] == ends


def test_of_a_farm_a_view_is_a_slice_while_its_node_answers_by_it(tmp_path: Path) -> None:
    farm = Path(__file__).parents[4] / "examples/traces/farm"
    export([farm], Options("perfetto", tmp_path / "out"))
    events = json.loads((tmp_path / "out").read_text())["traceEvents"]
    begins = [event for event in events if event["ph"] == "B"]
    assert len(begins) > 20
    for event in begins:
        told = f"view {event['args']['view']}" if event["args"]["open"] else "answers nobody"
        assert event["name"] == told
    recorded = [
        (placed.step.node, fact.values)
        for facts in [Facts()]
        for placed in Merge([farm]).steps()
        for fact in facts.of(placed.step)
        if fact.kind == "view" and "open" in fact.values
    ]
    nodes = {e["pid"]: e["args"]["name"] for e in events if e.get("name") == "process_name"}
    assert [(nodes[event["pid"]], event["args"]) for event in begins] == recorded
