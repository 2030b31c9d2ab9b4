"""What scripts print: one file for each run, none larger than its cap, only so many of them.

A pipe, not the file itself, is what a script writes to: beyond the cap its output is thrown
away, slowly enough that endless printing costs the node little, and it is never blocked for
good nor ended for it. A daemon that inherited the pipe may keep it for as long as it likes.

A thread of its own opens and writes the files: a disk that hangs holds up neither the scripts,
nor the order to end one, nor the state machine that gives it.
"""

import fcntl
import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mirrorfarm.limits import SECOND_NS
from mirrorfarm.oserrors import naming, told

FILES_MAX: Final = 200
PATIENCE_NS = SECOND_NS  # Whatever takes the disk longer: it hangs.
WAITING_BYTES_MAX = 1_048_576  # Then a script waits for the disk, but not for one that hangs.
CLOSE_SECONDS: Final = 2.0
_CHUNK_BYTES: Final = 65_536
_DISCARD_BYTES: Final = 1_048_576
_TRUNCATED: Final = b"\n[truncated: the log of a script has a size limit]\n"
_TOO_SLOW: Final = b"\n[the rest was left out: the disk of the log hung]\n"


class LogWriter:
    """Does what has to do with the files, one after the other. Only its thread waits for it."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._since_ns = 0  # Since when the present work is done; 0: there is none.
        self._given = self._taken = 0  # Bytes; each counted by one thread alone.
        self._thread = threading.Thread(target=self._run, name="script-log", daemon=True)
        self._thread.start()

    @property
    def hangs(self) -> bool:
        """Whether the disk has not gone on for long."""
        since_ns = self._since_ns
        return since_ns > 0 and time.monotonic_ns() - since_ns > PATIENCE_NS

    @property
    def crowded(self) -> bool:
        """Whether so much waits to be written that no more should be given."""
        return self._given - self._taken > WAITING_BYTES_MAX

    def do(self, work: Callable[[], None]) -> None:
        """Have something done in its turn. Returns at once."""
        self._work.put(work)

    def give(self, log: "RunLog", data: bytes) -> None:
        """Have what a script printed written in its turn; of the thread that reads the pipes."""
        self._given += len(data)

        def work() -> None:
            log.write(data)
            self._taken += len(data)

        self.do(work)

    def close(self) -> None:
        """Finish what was ordered, unless the disk hangs."""
        self._work.put(None)
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            self._since_ns = time.monotonic_ns()
            work()
            self._since_ns = 0


class RunLog:
    """The file of one run, with its header line. The writer's thread alone opens and writes it."""

    def __init__(
        self, folder: Path, name: str, words: tuple[str, ...], on_fault: Callable[[str], None]
    ) -> None:
        """`on_fault` is told once, on the writer's thread, why nothing more is written."""
        now = datetime.now(UTC).astimezone()
        self.path = folder / f"{now:%Y-%m-%dT%H%M%S}.{now.microsecond:06}_{name}.ulog"
        header = f"{now.isoformat(timespec='milliseconds')} {name} {' '.join(words)}\n"
        self.header = header.encode()
        self.broken = False
        self._file = -1
        self._on_fault = on_fault

    def open(self) -> None:
        """Create the file, with its header; remove the oldest ones."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._file = os.open(self.path, flags, 0o600)
        except OSError as error:
            self._break(error)
            return
        self.write(self.header)
        prune(self.path)

    def write(self, data: bytes) -> None:
        """Append, while that succeeds: a full disk is no reason to disturb the script."""
        if self._file < 0:
            return
        try:
            with naming(self.path):
                _write(self._file, data)
        except OSError as error:
            self._break(error)

    def close(self) -> None:
        """Close the file, if it is open; some file systems refuse only now what was written."""
        file, self._file = self._file, -1
        if file < 0:
            return
        try:
            with naming(self.path):
                os.close(file)
        except OSError as error:
            self._break(error)

    def _break(self, error: OSError) -> None:
        if self.broken:
            return  # It was told: closing it fails as well.
        self.broken = True
        self.close()
        self._on_fault(told(error))


class Output:
    """The reading end of one run's pipe, and where it goes: into a log, or nowhere."""

    def __init__(self, writer: LogWriter, log: RunLog | None, bytes_max: int) -> None:
        """Have `log` opened (None: throw everything away); its header counts for the cap."""
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self.writer, True)
        self._logs, self._log, self._left = writer, log, bytes_max
        if log is not None:
            self._left -= len(log.header)
            writer.do(log.open)

    @property
    def full(self) -> bool:
        """Whether the rest is thrown away."""
        return self._log is None

    @property
    def rests(self) -> bool:
        """Whether to read again only after a while."""
        return self.full or self._logs.crowded

    def pump(self) -> bool:
        """Move what the pipe holds; False at its end, when nobody can write any more."""
        if self._log is not None and self._log.broken:
            self._end_log()
        if not self.full and self._logs.crowded:
            if not self._logs.hangs:
                return True
            self._end_log(_TOO_SLOW)
        try:
            if self.full:
                return len(os.read(self.reader, _DISCARD_BYTES)) > 0
            data = os.read(self.reader, _CHUNK_BYTES)
        except BlockingIOError:
            return True
        self._keep(data)
        return len(data) > 0

    def close_writer(self) -> None:
        """Close this process's copy of the writing end, once the script has its own."""
        os.close(self.writer)

    def close(self) -> None:
        """Have the file closed, and close the reading end."""
        self._end_log()
        os.close(self.reader)

    def _keep(self, data: bytes) -> None:
        assert self._log is not None
        self._logs.give(self._log, data[: self._left])
        if len(data) > self._left:
            self._end_log(_TRUNCATED)
        self._left -= len(data)

    def _end_log(self, note: bytes = b"") -> None:
        if self._log is None:
            return
        log, self._log = self._log, None

        def work() -> None:
            log.write(note)
            log.close()

        self._logs.do(work)
        with suppress(OSError):  # Fewer, larger helpings of what is thrown away.
            fcntl.fcntl(self.reader, fcntl.F_SETPIPE_SZ, _DISCARD_BYTES)


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def prune(newest: Path, keep: int = FILES_MAX) -> None:
    """Remove the oldest files beside `newest` beyond `keep`; names begin with the date.

    Those that would be newer are of a clock that was set back since: they are older.
    """
    with suppress(OSError):  # The next run tries again.
        found = newest.parent.glob("*.ulog")
        for path in sorted(found, key=lambda path: (path <= newest, path))[:-keep]:
            path.unlink(missing_ok=True)
