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
# Write 2 never began, so its process is free for the reads.
READS: list[tuple[int, list[Any]]] = [
    (1, ["Invoked", 1, 10]),
    (2, ["Told", 1, 10, 1]),
    (3, ["Invoked", 2, 10]),
    (4, ["Refused", 2, 10]),
    (5, ["Read", 1, 10]),
    (6, ["Read", 0, 11]),
]


@pytest.fixture(name="traced")
def fixture_traced(tmp_path: Path) -> Path:
    return recorded(tmp_path, WORKLOAD)


def recorded(tmp_path: Path, workload: list[tuple[int, list[Any]]]) -> Path:
    import msgspec  # noqa: PLC0415

    class Invoked(msgspec.Struct, frozen=True, array_like=True, tag=True):
        write: int
        extent: int

    class Failed(Invoked, frozen=True, array_like=True, tag=True):
        pass

    class Told(Invoked, frozen=True, array_like=True, tag=True):
        term: int

    class Refused(Invoked, frozen=True, array_like=True, tag=True):
        pass

    class Read(Invoked, frozen=True, array_like=True, tag=True):
        pass

    kinds: dict[str, Any] = {one.__name__: one for one in (Invoked, Failed, Told, Refused, Read)}
    origin = trace_ring.Origin("1", "c" * 16, "n1", "app", 1, "boot")
    ring = trace_ring.Ring(tmp_path / "traces", origin, 1 << 20, 8)
    for number, (at, [name, *fields]) in enumerate(workload, 1):
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


def test_reads_and_writes_that_did_not_happen_are_told_as_such(tmp_path: Path) -> None:
    traced = recorded(tmp_path, READS)
    report = export([traced], Options("jepsen", tmp_path / "out.edn"))
    assert report.message == "2 writes, 0 of them without an end; 2 reads"
    told = [
        re.sub(r".*:process (\d+), ", r"\1 ", line)
        for line in (tmp_path / "out.edn").read_text().splitlines()
    ][3:]
    assert [line.rpartition(", :node")[0] for line in told] == [
        "0 :type :fail, :f :write, :value [10 2]",
        "0 :type :invoke, :f :read, :value [10 nil]",
        "0 :type :ok, :f :read, :value [10 1]",
        "0 :type :invoke, :f :read, :value [11 nil]",
        "0 :type :ok, :f :read, :value [11 nil]",
    ]
    export([traced], Options("porcupine", tmp_path / "out"))
    events = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    values = [event["Value"] for event in events if event["Kind"]]
    assert [value["ok"] for value in values] == [True, False, True, True]
    assert not any(value.get("unknown") for value in values)
    assert [value["value"] for value in values] == [1, 2, 1, None]
