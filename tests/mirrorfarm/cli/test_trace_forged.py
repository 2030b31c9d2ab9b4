"""Records that no recorder writes: each is told as a fault of its frame, by every command."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zstandard

from mirrorfarm.cli.main import main
from mirrorfarm.trace.decoder import MADE_MAX, VALUES_MAX
from mirrorfarm.trace.files import Fault, sources
from mirrorfarm.trace.step import Step
from mirrorfarm.trace.steps import read_items

Run = Callable[..., tuple[int, str]]
HEADER: dict[str, Any] = {
    "mft": 2,
    "node": "n1",
    "process": "web",
    "inc": 1,
    "epoch_real_ns": 1_795_620_787_608_611_620,
    "build": "b",
    "cores": {"module": "Mirror"},
    "cluster": "c" * 16,
    "os_boot": "boot",
    "types": {"X": ["many", "one"]},
    "redact": "none",
}
HEAD: dict[str, Any] = {"now": 1_000_000_000, "lamport": 1, "records": 0, "digest": b""}
STARTED = [-1, 0, "module", ["Started"], []]
STEP = [0, 1]
COMMANDS = ("show", "show --json", "replay", "check", "merge", "export --to jsonl -o {}")
RECORDS: dict[str, list[Any]] = {
    "no time": [{**HEAD, "now": math.inf}, STARTED, STEP],
    "no digest": [{**HEAD, "digest": 1 << 40}, STARTED, STEP],
    "time goes on by nothing": [HEAD, STARTED, [0, math.nan]],
    "time goes on by half a nanosecond": [HEAD, STARTED, [0, 1.5], STEP],
    "no number of steps lost": [HEAD, STARTED, STEP, [-10, "lost", math.nan], STEP],
    "unreadable, but not what": [HEAD, STARTED, STEP, [-10, "unreadable"], STEP],
    "a note without a name": [HEAD, STARTED, STEP, [-10, ["x"]], STEP],
    "state of no actor": [HEAD, [-11, ["a"], "Mirror", {}, True], STARTED, STEP],
    "state of no core": [HEAD, [-11, "a", ["Mirror"], {}, True], STARTED, STEP],
    "a type that changes": [HEAD, [-1, 0, "module", ["X", 1], [[0]]], STEP, [0, 1, 0, [{"a": 1}]]],
}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        err = capsys.readouterr().err
        assert "Traceback" not in err
        return int(end.value.code or 0), err

    return call


def write(folder: Path, *records: Any) -> Path:
    """Write a trace of one frame; bytes are taken as they are."""
    folder.mkdir()
    rows = [one if type(one) is bytes else msgpack.packb(one) for one in records]
    frames = (msgpack.packb(HEADER), b"".join(rows))
    (folder / "trace-00000001.mft").write_bytes(b"".join(map(zstandard.compress, frames)))
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_tells_forged_records(command: str, run: Run, tmp_path: Path) -> None:
    words = command.format(tmp_path / "out").split()
    for number, (what, records) in enumerate(RECORDS.items()):
        code, err = run("trace", *words, write(tmp_path / str(number), *records))
        assert "the frame is damaged: " in err, what
        assert code in {0, 1, 11}, what


def steps(folder: Path) -> tuple[list[Step], list[Fault]]:
    faults: list[Fault] = []
    (source,) = sources([folder])
    items = read_items(source, faults.append)
    return [item for item in items if isinstance(item, Step)], faults


def test_rows_within_each_other_have_an_end(tmp_path: Path) -> None:
    deep = b"\x95\xff\x00\xa6module\x92\xa1X" + b"\x91" * 500 + b"\x00\x90"
    read, faults = steps(write(tmp_path / "t", HEAD, deep, STEP))
    assert not read
    assert "more than 32 rows within each other" in str(faults[0])


def test_small_records_do_not_make_values_without_end(tmp_path: Path) -> None:
    large = [-1, 1, "module", ["X", [0] * (VALUES_MAX - 1), 0], [[2]]]
    records = [HEAD, STARTED, STEP, large, *[[1, 0, 1]] * 20_000]
    folder = write(tmp_path / "t", *records)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000
    read, faults = steps(folder)
    assert not read
    assert f"its records make more than {MADE_MAX:,} values" in str(faults[0])


def test_what_a_place_was_replaced_by_is_not_counted_for_ever(tmp_path: Path) -> None:
    small = [-1, 1, "module", ["X", [], 0], [[1], [2]]]
    changes = [[1, 0, [1] * 20, 1, 1] for _ in range(30_000)]
    read, faults = steps(write(tmp_path / "t", HEAD, STARTED, STEP, small, *changes))
    assert not faults
    assert len(read[0].effects) == 30_000
    assert read[0].effects[-1].named() == {"many": [1] * 20, "one": 30_000}


def test_a_record_that_changes_nothing_makes_nothing(tmp_path: Path) -> None:
    large = [-1, 1, "module", ["X", [0] * (VALUES_MAX - 1), 0], [[2]]]
    folder = write(tmp_path / "t", HEAD, STARTED, STEP, large, *[[1]] * 20_000)
    (step,), faults = steps(folder)
    assert not faults
    assert len({id(effect) for effect in step.effects}) == 1
