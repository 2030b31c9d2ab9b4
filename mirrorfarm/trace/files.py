"""The files of traces: which there are, whose they are, and their frames, whatever is broken.

A trace is evidence: it is read as far as it goes. What is damaged, cut off, foreign or hostile
is left out, and each such place is told once, with the file, the byte, and what to do.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

import zstandard

from mirrorfarm.errors import TraceInvalid
from mirrorfarm.oserrors import CURES, naming, reason_of
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
    """One place of one file that cannot be read; or a file or folder of which nothing can."""

    path: Path
    offset: int | None  # None: nothing of it can be read.
    reason: str
    cure: str
    # The last byte of the place, if that is known. The same place may grow with its file.
    end: int | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.path}: {self._place()}{self.reason}: {self.cure}"

    def _place(self) -> str:
        if self.offset is None:
            return ""
        to = "" if self.end is None else f" to {self.end}"
        return f"at byte {self.offset}{to}: "


def _unread(path: Path, error: OSError) -> Fault:
    """Return that nothing of a file or folder can be read."""
    cure = CURES.get(error.errno or 0, "take another copy if you have one")
    if isinstance(error, PermissionError):
        cure = "run as root, or copy it"
    return Fault(path, None, f"cannot be read ({reason_of(error)})", cure)


OnFault = Callable[[Fault], None]


@dataclass(frozen=True, slots=True)
class Source:
    """The files that one incarnation of one process wrote into one folder, oldest first."""

    header: dict[str, Any]  # Of the first of them.
    files: tuple[Path, ...]
    epochs: dict[Path, int]  # Of each file: when the node's clock began, as was believed then.

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
        """The time of day when the node's clock began, as the oldest file has it."""
        return int(self.header["epoch_real_ns"])


def raise_fault(fault: Fault) -> None:
    """Take the first fault for the end."""
    raise TraceInvalid(str(fault))


def sources(paths: Iterable[Path], on_fault: OnFault = raise_fault) -> list[Source]:
    """Return the traces in files and folders, by node, process and start; each file once.

    Raise TraceInvalid if there is none.
    """
    named = list(paths)
    unread: list[Fault] = []

    def tell(fault: Fault) -> None:
        if fault.offset is None:
            unread.append(fault)
        on_fault(fault)

    found: dict[tuple[Path, str, str, int], list[tuple[Path, dict[str, Any]]]] = {}
    for path in files_in(named, tell):
        header = read_header(path, tell)
        if header is not None:
            key = (path.parent, header["node"], header["process"], header["inc"])
            found.setdefault(key, []).append((path, header))
    if not found:
        raise TraceInvalid(_nothing(named, unread))
    ordered = sorted(found.items(), key=lambda item: (item[0][1:], item[0][0]))
    return [_source(files) for _, files in ordered]


def _source(files: list[tuple[Path, dict[str, Any]]]) -> Source:
    files = sorted(files, key=lambda one: one[0])  # They may be named in any order.
    epochs = {path: int(header["epoch_real_ns"]) for path, header in files}
    return Source(files[0][1], tuple(epochs), epochs)


def _nothing(named: list[Path], unread: list[Fault]) -> str:
    """Return why there is no trace: that there is none is not known if a part cannot be read."""
    names = " ".join(str(path) for path in named)
    if unread:
        return f"{names}: no trace can be read there: {unread[0]}"
    return (
        f"{names}: no trace can be read there; name files *.mft, or a folder that holds some "
        "(a module's are below var/log/mirrorfarm/modules/NAME/trace)"
    )


def require_single(found: Iterable[Source]) -> None:
    """Raise TraceInvalid if one start of a process is there twice: all in it would count twice.

    What lost its names (redact --mode drop) cannot be told apart, and is not looked at.
    """
    seen: dict[tuple[str, str, int], Source] = {}
    for source in found:
        if source.header.get("redact") == "drop":
            continue
        other = seen.setdefault((source.node, source.process, source.incarnation), source)
        if other is not source:
            raise TraceInvalid(
                f"{other.files[0]}, {source.files[0]}: both hold start {source.incarnation} of "
                f"{source.node}/{source.process}: name only one of the folders"
            )


