"""An export appears when it is whole, and says what it could not do."""

import shutil
from pathlib import Path

import pytest

from mirrorfarm.errors import TraceInvalid, UsageInvalid
from mirrorfarm.trace.export import FORMATS, Options, export
from mirrorfarm.trace.export.jsonl import Jsonl

HISTORIES = {"jepsen", "porcupine"}


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - HISTORIES))
def test_every_format_writes_one_file_and_tells_each_step(
    name: str, recorded: Path, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    report = export(
        [recorded],
        Options(name, tmp_path / "out"),
        on_step=lambda done, total: told.append((done, total)),
    )
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").stat().st_size > 500
    assert told == [(number, report.steps) for number in range(1, report.steps + 1)]
    assert {clock.node for clock in report.clocks} == {"n1", "n2", "w"}


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - HISTORIES))
def test_the_same_traces_give_the_same_file(name: str, recorded: Path, tmp_path: Path) -> None:
    for copy in ("a", "b"):
        export([recorded], Options(name, tmp_path / copy))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("name", sorted(HISTORIES))
def test_a_trace_without_writes_has_no_history(name: str, recorded: Path, tmp_path: Path) -> None:
    with pytest.raises(TraceInvalid, match="no workload of writes: record a run"):
        export([recorded], Options(name, tmp_path / "out"))
    assert not list(tmp_path.iterdir())


def test_what_breaks_leaves_nothing_that_looks_whole(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Jsonl, "close", full)
    (tmp_path / "out").write_text("an older export")
    with pytest.raises(OSError, match="No space left") as caught:
        export([recorded], Options("jsonl", tmp_path / "out"))
    assert caught.value.filename == str(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_text() == "an older export"


def test_a_link_is_followed_and_stays(recorded: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("an older export")
    (tmp_path / "link").symlink_to("file")
    export([recorded], Options("jsonl", tmp_path / "link"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text().startswith("{")


def test_a_folder_that_is_not_there_is_named(recorded: Path, tmp_path: Path) -> None:
    with pytest.raises(TraceInvalid, match="missing: there is no such folder; make it first"):
        export([recorded], Options("jsonl", tmp_path / "missing" / "out"))


@pytest.mark.parametrize("name", ["jsonl", "parquet"])
def test_an_output_of_the_wrong_kind_is_refused(name: str, recorded: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    if name == "parquet":
        output.write_text("precious")
    else:
        output.mkdir()
    with pytest.raises(UsageInvalid, match="choose another name"):
        export([recorded], Options(name, output))
    assert output.is_dir() or output.read_text() == "precious"


@pytest.mark.parametrize("output", ["trace.mft", "link.json", "other.mft", "link.mft"])
def test_a_trace_is_not_replaced(output: str, recorded: Path, tmp_path: Path) -> None:
    [trace] = (recorded / "n1").rglob("*.mft")
    read, other = tmp_path / "trace.mft", tmp_path / "other.mft"
    shutil.copy(trace, read)
    other.write_bytes(b"of another day")
    (tmp_path / "link.json").symlink_to(read)
    (tmp_path / "link.mft").symlink_to(other)
    with pytest.raises(UsageInvalid, match="a trace, and would be replaced: choose another name"):
        export([read], Options("jsonl", tmp_path / output))
    assert read.read_bytes() == trace.read_bytes()
    assert other.read_bytes() == b"of another day"
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("output", ["copy", "link"])
def test_what_is_read_is_not_replaced_whatever_its_name(
    output: str, recorded: Path, tmp_path: Path
) -> None:
    [trace] = (recorded / "n1").rglob("*.mft")
    shutil.copy(trace, tmp_path / "copy")
    (tmp_path / "link").symlink_to("copy")
    (tmp_path / "link.mft").symlink_to("copy")
    for read in ("copy", "link", "link.mft"):
        with pytest.raises(UsageInvalid, match="is to be read, and would be replaced: choose"):
            export([tmp_path / read], Options("jsonl", tmp_path / output))
    assert (tmp_path / "copy").read_bytes() == trace.read_bytes()


@pytest.mark.parametrize("breaks", [False, True])
def test_unfinished_output_takes_no_name_that_is_taken(
    breaks: bool, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> str:
        raise OSError(28, "No space left on device")

    names = ("out.part", "out.1.part", "out.2.part")
    for name in names:
        (tmp_path / name).write_text("precious")
    if breaks:
        monkeypatch.setattr(Jsonl, "close", broken)
        with pytest.raises(OSError, match="No space left"):
            export([recorded], Options("jsonl", tmp_path / "out"))
    else:
        export([recorded], Options("jsonl", tmp_path / "out"))
    assert [(tmp_path / name).read_text() for name in names] == ["precious"] * 3
    assert (tmp_path / "out").exists() is not breaks
    assert len(list(tmp_path.iterdir())) == 3 + (not breaks)
