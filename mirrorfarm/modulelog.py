"""The log of a module: JSON lines with a number, bounded in size, readable while it is written."""

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mirrorfarm.limits import FRAME_BYTES_MAX

BYTES_MAX = 4 * 1_048_576  # Then the file becomes log.jsonl.1 and a new one begins.
LINES_ANSWERED_MAX = 500
BYTES_ANSWERED_MAX = FRAME_BYTES_MAX // 2  # They are one frame.
TEXT_CHARACTERS_MAX = 2_000


class ModuleLog:
    """Appends lines; the processes of one module share the file, and its numbers."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._path = folder / "log.jsonl"
        self._lock = threading.Lock()
        self._number = _last_number(self._path) or _last_number(_older(self._path))
        self._file = self._path.open("ab", buffering=0)
        self._end = os.fstat(self._file.fileno()).st_size

    def write(self, level: str, origin: str, text: str) -> None:
        """Append one line. Levels: C critical, E event, U user, S script, I and D verbose."""
        with self._lock:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX)
                try:
                    self._append(level, origin, text)
                finally:
                    fcntl.flock(self._file, fcntl.LOCK_UN)
            except OSError:
                pass  # A full disk must not stop the module; the trace and `why` still work.

    def close(self) -> None:
        """Close the file; what was written is in it."""
        self._file.close()

    def _append(self, level: str, origin: str, text: str) -> None:
        size = os.fstat(self._file.fileno()).st_size
        if size != self._end:  # Another process of the module wrote since.
            self._number = max(self._number, _last_number(self._path))
        self._number += 1
        line = {
            "n": self._number,
            "t": round(time.time(), 3),
            "level": level,
            "origin": origin,
            "text": text[:TEXT_CHARACTERS_MAX],
        }
        self._file.write(json.dumps(line).encode() + b"\n")
        self._end = os.fstat(self._file.fileno()).st_size
        if self._end > BYTES_MAX and os.path.samestat(
            os.fstat(self._file.fileno()), self._path.stat()
        ):
            self._path.replace(_older(self._path))
        if not self._path.exists() or self._end > BYTES_MAX:
            self._file.close()
            self._file = self._path.open("ab", buffering=0)
            self._end = -1


def read_log(folder: Path, after: int, count: int) -> tuple[list[str], int]:
    """Return up to `count` lines numbered above `after`, and the number to continue from.

    A negative `after` asks for the last `-after` lines.
    """
    count = max(1, min(count, LINES_ANSWERED_MAX))
    lines = [
        (record["n"], line)
        for path in (_older(folder / "log.jsonl"), folder / "log.jsonl")
        for record, line in _records(path)
    ]
    if after < 0:
        chosen = _fitting(lines[max(after, -LINES_ANSWERED_MAX) :][::-1])[::-1]
    else:
        chosen = _fitting([entry for entry in lines if entry[0] > after][:count])
    last = chosen[-1][0] if chosen else max(after, lines[-1][0] if lines and after < 0 else 0)
    return [line for _, line in chosen], last


def _fitting(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Return as many of the first lines as one answer can carry."""
    size = 0
    for index, (_, line) in enumerate(lines):
        size += len(line.encode())
        if size > BYTES_ANSWERED_MAX:
            return lines[:index]
    return lines


def _older(path: Path) -> Path:
    return path.with_name(path.name + ".1")


def _records(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    record = json.loads(line)
                except ValueError:
                    continue  # The last line of a writer that was killed.
                if isinstance(record, dict) and isinstance(record.get("n"), int):
                    yield record, line.rstrip("\n")
    except FileNotFoundError:
        return


def _last_number(path: Path) -> int:
    """Return the number of the file's last whole line; 0: it has none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4 * TEXT_CHARACTERS_MAX))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return 0
    for line in reversed(lines):
        try:
            return int(json.loads(line)["n"])
        except (ValueError, TypeError, KeyError):
            continue
    return 0
