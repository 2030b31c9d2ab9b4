"""The inodes of the secondary's disk by the primary's numbers, strictly beneath one root.

Everything is reached from the root's descriptor by single, checked names that are never
followed when they are symbolic links. Descriptors are opened as needed and only some thousands
are kept; an inode whose known names are gone keeps its own as long as it has other names.
Used by one thread.
"""

import contextlib
import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from mirrorfarm.actors.replicator import inventory, libc
from mirrorfarm.actors.replicator.ancestry import GONE, Place, closed_above
from mirrorfarm.actors.replicator.exclusions import Exclusions
from mirrorfarm.actors.replicator.operations import RENAME_NOREPLACE, ROOT, Create, Rename

DESCRIPTORS_MAX: Final = 4_096
_PATH_ONLY: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_TO_EMPTY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_EVICTIONS_MAX: Final = 16
ACCESS_ACL: Final = "system.posix_acl_access"
DEFAULT_ACL: Final = "system.posix_acl_default"


class Inode:
    """One inode here, under the number that it has on the primary."""

    __slots__ = ("absent", "data_fd", "fd", "inode", "mode", "names", "number", "target")

    def __init__(self, number: int) -> None:
        self.number = number
        self.inode = 0  # Its own number on this disk.
        self.mode = 0
        self.fd = -1  # O_PATH
        self.data_fd = -1  # For reading and writing, once needed.
        self.names: tuple[Place, ...] = ()
        self.target = b""  # Of a symbolic link that lost its last name.
        self.absent = False  # Unlinked, or not here yet: operations on it do nothing.


