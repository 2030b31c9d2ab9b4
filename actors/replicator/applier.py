"""Applies modifications of the primary to the secondary's directories, beneath their roots.

While the copy of a session still runs, the tree here is not yet the primary's: `lenient` then
makes room for what comes and overlooks what is missing, and `incomplete` is told of every inode
that had to be made up, so that the copy brings its content. Otherwise a surprise is an OSError:
the two sides differ, and the session must not go on.
"""

import errno
import os
import stat
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, assert_never

from mirrorfarm.actors.replicator import inventory, libc
from mirrorfarm.actors.replicator.ancestry import GONE
from mirrorfarm.actors.replicator.backing import DESCRIPTORS_MAX, Backing, Inode
from mirrorfarm.actors.replicator.disks import Disks, is_failure
from mirrorfarm.actors.replicator.exclusions import Exclusions
from mirrorfarm.actors.replicator.operations import (
    ANY_OPERATION,
    RENAME_EXCHANGE,
    SET_ATIME,
    SET_GID,
    SET_MODE,
    SET_MTIME,
    SET_SIZE,
    SET_UID,
    Create,
    Fallocate,
    Forget,
    Fsync,
    Introduce,
    Link,
    RemoveXattr,
    Rename,
    Rmdir,
    SetAttr,
    SetXattr,
    Unlink,
    Write,
)
from mirrorfarm.actors.replicator.quarantine import Quarantine, Replacing, overwrites
from mirrorfarm.descriptors import descriptor_limit

_IN_THE_WAY: Final = (errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR, errno.ENOTDIR)
_NEW_FILE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def _ignore(_directory: int, _node: int) -> None:
    """Tell nobody."""


