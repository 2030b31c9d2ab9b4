"""The log of a module, written by two processes and read while it grows."""

import errno
import fcntl
import json
import os
import shutil
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm import modulelog
from mirrorfarm.modulelog import (
    BYTES_ANSWERED_MAX,
    LINES_ANSWERED_MAX,
    TEXT_CHARACTERS_MAX,
    ModuleLog,
    read_log,
)


def test_two_writers_share_the_numbers(tmp_path: Path) -> None:
    with closing(ModuleLog(tmp_path)) as one, closing(ModuleLog(tmp_path)) as two:
        for number in range(5):
            one.write("E", "module", f"a{number}")
            two.write("E", "replicator", f"b{number}")
    lines, last = read_log(tmp_path, 0, 100)
    assert [json.loads(line)["n"] for line in lines] == list(range(1, 11))
    assert last == 10


def test_the_last_lines_and_those_after_a_number(tmp_path: Path) -> None:
    with closing(ModuleLog(tmp_path)) as log:
        for number in range(20):
            log.write("E", "module", str(number))
        lines, last = read_log(tmp_path, -3, 100)
        assert [json.loads(line)["text"] for line in lines] == ["17", "18", "19"]
        log.write("E", "module", "news")
    lines, last = read_log(tmp_path, last, 100)
    assert [json.loads(line)["text"] for line in lines] == ["news"]
    assert read_log(tmp_path, last, 100) == ([], last)


def test_numbers_go_on_after_a_restart_and_a_torn_line(tmp_path: Path) -> None:
    with closing(ModuleLog(tmp_path)) as log:
        log.write("E", "module", "first")
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"n": 2, "te')
    with closing(ModuleLog(tmp_path)) as log:
        log.write("E", "module", "second")
        log.write("E", "module", "third")
    lines, _ = read_log(tmp_path, 0, 100)
    assert [json.loads(line)["text"] for line in lines][-1] == "third"


def test_an_answer_is_not_longer_than_a_frame(tmp_path: Path) -> None:
    long = "\N{SNOWMAN}" * TEXT_CHARACTERS_MAX
    with closing(ModuleLog(tmp_path)) as log:
        for _ in range(100):
            log.write("E", "module", long)
    newest, last = read_log(tmp_path, -100, LINES_ANSWERED_MAX)
    assert last == 100
    assert 1 < len(newest) < 100
    assert sum(len(line.encode()) for line in newest) <= BYTES_ANSWERED_MAX
    numbers: list[int] = []
    lines, after = read_log(tmp_path, 0, LINES_ANSWERED_MAX)
    while lines:
        numbers += [json.loads(line)["n"] for line in lines]
        lines, after = read_log(tmp_path, after, LINES_ANSWERED_MAX)
    assert numbers == list(range(1, 101)), "who continues is told all"


def test_a_disk_that_hangs_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modulelog, "LINES_WAITING_MAX", 3)
    with closing(ModuleLog(tmp_path)) as log:
        log.write("E", "module", "before")
        with (tmp_path / "log.jsonl").open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)  # As a disk that does not go on.
            begin = time.monotonic()
            for number in range(6):
                log.write("E", "module", str(number))
            assert time.monotonic() - begin < 5
        deadline = time.monotonic() + 10
        while len(read_log(tmp_path, 0, 100)[0]) < 6 and time.monotonic() < deadline:
            time.sleep(0.005)
        log.write("E", "module", "after")
        lines, _ = read_log(tmp_path, 0, 100)  # Who says something waits for it again.
    texts = [json.loads(line)["text"] for line in lines]
    left_out = "2 lines were left out: the log could not be written so fast"
    assert texts == ["before", "0", "1", left_out, "2", "3", "after"]


def test_a_new_file_that_cannot_be_opened_ends_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modulelog, "BYTES_MAX", 1)

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    with closing(ModuleLog(tmp_path)) as log:
        with monkeypatch.context() as scarce:
            scarce.setattr(os, "open", refuse)
            log.write("E", "module", "first")
            log.write("E", "module", "second")
        log.write("E", "module", "third")
        log.write("E", "module", "fourth")
        assert "fourth" in (tmp_path / "log.jsonl.1").read_text()


def test_other_users_do_not_read_a_log_whichever_process_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modulelog, "BYTES_MAX", 1)
    folder = tmp_path / "web"
    with closing(ModuleLog(folder / "replica")) as replica, closing(ModuleLog(folder)) as module:
        for log in (replica, module):
            log.write("E", "module", "first")
            log.write("E", "module", "second")
    logs = [path for path in folder.rglob("log.jsonl*") if path.stat().st_mode & 0o640 == 0o640]
    assert len(logs) == 4
    assert not any(path.stat().st_mode & 0o027 for path in logs)


