"""JSON Lines have every step with full names; the TLA variant only the specification's."""

import json
from pathlib import Path
from typing import Any

from mirrorfarm.trace.export import Options, export
from mirrorfarm.trace.merge import Merge


def lines(recorded: Path, folder: Path, name: str) -> list[dict[str, Any]]:
    export([recorded], Options(name, folder / "out"))
    return [json.loads(line) for line in (folder / "out").read_text().splitlines()]


def test_every_step_is_an_object_with_full_names(recorded: Path, tmp_path: Path) -> None:
    records = lines(recorded, tmp_path, "jsonl")
    merged = list(Merge([recorded]).steps())
    assert [record["number"] for record in records] == list(range(len(merged)))
    for record, placed in zip(records, merged, strict=True):
        assert record["lamport"] == placed.lamport
        assert record["node"] == placed.step.node
        assert record["event"]["type"] == type(placed.step.event).__name__
        assert len(record["effects"]) == len(placed.step.effects)
    beats = [r for r in records if r["event"].get("message", {}).get("type") == "Heartbeat"]
    beat = next(r for r in beats if r["event"]["source"] == "n1/ledger/heartbeat")
    assert beat["event"]["message"]["about"]["role"] == "ALONE"
    assert "type" not in beat["event"]["message"]["about"]
    assert records[beat["sent_by"]]["effects"]
    assert beat["time"].startswith("2027-01-15T08:00:")


def test_facts_are_in_the_line_of_their_step(recorded: Path, tmp_path: Path) -> None:
    records = lines(recorded, tmp_path, "jsonl")
    roles = [
        (record["node"], fact["role"])
        for record in records
        for fact in record.get("facts", ())
        if fact["kind"] == "role"
    ]
    assert roles[-2:] == [("n2", "PRIM"), ("n2", "ALONE")]


def test_a_validator_of_traces_gets_actions_and_variables(recorded: Path, tmp_path: Path) -> None:
    records = lines(recorded, tmp_path, "tla")
    assert all(record["tag"] == "trace" for record in records)
    events = [record["event"] for record in records]
    assert {event["name"] for event in events} >= {
        *("Become", "Install", "Durable", "Send", "Receive", "Command"),
    }
    sent = [
        (event["msg"]["type"], event["nid"], event["msg"]["with"])
        for event in events
        if event["name"] == "Send"
    ]
    for event in events:
        if event["name"] == "Receive":
            message = (event["msg"]["type"], event["msg"]["with"], event["nid"])
            assert message in sent
    installed = [event["state"] for event in events if event["name"] == "Install"]
    assert [state["ver"] for state in installed] == [1, 2, 3, 4]
    assert installed[-1]["holder"] == "n2"
    become = [event for event in events if event["name"] == "Become"][-1]
    assert become["state"]["role"] == "ALONE"
    assert become["state"]["term"] == 2
    stored = [event for event in events if event["name"] == "Durable"][-1]
    assert stored["state"]["role"] in {"PRIM", "ALONE"}, "variables keep their values"
    assert "Heartbeat" not in {kind for kind, _, _ in sent}
