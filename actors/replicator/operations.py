"""The modifications that travel from the primary's file system to the secondary's disk.

One closed set of records, and their bytes. An inode is meant by `(directory, node)`: the index
of the replicated directory and the primary's own inode number (`ROOT` for the root of it).
The secondary does not know these numbers: `Introduce` and `Create` tell it, `Forget` ends it.
Records say the *resulting* state (mode after the umask, owner after a setgid directory, time
after the write), so that applying one twice is harmless and both sides end up equal.
"""

import stat
from typing import Annotated, Final

import msgspec

from mirrorfarm.errors import FrameInvalid
from mirrorfarm.limits import DIRECTORIES_MAX

ROOT: Final = 1  # The node number of every replicated directory's root.
NAME_BYTES_MAX: Final = 255
TARGET_BYTES_MAX: Final = 4_096
XATTR_NAME_BYTES_MAX: Final = 255
XATTR_VALUE_BYTES_MAX: Final = 65_536
PAYLOAD_BYTES_MAX: Final = 8 * 1_048_576
HEADER_BYTES_MAX: Final = XATTR_VALUE_BYTES_MAX + 4_096

RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2
RENAME_WHITEOUT: Final = 4

# Modes of fallocate(2).
KEEP_SIZE: Final = 0x01
PUNCH_HOLE: Final = 0x02
COLLAPSE_RANGE: Final = 0x08
ZERO_RANGE: Final = 0x10
INSERT_RANGE: Final = 0x20
UNSHARE_RANGE: Final = 0x40
FALLOCATE_MODES: Final = (
    KEEP_SIZE | PUNCH_HOLE | COLLAPSE_RANGE | ZERO_RANGE | INSERT_RANGE | UNSHARE_RANGE
)

# Which fields of SetAttr count.
SET_MODE: Final = 1
SET_UID: Final = 2
SET_GID: Final = 4
SET_SIZE: Final = 8
SET_ATIME: Final = 16
SET_MTIME: Final = 32
SET_ALL: Final = 63

KINDS: Final = frozenset(
    (
        stat.S_IFREG,
        stat.S_IFDIR,
        stat.S_IFLNK,
        stat.S_IFIFO,
        stat.S_IFSOCK,
        stat.S_IFCHR,
        stat.S_IFBLK,
    )
)

Index = Annotated[int, msgspec.Meta(ge=0, lt=DIRECTORIES_MAX)]
Node = Annotated[int, msgspec.Meta(ge=1)]
Offset = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Owner = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Mode = Annotated[int, msgspec.Meta(ge=0, le=0o177777)]
Time = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Name = Annotated[bytes, msgspec.Meta(min_length=1, max_length=NAME_BYTES_MAX)]
Target = Annotated[bytes, msgspec.Meta(max_length=TARGET_BYTES_MAX)]
XattrName = Annotated[bytes, msgspec.Meta(min_length=1, max_length=XATTR_NAME_BYTES_MAX)]
XattrValue = Annotated[bytes, msgspec.Meta(max_length=XATTR_VALUE_BYTES_MAX)]
Length = Annotated[int, msgspec.Meta(ge=0, le=PAYLOAD_BYTES_MAX)]


class Operation(msgspec.Struct, frozen=True, array_like=True):
    """Base of all modifications."""

    directory: Index


class Introduce(Operation, frozen=True, tag=1):
    """`node` is what lies at `name` in `parent` at this position of the stream."""

    node: Node
    parent: Node
    name: Name
    mode: Mode  # Kind and permissions, as on the primary.
    target: Target = b""  # Symbolic links: where it points, for a secondary that has none.


class Forget(Operation, frozen=True, tag=2):
    """No later operation means `node` without introducing it again."""

    node: Node


class Create(Operation, frozen=True, tag=3):
    """A new inode of any kind; introduces `node`. `mode` holds the kind (`stat.S_IFMT`)."""

    node: Node
    parent: Node
    name: Name
    mode: Mode
    uid: Owner
    gid: Owner
    mtime_ns: Time
    rdev: Offset = 0  # Devices.
    target: Target = b""  # Symbolic links.


class Link(Operation, frozen=True, tag=4):
    """One more name for `node`."""

    node: Node
    parent: Node
    name: Name


class Unlink(Operation, frozen=True, tag=5):
    """A name of something that is not a directory goes."""

    parent: Node
    name: Name


class Rmdir(Operation, frozen=True, tag=6):
    """An empty directory goes."""

    parent: Node
    name: Name


class Rename(Operation, frozen=True, tag=7):
    """As renameat2(2), with its flags."""

    parent: Node
    name: Name
    new_parent: Node
    new_name: Name
    flags: Annotated[int, msgspec.Meta(ge=0, le=7)] = 0


