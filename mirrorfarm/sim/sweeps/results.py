"""The file of results: one line of JSON for each seed, after a line that says of what.

Appended while a sweep runs. A line that a crash tore is cut off when the file is opened again;
one that is damaged elsewhere is reported, and its seed is played again.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from mirrorfarm.errors import RecordInvalid, Refused, SystemUnsuitable
from mirrorfarm.oserrors import naming
from mirrorfarm.sim.sweeps.result import SEED_END, SeedResult

FORMAT: Final = 1
LINE_BYTES_MAX: Final = 1_048_576
_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(SeedResult)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Results can be joined if they are of the same options and the same build."""

    sweep: int = FORMAT
    options: str
    build: str


_HEADER_DECODER = msgspec.json.Decoder(Header)


@dataclass(slots=True)
class Results:
    """Where the result of each seed is, in one or several files.

    The last of a seed counts, but for a run that broke off: that may be its machine's fault.
    """

    header: Header
    damaged: list[str] = field(default_factory=list)  # FILE:LINE.
    torn: list[str] = field(default_factory=list)  # The same of unfinished last lines.
    differing: list[str] = field(default_factory=list)  # Of lines unlike one before of that seed.
    _places: dict[int, tuple[Path, int]] = field(default_factory=dict)

    def seeds(self) -> set[int]:
        """Return the seeds that have a result."""
        return set(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[SeedResult]:
        """Read the results again, in the order of their seeds."""
        files: dict[Path, BinaryIO] = {}
        try:
            for _, (path, offset) in sorted(self._places.items()):
                file = files.get(path) or files.setdefault(path, path.open("rb"))
                file.seek(offset)
                yield _DECODER.decode(file.readline(LINE_BYTES_MAX))
        finally:
            for file in files.values():
                file.close()

    def note(self, path: Path, offset: int, number: int, line: bytes) -> None:
        """Remember a line as a result of this sweep, or as damaged."""
        result = _decode(line)
        if result is None or (result.options, result.build) != (
            self.header.options,
            self.header.build,
        ):
            self.damaged.append(f"{path}:{number}")
            return
        known = self._places.get(result.seed)
        earlier = _read_again(*known) if known is not None else None
        if earlier is not None and "error" in (earlier.outcome, result.outcome):
            if earlier.outcome != "error":
                return
        elif earlier is not None and earlier != replace(result, wall_seconds=earlier.wall_seconds):
            self.differing.append(f"{path}:{number}")
        self._places[result.seed] = (path, offset)


def read_results(paths: Iterable[Path]) -> Results:
    """Index the results of a sweep's files. Raises RecordInvalid, or Refused if they differ."""
    joined: Results | None = None
    for path in paths:
        header = read_header(path)
        if joined is None:
            joined = Results(header)
        elif header != joined.header:
            raise Refused(
                f"{path} holds results of {_about(header)}, the files before it of "
                f"{_about(joined.header)}: they cannot be joined; make one report for each"
            )
        with path.open("rb") as file:
            _scan(file, path, joined)
    assert joined is not None, "the caller names at least one file"
    return joined


def read_header(path: Path) -> Header:
    """Return whose results a file holds. Raises RecordInvalid if it is none of ours."""
    _require_ordinary(path)
    with path.open("rb") as file:
        line = file.readline(LINE_BYTES_MAX)
    try:
        header = _HEADER_DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        header = None
    if header is None or header.sweep != FORMAT:
        raise RecordInvalid(
            f"{path} is not a file of a sweep's results in format {FORMAT}: its first line says "
            "something else. Name another file"
        )
    return header


def _require_ordinary(path: Path) -> None:
    """Raise RecordInvalid for a device or a pipe: what is there cannot be read again."""
    if path.exists() and not path.is_file():
        raise RecordInvalid(
            f"{path} is a device, a pipe or a folder: results are read several times, which needs "
            "an ordinary file. Name another file"
        )


class Appender:
    """A file of results that this process alone appends to."""

    def __init__(self, path: Path, header: Header) -> None:
        """Begin a file, or continue one. Raises Refused if it is another sweep's or in use.

        Raises RecordInvalid if it can be no file of results at all.
        """
        _require_ordinary(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.torn_bytes = 0  # Cut off from its end.
        self._path = path
        self._file = path.open("ab", buffering=0)  # What is not written must not be tried again.
        try:
            with naming(path):
                self._lock(path)
                self.results = self._continue(path, header)
        except BaseException:
            self._file.close()
            raise

    def append(self, results: Iterable[SeedResult]) -> None:
        """Keep results; when this returns, they survive the end of this process.

        Raises SystemUnsuitable when the disk does not take them.
        """
        self._write(b"".join(_ENCODER.encode(result) + b"\n" for result in results))

    def close(self) -> None:
        """Let the results survive a loss of power as well."""
        with naming(self._path), self._file:
            os.fsync(self._file.fileno())

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise SystemUnsuitable(
                f"{self._path}: results cannot be written ({error.strerror}). Those before are "
                "kept: make room, then resume"
            ) from error

    def _lock(self, path: Path) -> None:
        try:
            fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(
                f"{path}: another sweep writes to this file; wait for its end, or name another"
            ) from None

    def _continue(self, path: Path, header: Header) -> Results:
        first = _ENCODER.encode(header) + b"\n"
        with path.open("rb") as file:
            found = file.readline(LINE_BYTES_MAX)
        if found != first and first.startswith(found):  # Empty, or torn in its first line.
            self._file.truncate(0)
            self._write(first)
            return Results(header)
        known = read_header(path)
        if known != header:
            raise Refused(
                f"{path} holds results of {_about(known)}, and this would be {_about(header)}: "
                "name another file, or remove this one"
            )
        results = Results(header)
        with path.open("rb") as file:
            end = _scan(file, path, results)
            self.torn_bytes = file.seek(0, os.SEEK_END) - end
        self._file.truncate(end)
        return results


def _scan(file: BinaryIO, path: Path, results: Results) -> int:
    """Note every result; return where the whole lines end."""
    file.seek(0)
    offset = len(file.readline(LINE_BYTES_MAX))
    number = 1
    while line := file.readline(LINE_BYTES_MAX):
        number += 1
        if not line.endswith(b"\n") and len(line) < LINE_BYTES_MAX:
            results.torn.append(f"{path}:{number}")
            break
        results.note(path, offset, number, line)
        offset += len(line)
    return offset


def _read_again(path: Path, offset: int) -> SeedResult | None:
    with path.open("rb") as file:
        file.seek(offset)
        return _decode(file.readline(LINE_BYTES_MAX))


def _decode(line: bytes) -> SeedResult | None:
    try:
        result = _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return result if result.seed < SEED_END else None


def _about(header: Header) -> str:
    return f"options {header.options!r}, build {header.build}"
