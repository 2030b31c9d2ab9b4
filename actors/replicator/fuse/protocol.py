"""The kernel's FUSE protocol, version 7: numbers and layouts (include/uapi/linux/fuse.h)."""

import struct
from typing import Final, NamedTuple, Protocol

# Operations.
LOOKUP: Final = 1
FORGET: Final = 2
GETATTR: Final = 3
SETATTR: Final = 4
READLINK: Final = 5
SYMLINK: Final = 6
MKNOD: Final = 8
MKDIR: Final = 9
UNLINK: Final = 10
RMDIR: Final = 11
RENAME: Final = 12
LINK: Final = 13
OPEN: Final = 14
READ: Final = 15
WRITE: Final = 16
STATFS: Final = 17
RELEASE: Final = 18
FSYNC: Final = 20
SETXATTR: Final = 21
GETXATTR: Final = 22
LISTXATTR: Final = 23
REMOVEXATTR: Final = 24
FLUSH: Final = 25
INIT: Final = 26
OPENDIR: Final = 27
READDIR: Final = 28
RELEASEDIR: Final = 29
FSYNCDIR: Final = 30
CREATE: Final = 35
INTERRUPT: Final = 36
DESTROY: Final = 38
BATCH_FORGET: Final = 42
FALLOCATE: Final = 43
READDIRPLUS: Final = 44
RENAME2: Final = 45
LSEEK: Final = 46

# What both sides can do (INIT).
ASYNC_READ: Final = 1 << 0
BIG_WRITES: Final = 1 << 5
DONT_MASK: Final = 1 << 6
DO_READDIRPLUS: Final = 1 << 13
READDIRPLUS_AUTO: Final = 1 << 14
ASYNC_DIO: Final = 1 << 15
WRITEBACK_CACHE: Final = 1 << 16
PARALLEL_DIROPS: Final = 1 << 18
POSIX_ACL: Final = 1 << 20
MAX_PAGES: Final = 1 << 22
CACHE_SYMLINKS: Final = 1 << 23
HANDLE_KILLPRIV_V2: Final = 1 << 28
SETXATTR_EXT: Final = 1 << 29
INIT_EXT: Final = 1 << 30
DIRECT_IO_ALLOW_MMAP: Final = 1 << 4  # In the second word of flags.

# Answers to OPEN.
OPEN_DIRECT_IO: Final = 1
OPEN_KEEP_CACHE: Final = 2
OPEN_CACHE_DIR: Final = 8

WRITE_CACHE: Final = 1 << 0  # The kernel writes back what an application wrote before.
WRITE_KILL_SUIDGID: Final = 1 << 2
SETXATTR_KILL_SGID: Final = 1
FSYNC_DATA_ONLY: Final = 1
GETATTR_HANDLE: Final = 1

# Fields of SETATTR; the first six are those of `operations.SetAttr`.
SETATTR_HANDLE: Final = 64
SETATTR_ATIME_NOW: Final = 128
SETATTR_MTIME_NOW: Final = 256
SETATTR_KILL_SUIDGID: Final = 1 << 11

MAJOR: Final = 7
MINOR: Final = 40  # Newest one whose layouts are written down here.
MINOR_MIN: Final = 36  # Linux 5.17: the second word of flags.
WRITE_BYTES_MAX: Final = 1 << 20
PAGE_BYTES: Final = 4_096
REQUEST_BYTES_MAX: Final = WRITE_BYTES_MAX + PAGE_BYTES
HEADER_BYTES: Final = 40
WRITE_DATA: Final = HEADER_BYTES + 40  # Where the bytes of a WRITE begin.

