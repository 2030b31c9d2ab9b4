"""Which parts of the replicated directories changed since the peer's copy was the same.

Keys are `(directory, node)`, node being the inode number on the local disk. For file contents
a bitmap of 64 KiB zones; for directories whether names in them changed; for any inode whether
its attributes did. Removed and renamed things need no entry of their own: their directories
have one, and a copy compares these. A superset is always right, a subset never: when the map
cannot be complete any more it says so and is worth nothing.

On disk it is written once, at a clean end, and deleted when it is read (`mapfile.py`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec
import xxhash

from mirrorfarm.actors.replicator.operations import (
    NAMESPACE_OPERATION,
    ROOT,
    SET_SIZE,
    Create,
    Fallocate,
    Link,
    RemoveXattr,
    Rename,
    Rmdir,
    SetAttr,
    SetXattr,
    Unlink,
    Write,
)
from mirrorfarm.errors import RecordInvalid
from mirrorfarm.limits import ZONE_BYTES

Key = tuple[int, int]  # Directory, node.

ZONES_MAX: Final = 8_388_608  # 512 GiB of one file; beyond, the whole file counts as changed.
NODES_MAX: Final = 1_000_000
_MAGIC: Final = b"MFMAP002"


@dataclass(slots=True)
class Change:
    """What changed of one inode."""

    names: bool = False  # A directory's entries.
    attributes: bool = False
    whole: bool = False  # All of a file's content; of a directory all that is below it.
    zones: bytearray = field(default_factory=bytearray)  # One bit for each zone.

    def mark(self, offset: int, length: int) -> None:
        """Note that `length` bytes at `offset` changed."""
        if self.whole or not length:
            return
        first, last = offset // ZONE_BYTES, (offset + length - 1) // ZONE_BYTES
        if last >= ZONES_MAX:
            self.whole, self.zones = True, bytearray()
            return
        if last // 8 >= len(self.zones):
            self.zones.extend(bytes(last // 8 + 1 - len(self.zones)))
        for zone in range(first, last + 1):
            self.zones[zone >> 3] |= 1 << (zone & 7)

    def marked(self) -> Iterator[int]:
        """Numbers of the changed zones, ascending."""
        for index, byte in enumerate(self.zones):
            if byte:
                for bit in range(8):
                    if byte & 1 << bit:
                        yield index * 8 + bit

    def join(self, other: "Change") -> None:
        """Add what `other` knows."""
        self.names |= other.names
        self.attributes |= other.attributes
        self.whole |= other.whole
        if len(other.zones) > len(self.zones):
            self.zones.extend(bytes(len(other.zones) - len(self.zones)))
        for index, byte in enumerate(other.zones):
            self.zones[index] |= byte


@dataclass(slots=True)
class ChangeMap:
    """All changes; the caller sees to it that one thread marks at a time."""

    nodes: dict[Key, Change] = field(default_factory=dict)
    overflowed: bool = False

    def __len__(self) -> int:
        return len(self.nodes)

    def _at(self, directory: int, node: int) -> Change:
        change = self.nodes.get((directory, node))
        if change is None:
            change = Change()
            if len(self.nodes) >= NODES_MAX:
                self.overflowed = True  # The rest is not noted: only a full copy helps now.
                return change
            self.nodes[directory, node] = change
        return change

    def mark_write(self, operation: Write) -> None:
        """Note bytes written."""
        change = self._at(operation.directory, operation.node)
        change.attributes = True
        change.mark(operation.offset, operation.length)

    def mark_change(self, operation: SetAttr | SetXattr | RemoveXattr | Fallocate) -> None:
        """Note a change of an inode that is not a plain write."""
        change = self._at(operation.directory, operation.node)
        change.attributes = True
        # A file cut short and grown again has zeroes where the peer has not.
        cut = isinstance(operation, SetAttr) and operation.valid & SET_SIZE
        if cut or isinstance(operation, Fallocate):
            change.whole = True

    def mark_names(self, operation: NAMESPACE_OPERATION, touched: tuple[int, ...]) -> None:
        """Note changed names: the directories, and the inodes themselves.

        At a name that an inode took or lost the peer may have another one: not only the zones
        that were written since may differ.
        """
        directory = operation.directory
        match operation:
            case Create():
                self._at(directory, operation.parent).names = True
                touched = (*touched, operation.node)
            case Rename():
                self._at(directory, operation.parent).names = True
                self._at(directory, operation.new_parent).names = True
            case Link() | Unlink() | Rmdir():
                self._at(directory, operation.parent).names = True
        for node in touched:
            change = self._at(directory, node)
            change.attributes = change.whole = True

    def join(self, other: "ChangeMap") -> None:
        """Add what `other` knows."""
        self.overflowed |= other.overflowed
        for (directory, node), change in other.nodes.items():
            self._at(directory, node).join(change)

    def weight(self) -> int:
        """Number of inodes and zones that changed."""
        return sum(1 + sum(1 for _ in change.marked()) for change in self.nodes.values())

    def mark_roots(self, directories: int) -> None:
        """Note the roots' attributes; harmless, and makes the map of a new pair usable."""
        for directory in range(directories):
            self._at(directory, ROOT).attributes = True