class Applier:
    """Applies one stream, in its order, from one thread."""

    def __init__(
        self,
        directories: Sequence[str | bytes | int],
        *,
        devices_allowed: bool = False,
        incomplete: Callable[[int, int], None] = _ignore,
        descriptors_max: int = DESCRIPTORS_MAX,
        exclusions: Sequence[Exclusions] = (),
    ) -> None:
        wanted = exclusions or [Exclusions()] * len(directories)
        # Two of each inode at most; three quarters are for what is mounted, and for what comes in.
        share = descriptor_limit() // (8 * max(len(directories), 1))
        self._backings = [
            Backing(directory, min(descriptors_max, share), own)
            for directory, own in zip(directories, wanted, strict=True)
        ]
        self._disks = Disks(backing.root_fd for backing in self._backings)
        self._devices_allowed = devices_allowed
        self._incomplete = incomplete
        self.lenient = False
        self._aside: Quarantine | None = None
        self.lives: Callable[[], None] = lambda: None  # Called again and again by what takes long.

    def begin(self, lenient: bool, aside: Quarantine | None = None) -> None:
        """Begin a session: nothing is introduced. `aside` keeps what it replaces."""
        self.lenient = lenient
        self._aside = aside
        for index, backing in enumerate(self._backings):
            backing.replacing = self._replacing(index, backing) if aside else None
            backing.lives = self.lives
            backing.forget_all()
        if aside is not None:
            aside.lives = self.lives

    def apply(self, operation: ANY_OPERATION, payload: bytes | memoryview = b"") -> None:
        """Apply one operation; OSError if the disk refuses or the tree is not as expected."""
        backing = self.backing(operation.directory)
        match operation:
            case Write():
                self._write(backing, operation, payload)
            case Introduce():
                self._introduce(backing, operation)
            case Forget():
                backing.forget(operation.node)
            case Create():
                self._create(backing, operation)
            case Link():
                self._link(backing, operation)
            case Unlink() | Rmdir():
                self._remove(backing, operation)
            case Rename():
                self._rename(backing, operation)
            case _:
                self._change(backing, operation)

    def keep_no_more(self) -> None:
        """The copy is over: what is replaced from now on is the primary's own."""
        self._aside = None
        for backing in self._backings:
            backing.replacing = None

    def _replacing(self, directory: int, backing: Backing) -> Callable[[int, bytes], None]:
        """Give the function that keeps what lies at a name before it goes."""

        def keep(parent_fd: int, name: bytes) -> None:
            if self._aside is not None:
                self._aside.name(directory, backing.root_fd, parent_fd, name)

        return keep

    def _keep(self, operation: Replacing, backing: Backing) -> None:
        """Set aside what an operation overwrites, or takes away."""
        if self._aside is None:
            return
        fd = backing.data_fd if overwrites(operation) else backing.fd
        self._aside.replaced(operation, backing.root_fd, fd(operation.node))

    def _change(
        self,
        backing: Backing,
        operation: SetAttr | SetXattr | RemoveXattr | Fallocate | Fsync,
    ) -> None:
        inode = backing.get(operation.node)
        if inode.absent:
            return
        if not isinstance(operation, Fsync):
            self._keep(operation, backing)
        match operation:
            case SetAttr():
                self._set_attributes(backing, inode, operation)
            case SetXattr():
                way = f"/proc/self/fd/{backing.fd(operation.node)}"
                os.setxattr(way, operation.name, operation.value)
            case RemoveXattr():
                self._remove_xattr(backing, operation)
            case Fallocate():
                self._fallocate(backing, operation)
            case Fsync():
                self.flusher(operation)()
            case _:
                assert_never(operation)

    def flusher(self, operation: Fsync) -> Callable[[], None]:
        """Give the flush as a function that any thread may call, once; OSError if it fails."""
        backing = self.backing(operation.directory)
        inode = backing.get(operation.node)
        if inode.absent:
            return lambda: None
        fd = os.dup(backing.data_fd(operation.node))
        return partial(inventory.flush, fd, operation.data_only)

    def sync_all(self) -> None:
        """Make everything durable; OSError if a disk lost something since the last time."""
        self._disks.flush()

    def close(self) -> None:
        """Close every descriptor."""
        self._disks.close()
        for backing in self._backings:
            backing.close()

    def backing(self, directory: int) -> Backing:
        """Give the table of one directory; OSError if there is none: the peer has others."""
        if not 0 <= directory < len(self._backings):
            raise OSError(errno.ESTALE, f"no directory {directory}")
        return self._backings[directory]

    # --- names -----------------------------------------------------------------------------

    def _introduce(self, backing: Backing, operation: Introduce) -> None:
        kind = stat.S_IFMT(operation.mode)
        try:
            inode = backing.learn(operation.node, operation.parent, operation.name)
        except FileNotFoundError:
            if not self.lenient:
                raise
        else:
            # One inode here, two at the primary: what one of them is told must not reach the other.
            shared = backing.owner(inode.inode) is not inode and self.lenient
            if stat.S_IFMT(inode.mode) == kind and not shared:
                return
            if not self.lenient:
                backing.forget(operation.node)
                raise OSError(errno.ESTALE, f"another kind of inode at {operation.name!r}")
        self._make_up(backing, operation)

    def _make_up(self, backing: Backing, operation: Introduce) -> None:
        backing.clear(operation.parent, operation.name)
        self._incomplete(operation.directory, operation.node)
        kind, parent_fd = stat.S_IFMT(operation.mode), backing.fd(operation.parent)
        if kind == stat.S_IFDIR:
            os.mkdir(operation.name, 0o700, dir_fd=parent_fd)
        elif kind == stat.S_IFREG:
            os.close(os.open(operation.name, _NEW_FILE, 0o600, dir_fd=parent_fd))
        elif kind == stat.S_IFLNK and operation.target:
            os.symlink(operation.target, operation.name, dir_fd=parent_fd)
        elif kind in (stat.S_IFIFO, stat.S_IFSOCK):
            os.mknod(operation.name, kind | 0o600, 0, dir_fd=parent_fd)
        else:
            backing.learn_absent(operation.node)
            return
        made = backing.learn(operation.node, operation.parent, operation.name)
        if self._aside is not None:
            self._aside.fresh(operation.directory, made.inode)

    def _create(self, backing: Backing, operation: Create) -> None:
        kind = stat.S_IFMT(operation.mode)
        if kind in (stat.S_IFCHR, stat.S_IFBLK) and not self._devices_allowed:
            raise OSError(errno.EPERM, "devices are not replicated here")
        made = True
        try:
            data_fd = backing.make(operation, kind)
        except FileExistsError:
            data_fd, made = self._create_over(backing, operation, kind)
        inode = backing.learn(operation.node, operation.parent, operation.name, data_fd)
        if self._aside is not None and made:
            self._aside.fresh(operation.directory, inode.inode)
        libc.own(inode.fd, operation.uid, operation.gid)
        if kind != stat.S_IFLNK:
            os.chmod(f"/proc/self/fd/{inode.fd}", stat.S_IMODE(operation.mode))
        libc.set_times(inode.fd, None, operation.mtime_ns)

    def _create_over(self, backing: Backing, operation: Create, kind: int) -> tuple[int, bool]:
        """Something is there already: the same after a resumed stream, or a leftover.

        Give a descriptor for its data, or -1; and whether it is a new inode.
        """
        known = backing.at(operation.parent, operation.name)
        parent_fd = backing.fd(operation.parent)
        present = os.stat(operation.name, dir_fd=parent_fd, follow_symlinks=False)
        if stat.S_IFMT(present.st_mode) == kind:
            if known is not None and known.number == operation.node:
                return -1, False
        if not self.lenient:
            raise OSError(errno.EEXIST, f"{operation.name!r} exists already")
        backing.clear(operation.parent, operation.name)
        return backing.make(operation, kind), True

    def _link(self, backing: Backing, operation: Link) -> None:
        inode = backing.get(operation.node)
        if self.lenient and backing.is_nameless(inode):
            at = (operation.directory, operation.node, operation.parent, operation.name)
            self._make_up(backing, Introduce(*at, inode.mode, inode.target))
            return  # The names that it had here were another one's at the primary.
        if inode.absent:
            return
        way = f"/proc/self/fd/{backing.fd(operation.node)}"
        parent_fd = backing.fd(operation.parent)
        try:
            os.link(way, operation.name, dst_dir_fd=parent_fd, follow_symlinks=True)
        except FileExistsError:
            present = os.stat(operation.name, dir_fd=parent_fd, follow_symlinks=False)
            if present.st_ino != inode.inode:
                if not self.lenient:
                    raise
                backing.clear(operation.parent, operation.name)
                os.link(way, operation.name, dst_dir_fd=parent_fd, follow_symlinks=True)
        backing.add_name(inode, operation.parent, operation.name)

    def _remove(self, backing: Backing, operation: Unlink | Rmdir) -> None:
        known = self._pinned(backing, operation.parent, operation.name)
        parent_fd = backing.fd(operation.parent)
        if backing.replacing is not None and isinstance(operation, Unlink):
            backing.replacing(parent_fd, operation.name)
        remove = os.unlink if isinstance(operation, Unlink) else os.rmdir
        try:
            if isinstance(operation, Rmdir):
                backing.clear_own(operation.parent, operation.name)
            remove(operation.name, dir_fd=parent_fd)
        except OSError as fault:
            if not self.lenient or is_failure(fault):
                raise
            if fault.errno != errno.ENOENT:
                backing.clear(operation.parent, operation.name)
        backing.drop_name(operation.parent, operation.name)
        if known is not None:
            backing.bury(known)

    def _rename(self, backing: Backing, operation: Rename) -> None:
        old = (operation.parent, operation.name)
        new = (operation.new_parent, operation.new_name)
        moved = self._pinned(backing, *old)
        other = self._pinned(backing, *new)
        if moved is not None and moved is other:
            return  # Two names of one inode: rename(2) does nothing.
        if backing.replacing is not None and not operation.flags & RENAME_EXCHANGE:
            backing.replacing(backing.fd(operation.new_parent), operation.new_name)
        if not operation.flags:
            # An empty directory that is replaced, or nothing of the kind.
            backing.clear_own(*new)
        if not self._rename_on_disk(backing, operation):
            return
        backing.drop_name(*old)
        backing.drop_name(*new)
        if moved is not None:
            backing.add_name(moved, *new)
        if other is not None:
            if operation.flags & RENAME_EXCHANGE:
                backing.add_name(other, *old)
            else:
                backing.bury(other)

    def _rename_on_disk(self, backing: Backing, operation: Rename) -> bool:
        """Rename; while lenient make room, and give False if there is nothing to move."""

        def attempt() -> None:
            old_fd, new_fd = backing.fd(operation.parent), backing.fd(operation.new_parent)
            libc.rename(old_fd, operation.name, new_fd, operation.new_name, operation.flags)

        try:
            attempt()
        except OSError as fault:
            if not self.lenient or fault.errno not in (*_IN_THE_WAY, errno.ENOENT):
                raise
            if fault.errno == errno.ENOENT:
                self._incomplete(operation.directory, operation.parent)
                self._incomplete(operation.directory, operation.new_parent)
                if operation.flags & RENAME_EXCHANGE:
                    return backing.move_the_one(operation)
                backing.clear(operation.new_parent, operation.new_name)
                return False
            backing.clear(operation.new_parent, operation.new_name)
            attempt()
        return True

    def _pinned(self, backing: Backing, parent: int, name: bytes) -> Inode | None:
        """Give the known inode at a place, its descriptor open: it may lose its last name."""
        known = backing.at(parent, name)
        if known is not None and not known.absent:
            try:
                backing.fd(known.number)
            except OSError as fault:
                if not self.lenient or fault.errno not in GONE:
                    raise
        return known

    # --- content and attributes ------------------------------------------------------------

    def _write(self, backing: Backing, operation: Write, payload: bytes | memoryview) -> None:
        inode = backing.get(operation.node)
        if inode.absent:
            return
        self._keep(operation, backing)
        fd = backing.data_fd(operation.node)
        rest, offset = memoryview(payload), operation.offset
        while rest:
            written = os.pwrite(fd, rest, offset)
            rest, offset = rest[written:], offset + written
        if operation.mtime_ns:
            libc.set_times(fd, None, operation.mtime_ns)

    def _fallocate(self, backing: Backing, operation: Fallocate) -> None:
        fd = backing.data_fd(operation.node)
        libc.fallocate(fd, operation.mode, operation.offset, operation.length)
        if operation.mtime_ns:
            libc.set_times(fd, None, operation.mtime_ns)

    def _set_attributes(self, backing: Backing, inode: Inode, operation: SetAttr) -> None:
        valid = operation.valid
        if valid & SET_SIZE:
            os.ftruncate(backing.data_fd(inode.number), operation.size)
        fd = backing.fd(inode.number)
        if valid & (SET_UID | SET_GID):
            uid = operation.uid if valid & SET_UID else -1
            libc.own(fd, uid, operation.gid if valid & SET_GID else -1)
        if valid & SET_MODE and not stat.S_ISLNK(inode.mode):
            os.chmod(f"/proc/self/fd/{fd}", stat.S_IMODE(operation.mode))
        if valid & (SET_ATIME | SET_MTIME):
            libc.set_times(
                fd,
                operation.atime_ns if valid & SET_ATIME else None,
                operation.mtime_ns if valid & SET_MTIME else None,
            )

    def _remove_xattr(self, backing: Backing, operation: RemoveXattr) -> None:
        try:
            os.removexattr(f"/proc/self/fd/{backing.fd(operation.node)}", operation.name)
        except OSError as fault:
            if fault.errno != errno.ENODATA:
                raise
