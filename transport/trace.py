"""The trace of a process: every event its cores were given and every effect they asked for.

A `.mft` file is a row of zstd frames of at most 1 MiB, each decodable by itself and holding
msgpack objects: in the first frame the header (a map), then records, which are arrays

    [kind, dt, actor, lamport, …fields]

`dt` is nanoseconds since the record before it in the same frame. Each frame begins with a note
`time` that holds the boot clock, so that any frame can be read alone; a note `actor` gives the
name of an actor's number. Bytes (answers, packages: file contents) are replaced by their
length. Records are made and written by a thread of their own, which sleeps while nothing
happens; a caller only appends to a queue.
"""

import errno
import os
import re
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgpack
import msgspec
import zstandard

from mirrorfarm.actors.effects import Effect
from mirrorfarm.actors.events import Event
from mirrorfarm.transport.messages import Message

INPUT: Final = 0
EFFECT: Final = 1
NOTE: Final = 10

CHUNK_BYTES_MAX: Final = 1_048_576  # Of one zstd frame, before compression.
RECORD_BYTES_MAX: Final = CHUNK_BYTES_MAX // 2  # A bigger one becomes a note.
FILE_BYTES: Final = 4 * 1_048_576
FILES: Final = 8
QUEUE_STEPS_MAX: Final = 8_192
FLUSH_SECONDS: Final = 1.0
ACTORS_MAX: Final = 256
PIECE_BYTES: Final = 8_192  # Read of a file at a time.
COMPRESSION_LEVEL: Final = 3
_NAME: Final = re.compile(r"trace-([0-9]{8})\.mft")
_BYTES: Final = (bytes, bytearray, memoryview)
_LEAVES: Final = frozenset((str, int, bool, float, type(None)))


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose trace it is; goes into the header of every file."""

    build: str
    cluster: str
    node: str
    process: str
    incarnation: int
    os_boot: str  # The kernel's boot id.


@dataclass(frozen=True, slots=True)
class TraceRecord:
    """One record as read back. Events and effects are plain values: a list, its tag first."""

    kind: int  # INPUT EFFECT NOTE
    at_ns: int  # Boot clock of the node.
    actor: str
    lamport: int
    fields: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Step:
    actor: str
    now: int
    lamport: int
    event: Any
    effects: Sequence[Any]


class TraceWriter:
    """Writes the trace of one process into a ring of files in `folder`."""

    def __init__(
        self, folder: Path, origin: Origin, file_bytes: int = FILE_BYTES, files: int = FILES
    ) -> None:
        """Continue after the files that are there; an OSError says the folder cannot be used."""
        self._ring = _Ring(folder, origin, file_bytes, files)
        self._steps: deque[_Step] = deque()
        self._lamport = 0
        self._counts = dict.fromkeys(("steps", "dropped", "unreadable", "failed"), 0)
        self._closing = False
        self._busy = False  # The writer knows that there is something to write.
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="trace", daemon=True)
        self._thread.start()

    def step(self, actor: str, now: int, event: Any, effects: Sequence[Any]) -> None:
        """Note that the core of `actor` was given `event` at `now` and returned `effects`.

        Never waits for the disk: when the writer is too slow the step is dropped and counted.
        """
        with self._changed:
            if self._closing or len(self._steps) >= QUEUE_STEPS_MAX:
                self._counts["dropped"] += 1
                return
            self._lamport += 1
            self._counts["steps"] += 1
            self._steps.append(_Step(actor, now, self._lamport, event, tuple(effects)))
            if not self._busy or len(self._steps) == QUEUE_STEPS_MAX // 2:
                self._busy = True
                self._changed.notify()

    def counters(self) -> dict[str, int]:
        """Return how many steps were noted, dropped, not representable, and failed to write."""
        return dict(self._counts)

    def close(self) -> None:
        """Write what is queued and end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                # No timeout: an idle process is never woken for its trace.
                self._changed.wait_for(lambda: self._steps or self._closing)
                # Then gather a while, so that many steps share one writing.
                self._changed.wait_for(
                    lambda: self._closing or len(self._steps) >= QUEUE_STEPS_MAX // 2,
                    FLUSH_SECONDS,
                )
                steps = list(self._steps)
                self._steps.clear()
                self._busy = False
                ending = self._closing
            try:
                self._counts["unreadable"] += self._ring.write(steps)
            except FileNotFoundError:  # Somebody removed the files: begin a new one.
                self._counts["failed"] += len(steps)
                self._ring.close()
            except Exception:  # A full disk ends the trace's growth, nothing else.
                self._counts["failed"] += len(steps)
            if ending:
                self._ring.close()
                return


