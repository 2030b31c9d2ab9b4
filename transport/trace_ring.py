"""The files of a trace: a ring of bounded size, written by one thread.

A file is a row of zstd frames. A frame is written piece by piece as steps come, so that what
was flushed can be read although the process died; at 256 KiB of records it ends, and the next
one can be read without it.
"""

import contextlib
import errno
import os
import re
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgpack
import xxhash
import zstandard

from mirrorfarm.actors.effects import Effect
from mirrorfarm.actors.events import Event, FarmNode, ScriptStep
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.oserrors import naming
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import Announcement, Message, Register
from mirrorfarm.transport.trace_encoder import FORMAT, KINDS, Encoder

FRAME_BYTES_MAX: Final = 1_048_576  # No reader need take more.
FILE_BYTES: Final = 4 * 1_048_576
FILES: Final = 8  # As many bytes as so many full files have.
FILES_MAX: Final = 64  # A process that starts again and again leaves many small ones.
COMPRESSION_LEVEL: Final = 3
WINDOW_LOG: Final = 18  # The whole of a frame.
NAME: Final = re.compile(r"trace-([0-9]{8})\.mft")
_SOURCES: Final = ("actors", "modules", "netfilter", "transport")  # Whatever a core may use.
_RECORDS: Final[list[Any]] = [Address, Announcement, FarmNode, NodeRecord, Register, ScriptStep]


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose trace it is; goes into the header of every file."""

    build: str
    cluster: str
    node: str
    process: str
    incarnation: int
    os_boot: str  # The kernel's boot id.


class Ring:
    """The files below `folder`; what is there already is continued."""

    def __init__(
        self,
        folder: Path,
        origin: Origin,
        file_bytes: int,
        files: int,
        header: dict[str, Any] | None = None,
        *,
        late: bool = False,
    ) -> None:
        """Continue the ring in `folder`; `header`: what each file's header says otherwise.

        Raise OSError where it cannot be used; `late`: only when a file shall begin there.
        """
        self._header = header or {}
        self.encoder = Encoder()
        self._folder = folder
        self._origin = origin
        self._file_bytes = file_bytes
        self._files = files
        parameters = zstandard.ZstdCompressionParameters.from_level(
            COMPRESSION_LEVEL, window_log=WINDOW_LOG, write_checksum=True
        )
        self._compressor = zstandard.ZstdCompressor(compression_params=parameters)
        self._number = -1  # Of the newest file; -1: the folder could not be looked at yet.
        self._path: Path | None = None
        self._size = 0
        self._frame: zstandard.ZstdCompressionObj | None = None
        self._head = b""  # Of the frame, until it is written with the first piece.
        try:
            self._look()
        except OSError:
            if not late:
                raise

    def _look(self) -> None:
        """See to it that there is the folder, and which files are in it."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._number = max((_number(path) for path in paths_of(self._folder)), default=0)

    def ready(self, now: int, lamport: int) -> bool:
        """See to it that there is a frame for a step at `now`; return whether a file began."""
        if self._frame is not None and self.encoder.is_full:
            self.flush(ends=True)
        if self._path is not None and self._size >= self._file_bytes:
            self.flush(ends=True)
            self._path = None
        began = self._path is None
        if began:
            self._begin()
        if self._frame is None:
            self._frame = self._compressor.compressobj()
            self._head = self.encoder.frame(now, lamport)
        return began

    def flush(self, ends: bool = False) -> None:
        """Write what the encoder has made; with an OSError the file is given up."""
        if self._path is None or self._frame is None:
            return
        kind = zstandard.COMPRESSOBJ_FLUSH_FINISH if ends else zstandard.COMPRESSOBJ_FLUSH_BLOCK
        data = self._frame.compress(self._head + self.encoder.taken()) + self._frame.flush(kind)
        self._head = b""
        if ends:
            self._frame = None
        try:
            self._append(self._path, data)
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(self._path, self._size)  # Half a piece would hide what follows.
            self.give_up()
            raise

    def give_up(self) -> None:
        """Go on in another file; what was not flushed is lost."""
        self.encoder.taken()
        self._path = self._frame = None

    def _begin(self) -> None:
        """Begin the next file, and remove the oldest ones; an OSError leaves no file behind."""
        if self._number < 0:
            self._look()
        self._number += 1
        path = self._folder / f"trace-{self._number:08}.mft"
        self.encoder.file()
        header = self._compressor.compress(msgpack.packb(header_of(self._origin) | self._header))
        new = path.with_suffix(".new")  # Readers see no file without its header.
        try:
            new.unlink(missing_ok=True)
            new.touch(mode=0o600, exist_ok=False)
            with naming(path):
                new.write_bytes(header)
            new.rename(path)
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink()
            raise
        self._path, self._size, self._frame = path, len(header), None
        self._prune()

    def _append(self, path: Path, data: bytes) -> None:
        with naming(path):
            _append_whole(path, data)
        self._size += len(data)

    def _prune(self) -> None:
        """Remove the oldest files beyond the bounds."""
        room = self._files * self._file_bytes
        for count, path in enumerate(reversed(paths_of(self._folder))):
            if path == self._path:
                room -= self._file_bytes
                continue
            with contextlib.suppress(OSError):
                room -= path.stat().st_size
                if room < 0 or count >= FILES_MAX:
                    path.unlink()


def _append_whole(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, "only partly written")
    finally:
        os.close(descriptor)


def header_of(origin: Origin) -> dict[str, Any]:
    """Return the header of a file."""
    build, cores = sources()
    return {
        "mft": FORMAT,
        "build": build,
        "version": origin.build,
        "cores": cores,
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
        "schema": KINDS,
        "types": {
            kind.__name__: list(kind.__struct_fields__)
            for kinds in (*(base.__subclasses__() for base in (Event, Effect, Message)), _RECORDS)
            for kind in kinds
        },
    }


@lru_cache(maxsize=1)
def sources() -> tuple[str, dict[str, str]]:
    """Return what identifies the cores: xxh3 of all their sources, and by folder of `actors`."""
    top = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    whole = xxhash.xxh3_64()
    cores: dict[str, str] = {}
    for name in _SOURCES:
        for folder, folders, files in os.walk(f"{top}/{name}"):
            folders[:] = sorted(one for one in folders if one != "__pycache__")
            own = xxhash.xxh3_64()
            for file in sorted(one for one in files if one.endswith(".py")):
                with contextlib.suppress(OSError), open(f"{folder}/{file}", "rb") as source:
                    own.update(file.encode() + b"\0" + source.read())
            whole.update(own.digest())
            cores[folder[len(top) + 1 :]] = own.hexdigest()
    return whole.hexdigest(), cores


def paths_of(folder: Path) -> list[Path]:
    """Return the trace files of a folder, oldest first."""
    return sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name))


def _number(path: Path) -> int:
    found = NAME.fullmatch(path.name)
    return int(found[1]) if found else 0
