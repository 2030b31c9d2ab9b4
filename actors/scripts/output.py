"""What scripts print: one file for each run, none larger than its cap, only so many of them.

A pipe, not the file itself, is what a script writes to: beyond the cap its output is thrown
away, slowly enough that endless printing costs the node little, and it is never blocked for
good nor ended for it. A daemon that inherited the pipe may keep it for as long as it likes.
"""

import fcntl
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

FILES_MAX: Final = 200
_CHUNK_BYTES: Final = 65_536
_DISCARD_BYTES: Final = 1_048_576


class Output:
    """The reading end of one run's pipe, and its file."""

    def __init__(self, file: int, bytes_max: int) -> None:
        """Take over `file` (-1: throw everything away); what it holds counts for the cap."""
        self._file = file
        self._left = bytes_max - (os.fstat(file).st_size if file >= 0 else 0)
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self.writer, True)

    @property
    def full(self) -> bool:
        """Whether the rest is thrown away."""
        return self._file < 0

    def pump(self) -> bool:
        """Move what the pipe holds; False at its end, when nobody can write any more."""
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
        """Close the file and the reading end."""
        self._end_file()
        os.close(self.reader)

    def _keep(self, data: bytes) -> None:
        try:
            _write(self._file, data[: self._left])
            if len(data) > self._left:
                _write(self._file, b"\n[truncated: the log of a script has a size limit]\n")
                self._end_file()
        except OSError:  # A full disk is no reason to disturb the script.
            self._end_file()
        self._left -= len(data)

    def _end_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            with suppress(OSError):  # Fewer, larger helpings of what is thrown away.
                fcntl.fcntl(self.reader, fcntl.F_SETPIPE_SZ, _DISCARD_BYTES)


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def open_log(folder: Path, name: str, words: tuple[str, ...]) -> tuple[Path, int]:
    """Create the file of one run with its header line; raise OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    now = datetime.now(UTC).astimezone()
    path = folder / f"{now:%Y-%m-%dT%H%M%S}.{now.microsecond:06}_{name}.ulog"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    header = f"{now.isoformat(timespec='milliseconds')} {name} {' '.join(words)}\n"
    try:
        _write(file, header.encode())
    except OSError:
        os.close(file)
        raise
    return path, file


def prune(folder: Path, keep: int = FILES_MAX) -> None:
    """Remove the oldest files beyond `keep`; names begin with the date."""
    with suppress(OSError):  # The next run tries again.
        for path in sorted(folder.glob("*.ulog"))[:-keep]:
            path.unlink(missing_ok=True)
