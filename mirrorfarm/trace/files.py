"""The files of traces: which there are, whose they are, and their frames, whatever is broken.

A trace is evidence: it is read as far as it goes. What is damaged, cut off, foreign or hostile
is left out, and each such place is told once, with the file, the byte, and what to do.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import zstandard

from mirrorfarm.errors import TraceInvalid
from mirrorfarm.oserrors import naming
from mirrorfarm.trace.decoder import unpacker_of
from mirrorfarm.transport.trace_encoder import FORMAT
from mirrorfarm.transport.trace_ring import FRAME_BYTES_MAX

MAGIC: Final = b"\x28\xb5\x2f\xfd"
BLOCK_BYTES_MAX: Final = 131_072  # Of zstd.
PACKED_BYTES_MAX: Final = 2 * FRAME_BYTES_MAX  # Of a frame; nothing that is allowed needs more.
WINDOW_BYTES_MAX: Final = 8 * 1_048_576
BUFFER_BYTES: Final = 8 * 1_048_576
HEADER_BYTES: Final = 18  # The longest head of a zstd frame.
FILES_MAX: Final = 100_000

_LEFT_OUT: Final = "what it holds is left out; take another copy of the file if you have one"


@dataclass(frozen=True, slots=True)
class Fault:
    """One place of one file that cannot be read."""

    path: Path
    offset: int
    reason: str
    cure: str

    def __str__(self) -> str:
        return f"{self.path}: at byte {self.offset}: {self.reason}: {self.cure}"


OnFault = Callable[[Fault], None]


@dataclass(frozen=True, slots=True)
class Source:
    """The files that one incarnation of one process wrote into one folder, oldest first."""

    header: dict[str, Any]  # Of the first of them.
    files: tuple[Path, ...]

    @property
    def node(self) -> str:
        """The node it ran on."""
        return str(self.header["node"])

    @property
    def process(self) -> str:
        """The name of the process."""
        return str(self.header["process"])

    @property
    def incarnation(self) -> int:
        """Which start of the process it was."""
        return int(self.header["inc"])

    @property
    def has_cores(self) -> bool:
        """Whether it ran cores: what only a simulation saw is recorded as a process without."""
        return self.header.get("cores") != {}

    @property
    def epoch_ns(self) -> int:
        """The time of day when the node's clock began."""
        return int(self.header["epoch_real_ns"])


def raise_fault(fault: Fault) -> None:
    """Take the first fault for the end."""
    raise TraceInvalid(str(fault))


def sources(paths: Iterable[Path], on_fault: OnFault = raise_fault) -> list[Source]:
    """Return the traces in files and folders, by node, process and start.

    Raise TraceInvalid if there is none.
    """
    named = list(paths)
    found: dict[tuple[Path, str, str, int], list[tuple[Path, dict[str, Any]]]] = {}
    for path in files_in(named):
        header = read_header(path, on_fault)
        if header is not None:
            key = (path.parent, header["node"], header["process"], header["inc"])
            found.setdefault(key, []).append((path, header))
    if not found:
        names = " ".join(str(path) for path in named)
        raise TraceInvalid(
            f"{names}: no trace can be read there; name files *.mft, or a folder that holds some "
            "(a module's are below var/log/mirrorfarm/modules/NAME/trace)"
        )
    ordered = sorted(found.items(), key=lambda item: (item[0][1:], item[0][0]))
    return [Source(files[0][1], tuple(path for path, _ in files)) for _, files in ordered]


def files_in(paths: list[Path]) -> list[Path]:
    """Return the files that are named, and the traces in folders; raise TraceInvalid."""
    files: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise TraceInvalid(
                f"{path}: there is no such file or folder: name a log folder of a node, a copy of "
                "one, or files *.mft"
            )
        within = sorted(path.rglob("*.mft")) if path.is_dir() else [path]
        files.update(dict.fromkeys(one for one in within if one.is_file()))
        if len(files) > FILES_MAX:
            raise TraceInvalid(f"{path}: more than {FILES_MAX} files: name fewer folders")
    return list(files)