def test_a_log_that_was_removed_with_its_folder_begins_anew(tmp_path: Path) -> None:
    folder = tmp_path / "app"
    with closing(ModuleLog(folder)) as log:
        log.write("E", "module", "first")
        shutil.rmtree(folder)
        log.write("E", "module", "second")
        log.write("E", "module", "third")
    assert texts_of(folder) == ["second", "third"]
    assert folder.stat().st_mode & 0o777 == 0o750


def test_a_log_that_another_program_put_aside_is_not_written_to_any_more(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with closing(ModuleLog(tmp_path)) as log:
        log.write("E", "module", "first")
        path.rename(tmp_path / "aside")
        path.touch()
        log.write("E", "module", "second")
    assert texts_of(tmp_path) == ["second"]
    assert read_log(tmp_path, 0, 100)[1] == 2


def texts_of(folder: Path) -> list[str]:
    return [json.loads(line)["text"] for line in read_log(folder, 0, 100)[0]]


def test_what_follows_a_torn_line_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"n": 1, "text": "first"}\n{"n": 2, "te')
    with closing(ModuleLog(tmp_path)) as log:
        log.write("E", "module", "second")
        with (tmp_path / "log.jsonl").open("a") as file:
            file.write('{"n": 3, "te')
        log.write("E", "module", "third")
    assert texts_of(tmp_path) == ["first", "second", "third"]


def test_numbers_go_on_after_the_longest_line(tmp_path: Path) -> None:
    for text in ("first", "\N{GRINNING FACE}" * TEXT_CHARACTERS_MAX, "last"):
        with closing(ModuleLog(tmp_path)) as log:
            log.write("E", "module", text)
    numbers = [json.loads(line)["n"] for line in read_log(tmp_path, 0, 100)[0]]
    assert numbers == [1, 2, 3]


def test_a_disk_that_takes_no_log_keeps_nothing_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(ModuleLog(tmp_path)) as log:
        log.write("E", "module", "first")

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as failing:
        failing.setattr(Path, "open", refuse)
        log = ModuleLog(tmp_path)
        log.write("E", "module", "second")
    with closing(log):
        log.write("E", "module", "third")
    missing = "1 lines were left out: the log could not be written (Read-only file system)"
    assert texts_of(tmp_path) == ["first", "third", missing]


def test_a_full_disk_costs_only_what_was_said_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        """A file that takes ten bytes of a line."""

        def __init__(self, file: Any) -> None:
            self._file = file

        def write(self, data: bytes) -> Any:
            return self._file.write(data[:10])

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    with closing(ModuleLog(tmp_path)) as log:
        log.write("E", "module", "first")
        file = log._file
        monkeypatch.setattr(log, "_file", Full(file))
        log.write("E", "module", "second")
        monkeypatch.setattr(log, "_file", file)
        log.write("E", "module", "third")
    missing = "1 lines were left out: the log could not be written (No space left on device)"
    assert texts_of(tmp_path) == ["first", "third", missing]


@pytest.mark.parametrize("end_bytes", [10, 65_536])
@pytest.mark.parametrize("after", [-500, -30, -7, -1, 0, 5, 39, 40, 41, 60, 79, 80, 90])
def test_what_is_asked_for_is_found_from_the_end_in_both_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end_bytes: int, after: int
) -> None:
    monkeypatch.setattr(modulelog, "END_BYTES", end_bytes)
    for name, first in (("log.jsonl.1", 1), ("log.jsonl", 41)):
        rows = [json.dumps({"n": number}) for number in range(first, first + 40)]
        (tmp_path / name).write_text("\n".join([*rows[:20], '{"torn', *rows[20:], ""]))
    wanted = list(range(1, 81))[after:] if after < 0 else list(range(after + 1, 81))
    lines, last = read_log(tmp_path, after, 500)
    assert [json.loads(line)["n"] for line in lines] == wanted
    assert last == max(80, after)


def test_who_follows_a_log_reads_only_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = json.dumps({"n": 1, "text": "x" * 100})
    for name in ("log.jsonl.1", "log.jsonl"):
        (tmp_path / name).write_text(f"{line}\n" * 5_000)
    with closing(ModuleLog(tmp_path)) as log:
        log.write("E", "module", "news")
    looked, real = [0], json.loads

    def count(text: str) -> Any:
        looked[0] += 1
        return real(text)

    monkeypatch.setattr(json, "loads", count)
    assert len(read_log(tmp_path, 1, 500)[0]) == 1
    assert looked[0] < 1_000