IN_HEADER: Final = struct.Struct("<IIQQIIIHH")
OUT_HEADER: Final = struct.Struct("<IiQ")
ATTRIBUTES: Final = struct.Struct("<QQQqqqIIIIIIIIII")
ENTRY: Final = struct.Struct("<QQQQII")
ATTRIBUTES_VALID: Final = struct.Struct("<QII")
OPENED: Final = struct.Struct("<QII")
WRITTEN: Final = struct.Struct("<II")
STATFS_OUT: Final = struct.Struct("<QQQQQIIII24x")
INIT_IN: Final = struct.Struct("<IIIII")
INIT_OUT: Final = struct.Struct("<IIIIHHIIHHI28x")
SETATTR_IN: Final = struct.Struct("<IIQQQqqqIIIIIIII")
OPEN_IN: Final = struct.Struct("<II")
CREATE_IN: Final = struct.Struct("<IIII")
MKNOD_IN: Final = struct.Struct("<IIII")
MKDIR_IN: Final = struct.Struct("<II")
RENAME2_IN: Final = struct.Struct("<QII")
READ_IN: Final = struct.Struct("<QQI")
WRITE_IN: Final = struct.Struct("<QQII")
FSYNC_IN: Final = struct.Struct("<QI")
XATTR_IN: Final = struct.Struct("<II")
SETXATTR_IN: Final = struct.Struct("<IIII")
FALLOCATE_IN: Final = struct.Struct("<QQQI")
LSEEK_IN: Final = struct.Struct("<QQI")
FORGET_ONE: Final = struct.Struct("<QQ")
WORD: Final = struct.Struct("<I")
LONG: Final = struct.Struct("<Q")
DIRENT: Final = struct.Struct("<QQII")  # What READDIR answers.
LINUX_DIRENT: Final = struct.Struct("<QqHB")  # What getdents64(2) gives; the name follows.

CACHE_SECONDS: Final = 3_600
SECOND_NS: Final = 1_000_000_000


class Status(Protocol):
    """What stat(2) tells, as far as the kernel wants to know."""

    @property
    def st_ino(self) -> int: ...  # noqa: D102
    @property
    def st_size(self) -> int: ...  # noqa: D102
    @property
    def st_blocks(self) -> int: ...  # noqa: D102
    @property
    def st_atime_ns(self) -> int: ...  # noqa: D102
    @property
    def st_mtime_ns(self) -> int: ...  # noqa: D102
    @property
    def st_ctime_ns(self) -> int: ...  # noqa: D102
    @property
    def st_mode(self) -> int: ...  # noqa: D102
    @property
    def st_nlink(self) -> int: ...  # noqa: D102
    @property
    def st_uid(self) -> int: ...  # noqa: D102
    @property
    def st_gid(self) -> int: ...  # noqa: D102
    @property
    def st_rdev(self) -> int: ...  # noqa: D102
    @property
    def st_blksize(self) -> int: ...  # noqa: D102


class Deferred(NamedTuple):
    """An answer that goes out when the journal says that `ticket` is safe."""

    ticket: int
    body: bytes | None = None


Reply = bytes | memoryview | Deferred | None


class Request:
    """One request in its buffer; a server thread has one and fills it again and again."""

    __slots__ = ("buffer", "gid", "length", "node", "operation", "scratch", "uid", "unique", "view")

    def __init__(self) -> None:
        self.buffer = bytearray(REQUEST_BYTES_MAX)
        self.view = memoryview(self.buffer)
        self.scratch = memoryview(bytearray(WRITE_BYTES_MAX))
        self.length = self.operation = self.unique = self.node = self.uid = self.gid = 0

    def parse(self) -> None:
        """Read the header of what is in the buffer."""
        header = IN_HEADER.unpack_from(self.buffer)
        self.length, self.operation, self.unique, self.node, self.uid, self.gid = header[:6]

    def text(self, offset: int) -> bytes:
        """Bytes from `offset` to the next NUL."""
        return bytes(self.view[offset : self.buffer.index(0, offset, self.length)])


def pack_attributes(status: Status) -> bytes:
    """`struct fuse_attr` of an inode."""
    atime, atime_ns = divmod(status.st_atime_ns, SECOND_NS)
    mtime, mtime_ns = divmod(status.st_mtime_ns, SECOND_NS)
    ctime, ctime_ns = divmod(status.st_ctime_ns, SECOND_NS)
    return ATTRIBUTES.pack(
        status.st_ino,
        status.st_size,
        status.st_blocks,
        atime,
        mtime,
        ctime,
        atime_ns,
        mtime_ns,
        ctime_ns,
        status.st_mode,
        status.st_nlink,
        status.st_uid,
        status.st_gid,
        status.st_rdev if status.st_rdev <= 0xFFFFFFFF else 0,
        status.st_blksize,
        0,
    )


def pack_init(minor: int, flags: int, more_flags: int) -> bytes:
    """`struct fuse_init_out`: what of the kernel's offer is taken."""
    return INIT_OUT.pack(
        MAJOR,
        min(minor, MINOR),
        WRITE_BYTES_MAX,  # Read ahead.
        flags,
        64,  # Requests in the background,
        48,  # and from how many on the kernel throttles.
        WRITE_BYTES_MAX,
        1,  # Granularity of times: a nanosecond.
        WRITE_BYTES_MAX // PAGE_BYTES,
        0,
        more_flags,
    )
