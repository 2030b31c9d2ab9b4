"""JSON Lines have every step with full names; the TLA variant only the specification's."""

import json
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.sim.scenario.playing import play
from mirrorfarm.sim.scenario.reading import read
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


@pytest.fixture(name="simulated", scope="module")
def fixture_simulated(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """A mirror with data planes, whose primary loses its power and comes back."""
    folder = tmp_path_factory.mktemp("simulated")
    story = (
        b"mirror: {profile: fast}\nevents: [{at: 0.5 s, power: n1}, {at: 2 s, start: n1}]\nend: 4 s"
    )
    play(read(story, "story.yaml"), tells=False, trace=folder / "traces")
    return [record["event"] for record in lines(folder / "traces", folder, "tla")]


def test_a_variable_is_of_who_it_is_told_of(simulated: list[dict[str, Any]]) -> None:
    """The data plane has a role and a term of its own, and what is durable is older."""
    states = [(event["nid"], event["state"]) for event in simulated]
    roles = {state["role"] for _, state in states if "role" in state}
    assert roles == {"STOP", "WAIT", "ALONE", "PRIM", "SECOND"}
    for node in ("n1", "n2", "w1"):
        terms = [state["term"] for name, state in states if name == node and "term" in state]
        assert terms == sorted(terms), "no term goes back"
    gates = [event["state"] for event in simulated if event["name"] == "Gate"]
    assert {state["plane"]["role"] for state in gates} == {"off", "lead", "follow"}
    stored = [event["state"]["durable"] for event in simulated if event["name"] == "Durable"]
    assert stored[-1]["term"] == 2


def test_messages_of_a_data_plane_have_the_variables_of_its_module(
    simulated: list[dict[str, Any]],
) -> None:
    copied = [e for e in simulated if e.get("msg", {}).get("type") == "CopyComplete"]
    assert copied
    assert all(event["state"]["role"] == "SECOND" for event in copied)


def test_a_process_that_starts_anew_has_only_what_is_on_its_disk(
    simulated: list[dict[str, Any]],
) -> None:
    own = [event for event in simulated if event["nid"] == "n1" and event["module"] == "app"]
    places = [place for place, event in enumerate(own) if event.get("before") == ""]
    assert len(places) == 2
    state = own[places[1] - 1]["state"]  # It gives an order before it says what it is.
    assert state.keys() == {"durable", "plane", "gate"}
    assert (state["durable"]["term"], state["plane"]["role"]) == (1, "off")


def test_the_witness_is_told_by_module_and_so_are_its_messages(
    recorded: Path, tmp_path: Path
) -> None:
    events = [record["event"] for record in lines(recorded, tmp_path, "tla")]
    assert {event["module"] for event in events} == {"ledger"}
    of_witness = [event for event in events if event["nid"] == "w" and "holder" in event["state"]]
    assert {event["name"] for event in of_witness} == {"Install", "Receive", "Send"}