class Write(Operation, frozen=True, tag=8):
    """`length` bytes, which travel beside the record, at `offset`. Zero `mtime_ns`: not told."""

    node: Node
    offset: Offset
    length: Length
    mtime_ns: Time = 0


class SetAttr(Operation, frozen=True, tag=9):
    """Those fields that `valid` names get these values. Size first, then owner, mode, times."""

    node: Node
    valid: Annotated[int, msgspec.Meta(ge=1, le=SET_ALL)]
    mode: Mode = 0
    uid: Owner = 0
    gid: Owner = 0
    size: Offset = 0
    atime_ns: Time = 0
    mtime_ns: Time = 0


class SetXattr(Operation, frozen=True, tag=10):
    """An extended attribute has this value, whether it existed or not."""

    node: Node
    name: XattrName
    value: XattrValue


class RemoveXattr(Operation, frozen=True, tag=11):
    """An extended attribute goes."""

    node: Node
    name: XattrName


class Fallocate(Operation, frozen=True, tag=12):
    """As fallocate(2). Zero `mtime_ns`: not told."""

    node: Node
    mode: Annotated[int, msgspec.Meta(ge=0, le=FALLOCATE_MODES)]
    offset: Offset
    length: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    mtime_ns: Time = 0


class Fsync(Operation, frozen=True, tag=13):
    """Make `node` durable: acknowledged after the flush."""

    node: Node
    data_only: bool


ANY_OPERATION = (
    Introduce
    | Forget
    | Create
    | Link
    | Unlink
    | Rmdir
    | Rename
    | Write
    | SetAttr
    | SetXattr
    | RemoveXattr
    | Fallocate
    | Fsync
)
NAMESPACE_OPERATION = Create | Link | Unlink | Rmdir | Rename
CHANGE_OPERATION = SetAttr | SetXattr | RemoveXattr | Fallocate

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(ANY_OPERATION)


def encode(operation: ANY_OPERATION) -> bytes:
    """Bytes of the record; the payload of a Write travels beside them."""
    return _encoder.encode(operation)


def decode(header: bytes | memoryview, payload_bytes: int = 0) -> ANY_OPERATION:
    """Record in `header`, beside which `payload_bytes` came; FrameInvalid if anything is off."""
    if len(header) > HEADER_BYTES_MAX:
        raise FrameInvalid(f"operation of {len(header)} bytes")
    try:
        operation: ANY_OPERATION = _decoder.decode(header)
    except (msgspec.DecodeError, RecursionError) as fault:
        raise FrameInvalid(f"operation: {fault}") from None
    _check(operation)
    wanted_bytes = operation.length if isinstance(operation, Write) else 0
    if wanted_bytes != payload_bytes:
        raise FrameInvalid(f"payload of {payload_bytes} bytes instead of {wanted_bytes}")
    return operation


def name_is_valid(name: bytes) -> bool:
    """Whether `name` is one component of a path: no way out of its directory."""
    return (
        0 < len(name) <= NAME_BYTES_MAX
        and name not in (b".", b"..")
        and b"/" not in name
        and b"\0" not in name
    )


def _check(operation: ANY_OPERATION) -> None:
    """Refuse what the types alone let through."""
    match operation:  # The most frequent ones first.
        case Fsync():
            pass
        case Write() | Fallocate():
            if operation.offset + operation.length > 2**63 - 1:
                raise FrameInvalid(f"range {operation.offset}+{operation.length}")
            if isinstance(operation, Fallocate) and operation.mode & ~FALLOCATE_MODES:
                raise FrameInvalid(f"mode {operation.mode:#x} of an allocation")
        case Rename():
            _check_name(operation.name)
            _check_name(operation.new_name)
            if operation.flags & RENAME_EXCHANGE and operation.flags != RENAME_EXCHANGE:
                raise FrameInvalid(f"rename flags {operation.flags}")
        case Create() | Introduce():
            _check_name(operation.name)
            _check_inode(operation)
        case Link() | Unlink() | Rmdir():
            _check_name(operation.name)
        case SetXattr() | RemoveXattr():
            if b"\0" in operation.name:
                raise FrameInvalid("name of an extended attribute")
        case _:
            pass


def _check_inode(operation: Create | Introduce) -> None:
    if operation.node == ROOT:
        raise FrameInvalid("the root has no name")
    if stat.S_IFMT(operation.mode) not in KINDS:
        raise FrameInvalid(f"kind of mode {operation.mode:o}")
    is_link, told = stat.S_ISLNK(operation.mode), bool(operation.target)
    if b"\0" in operation.target or told > is_link:
        raise FrameInvalid("target of what is no symbolic link")
    if isinstance(operation, Create) and told < is_link:
        raise FrameInvalid("symbolic link without a target")


def _check_name(name: bytes) -> None:
    if not name_is_valid(name):
        raise FrameInvalid(f"name {name[:40]!r}")