class Backing:
    """One replicated directory of the secondary."""

    def __init__(
        self,
        root: str | bytes | int,
        descriptors_max: int = DESCRIPTORS_MAX,
        exclusions: Exclusions | None = None,
    ) -> None:
        self.exclusions = exclusions or Exclusions()
        if isinstance(root, int):
            root = f"/proc/self/fd/{root}"
        self.root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.device = os.fstat(self.root_fd).st_dev
        self._descriptors_max = descriptors_max
        self.lives: Callable[[], None] = lambda: None  # Called again and again by what takes long.
        self.replacing: Callable[[int, bytes], None] | None = None  # Before `clear` removes.
        self._inodes: dict[int, Inode] = {}
        self._at: dict[Place, Inode] = {}
        self._first: dict[int, Inode] = {}  # By the number on this disk.
        self._open: OrderedDict[int, Inode] = OrderedDict()
        self._add_root()

    def __len__(self) -> int:
        return len(self._inodes)

    def _add_root(self) -> None:
        root = self._inodes[ROOT] = Inode(ROOT)
        status = os.fstat(self.root_fd)
        root.fd, root.inode, root.mode = self.root_fd, status.st_ino, status.st_mode

    # --- finding ---------------------------------------------------------------------------

    def get(self, number: int) -> Inode:
        """Give what was introduced as `number`; ESTALE if nothing was."""
        inode = self._inodes.get(number)
        if inode is None:
            raise OSError(errno.ESTALE, f"inode {number} was never introduced")
        return inode

    def at(self, parent: int, name: bytes) -> Inode | None:
        """Give the known inode at a place."""
        return self._at.get((parent, name))

    def fd(self, number: int) -> int:
        """Give an O_PATH descriptor, valid until the next call."""
        inode = self.get(number)
        if inode.fd < 0:
            self._open_above(inode)
            self._reopen(inode)
        if number != ROOT:
            self._open[number] = inode
            self._open.move_to_end(number)
        return inode.fd

    def data_fd(self, number: int) -> int:
        """Give a descriptor for data, valid until the next call; directories: for fsync only."""
        inode = self.get(number)
        if inode.data_fd < 0:
            way = f"/proc/self/fd/{self.fd(number)}"
            access = os.O_RDONLY if stat.S_ISDIR(inode.mode) else os.O_RDWR
            if not stat.S_ISDIR(inode.mode) and not stat.S_ISREG(inode.mode):
                raise OSError(errno.EINVAL, "neither a file nor a directory")
            inode.data_fd = os.open(way, access | os.O_CLOEXEC)
        elif number in self._open:
            self._open.move_to_end(number)
        return inode.data_fd

    def _open_above(self, inode: Inode) -> None:
        for one in closed_above(inode, self._inodes):
            try:
                self._reopen(one)
            except OSError as fault:
                if fault.errno not in GONE:
                    raise
                return  # Another name may lead there.

    def _reopen(self, inode: Inode) -> None:
        for parent, name in inode.names:
            try:
                above = self.fd(parent)
                with inventory.placing(above):
                    fd = os.open(name, _PATH_ONLY, dir_fd=above)
            except OSError as fault:
                if fault.errno not in GONE:
                    raise
                continue
            status = os.fstat(fd)
            if status.st_ino == inode.inode and status.st_dev == self.device:
                inode.fd = fd
                self._open[inode.number] = inode
                self._evict()
                return
            os.close(fd)
        raise OSError(errno.ESTALE, f"inode {inode.number} is not where it was")

    def _evict(self) -> None:
        for _ in range(_EVICTIONS_MAX):
            if len(self._open) <= self._descriptors_max:
                return
            number, inode = next(iter(self._open.items()))
            if not inode.names:
                self._open.move_to_end(number)
                continue
            self._close(inode)

    def _close(self, inode: Inode) -> None:
        self._open.pop(inode.number, None)
        for fd in (inode.fd, inode.data_fd):
            if fd >= 0 and fd != self.root_fd:
                os.close(fd)
        inode.fd = inode.data_fd = -1

    # --- learning --------------------------------------------------------------------------

    def learn(self, number: int, parent: int, name: bytes, data_fd: int = -1) -> Inode:
        """Note that `number` is what lies at a place now; takes over `data_fd`."""
        try:
            fd = os.open(name, _PATH_ONLY, dir_fd=self.fd(parent))
        except BaseException:
            if data_fd >= 0:
                os.close(data_fd)
            raise
        status = os.fstat(fd)
        if status.st_dev != self.device:
            os.close(fd)
            if data_fd >= 0:
                os.close(data_fd)
            raise OSError(errno.EXDEV, "another file system inside of a replicated directory")
        old = self._inodes.get(number)
        if old is not None and old.inode == status.st_ino and not old.absent:
            self._close(old)
            inode = old
        else:
            self.forget(number)
            inode = self._inodes[number] = Inode(number)
        inode.fd, inode.data_fd = fd, data_fd
        inode.inode, inode.mode = status.st_ino, status.st_mode
        if self.owner(inode.inode) is None:
            self._first[inode.inode] = inode
        self._open[number] = inode
        self.add_name(inode, parent, name)
        self._evict()
        return inode

    def owner(self, inode: int) -> Inode | None:
        """Give what was first known to be in an inode of this disk, and still is."""
        known = self._first.get(inode)
        if known is None or known.absent or self._inodes.get(known.number) is not known:
            return None
        try:
            return known if os.fstat(self.fd(known.number)).st_ino == inode else None
        except OSError as fault:
            if fault.errno not in GONE:
                raise
            return None  # It went with its directory; the number is another one's now.

    def learn_absent(self, number: int) -> None:
        """Note that `number` is not here: what is said of it has no effect."""
        self.forget(number)
        inode = self._inodes[number] = Inode(number)
        inode.absent = True

    def add_name(self, inode: Inode, parent: int, name: bytes) -> None:
        """Note one more name."""
        place = (parent, name)
        self.drop_name(parent, name)
        inode.names += (place,)
        self._at[place] = inode

    def drop_name(self, parent: int, name: bytes) -> Inode | None:
        """Note that a name is gone; the descriptor must be open if it was the last known one."""
        inode = self._at.pop((parent, name), None)
        if inode is not None:
            inode.names = tuple(place for place in inode.names if place != (parent, name))
        return inode

    def bury(self, inode: Inode) -> None:
        """Close an inode without a known name if it has no other either."""
        if inode.names:
            return
        if inode.fd < 0 or self.is_nameless(inode) or stat.S_ISDIR(inode.mode):
            self._close(inode)
            inode.absent = True

    def is_nameless(self, inode: Inode) -> bool:
        """Whether something known, not a directory, has no name here any more."""
        if inode.absent or stat.S_ISDIR(inode.mode):
            return inode.absent and inode.mode != 0 and not stat.S_ISDIR(inode.mode)
        fd = self.fd(inode.number)
        if os.fstat(fd).st_nlink:
            return False
        if stat.S_ISLNK(inode.mode):
            inode.target = os.readlink(b"", dir_fd=fd)
        return True

    def forget(self, number: int) -> None:
        """Drop everything about `number`."""
        inode = self._inodes.pop(number, None) if number != ROOT else None
        if inode is not None:
            for place in inode.names:
                self._at.pop(place, None)
            if self._first.get(inode.inode) is inode:
                del self._first[inode.inode]
            self._close(inode)

    def forget_all(self) -> None:
        """Begin anew: nothing is introduced but the root."""
        for inode in self._inodes.values():
            self._close(inode)
        self._inodes.clear()
        self._at.clear()
        self._first.clear()
        self._open.clear()
        self._add_root()

    def close(self) -> None:
        """Close every descriptor."""
        self.forget_all()
        self._inodes.clear()
        os.close(self.root_fd)

    def make(self, operation: Create, kind: int) -> int:
        """Make an inode that nobody may use yet; a regular file's descriptor, or -1."""
        name, parent_fd = operation.name, self.fd(operation.parent)
        data_fd = -1
        if kind == stat.S_IFREG:
            data_fd = os.open(name, _NEW_FILE, 0, dir_fd=parent_fd)
        elif kind == stat.S_IFDIR:
            os.mkdir(name, 0, dir_fd=parent_fd)
        elif kind == stat.S_IFLNK:
            os.symlink(operation.target, name, dir_fd=parent_fd)
        else:
            os.mknod(name, kind, operation.rdev, dir_fd=parent_fd)
        if kind != stat.S_IFLNK:
            _disinherit(f"/proc/self/fd/{parent_fd}/".encode() + name)
        return data_fd

    def move_the_one(self, operation: Rename) -> bool:
        """Of two that change places move the one that is here; give False if there is none.

        It must not stay behind: what the primary says of what is below it has to be found there.
        """
        old = (self.fd(operation.parent), operation.name)
        new = (self.fd(operation.new_parent), operation.new_name)
        for source, destination in ((old, new), (new, old)):
            with contextlib.suppress(FileNotFoundError):
                libc.rename(*source, *destination, RENAME_NOREPLACE)
                return True
        return False

    # --- removing --------------------------------------------------------------------------

    def excludes(self, parent: int, name: bytes) -> bool:
        """Whether a name in a known directory, itself replicated, is this node's own."""
        return bool(self.exclusions) and self.exclusions.excludes(self.path(parent), name)

    def path(self, number: int) -> bytes:
        """Give the path of what is known, relative to the root, by its first names."""
        parts: list[bytes] = []
        inode = self._inodes.get(number)
        while inode is not None and inode.names:
            number, name = inode.names[0]
            parts.append(name)
            inode = self._inodes.get(number)
        return b"/".join(reversed(parts))

    def clear_own(self, parent: int, name: bytes) -> None:
        """Remove this node's own entries in a directory that goes; others are left where they are.

        The primary's application removed its own ones before it could remove the directory.
        """
        if not self.exclusions:
            return
        path = self.path(parent)
        path = path + b"/" + name if path else name
        try:
            fd = os.open(name, _PATH_ONLY | os.O_DIRECTORY, dir_fd=self.fd(parent))
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            for entry in os.listdir(f"/proc/self/fd/{fd}"):
                if not self.exclusions.excludes(path, os.fsencode(entry)):
                    continue
                status = os.stat(entry, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    _remove_tree(os.fsencode(entry), fd, self.lives)
                else:
                    os.unlink(entry, dir_fd=fd)
        finally:
            os.close(fd)

    def clear(self, parent: int, name: bytes) -> None:
        """Remove whatever lies at a place, with all below; nothing there is fine."""
        directory_fd = self.fd(parent)
        try:
            status = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        if status.st_dev != self.device:
            raise OSError(errno.EXDEV, "another file system inside of a replicated directory")
        if self.replacing is not None:
            self.replacing(directory_fd, name)
        if stat.S_ISDIR(status.st_mode):
            _remove_tree(name, directory_fd, self.lives)
        else:
            os.unlink(name, dir_fd=directory_fd)
        known = self.drop_name(parent, name)
        if known is not None:
            self.bury(known)


def _disinherit(way: bytes) -> None:
    """Take away the ACLs that an inode got from its directory: the primary tells its own."""
    for name in os.listxattr(way, follow_symlinks=False):
        if name in (ACCESS_ACL, DEFAULT_ACL):
            os.removexattr(way, name, follow_symlinks=False)


def _remove_tree(name: bytes, parent_fd: int, lives: Callable[[], None]) -> None:
    """Remove a directory with all below; `shutil.rmtree` ends at a depth of about 1,000."""
    levels = [(os.open(name, _TO_EMPTY, dir_fd=parent_fd), name)]
    try:
        while levels:
            fd, name = levels[-1]
            with inventory.placing(fd):
                if (deeper := _emptied(fd, lives)) is not None:
                    levels.append((os.open(deeper, _TO_EMPTY, dir_fd=fd), deeper))
                    continue
            os.rmdir(name, dir_fd=levels[-2][0] if len(levels) > 1 else parent_fd)
            os.close(levels.pop()[0])
    finally:
        for fd, _ in levels:
            os.close(fd)


def _emptied(fd: int, lives: Callable[[], None]) -> bytes | None:
    """Remove what lies in a directory up to the first directory in it, and give its name."""
    with os.scandir(fd) as entries:
        for entry in entries:
            lives()
            if entry.is_dir(follow_symlinks=False):
                return os.fsencode(entry.name)
            os.unlink(entry.name, dir_fd=fd)
    return None