@dataclass(slots=True)
class Marks:
    """The map as it is kept while leading: what it is complete since, and what is being flushed.

    While the peer is in step, what it has on its *disk* need not stay marked: at a checkpoint
    the marks so far are set aside, and dropped when the peer has flushed everything.
    """

    current: ChangeMap = field(default_factory=ChangeMap)
    flushing: ChangeMap | None = None
    complete: bool = False  # Since `base`, or since the peer was in step if that has no name yet.
    base: str = ""

    def name(self, base: str, *, new: bool) -> str:
        """The mirror calls the beginning `base`; return the generation that can be vouched for.

        `new`: nothing was changed since `base` but what was marked here.
        """
        if base and new and not self.complete:
            self.complete, self.base = True, base
        elif base and self.complete and self.base in {"", base}:
            self.base = base
        elif base:
            self.complete, self.base = False, ""
        return self.trusted

    @property
    def trusted(self) -> str:
        """Generation since which every change is known; "": none."""
        return self.base if self.complete and not self.current.overflowed else ""

    def in_step(self) -> None:
        """The peer has everything up to the marks at hand and waits at the gate."""
        self.complete, self.base = True, ""

    def begin_checkpoint(self) -> bool:
        """Set the marks aside; False: there are none, or a checkpoint is under way."""
        if self.flushing is not None or not self.current.nodes:
            return False
        self.flushing, self.current = self.current, ChangeMap()
        return True

    def end_checkpoint(self, *, durable: bool) -> None:
        """The peer flushed what was set aside, or it is not known whether it did."""
        if self.flushing is not None and not durable:
            self.current.join(self.flushing)
        self.flushing = None

    def snapshot(self) -> ChangeMap:
        """A copy of everything marked."""
        copy = ChangeMap()
        copy.join(self.current)
        if self.flushing is not None:
            copy.join(self.flushing)
        return copy


class Stored(msgspec.Struct, frozen=True, array_like=True):
    """The map as it is written; `roots` tell whether the disk is still the same one."""

    base: str
    roots: tuple[tuple[int, int], ...]  # Device and inode of each replicated directory.
    nodes: list[tuple[int, int, int, bytes]]  # directory, node, flags, zones


def dump(changes: ChangeMap, base: str, roots: tuple[tuple[int, int], ...]) -> bytes:
    """Bytes of a map that is complete since generation `base`."""
    nodes = [
        (directory, node, _flags(change), bytes(change.zones))
        for (directory, node), change in changes.nodes.items()
    ]
    body = msgspec.msgpack.encode(Stored(base, roots, nodes))
    return _MAGIC + xxhash.xxh3_128_digest(body) + body


def load(data: bytes) -> tuple[ChangeMap, str, tuple[tuple[int, int], ...]]:
    """Map, base generation and roots in `data`; RecordInvalid if it was damaged."""
    head = len(_MAGIC)
    body = data[head + 16 :]
    if data[:head] != _MAGIC or data[head : head + 16] != xxhash.xxh3_128_digest(body):
        raise RecordInvalid("change map: checksum")
    try:
        stored = msgspec.msgpack.decode(body, type=Stored)
    except msgspec.DecodeError as fault:
        raise RecordInvalid(f"change map: {fault}") from None
    changes = ChangeMap()
    for directory, node, flags, zones in stored.nodes[:NODES_MAX]:
        changes.nodes[directory, node] = Change(
            bool(flags & 1), bool(flags & 2), bool(flags & 4), bytearray(zones)
        )
    return changes, stored.base, stored.roots


def _flags(change: Change) -> int:
    return change.names | change.attributes << 1 | change.whole << 2
