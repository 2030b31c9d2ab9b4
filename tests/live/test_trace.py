"""A mirror that runs is recorded, and what it did comes again; a full disk stops only the trace."""

import contextlib
import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.actors.events import Received
from mirrorfarm.actors.module.mirror.core import Mirror
from mirrorfarm.cli.main import main
from mirrorfarm.lab.cluster import OneMachine
from mirrorfarm.lab.records import text_of
from mirrorfarm.trace.files import sources
from mirrorfarm.trace.step import Step
from mirrorfarm.trace.steps import Gap, read_items, read_steps
from tests.transport.bus import until

pytestmark = pytest.mark.live
RECORDS = 50


@pytest.fixture(scope="module")
def lab() -> Iterator[OneMachine]:
    with OneMachine(module="ledger") as machine:
        machine.begin("n1", "n2")
        yield machine


def logs(lab: OneMachine) -> list[str]:
    return [str(lab.paths(name).log) for name in ("n1", "n2", "w")]


def write_records(lab: OneMachine, first: int) -> None:
    with lab.as_client():
        for number in range(first, first + RECORDS):
            link = http.client.HTTPConnection(lab.vip, 8080, timeout=60)
            with contextlib.closing(link):
                body = json.dumps({"id": number, "text": text_of(number)})
                link.request("POST", "/records", body)
                assert link.getresponse().status in {200, 201}


def steps_of(lab: OneMachine) -> list[Step]:
    return list(read_steps([Path(log) for log in logs(lab)]))


def exit_code(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(words))
    return int(end.value.code or 0)


@pytest.mark.timeout(300)
def test_what_a_live_mirror_did_comes_again_and_a_broken_core_is_found(
    lab: OneMachine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_records(lab, 1)
    lab.order("n1", "swap")
    lab.wait_state("n2", "PRIM", 60)
    swapped = time.time_ns()
    until(lambda: steps_of(lab)[-1].real_ns > swapped, 60)
    until(lambda: len(steps_of(lab)) > 600, 60)

    assert exit_code("trace", "replay", "--json", *logs(lab)) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["differences"] == result["skipped"] == result["gaps"] == 0
    assert result["steps"] > 500
    assert result["recorded_by"] == [result["build"]]
    processes = {(one.node, one.process) for one in steps_of(lab)}
    assert len(processes) == 5, processes  # Modules and replicas of two nodes, the witness.

    honest = Mirror.handle

    def handle(core: Mirror, event: Any, now: int) -> list[Any]:
        effects = honest(core, event, now)
        return effects[::-1] if len(effects) > 1 else effects

    monkeypatch.setattr(Mirror, "handle", handle)
    assert exit_code("trace", "replay", *logs(lab)) == 3
    assert "ledger/module, step" in capsys.readouterr().out


@pytest.mark.timeout(300)
def test_every_message_between_the_nodes_is_joined_with_its_sending(lab: OneMachine) -> None:
    until(lambda: sum(step.received_id is not None for step in steps_of(lab)) > 300, 60)
    steps = steps_of(lab)
    sent = {one: step for step in steps for one in step.sent_ids if one is not None}
    written = {(step.node, step.incarnation): step.now_ns for step in steps}  # Until when.
    joined = 0
    for step in steps:
        one = step.received_id
        if one is None or step.now_ns >= written.get(one[:2], 0):
            continue
        source = sent[one]
        assert isinstance(step.event, Received)
        assert source.node == one[0] == step.event.source.node
        assert source.now_ns <= step.now_ns, "all nodes of the laboratory have one clock"
        joined += 1
    assert joined > 100


@pytest.mark.timeout(300)
def test_a_full_disk_stops_the_trace_and_nothing_else(lab: OneMachine) -> None:
    node = next(name for name in lab.nodes if lab.state(name)["state"] == "PRIM")
    folder = lab.paths(node).module_log("ledger") / "trace"
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "full", str(folder)]
    assert lab.run(node, mount).returncode == 0

    def resource() -> Any:
        return lab.state(node).get("resources", {}).get("trace.record")

    until(lambda: resource() == "down", 60)
    write_records(lab, 1_000)
    assert lab.state(node)["state"] == "PRIM"
    assert "steps lost" in lab.mirrorfarm(node, "log", "-m", "ledger")
    assert lab.run(node, ["umount", str(folder)]).returncode == 0
    until(lambda: resource() == "up", 60)

    def gaps() -> list[Gap]:
        found = sources([folder])
        return [item for one in found for item in read_items(one) if isinstance(item, Gap)]

    until(lambda: gaps() and gaps()[-1].steps > 0, 60)
    assert exit_code("trace", "replay", str(folder)) == 0
