"""Histories of writes, as checkers of consistency read them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.trace.export import Options, export
from mirrorfarm.transport import trace_ring

SECOND = 10**9
# Write 3 is never answered, write 2 fails: both may take effect later.
WORKLOAD: list[tuple[int, list[Any]]] = [
    (1, ["Invoked", 1, 10]),
    (2, ["Invoked", 2, 11]),
    (3, ["Told", 1, 10, 1]),
    (4, ["Invoked", 3, 10]),
    (5, ["Failed", 2, 11]),
    (6, ["Invoked", 4, 12]),
    (7, ["Told", 4, 12, 1]),
]


@pytest.fixture(name="traced")
def fixture_traced(tmp_path: Path) -> Path:
    import msgspec  # noqa: PLC0415

    class Invoked(msgspec.Struct, frozen=True, array_like=True, tag=True):
        write: int
        extent: int

    class Failed(Invoked, frozen=True, array_like=True, tag=True):
        pass

    class Told(Invoked, frozen=True, array_like=True, tag=True):
        term: int

    kinds: dict[str, Any] = {"Invoked": Invoked, "Failed": Failed, "Told": Told}
    origin = trace_ring.Origin("1", "c" * 16, "n1", "app", 1, "boot")
    ring = trace_ring.Ring(tmp_path / "traces", origin, 1 << 20, 8)
    for number, (at, [name, *fields]) in enumerate(WORKLOAD, 1):
        ring.ready(at * SECOND, number)
        ring.encoder.step("world", at * SECOND, kinds[name](*fields), [], [])
    ring.flush(ends=True)
    return tmp_path / "traces"


def test_jepsens_history_has_every_operation(traced: Path, tmp_path: Path) -> None:
    report = export([traced], Options("jepsen", tmp_path / "out.edn"))
    assert report.message == "4 writes, 1 of them without an end; 0 reads"
    pattern = re.compile(
        r"\{:index (\d+), :time \d+, :process (\d+), :type :(invoke|ok|info), :f :write, "
        r':value \[(\d+) (\d+)\], :node "n1"\}'
    )
    rows = []
    for line in (tmp_path / "out.edn").read_text().splitlines():
        match = pattern.fullmatch(line)
        assert match
        rows.append((int(match[1]), int(match[2]), match[3], int(match[4]), int(match[5])))
    assert [row[0] for row in rows] == list(range(7))
    assert [row[1:] for row in rows] == [
        (0, "invoke", 10, 1),
        (1, "invoke", 11, 2),
        (0, "ok", 10, 1),
        (0, "invoke", 10, 3),
        (1, "info", 11, 2),
        (2, "invoke", 12, 4),
        (2, "ok", 12, 4),
    ]


def test_no_process_has_two_operations_at_once(traced: Path, tmp_path: Path) -> None:
    export([traced], Options("jepsen", tmp_path / "out.edn"))
    busy: dict[str, bool] = {}
    for line in (tmp_path / "out.edn").read_text().splitlines():
        [process] = re.findall(r":process (\d+)", line)
        if ":invoke" in line:
            assert not busy.get(process), "a process of unknown outcome is used no more"
            busy[process] = True
        elif ":ok" in line:
            busy[process] = False


def test_porcupines_events_pair_calls_with_returns(traced: Path, tmp_path: Path) -> None:
    export([traced], Options("porcupine", tmp_path / "out"))
    events = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert all(set(event) == {"ClientId", "Kind", "Value", "Id"} for event in events)
    calls = [event["Id"] for event in events if not event["Kind"]]
    returns = [event["Id"] for event in events if event["Kind"]]
    assert calls == [0, 1, 2, 3]
    assert sorted(returns) == calls
    unknown = [event["Id"] for event in events if event["Value"].get("unknown")]
    assert unknown == [1, 2]
    assert returns[-2:] == unknown, "they may take effect until the end"
