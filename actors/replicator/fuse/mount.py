"""Mount, unmount, abort: what happens at the mount point."""

import contextlib
import errno
import os
import threading
from pathlib import Path
from typing import Final, NamedTuple

from mirrorfarm.actors.replicator import libc
from mirrorfarm.actors.replicator.fuse.protocol import WRITE_BYTES_MAX
from mirrorfarm.errors import SystemUnsuitable

KIND: Final = b"fuse.mirrorfarm"
_CONTROL: Final = Path("/sys/fs/fuse/connections")
_LEFTOVERS_MAX: Final = 8


class Mounted(NamedTuple):
    """A line of mountinfo."""

    device: int  # Minor number: the FUSE connection.
    point: bytes
    kind: bytes
    number: int  # Of the mount itself; one device may be mounted more than once.


def mounts() -> list[Mounted]:
    """Every mount of this mount namespace, in mounting order."""
    found = []
    for line in Path("/proc/self/mountinfo").read_bytes().split(b"\n")[:-1]:  # A name may hold \r.
        fields = line.split(b" ")
        minor = int(fields[2].partition(b":")[2])
        point = fields[4].decode("unicode_escape").encode("latin-1")
        kind = fields[fields.index(b"-", 6) + 1]
        found.append(Mounted(minor, point, kind, int(fields[0])))
    return found


def topmost(path: bytes) -> Mounted | None:
    """Whatever is mounted right at `path`; None: nothing."""
    at_path = [mounted for mounted in mounts() if mounted.point == path]
    return at_path[-1] if at_path else None


def clear_leftover(path: bytes) -> None:
    """Detach the dead mounts of a killed predecessor; EBUSY if a live one is there."""
    for _ in range(_LEFTOVERS_MAX):
        mounted = topmost(path)
        if mounted is None or mounted.kind != KIND:
            return
        try:
            os.statvfs(path)  # The kernel may answer `stat` of a dead mount from its cache.
        except OSError as fault:
            if fault.errno not in (errno.ENOTCONN, errno.ECONNABORTED):
                raise
        else:
            raise OSError(errno.EBUSY, "already mounted", os.fsdecode(path))
        libc.unmount(path, libc.MNT_DETACH)


class Connection:
    """The connection of one mount to the kernel: how it is aborted, from any thread."""

    def __init__(self, path: bytes) -> None:
        """`path` was just mounted over."""
        mounted = topmost(path)
        assert mounted is not None, "a mount that succeeded is listed"
        self._path, self._number = path, mounted.device
        # Opened now: the number is another mount's as soon as this one is gone, perhaps while it
        # is being aborted. What is open stays this one's, and does nothing then.
        self._control_fd = _open_control(self._number)
        self._closed = False
        self._lock = threading.Lock()

    def serves(self, mounted: Mounted) -> bool:
        """Return whether a mount is this one's. The number alone may be another one's later."""
        return (mounted.kind, mounted.device) == (KIND, self._number)

    def abort(self) -> None:
        """Make every request, waiting or to come, fail at once with ENOTCONN; the mount stays."""
        with self._lock:
            if self._closed:
                return
            if self._control_fd is not None:
                with contextlib.suppress(OSError):
                    os.write(self._control_fd, b"1")
                    return
        _abort_by_force(self._path, self._number)

    def close(self) -> None:
        """Abort nothing any more. Idempotent."""
        with self._lock:
            self._closed = True
            if self._control_fd is not None:
                os.close(self._control_fd)
                self._control_fd = None


def _open_control(number: int) -> int | None:
    """Open what aborts a connection; None: the control file system is not there for us."""
    try:
        seen = topmost(os.fsencode(_CONTROL))
        if seen is None or seen.kind != b"fusectl":
            libc.mount(b"fusectl", os.fsencode(_CONTROL), b"fusectl", 0)
        return os.open(_CONTROL / str(number) / "abort", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:  # Some containers do not allow it.
        return None


def attach(path: bytes, read_only: bool) -> tuple[int, Connection]:
    """Mount over `path`; give the device's descriptor and the connection."""
    try:
        device_fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as fault:
        raise SystemUnsuitable(
            f"cannot open /dev/fuse: {fault.strerror}; load the kernel module with `modprobe fuse`"
        ) from None
    options = (
        f"fd={device_fd},rootmode=40000,user_id=0,group_id=0,"
        f"allow_other,default_permissions,max_read={WRITE_BYTES_MAX}"
    )
    flags = libc.MS_NODEV | (libc.MS_RDONLY if read_only else 0)
    try:
        libc.mount(b"mirrorfarm", path, KIND, flags, options.encode())
        connection = Connection(path)
    except BaseException:
        os.close(device_fd)
        raise
    return device_fd, connection


def detach(path: bytes, connection: Connection, lazy: bool) -> None:
    """Unmount what is ours, unless somebody has done so: what lies beneath is none of ours.

    OSError EBUSY: it is in use and `lazy` is not asked for, or something else is mounted over it.
    """
    ours = [connection.serves(mounted) for mounted in mounts() if mounted.point == path]
    while ours and ours.pop():  # Somebody may have bound it over itself.
        libc.unmount(path, libc.MNT_DETACH if lazy else 0)
    if any(ours):
        raise OSError(errno.EBUSY, "something else is mounted over it", os.fsdecode(path))


def covered(path: bytes) -> bool:
    """Return whether something else was mounted over a mount of mirrorfarm's, right at `path`."""
    kinds = [mounted.kind for mounted in mounts() if mounted.point == path]
    return KIND in kinds and kinds[-1] != KIND


def leads(path: bytes, connection: Connection) -> bool:
    """Return whether who goes to `path` comes to our mount. The file system is not asked."""
    try:
        found = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        told = Path(f"/proc/self/fdinfo/{found}").read_bytes()
    finally:
        os.close(found)
    number = int(told.partition(b"mnt_id:")[2].split()[0])
    return any(connection.serves(mounted) for mounted in mounts() if mounted.number == number)


def _abort_by_force(path: bytes, number: int) -> None:
    """Abort without the control file system: a forced unmount begins with it.

    It goes no further with what is in use, and that is what we see to: below the mount somebody
    would write past what is replicated.
    """
    mounted = topmost(path)
    if mounted is None or (mounted.kind, mounted.device) != (KIND, number):
        return  # It is gone already; what is there now is not ours.
    in_use = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        libc.unmount(path, libc.MNT_FORCE)
    except OSError as fault:
        if fault.errno != errno.EBUSY:
            raise
    finally:
        os.close(in_use)
