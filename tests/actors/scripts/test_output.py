import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirrorfarm.actors.scripts import output as scripts_output
from mirrorfarm.actors.scripts.output import LogWriter, Output, RunLog, prune


@pytest.fixture
def writer() -> Iterator[LogWriter]:
    made = LogWriter()
    yield made
    made.close()


def new_log(folder: Path, words: tuple[str, ...] = ()) -> RunLog:
    return RunLog(folder, "start_prim", words, pytest.fail)


def test_log_of_a_run_has_its_date_and_script_in_name_and_header(tmp_path: Path) -> None:
    log = new_log(tmp_path / "scripts", ("WAIT", "ALONE", "start"))
    log.open()
    log.close()
    assert log.path.name.endswith("_start_prim.ulog")
    assert log.path.read_text().endswith(" start_prim WAIT ALONE start\n")
    assert log.path.stat().st_mode & 0o777 == 0o600


def test_output_beyond_the_cap_is_thrown_away_with_a_note(
    tmp_path: Path, writer: LogWriter
) -> None:
    log = new_log(tmp_path)
    output = Output(writer, log, len(log.header) + 10)
    os.write(output.writer, b"0123456789")
    assert output.pump()
    assert not output.full
    os.write(output.writer, b"abc")
    assert output.pump()
    assert output.full
    os.write(output.writer, b"more")
    output.close_writer()
    assert output.pump()
    assert not output.pump()
    output.close()
    writer.close()
    lines = log.path.read_text().splitlines()
    assert lines[1] == "0123456789"
    assert "truncated" in lines[2]
    assert "abc" not in log.path.read_text()


def test_a_file_that_cannot_be_written_is_told_once_and_stops_nobody(
    tmp_path: Path, writer: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    told: list[str] = []
    log = RunLog(tmp_path, "start_prim", (), told.append)
    monkeypatch.setattr(scripts_output, "_write", refuse)
    output = Output(writer, log, 1_000)
    os.write(output.writer, b"one")
    assert output.pump()
    writer.close()
    os.write(output.writer, b"two")
    assert output.pump()
    assert output.full
    output.close_writer()
    assert not output.pump()
    output.close()
    (why,) = told
    assert why.startswith(f"{log.path}: No space left on device: ")


def test_a_file_that_cannot_be_closed_is_told_once_and_stops_nobody(
    tmp_path: Path, writer: LogWriter
) -> None:
    """Over a network, or beyond a quota, closing may say what writing did not."""
    told: list[str] = []
    log = RunLog(tmp_path, "start_prim", (), told.append)
    log.open()
    os.close(log._file)
    writer.do(log.close)
    next_log = RunLog(tmp_path, "stop_prim", (), told.append)
    writer.do(next_log.open)
    writer.close()
    assert next_log.path.exists()
    (why,) = told
    assert why.startswith(f"{log.path}: Bad file descriptor: ")
    next_log.close()


def test_output_waits_for_a_disk_that_is_slow(
    tmp_path: Path, writer: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts_output, "WAITING_BYTES_MAX", 2)
    goes_on = threading.Event()

    def hold() -> None:
        goes_on.wait(20)

    writer.do(hold)
    log = new_log(tmp_path)
    output = Output(writer, log, 1_000)
    for word in (b"one", b"two"):
        os.write(output.writer, word)
        assert output.pump()
        assert output.rests
        assert not output.full
    goes_on.set()
    while output.rests:
        time.sleep(0.001)
    output.close_writer()
    while output.pump():
        time.sleep(0.001)
    output.close()
    writer.close()
    assert log.path.read_text().endswith("\nonetwo")


def test_empty_pipe_is_not_its_end(writer: LogWriter) -> None:
    output = Output(writer, None, 0)
    assert output.pump()
    output.close_writer()
    assert not output.pump()
    output.close()


def test_only_the_newest_logs_are_kept(tmp_path: Path) -> None:
    paths = [tmp_path / f"2026-01-0{number}_x.ulog" for number in range(10)]
    for path in (*paths, tmp_path / "other"):
        path.touch()
    prune(paths[9], 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "2026-01-07_x.ulog",
        "2026-01-08_x.ulog",
        "2026-01-09_x.ulog",
        "other",
    ]
    prune(tmp_path / "none" / "any")


def test_logs_of_a_clock_that_was_ahead_go_first(tmp_path: Path) -> None:
    names = ["2026-01-01_x", "2026-01-02_x", "2099-01-01_x", "2099-01-02_x"]
    paths = [tmp_path / f"{name}.ulog" for name in names]
    for path in paths:
        path.touch()
    prune(paths[1], 3)
    assert sorted(tmp_path.iterdir()) == [*paths[:2], paths[3]]
    prune(paths[1], 1)
    assert sorted(tmp_path.iterdir()) == [paths[1]]
