"""The file of results: appended, torn, damaged, foreign, in use, joined."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.errors import RecordInvalid, Refused
from mirrorfarm.sim.sweeps.outputs import write_outputs
from mirrorfarm.sim.sweeps.result import SeedResult
from mirrorfarm.sim.sweeps.results import LINE_BYTES_MAX, Appender, Header, read_results
from tests.sim.sweeps.stand_in import quick

HEADER = Header(options="mirror", build=quick("mirror", 0).build)


def write(path: Path, *seeds: int, header: Header = HEADER) -> None:
    appender = Appender(path, header)
    appender.append(quick("mirror", seed) for seed in seeds)
    appender.close()


def test_results_come_back_in_the_order_of_seeds(tmp_path: Path) -> None:
    write(tmp_path / "r.jsonl", 5, 3, 2**64 - 1, 1)
    results = read_results([tmp_path / "r.jsonl"])
    assert list(results) == [quick("mirror", seed) for seed in (1, 3, 5, 2**64 - 1)]
    assert not results.damaged


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_a_torn_last_line_is_cut_off_and_its_seed_is_missing(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "r.jsonl"
    write(path, 1, 2, 3)
    path.write_bytes(path.read_bytes()[:-cut])
    assert read_results([path]).seeds() == {1, 2}  # Reading alone changes nothing.
    appender = Appender(path, HEADER)
    assert appender.torn_bytes > 0
    assert appender.results.seeds() == {1, 2}
    appender.append([quick("mirror", 4)])
    appender.close()
    results = read_results([path])
    assert (results.seeds(), results.damaged) == ({1, 2, 4}, [])


def test_zeros_after_a_loss_of_power_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write(path, 1)
    path.write_bytes(path.read_bytes() + bytes(4_096))
    appender = Appender(path, HEADER)
    assert (appender.torn_bytes, appender.results.seeds()) == (4_096, {1})
    appender.close()


def test_a_torn_first_line_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"sweep":1,"opt')
    write(path, 1)
    assert read_results([path]).seeds() == {1}


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        b"{}\n",
        b'{"seed":-1,"options":"mirror","build":"x","outcome":"ok"}\n',
        b'{"seed":36893488147419103232,"options":"mirror","build":"x","outcome":"ok"}\n',
        b'{"seed":9,"options":"farm","build":"x","outcome":"ok"}\n',
        b"x" * (LINE_BYTES_MAX + 10) + b"\n",
    ],
)
def test_a_damaged_line_is_reported_and_the_others_count(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "r.jsonl"
    write(path, 1)
    path.write_bytes(path.read_bytes() + line)
    write(path, 2)
    results = read_results([path])
    assert results.seeds() == {1, 2}
    assert results.damaged[0] == f"{path}:3"


CHANGED: list[tuple[str, Any]] = [
    ("seed", 2**64),
    ("outcome", "fine"),
    ("simulated_ns", 2**63),
    ("steps", 99_999_999_999_999_999_999),
    ("failover_ns", [-5]),
    ("failover_ns", [2**63]),
    ("states", [99_999_999_999]),
    ("states", [-1]),
    ("wall_seconds", -1.0),
    ("wall_seconds", 1e308),
    *((name, {"": 1}) for name in ("faults", "cells", "fault_states", "sometimes", "tricks")),
    *((name, {"a b c": -1}) for name in ("faults", "cells", "fault_states")),
    *((name, {"a b c": 2**63}) for name in ("sometimes", "tricks", "cells")),
]


@pytest.mark.parametrize(("name", "value"), CHANGED)
def test_a_value_that_cannot_be_is_a_damaged_line(tmp_path: Path, name: str, value: object) -> None:
    path = tmp_path / "r.jsonl"
    write(path, 1, 2)
    lines = path.read_text().splitlines()
    changed = {**json.loads(lines[2]), name: value}
    path.write_text("\n".join([*lines[:2], json.dumps(changed), ""]))
    results = read_results([path])
    assert (results.seeds(), results.damaged) == ({1}, [f"{path}:3"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cells", {" ": 1, "mirror": 1, "mirror x": 1, "mirror x y z": 2**63 - 1}),
        ("fault_states", {" ": 1, "crash": 2**63 - 1}),
        ("faults", {" ": 0, "x": 2**63 - 1}),
        ("failover_ns", [0, 2**63 - 1]),
        ("simulated_ns", 2**63 - 1),
        ("states", [2**32 - 1]),
        ("outcome", "violation"),
        ("outcome", "error"),
        ("message", "\0\x1b\U0010ffff"),
    ],
)
def test_a_value_that_can_be_is_reported(tmp_path: Path, name: str, value: object) -> None:
    path = tmp_path / "r.jsonl"
    write(path, 1, 2)
    lines = path.read_text().splitlines()
    changed = {**json.loads(lines[2]), name: value}
    path.write_text("\n".join([*lines[:2], json.dumps(changed), ""]))
    results = read_results([path])
    assert results.seeds() == {1, 2}
    written = write_outputs(
        results, tmp_path / "out", shrink=None, replay=lambda options, seed: (quick("", seed), [])
    )
    assert (tmp_path / "out" / "report.html") in written.paths


@pytest.mark.parametrize(
    "text", ["", "hello\n", '{"a": 1}\n', '{"sweep":2,"options":"","build":""}']
)
def test_a_foreign_file_is_refused_and_untouched(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(text)
    with pytest.raises(RecordInvalid, match=r"r\.jsonl is not a file of a sweep's results"):
        read_results([path])
    if text:
        with pytest.raises(RecordInvalid):
            Appender(path, HEADER)
        assert path.read_text() == text


def test_results_of_another_build_are_neither_continued_nor_joined(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", 1)
    other = Header(options="mirror", build="other")
    with pytest.raises(Refused, match="holds results of options 'mirror', build"):
        Appender(tmp_path / "a.jsonl", other)
    Appender(tmp_path / "b.jsonl", other).close()
    with pytest.raises(Refused, match="cannot be joined"):
        read_results([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])


def test_what_cannot_be_read_again_is_refused_with_its_name(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/null")):
        with pytest.raises(RecordInvalid, match=f"^{path} is a device"):
            Appender(path, HEADER)
        with pytest.raises(RecordInvalid, match=f"^{path} is a device"):
            read_results([path])


def test_two_sweeps_cannot_append_to_one_file(tmp_path: Path) -> None:
    first = Appender(tmp_path / "r.jsonl", HEADER)
    with pytest.raises(Refused, match="another sweep writes"):
        Appender(tmp_path / "r.jsonl", HEADER)
    first.close()
    Appender(tmp_path / "r.jsonl", HEADER).close()


def test_parts_are_joined_and_a_seed_counts_once(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", 2, 4)
    write(tmp_path / "b.jsonl", 1, 2)
    results = read_results([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
    assert [result.seed for result in results] == [1, 2, 4]


def keep(path: Path, result: SeedResult) -> Path:
    appender = Appender(path, HEADER)
    appender.append([result])
    appender.close()
    return path


@pytest.mark.parametrize("backwards", [False, True])
def test_two_results_of_a_seed_that_differ_are_told(tmp_path: Path, backwards: bool) -> None:
    """One of them failed: whichever counts, the other one does not vanish in silence."""
    good = quick("mirror", 1)
    bad = replace(good, outcome="violation", invariant="S3", digest="f" * 32)
    paths = [keep(tmp_path / "a.jsonl", bad), keep(tmp_path / "b.jsonl", good)]
    ordered = paths[::-1] if backwards else paths
    assert read_results(ordered).differing == [f"{ordered[1]}:2"]
    again = keep(tmp_path / "c.jsonl", replace(good, wall_seconds=9.0))
    assert not read_results([paths[1], again]).differing, "another machine is slower"


@pytest.mark.parametrize("backwards", [False, True])
def test_a_run_that_went_to_its_end_counts_more_than_one_that_broke_off(
    tmp_path: Path, backwards: bool
) -> None:
    """Its worker died, say, for want of memory, and it was played again."""
    good = quick("mirror", 1)
    lost = replace(good, outcome="error", invariant="WorkerDied", digest="")
    paths = [keep(tmp_path / "a.jsonl", lost), keep(tmp_path / "b.jsonl", good)]
    results = read_results(paths[::-1] if backwards else paths)
    assert list(results) == [good]
    assert not results.differing
