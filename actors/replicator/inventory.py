"""What lies in a directory of the local disk: entries, digests of zones. Same on both sides."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import Final

import xxhash

from mirrorfarm.actors.replicator import libc
from mirrorfarm.actors.replicator.questions import Entry
from mirrorfarm.limits import ZONE_BYTES

_TIME_MAX_NS: Final = 2**63 - 1  # The year 2262; records hold no later time, and none before 1677.
_PATH_BYTES_MAX: Final = 4_095  # Of one system call.
_BY_FD: Final = b"/proc/self/fd/"
ZEROS: Final = bytes(ZONE_BYTES)
_DIGEST_OF_ZEROS: Final = xxhash.xxh3_128_digest(ZEROS)
_NONE: Final = (errno.ENODATA, errno.ENOENT, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES)


def open_directory(path: str | bytes, dir_fd: int | None = None) -> int:
    """Descriptor for reading a directory; never through a symbolic link at its end."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, dir_fd=dir_fd)


def open_below(path: bytes, root_fd: int) -> int:
    """As `open_directory`, by a path of any length, relative to a directory."""
    if len(path) <= _PATH_BYTES_MAX:
        return open_directory(path, root_fd)
    fd = os.dup(root_fd)
    while path:
        end = len(path) if len(path) <= _PATH_BYTES_MAX else path.rindex(b"/", 0, _PATH_BYTES_MAX)
        try:
            deeper = open_directory(path[:end], fd)
        finally:
            os.close(fd)
        fd, path = deeper, path[end + 1 :]
    return fd


def number_below(path: bytes, root_fd: int) -> int:
    """Inode number of what lies at a path of any length, relative to a directory."""
    if len(path) <= _PATH_BYTES_MAX:
        return os.stat(path, dir_fd=root_fd, follow_symlinks=False).st_ino
    above, _, name = path.rpartition(b"/")
    fd = open_below(above, root_fd)
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False).st_ino
    finally:
        os.close(fd)