def read_header(path: Path, on_fault: OnFault = raise_fault) -> dict[str, Any] | None:
    """Return the header of a file; None, and a fault told, if it has none that is understood."""
    faults: list[Fault] = []
    try:
        content = next((frame for _, frame in frames(path, faults.append)), b"")
    except OSError as error:
        on_fault(Fault(path, 0, f"cannot be read ({error.strerror})", "run as root, or copy it"))
        return None
    try:
        header = next(unpacker_of(content), None)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or type(header.get("mft")) is not int:
        why = f" ({faults[0].reason})" if faults else ""
        on_fault(Fault(path, 0, f"not a trace: it does not begin with a header{why}", _LEFT_OUT))
        return None
    if header["mft"] != FORMAT:
        age = "a newer" if header["mft"] > FORMAT else "an older"
        reason = f"written by {age} mirrorfarm, in format {header['mft']}; this one reads {FORMAT}"
        on_fault(Fault(path, 0, reason, "read it with the version that wrote it"))
        return None
    wanted = {"node": str, "process": str, "inc": int, "epoch_real_ns": int, "build": str}
    wrong = [name for name, kind in wanted.items() if type(header.get(name)) is not kind]
    if wrong:
        on_fault(Fault(path, 0, f"the header lacks {', '.join(wrong)}", _LEFT_OUT))
        return None
    return header


def frames(path: Path, on_fault: OnFault, begin: int = 0) -> Iterator[tuple[int, bytes]]:
    """Return the place and the contents of each frame from byte `begin` on.

    A frame that is cut off at the end of the file is returned as far as it goes: a process that
    was killed, or is just writing, leaves one. At most 10 MiB are in memory, whatever is read.
    """
    with naming(path), path.open("rb") as file:
        window = _Window(file)
        at = begin
        while window.has(at):
            try:
                end, content = _frame(window, at)
            except _Damaged as damage:
                on_fault(Fault(path, at, str(damage), _LEFT_OUT))
                at = window.find(MAGIC, at + 1)
                continue
            yield at, content
            at = end


class _Damaged(ValueError):
    pass


class _Window:
    """A part of a file in memory. What is written to the file meanwhile does not count."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        self._begin = 0
        self.data = b""

    def has(self, at: int) -> bool:
        """Return whether there is a byte at `at`; make the following ones available."""
        if not self._begin <= at <= self._begin + len(self.data) - PACKED_BYTES_MAX:
            self._file.seek(at)
            length = max(0, min(BUFFER_BYTES, self._size - at))
            self._begin, self.data = at, self._file.read(length)
        return at - self._begin < len(self.data)

    def place(self, at: int) -> int:
        """Return where byte `at` of the file is in `data`."""
        return at - self._begin

    def find(self, wanted: bytes, at: int) -> int:
        """Return where `wanted` comes next; the end of the file if it does not."""
        while self.has(at):
            found = self.data.find(wanted, self.place(at))
            if found >= 0:
                return self._begin + found
            at = max(at + 1, self._begin + len(self.data) - len(wanted) + 1)
        return at


def _frame(window: _Window, at: int) -> tuple[int, bytes]:
    """Return where the frame at `at` ends, and its contents."""
    data, begin = window.data, window.place(at)
    end = _extent(data, begin)
    decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX)
    try:
        with decompressor.stream_reader(data[begin:end]) as reader:
            content = reader.read(FRAME_BYTES_MAX + 1)
    except zstandard.ZstdError as error:
        raise _Damaged(f"the frame is damaged ({error})") from error
    if len(content) > FRAME_BYTES_MAX:
        raise _Damaged(f"the frame holds more than {FRAME_BYTES_MAX} bytes")
    return at + end - begin, content


def _extent(data: bytes, begin: int) -> int:
    """Return where a frame ends, from the lengths of its blocks; or where the data do."""
    if data[begin : begin + 4] != MAGIC[: len(data) - begin]:
        raise _Damaged("no frame begins here")
    if len(data) - begin < HEADER_BYTES:
        return len(data)
    try:
        parameters = zstandard.get_frame_parameters(data[begin : begin + HEADER_BYTES])
        at = begin + zstandard.frame_header_size(data[begin : begin + HEADER_BYTES])
    except zstandard.ZstdError as error:
        raise _Damaged(f"the frame's head is damaged ({error})") from error
    if parameters.window_size > WINDOW_BYTES_MAX:
        raise _Damaged(f"the frame asks for {parameters.window_size} bytes of memory")
    last = False
    while not last:
        if at - begin > PACKED_BYTES_MAX:
            raise _Damaged(f"the frame is longer than {PACKED_BYTES_MAX} bytes")
        head = int.from_bytes(data[at : at + 3], "little")
        last, kind, size = bool(head & 1), head >> 1 & 3, head >> 3
        if kind == 3 or size > BLOCK_BYTES_MAX:
            raise _Damaged("the frame has a block of absurd length")
        at += 3 + (1 if kind == 1 else size)
        if at > len(data):
            return len(data)
    at += 4 if parameters.has_checksum else 0
    return min(at, len(data))