class _Ring:
    """The files of a trace; used by one thread."""

    def __init__(self, folder: Path, origin: Origin, file_bytes: int, files: int) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._origin = origin
        self._file_bytes = file_bytes
        self._files = files
        self._actors: dict[str, int] = {}
        self._compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL, write_checksum=True)
        self._number = max((_number(path) for path in _paths(folder)), default=0)
        self._path: Path | None = None

    def write(self, steps: list[_Step]) -> int:
        """Append `steps`; return how many values could not be represented."""
        failures = 0
        chunk = bytearray()
        last_ns = 0
        for step in steps:
            for record in self._records(step):
                data, failed = _pack(record, step.now - last_ns)
                failures += failed
                if chunk and len(chunk) + len(data) > CHUNK_BYTES_MAX:
                    self._append(bytes(chunk))
                    chunk.clear()
                if not chunk:
                    chunk += msgpack.packb([NOTE, 0, 0, step.lamport, "time", step.now])
                    last_ns = step.now
                    data, _ = _pack(record, 0)
                chunk += data
                last_ns = step.now
        if chunk:
            self._append(bytes(chunk))
        return failures

    def close(self) -> None:
        """End the file."""
        self._path = None

    def _records(self, step: _Step) -> Iterator[list[Any]]:
        number = self._actors.get(step.actor)
        if number is None:
            number = min(len(self._actors) + 1, ACTORS_MAX)
            if number < ACTORS_MAX:
                self._actors[step.actor] = number
            yield [NOTE, 0, number, step.lamport, "actor", step.actor]
        yield [INPUT, 0, number, step.lamport, step.event]
        for effect in step.effects:
            yield [EFFECT, 0, number, step.lamport, effect]

    def _append(self, chunk: bytes) -> None:
        data = self._compressor.compress(chunk)
        if self._path is None or self._path.stat().st_size + len(data) > self._file_bytes:
            self._begin()
        assert self._path is not None
        size = self._path.stat().st_size
        try:
            with self._path.open("ab", buffering=0) as file:
                if file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, "only partly written")
        except OSError:
            os.truncate(self._path, size)  # Half a frame would hide those behind it.
            raise

    def _begin(self) -> None:
        """Begin the next file and remove the oldest."""
        self._number += 1
        path = self._folder / f"trace-{self._number:08}.mft"
        header = msgpack.packb(_header(self._origin, self._actors))
        try:
            path.touch(mode=0o600, exist_ok=False)
            path.write_bytes(self._compressor.compress(header))
        except OSError:
            path.unlink(missing_ok=True)
            raise
        self._path = path
        for path in _paths(self._folder)[: -self._files]:
            path.unlink(missing_ok=True)


def read_header(path: Path) -> dict[str, Any]:
    """Return the header of one trace file; raise ValueError if it is none."""
    for value in _values(path):
        if isinstance(value, dict) and value.get("mft") == 1:
            return value
        break
    raise ValueError(f"{path}: not a trace: it does not begin with a header")


def read_trace(path: Path) -> Iterator[TraceRecord]:
    """Return the records of a trace file, or of all files of a folder, oldest first.

    Notes about time are consumed. A file that ends within a frame, as after a crash or while it
    is written, is read up to that frame. Raise ValueError if a file is no trace.
    """
    for file in _paths(path) if path.is_dir() else [path]:
        names = {int(number): name for name, number in read_header(file)["actors"].items()}
        at_ns = 0
        for value in _values(file):
            if isinstance(value, dict):
                continue
            if not isinstance(value, list) or len(value) < 4:
                raise ValueError(f"{file}: holds something that is not a record")
            kind, passed_ns, number, lamport, *fields = value
            if kind == NOTE and fields[:1] == ["time"]:
                at_ns = fields[1]
                continue
            if kind == NOTE and fields[:1] == ["actor"]:
                names[number] = fields[1]
            at_ns += passed_ns
            yield TraceRecord(kind, at_ns, names.get(number, "?"), lamport, tuple(fields))