def open_root(root_fd: int) -> int:
    """As `open_directory`, of a directory held by an O_PATH descriptor."""
    return os.open(f"/proc/self/fd/{root_fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def told_time(time_ns: int) -> int:
    """Give a time as both nodes tell it, and set it: what records cannot hold is their limit."""
    return max(min(time_ns, _TIME_MAX_NS), -_TIME_MAX_NS)


def names(directory_fd: int) -> list[bytes]:
    """Names in a directory, sorted."""
    os.lseek(directory_fd, 0, os.SEEK_SET)
    return sorted(os.fsencode(name) for name in os.listdir(directory_fd))


def status_at(directory_fd: int, name: bytes) -> os.stat_result:
    """Status of what lies at `name`; EXDEV where a file system is mounted that does not answer."""
    try:
        return os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
    except OSError as fault:
        if fault.errno != errno.ENOENT and libc.is_mount_point(directory_fd, name):
            raise OSError(errno.EXDEV, "another file system inside of a directory") from fault
        raise


@contextlib.contextmanager
def placing(directory_fd: int, path: bytes = b"") -> Iterator[None]:
    """Have an OSError of the block name the whole path: most name the last part of it, or none."""
    try:
        yield
    except OSError as fault:
        with contextlib.suppress(OSError):  # Deeper than a path reaches: what failed counts more.
            above = os.readlink(b"/proc/self/fd/%d" % directory_fd)
            fault.filename = os.path.normpath(os.path.join(above, path, _named(fault)))
        raise


def is_located(fault: OSError) -> bool:
    """Whether an error names a whole path."""
    return _named(fault).startswith(b"/")


def locate(fault: OSError, fd: int) -> None:
    """Have an error that was caught name the whole path of what a descriptor is of, if it can be.

    As `placing`, where one more error would be in the way.
    """
    with contextlib.suppress(OSError), placing(fd):
        raise fault


def flush(fd: int, data_only: bool) -> None:
    """Make one file durable, and close it."""
    try:
        with placing(fd):
            (os.fdatasync if data_only else os.fsync)(fd)
    finally:
        os.close(fd)


def _named(fault: OSError) -> bytes:
    """What an OSError names, of a path through a descriptor what is behind that."""
    if not isinstance(fault.filename, str | bytes):
        return b""
    named = os.fsencode(fault.filename)
    return named.removeprefix(_BY_FD).partition(b"/")[2] if named.startswith(_BY_FD) else named


def is_device(mode: int) -> bool:
    """Whether an inode is a device: these are not replicated."""
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def entry(directory_fd: int, name: bytes, *, devices: bool = False) -> Entry | None:
    """What lies at `name`; None: nothing any more, or what is not replicated.

    That is another file system and, unless asked for, a device.
    """
    try:
        status = status_at(directory_fd, name)
        if is_device(status.st_mode) and not devices:
            return None
        if status.st_dev != os.fstat(directory_fd).st_dev:
            return None
        way = f"/proc/self/fd/{directory_fd}/".encode() + name
        return describe(name, status, way)
    except OSError as fault:
        # A symbolic link of a moment ago may be something else by now.
        if fault.errno in (errno.ENOENT, errno.EINVAL, errno.EXDEV):
            return None
        raise


def target(directory_fd: int, name: bytes) -> bytes:
    """Where the symbolic link at `name` points; b"" if there is none any more."""
    try:
        return os.readlink(name, dir_fd=directory_fd)
    except OSError as fault:
        if fault.errno in (errno.ENOENT, errno.EINVAL):
            return b""
        raise


def describe(name: bytes, status: os.stat_result, way: bytes) -> Entry:
    """Record of an inode; `way` is a path to it, not followed."""
    link = os.readlink(way) if stat.S_ISLNK(status.st_mode) else b""
    return Entry(
        name,
        status.st_ino,
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_nlink,
        status.st_size,
        told_time(status.st_mtime_ns),
        status.st_rdev,
        _extra(way, link),
    )


def attributes(way: bytes, *, follow: bool = False) -> dict[bytes, bytes]:
    """Extended attributes of what lies at `way`; OSError if they cannot be read.

    `follow`: `way` is the link in /proc of a descriptor, and what that holds is meant.
    """
    found: dict[bytes, bytes] = {}
    with _absence():
        for name in sorted(os.listxattr(way, follow_symlinks=follow)):
            with _absence():
                found[os.fsencode(name)] = os.getxattr(way, name, follow_symlinks=follow)
    return found


@contextlib.contextmanager
def _absence() -> Iterator[None]:
    """Overlook that there is none, or no more; not that a disk does not tell."""
    try:
        yield
    except OSError as fault:
        if fault.errno not in _NONE:
            raise


def _extra(way: bytes, link: bytes) -> bytes:
    found = attributes(way)
    if not found and not link:
        return b""
    digest = xxhash.xxh3_64()
    for part in (link, *(part for item in found.items() for part in item)):
        digest.update(len(part).to_bytes(4, "little") + part)
    return digest.digest()


class Zones:
    """Reads the zones of an open file one by one, and of its holes only the first.

    A file may be a million times as long as what it holds.
    """

    def __init__(self, file_fd: int) -> None:
        self._fd = file_fd
        self._hole = 0  # Where the one ends that was seen last.

    def read(self, zone: int) -> bytes:
        """Give the bytes of a zone, as they are or were since `look_again`; b"": it has ended."""
        start = zone * ZONE_BYTES
        if start + ZONE_BYTES <= self._hole:
            return ZEROS
        data = os.pread(self._fd, ZONE_BYTES, start)
        if data == ZEROS:
            self._hole = hole_end(self._fd, start + ZONE_BYTES)
        return data

    def look_again(self) -> None:
        """Believe nothing that was seen before."""
        self._hole = 0


def hole_end(file_fd: int, start: int) -> int:
    """Where the hole ends that begins at `start`, which is that very place if none does."""
    try:
        return os.lseek(file_fd, start, os.SEEK_DATA)
    except OSError as fault:
        if fault.errno != errno.ENXIO:
            raise
        return max(start, os.fstat(file_fd).st_size)


def digest(data: bytes) -> bytes:
    """xxh3_128 of a zone; an empty one where the file has ended."""
    if data is ZEROS:
        return _DIGEST_OF_ZEROS
    return xxhash.xxh3_128_digest(data) if data else b""
