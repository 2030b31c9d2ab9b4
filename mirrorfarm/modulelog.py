"""The log of a module: JSON lines with a number, bounded in size, readable while it is written.

A thread writes it. Whoever has something to say waits until it is in the file, but not for a disk
that hangs: a primary whose state machine did would go on to be heard, and decide nothing any more.
"""

import fcntl
import json
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from mirrorfarm.limits import FRAME_BYTES_MAX

BYTES_MAX = 4 * 1_048_576  # Then the file becomes log.jsonl.1 and a new one begins.
LINES_ANSWERED_MAX = 500
BYTES_ANSWERED_MAX = FRAME_BYTES_MAX // 2  # They are one frame.
TEXT_CHARACTERS_MAX = 2_000
PATIENCE_SECONDS = 0.05  # With a disk that may hang; while it does, nobody waits at all.
LINES_WAITING_MAX = 1_000
CLOSE_SECONDS = 2.0


class ModuleLog:
    """Appends lines; the processes of one module share the file, and its numbers."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._path = folder / "log.jsonl"
        self._changed = threading.Condition()  # Of what follows.
        self._waiting: deque[tuple[float, str, str, str]] = deque()  # Time, level, origin, text.
        self._given = self._written = 0  # How many lines.
        self._left_out = 0  # Lines for which there was no room.
        self._hangs = self._closing = False
        self._number = _last_number(self._path) or _last_number(_older(self._path))
        self._file = self._path.open("ab", buffering=0)
        self._end = os.fstat(self._file.fileno()).st_size
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, level: str, origin: str, text: str) -> None:
        """Append one line. Levels: C critical, E event, U user, S script, I and D verbose."""
        with self._changed:
            if self._closing:
                return
            if len(self._waiting) >= LINES_WAITING_MAX:
                self._left_out += 1
                return
            self._waiting.append((time.time(), level, origin, text))
            self._given += 1
            number = self._given
            self._changed.notify_all()
            if not self._hangs:
                self._hangs = not self._changed.wait_for(
                    lambda: self._written >= number, PATIENCE_SECONDS
                )

    def close(self) -> None:
        """Close the file; what was written is in it, unless its disk hangs."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(CLOSE_SECONDS)

    # --- the writer's thread ---------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    break
                line = self._waiting.popleft()
                left_out, self._left_out = self._left_out, 0
            self._put(*line)
            if left_out:
                text = f"{left_out} lines were left out: the log could not be written so fast"
                self._put(time.time(), "C", "log", text)
            with self._changed:
                self._written += 1
                self._hangs = self._hangs and bool(self._waiting)
                self._changed.notify_all()
        self._file.close()

    def _put(self, now: float, level: str, origin: str, text: str) -> None:
        try:
            locked = self._file
            fcntl.flock(locked, fcntl.LOCK_EX)
            try:
                self._append(now, level, origin, text)
            finally:
                if not locked.closed:
                    fcntl.flock(locked, fcntl.LOCK_UN)
        except OSError:
            pass  # A full disk must not stop the module; the trace and `why` still work.

    def _append(self, now: float, level: str, origin: str, text: str) -> None:
        size = os.fstat(self._file.fileno()).st_size
        if size != self._end:  # Another process of the module wrote since.
            self._number = max(self._number, _last_number(self._path))
        self._number += 1
        line = {
            "n": self._number,
            "t": round(now, 3),
            "level": level,
            "origin": origin,
            "text": text[:TEXT_CHARACTERS_MAX],
        }
        self._file.write(json.dumps(line).encode() + b"\n")
        self._end = os.fstat(self._file.fileno()).st_size
        if self._end > BYTES_MAX:
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._file.fileno()), self._path.stat()):
                    self._path.replace(_older(self._path))
        if not self._path.exists() or self._end > BYTES_MAX:
            opened = self._path.open("ab", buffering=0)  # Until there is another, this one serves.
            self._file.close()
            self._file, self._end = opened, -1


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
