"""System calls that Python does not offer: mounts, renames with flags, holes, credentials."""

import ctypes
import errno
import os
from typing import Final

_libc: Final = ctypes.CDLL(None, use_errno=True)

MS_RDONLY: Final = 1
MS_NODEV: Final = 4
MS_NOATIME: Final = 1024
MNT_FORCE: Final = 1
MNT_DETACH: Final = 2
UMOUNT_NOFOLLOW: Final = 8

_AT_FDCWD: Final = -100
_AT_EMPTY_PATH: Final = 0x1000
_UTIME_OMIT: Final = (1 << 30) - 2
_CLONE_FS: Final = 0x200
_PR_GET_SECUREBITS: Final = 27
_PR_SET_SECUREBITS: Final = 28
_SECBIT_NO_SETUID_FIXUP: Final = 4
_SYS_OPENAT2: Final = 437
_RESOLVE_NO_XDEV: Final = 1
_SYS_GETDENTS64: Final = {"x86_64": 217}.get(os.uname().machine, 61)  # 61: every newer port.

_c_off = ctypes.c_int64
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, _c_off, _c_off)
_libc.syscall.restype = ctypes.c_long


def _checked(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def mount(source: bytes, path: bytes, kind: bytes, flags: int, options: bytes = b"") -> None:
    """Mount a file system."""
    _checked(_libc.mount(source, path, kind, ctypes.c_ulong(flags), options))


def unmount(path: bytes, flags: int = 0) -> None:
    """Unmount; a symbolic link is never followed."""
    _checked(_libc.umount2(path, flags | UMOUNT_NOFOLLOW))


def rename(old_fd: int, old: bytes, new_fd: int, new: bytes, flags: int) -> None:
    """Rename, with the flags of renameat2(2)."""
    _checked(_libc.renameat2(old_fd, old, new_fd, new, ctypes.c_uint(flags)))


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Allocate, punch, shift or zero a range, by the modes of `operations`."""
    _checked(_libc.fallocate(fd, mode, offset, length))


def own(fd: int, uid: int, gid: int) -> None:
    """Change the owner of what `fd` (also O_PATH, also of a symbolic link) is; -1: keep."""
    unsigned = ctypes.c_uint
    _checked(_libc.fchownat(fd, b"", unsigned(uid), unsigned(gid), _AT_EMPTY_PATH))


def set_times(fd: int, atime_ns: int | None, mtime_ns: int | None) -> None:
    """Set the times of what `fd` (also O_PATH, also of a symbolic link) is; None: keep."""
    times = (ctypes.c_int64 * 4)()
    for place, time_ns in ((0, atime_ns), (2, mtime_ns)):
        if time_ns is None:
            times[place + 1] = _UTIME_OMIT
        else:
            times[place], times[place + 1] = divmod(time_ns, 1_000_000_000)
    _checked(_libc.utimensat(fd, b"", times, _AT_EMPTY_PATH))


def syncfs(fd: int) -> None:
    """Make everything on the file system of `fd` durable."""
    _checked(_libc.syncfs(fd))


def directory_entries(fd: int, buffer: ctypes.Array[ctypes.c_char], bytes_max: int) -> int:
    """Fill `buffer` as getdents64(2) does; give the number of bytes filled, 0 at the end."""
    number = ctypes.c_long(_SYS_GETDENTS64)
    return _checked(_libc.syscall(number, ctypes.c_int(fd), buffer, ctypes.c_size_t(bytes_max)))


def is_mount_point(directory_fd: int, name: bytes) -> bool:
    """Whether something is mounted at a name; what is mounted is not asked."""
    how = (ctypes.c_uint64 * 3)(os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, 0, _RESOLVE_NO_XDEV)
    number, size = ctypes.c_long(_SYS_OPENAT2), ctypes.c_size_t(ctypes.sizeof(how))
    fd = _libc.syscall(number, ctypes.c_int(directory_fd), name, how, size)
    if fd < 0:
        return ctypes.get_errno() == errno.EXDEV
    os.close(fd)
    return False


def detach_thread_umask() -> None:
    """Give this thread a umask (and working directory) of its own, and clear the umask."""
    _checked(_libc.unshare(_CLONE_FS))
    os.umask(0)


def keep_thread_capabilities() -> None:
    """Let `act_as` change the thread's identity for files without losing its privileges."""
    bits = _checked(_libc.prctl(_PR_GET_SECUREBITS, 0, 0, 0, 0))
    _checked(_libc.prctl(_PR_SET_SECUREBITS, bits | _SECBIT_NO_SETUID_FIXUP, 0, 0, 0))


def act_as(uid: int, gid: int) -> None:
    """Own what this thread creates from now on by `uid` and `gid`; never fails for root."""
    _libc.setfsgid(ctypes.c_uint(gid))
    _libc.setfsuid(ctypes.c_uint(uid))
