"""The log of a module: JSON lines with a number, bounded in size, readable while it is written.

A thread writes it. Whoever has something to say waits until it is in the file, but not for a disk
that hangs: a primary whose state machine did would go on to be heard, and decide nothing any more.
"""

import errno
import fcntl
import json
import math
import os
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from mirrorfarm.limits import FRAME_BYTES_MAX
from mirrorfarm.oserrors import reason_of

BYTES_MAX = 4 * 1_048_576  # Then the file becomes log.jsonl.1 and a new one begins.
LINES_ANSWERED_MAX = 500
BYTES_ANSWERED_MAX = FRAME_BYTES_MAX // 2  # They are one frame.
TEXT_CHARACTERS_MAX = 2_000
END_BYTES = 65_536
LINE_BYTES_MAX = 12 * TEXT_CHARACTERS_MAX + 1_000  # JSON may write 12 bytes for a character.
PATIENCE_SECONDS = 0.05  # With a disk that may hang; while it does, nobody waits at all.
LINES_WAITING_MAX = 1_000
CLOSE_SECONDS = 2.0
FILE_MODE: Final = 0o640  # Its folder may have been made by whoever came first, for something else.
_TOO_FAST: Final = "the log could not be written so fast"


class ModuleLog:
    """Appends lines; the processes of one module share the file, and its numbers."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "log.jsonl"
        self._changed = threading.Condition()  # Of what follows.
        self._waiting: deque[tuple[float, str, str, str]] = deque()  # Time, level, origin, text.
        self._given = self._written = 0  # How many lines.
        self._left_out = 0  # Lines for which there was no room.
        self._hangs = self._closing = False
        self._number = 0
        self._end = -1  # How long the file is; -1: look at what it ends with.
        self._file: IO[bytes] | None = None
        with suppress(OSError):  # A disk that takes no log must not keep the module from starting.
            self._file = self._opened()
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
        missing, why = 0, _TOO_FAST
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    break
                line = self._waiting.popleft()
                missing, self._left_out = missing + self._left_out, 0
            if fault := self._put(*line):
                missing, why = missing + 1, f"the log could not be written ({fault})"
            elif missing:
                text = f"{missing} lines were left out: {why}"
                if not self._put(time.time(), "C", "log", text):
                    missing, why = 0, _TOO_FAST
            with self._changed:
                self._written += 1
                self._hangs = self._hangs and bool(self._waiting)
                self._changed.notify_all()
        if self._file is not None:
            self._file.close()

    def _opened(self) -> IO[bytes]:
        """Return the file, opened for more lines; what follows continues its numbers."""
        last = _last_number(self._path) or _last_number(_older(self._path))
        self._number, self._end = max(self._number, last), -1
        return self._made()

    def _made(self) -> IO[bytes]:
        """Return the file, with its folder: whoever wanted room may have removed both."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        return open(self._path, "a+b", buffering=0, opener=_for_root)

    def _put(self, now: float, level: str, origin: str, text: str) -> str:
        """Write a line; return why not, or nothing: a full disk must not stop the module."""
        try:
            if self._file is None:
                self._file = self._opened()
            elif not self._is_named(self._file):
                with suppress(OSError):
                    self._exchange(self._file)
            locked = self._file
            fcntl.flock(locked, fcntl.LOCK_EX)
            try:
                self._append(locked, now, level, origin, text)
            finally:
                if not locked.closed:
                    fcntl.flock(locked, fcntl.LOCK_UN)
        except OSError as error:
            self._end = -1
            return reason_of(error)
        return ""

    def _append(self, file: IO[bytes], now: float, level: str, origin: str, text: str) -> None:
        size, begin = os.fstat(file.fileno()).st_size, b""
        if size != self._end:  # Just opened, or another process of the module wrote since.
            self._number = max(self._number, _last_number(self._path))
            if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
                begin = b"\n"  # A full disk, or the end of who wrote it, cut the last line short.
        self._number += 1
        line = {
            "n": self._number,
            "t": round(now, 3),
            "level": level,
            "origin": origin,
            "text": text[:TEXT_CHARACTERS_MAX],
        }
        data = begin + json.dumps(line).encode() + b"\n"
        if file.write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._end = os.fstat(file.fileno()).st_size
        if self._end > BYTES_MAX:
            if self._is_named(file):
                with suppress(FileNotFoundError):
                    self._path.replace(_older(self._path))
            self._exchange(file)

    def _is_named(self, file: IO[bytes]) -> bool:
        """Return whether the log's name is still that of this file: logrotate may move it."""
        try:
            return os.path.samestat(os.fstat(file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False

    def _exchange(self, file: IO[bytes]) -> None:
        """Write to another file from now on; until there is one, this one serves."""
        self._file, self._end = self._made(), -1
        file.close()


def _for_root(name: str, how: int) -> int:
    """Open a log; what modules and scripts say is not for every user of the machine."""
    return os.open(name, how, FILE_MODE)


def read_log(folder: Path, after: int, count: int) -> tuple[list[str], int]:
    """Return up to `count` lines numbered above `after`, and the number to continue from.

    A negative `after` asks for the last `-after` lines.
    """
    count = max(1, min(count, LINES_ANSWERED_MAX))
    lines = _end_of(folder / "log.jsonl", after)
    if not _suffice(lines, after):
        before = lines[0][0] if lines else math.inf
        older = _end_of(_older(folder / "log.jsonl"), after)
        lines = [entry for entry in older if entry[0] < before] + lines
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


def _end_of(path: Path, after: int) -> list[tuple[int, str]]:
    """Return the last lines of a file with their numbers: as many as are asked for, or all.

    Who follows a log asks again and again for what is new: that must not cost the whole of it.
    """
    try:
        with path.open("rb") as file:
            size, span = os.fstat(file.fileno()).st_size, END_BYTES
            while True:
                start = file.seek(max(0, size - span))
                found = _numbered(file.read().split(b"\n")[1 if start else 0 :])
                if not start or _suffice(found, after):
                    return found
                span *= 8
    except FileNotFoundError:
        return []


def _suffice(lines: list[tuple[int, str]], after: int) -> bool:
    """Return whether nothing that is asked for is before these lines."""
    if after < 0:
        return len(lines) >= min(-after, LINES_ANSWERED_MAX)
    return bool(lines) and lines[0][0] <= after + 1


def _numbered(rows: list[bytes]) -> list[tuple[int, str]]:
    found = []
    for row in rows:
        line = row.decode(errors="replace")
        try:
            record = json.loads(line)
        except ValueError:
            continue  # The last line of a writer that was killed.
        if isinstance(record, dict) and isinstance(record.get("n"), int):
            found.append((record["n"], line))
    return found


def _last_number(path: Path) -> int:
    """Return the number of the file's last whole line; 0: it has none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 2 * LINE_BYTES_MAX))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return 0
    for line in reversed(lines):
        try:
            return int(json.loads(line)["n"])
        except (ValueError, TypeError, KeyError):
            continue
    return 0