def _values(path: Path) -> Iterator[Any]:
    """Return the msgpack objects of all whole frames of a file."""
    data = memoryview(path.read_bytes())
    begin = 0
    while begin < len(data):
        plain, begin = _frame(path, data, begin)
        if plain is None:
            return
        yield from _objects(plain)


def _frame(path: Path, data: memoryview, begin: int) -> tuple[bytes | None, int]:
    """Return the contents of the frame at `begin` and where it ends; None: it is not whole."""
    try:
        # Not stated counts as huge: a frame cannot swell while it is read.
        if zstandard.get_frame_parameters(data[begin:]).content_size > CHUNK_BYTES_MAX:
            raise ValueError(f"{path}: a frame of more than {CHUNK_BYTES_MAX} bytes")
        whole = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
        plain = bytearray()
        # In pieces: what is left over of each is copied, which must not be the whole file.
        for start in range(begin, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            plain += whole.decompress(piece)
            if whole.eof:
                return bytes(plain), start + len(piece) - len(whole.unused_data)
    except zstandard.ZstdError:
        pass
    return None, begin


def _objects(plain: bytes) -> Iterator[Any]:
    unpacker = msgpack.Unpacker(max_buffer_size=CHUNK_BYTES_MAX, max_ext_len=0)
    unpacker.feed(plain)
    yield from unpacker


def _pack(record: list[Any], passed_ns: int) -> tuple[bytes, int]:
    """Return a record's bytes, and 1 if a note had to take its place."""
    record[1] = passed_ns
    body = record[4]
    try:
        if record[0] != NOTE:
            body = msgspec.to_builtins(body, builtin_types=_BYTES, enc_hook=_name_of)
            body = _without_contents(body)
        data: bytes = msgpack.packb([*record[:4], body, *record[5:]], unicode_errors="replace")
    except (ValueError, OverflowError, TypeError, RecursionError):
        data = b""
    if data and len(data) <= RECORD_BYTES_MAX:
        return data, 0
    note = [NOTE, *record[1:4], "unreadable", type(record[4]).__name__]
    return bytes(msgpack.packb(note)), 1


def _without_contents(value: Any) -> Any:
    """Replace bytes by their length, at any depth; lists are changed in place."""
    kind = type(value)
    if kind in _LEAVES:
        return value
    if kind in _BYTES:
        return len(value)
    if kind is dict:
        return {str(key): _without_contents(one) for key, one in value.items()}
    values = value if kind is list else list(value)
    for index, one in enumerate(values):
        # Almost all are leaves, and this is most of the work of a trace: no call for them.
        if type(one) not in _LEAVES:
            values[index] = _without_contents(one)
    return values


def _name_of(value: object) -> str:
    """Stand for a value of a type that traces do not know; its text might hold contents."""
    return f"<{type(value).__name__}>"


def _header(origin: Origin, actors: dict[str, int]) -> dict[str, Any]:
    return {
        "mft": 1,
        "build": origin.build,
        "cluster": origin.cluster,
        "node": origin.node,
        "process": origin.process,
        "inc": origin.incarnation,
        "os_boot": origin.os_boot,
        "epoch_real_ns": time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        "clock": "boot",
        "unit": "ns",
        "seed": None,
        "redact": "none",
        "actors": actors,
        "schema": {str(INPUT): ["event"], str(EFFECT): ["effect"], str(NOTE): ["text"]},
        "types": {
            kind.__name__: list(kind.__struct_fields__)
            for base in (Event, Effect, Message)
            for kind in base.__subclasses__()
        },
    }


def _paths(folder: Path) -> list[Path]:
    """Return the trace files of a folder, oldest first."""
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def _number(path: Path) -> int:
    found = _NAME.fullmatch(path.name)
    return int(found[1]) if found else 0