def files_in(paths: list[Path], on_fault: OnFault = raise_fault) -> list[Path]:
    """Return each file once, and each folder by one of its spellings, whatever paths lead there."""
    files: dict[Path, Path] = {}
    folders: dict[Path, Path] = {}
    for path in paths:
        for one in sorted(_within(path, on_fault)):
            if _is_file(one, on_fault):
                folder = folders.setdefault(one.parent.resolve(), one.parent)
                files.setdefault(one.resolve(), folder / one.name)
        if len(files) > FILES_MAX:
            raise TraceInvalid(f"{path}: more than {FILES_MAX} files: name fewer folders")
    return list(files.values())


def _within(path: Path, on_fault: OnFault) -> Iterator[Path]:
    """Return a file, or what is called *.mft in a folder; tell of folders that cannot be read."""

    def tell(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # It was removed meanwhile.
            on_fault(_unread(Path(error.filename or path), error))

    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise TraceInvalid(
            f"{path}: there is no such file or folder: name a log folder of a node, a copy of "
            "one, or files *.mft"
        ) from error
    except OSError as error:
        on_fault(_unread(path, error))
        return
    if not is_folder:
        yield path
        return
    for folder, _, names in os.walk(path, onerror=tell):
        yield from (Path(folder, name) for name in names if name.endswith(".mft"))


def _is_file(path: Path, on_fault: OnFault) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:  # It was removed meanwhile, or is a link to nothing.
        return False
    except OSError as error:
        on_fault(_unread(path, error))
        return False


def read_header(path: Path, on_fault: OnFault = raise_fault) -> dict[str, Any] | None:
    """Return the header of a file; None, and a fault told, if it has none that is understood.

    None also of a file that is not there any more: a recorder removes its oldest ones.
    """
    faults: list[Fault] = []
    try:
        content = next((frame for _, frame in frames(path, faults.append)), b"")
    except FileNotFoundError:  # It was removed meanwhile.
        return None
    except OSError as error:
        on_fault(_unread(path, error))
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

    What is damaged between two of them is one fault, however often it looks like a frame. A frame
    that is cut off at the end of the file is returned as far as it goes: a process that was
    killed, or is just writing, leaves one. At most 10 MiB are in memory, whatever is read.
    """
    with naming(path), path.open("rb") as file:
        window = _Window(file)
        at = begin
        fault: Fault | None = None
        while window.has(at):
            try:
                end, content = _frame(window, at)
            except _Damaged as damage:
                fault = fault or Fault(path, at, str(damage), _LEFT_OUT)
                # Its blocks have three bytes at least: no frame begins so soon after it. Nor are
                # many forged heads that share their blocks each followed through all of those.
                at = window.find(MAGIC, at + 1 + damage.blocks)
                continue
            if fault is not None:
                on_fault(replace(fault, end=at - 1))
                fault = None
            yield at, content
            at = end
        if fault is not None:
            on_fault(replace(fault, end=at - 1))


class _Damaged(ValueError):
    """No frame is there, or one that cannot be read; it seemed to have so many `blocks`."""

    def __init__(self, reason: str, blocks: int = 0) -> None:
        super().__init__(reason)
        self.blocks = blocks


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
    last, blocks = False, 0
    while not last:
        if at - begin > PACKED_BYTES_MAX:
            raise _Damaged(f"the frame is longer than {PACKED_BYTES_MAX} bytes", blocks)
        head = int.from_bytes(data[at : at + 3], "little")
        last, kind, size = bool(head & 1), head >> 1 & 3, head >> 3
        if kind == 3 or size > BLOCK_BYTES_MAX:
            raise _Damaged("the frame has a block of absurd length", blocks)
        blocks += 1
        at += 3 + (1 if kind == 1 else size)
        if at > len(data):
            return len(data)
    at += 4 if parameters.has_checksum else 0
    return min(at, len(data))
