"""Durable records in two slots: whatever is torn, the last finished writing can be read back.

`NAME.0` and `NAME.1` have a fixed size and are written alternately, always the older one, with
one pwrite and one fdatasync: sizes never change, so the folder is flushed only at creation.
A slot is magic, counter, length, xxh3-128 of all of it, and a msgpack body.
"""

import errno
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import xxhash

from mirrorfarm.actors.events import StoreFailed
from mirrorfarm.errors import RecordInvalid
from mirrorfarm.oserrors import reason_of

SLOT_BYTES = 4_096
_MAGIC = b"MFslot1\n"
_HEADER = struct.Struct("<8sQI")  # magic, counter, bytes of the body
_DIGEST_BYTES = 16
BODY_BYTES_MAX = SLOT_BYTES - _HEADER.size - _DIGEST_BYTES
_BLANK = bytes(SLOT_BYTES)
_SAFE = os.O_CLOEXEC | os.O_NOFOLLOW

RecordT = TypeVar("RecordT", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class _Slot:
    """What one slot file holds: absent, blank (never written), damaged, or a body."""

    state: str  # absent blank damaged valid
    counter: int = 0
    body: bytes = b""


def _encode(counter: int, body: bytes) -> bytes:
    """Return the whole slot; OSError EFBIG when the record does not fit."""
    if len(body) > BODY_BYTES_MAX:
        raise OSError(errno.EFBIG, f"a record of {len(body)} bytes exceeds {BODY_BYTES_MAX}")
    header = _HEADER.pack(_MAGIC, counter, len(body))
    digest = xxhash.xxh3_128_digest(header + body)
    return (header + digest + body).ljust(SLOT_BYTES, b"\0")


def _decode(data: bytes) -> _Slot:
    """Return what the bytes of a slot file mean; never raises."""
    if data == _BLANK:
        return _Slot("blank")
    if len(data) != SLOT_BYTES:
        return _Slot("damaged")
    magic, counter, length = _HEADER.unpack_from(data)
    body_at = _HEADER.size + _DIGEST_BYTES
    if magic != _MAGIC or length > BODY_BYTES_MAX:
        return _Slot("damaged")
    body = data[body_at : body_at + length]
    if xxhash.xxh3_128_digest(data[: _HEADER.size] + body) != data[_HEADER.size : body_at]:
        return _Slot("damaged")
    return _Slot("valid", counter, body)


def flush_folder(folder: Path) -> None:
    """Make the names in `folder` durable. OSError propagates."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _create(path: Path, data: bytes) -> None:
    """Bring a file into being whole and durable, or not at all; its name is not yet durable."""
    new = path.with_name(path.name + ".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _SAFE, 0o600)
    try:
        _write_whole(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(new, path)


def _write_whole(descriptor: int, data: bytes) -> None:
    """Write at the file's beginning; a short write is an error, not something to continue."""
    written = os.pwrite(descriptor, data, 0)
    if written != len(data):
        raise OSError(errno.ENOSPC, f"{written} of {len(data)} bytes written")


class SlotStore(Generic[RecordT]):
    """One durable record. Not thread-safe: one owner.

    A record that belongs to someone else (cluster, module, node) is the caller's to refuse.
    After an OSError of `write` nobody knows what is in that slot, and an fsync repeated on its
    file may lie: the next writing replaces it by a new file.
    """

    def __init__(self, folder: Path, name: str, record_type: type[RecordT]) -> None:
        self._folder = folder
        self._paths = (folder / f"{name}.0", folder / f"{name}.1")
        self._type = record_type
        self._newest = -1  # Index of the newest valid slot; -1: not read yet, or never written.
        self._known = False
        self._failed = False
        self.counter = 0  # Of the newest valid slot.

    def read(self) -> RecordT | None:
        """Return the newest whole record; None if none was ever written.

        Raises RecordInvalid when something was written but no slot can be read back, or the
        newest whole slot is of another kind; OSError when the disk refuses.
        """
        slots = [self._load(path) for path in self._paths]
        if slots[0].state == "blank":  # It comes into being with a record, see `_put`.
            slots[0] = _Slot("damaged")
        valid = [index for index, slot in enumerate(slots) if slot.state == "valid"]
        if not valid:
            if any(slot.state == "damaged" for slot in slots):
                raise RecordInvalid(
                    f"{self._paths[0]} and {self._paths[1].name}: no slot is whole; the disk "
                    "damaged them, or they were changed by hand"
                )
            self._newest, self.counter, self._known = -1, 0, True
            return None
        newest = max(valid, key=lambda index: slots[index].counter)
        try:
            record = msgspec.msgpack.decode(slots[newest].body, type=self._type)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise RecordInvalid(
                f"{self._paths[newest]}: not the record expected: {error}"
            ) from error
        self._newest, self.counter, self._known = newest, slots[newest].counter, True
        return record

    def write(self, record: RecordT, counter: int) -> None:
        """Make `record` durable in the older slot; `counter` exceeds every earlier one.

        Raises OSError (EFBIG: the record exceeds a slot); then the record may or may not be
        found by the next reader.
        """
        if not self._known:
            self.read()
        assert counter > self.counter, (counter, self.counter)
        data = _encode(counter, msgspec.msgpack.encode(record))
        try:
            self._put(data)
        except OSError:
            self._failed = True
            raise
        self._failed = False
        self.counter = counter

    def set_aside(self) -> tuple[Path, ...]:
        """Keep the slots as `NAME.N.damaged` too, and start anew; return the new names.

        They keep their own names until the next writing: a process that ends before it must not
        leave behind what looks as if nothing had ever been written.
        """
        kept = []
        for path in self._paths:
            aside = path.with_name(path.name + ".damaged")
            if not os.path.lexists(path):
                continue
            if not (os.path.lexists(aside) and os.path.samestat(path.lstat(), aside.lstat())):
                aside.unlink(missing_ok=True)
                os.link(path, aside, follow_symlinks=False)
            kept.append(aside)
        flush_folder(self._folder)
        self._newest, self.counter, self._known, self._failed = -1, 0, True, False
        return tuple(kept)

    def _put(self, data: bytes) -> None:
        """Write the older slot, or create both: the first record appears last, whole."""
        if self._newest < 0:
            make_folder(self._folder)
            _create(self._paths[1], _BLANK)
            _create(self._paths[0], data)
            flush_folder(self._folder)
            self._newest = 0
            return
        older = 1 - self._newest
        lost = not os.path.lexists(self._paths[older])  # By hand; the newest one still stands.
        if self._failed or lost:
            _create(self._paths[older], data)
            flush_folder(self._folder)
        else:
            self._overwrite(self._paths[older], data)
        self._newest = older

    def _overwrite(self, path: Path, data: bytes) -> None:
        """Write a slot in its place."""
        descriptor = os.open(path, os.O_WRONLY | _SAFE)
        try:
            _write_whole(descriptor, data)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def _load(self, path: Path) -> _Slot:
        """Read one slot file."""
        try:
            descriptor = os.open(path, os.O_RDONLY | _SAFE)
        except FileNotFoundError:
            return _Slot("absent")
        try:
            return _decode(os.pread(descriptor, SLOT_BYTES + 1, 0))
        finally:
            os.close(descriptor)


def store_failed(counter: int, error: Exception) -> StoreFailed:
    """Return what a core is told of a writing that failed, whatever became of it.

    A core that hears nothing waits for ever: a broken invariant is told like a broken disk.
    """
    if isinstance(error, OSError):
        return StoreFailed(counter, error.errno or 0, reason_of(error))
    return StoreFailed(counter, 0, str(error) if isinstance(error, RecordInvalid) else repr(error))


def make_folder(folder: Path) -> None:
    """Create `folder` (0700) and its parents, with durable names."""
    missing = []
    at = folder
    while not at.exists():
        missing.append(at)
        at = at.parent
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
        flush_folder(path.parent)
