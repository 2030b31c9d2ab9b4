"""Handlers of what changes or reads names: lookup, create, link, rename, remove.

A change is made on the local disk first, then handed to the journal, both with the namespace
lock held; the application is answered when the secondary has it too.
"""

import errno
import os
import stat
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from mirrorfarm.actors.replicator import libc
from mirrorfarm.actors.replicator.disks import NO_ATTRIBUTE, is_failure
from mirrorfarm.actors.replicator.fuse import protocol
from mirrorfarm.actors.replicator.fuse.nodes import Node
from mirrorfarm.actors.replicator.fuse.protocol import Deferred, Reply, Request
from mirrorfarm.actors.replicator.fuse.volume import Volume, acting_as
from mirrorfarm.actors.replicator.operations import (
    NAMESPACE_OPERATION,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    Create,
    Link,
    Rename,
    Rmdir,
    SetXattr,
    Unlink,
)

_ACCESS_ACL = "system.posix_acl_access"
_DEFAULT_ACL = "system.posix_acl_default"


class Names:
    """Handlers bound to one volume."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._nodes = volume.nodes
        self._nowhere = protocol.ENTRY.pack(0, 0, volume.cache_seconds, 0, 0, 0) + bytes(88)

    def handlers(self) -> Mapping[int, Callable[[Request], Reply]]:
        """Give the operations served here."""
        return {
            protocol.LOOKUP: self.lookup,
            protocol.FORGET: self.forget,
            protocol.BATCH_FORGET: self.batch_forget,
            protocol.READLINK: self.readlink,
            protocol.SYMLINK: self.symlink,
            protocol.MKNOD: self.mknod,
            protocol.MKDIR: self.mkdir,
            protocol.UNLINK: self.unlink,
            protocol.RMDIR: self.rmdir,
            protocol.RENAME: self.rename,
            protocol.RENAME2: self.rename2,
            protocol.LINK: self.link,
        }

    # --- reading ---------------------------------------------------------------------------

    def lookup(self, request: Request) -> Reply:
        """Find a name; the kernel may remember that there is none."""
        volume = self._volume
        name = request.text(40)
        with volume.watching_disk(request.node), self._nodes.use(request.node) as parent:
            try:
                status = volume.status(parent, name)
            except FileNotFoundError:
                if volume.read_only:
                    raise
                return self._nowhere
            return volume.entry(parent, name, status)[1]

    def forget(self, request: Request) -> Reply:
        """Take back lookups of one node."""
        self._volume.forget(request.node, protocol.LONG.unpack_from(request.buffer, 40)[0])
        return None

    def batch_forget(self, request: Request) -> Reply:
        """Take back lookups of many nodes."""
        count = protocol.WORD.unpack_from(request.buffer, 40)[0]
        end = 48 + count * protocol.FORGET_ONE.size
        for number, lookups in protocol.FORGET_ONE.iter_unpack(request.view[48:end]):
            self._volume.forget(number, lookups)
        return None

    def readlink(self, request: Request) -> Reply:
        """Read where a symbolic link points."""
        with self._volume.watching_disk(request.node), self._nodes.use(request.node) as node:
            return os.readlink(b"", dir_fd=node.fd)

    # --- creating --------------------------------------------------------------------------

    def symlink(self, request: Request) -> Reply:
        """Create a symbolic link."""
        name = request.text(40)
        target = request.text(41 + len(name))

        def make(parent: Node) -> None:
            os.symlink(target, name, dir_fd=parent.fd)

        return self._make(request, name, make, target)

    def mknod(self, request: Request) -> Reply:
        """Create a file, device, pipe or socket."""
        mode, rdev, umask, _ = protocol.MKNOD_IN.unpack_from(request.buffer, 40)
        name = request.text(56)
        if self._volume.is_own_device(mode):
            # The secondary would refuse it too, and with it the whole session.
            raise OSError(errno.EPERM, "devices are not replicated")

        def make(parent: Node) -> None:
            os.mknod(name, mode & ~self.mask(parent, umask), rdev, dir_fd=parent.fd)

        return self._make(request, name, make)

    def mkdir(self, request: Request) -> Reply:
        """Create a directory."""
        mode, umask = protocol.MKDIR_IN.unpack_from(request.buffer, 40)
        name = request.text(48)

        def make(parent: Node) -> None:
            os.mkdir(name, mode & ~self.mask(parent, umask), dir_fd=parent.fd)

        return self._make(request, name, make)

    def _make(
        self, request: Request, name: bytes, make: Callable[[Node], None], target: bytes = b""
    ) -> Reply:
        volume = self._volume
        number = request.node
        with volume.modifying(number), self._nodes.use(number) as parent, self._nodes.lock:
            with acting_as(request):
                make(parent)
            status = volume.status(parent, name)
            ticket = self.tell_created(parent, name, status, target)
            node, entry = volume.entry(parent, name, status)
            node.told = not node.excluded
            return Deferred(ticket, entry)

    def tell_created(
        self, parent: Node, name: bytes, status: os.stat_result, target: bytes = b""
    ) -> int:
        """Hand over that something was created; namespace lock held."""
        if self._volume.is_excluded(parent, name):
            return 0
        operation = Create(
            self._volume.directory,
            status.st_ino,
            parent.number,
            name,
            status.st_mode,
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns,
            status.st_rdev,
            target,
        )
        ticket = self._tell(operation, (status.st_ino,), parent)
        if parent.default_acl and not target:
            way = f"/proc/self/fd/{parent.fd}/".encode() + name
            ticket = self._tell_inherited(way, status.st_ino, ticket)
        return ticket

    def _tell_inherited(self, way: bytes, node: int, ticket: int) -> int:
        """Hand over the ACLs of something new: the other node's directory may have others yet.

        Nobody else knows it, so its order lock is not needed.
        """
        for name in (_ACCESS_ACL, _DEFAULT_ACL):
            try:
                value = os.getxattr(way, name, follow_symlinks=False)
            except OSError as fault:
                if fault.errno == errno.ENODATA:
                    continue
                raise
            operation = SetXattr(self._volume.directory, node, name.encode(), value)
            ticket = self._volume.journal.change(operation)
        return ticket

    def mask(self, parent: Node, umask: int) -> int:
        """Give the bits to take away: none where a default ACL says it better."""
        if parent.default_acl is None:
            try:
                os.getxattr(parent.path, _DEFAULT_ACL)
                parent.default_acl = True
            except OSError as fault:
                if is_failure(fault, NO_ATTRIBUTE):
                    raise
                parent.default_acl = False
        return 0 if parent.default_acl else umask

    def link(self, request: Request) -> Reply:
        """Give an inode one more name."""
        old = protocol.LONG.unpack_from(request.buffer, 40)[0]
        name = request.text(48)
        volume, nodes = self._volume, self._nodes
        with (
            volume.modifying(request.node),
            nodes.use(request.node) as parent,
            nodes.use(old) as node,
            nodes.lock,
        ):
            excluded = volume.is_excluded(parent, name)
            if excluded is not node.excluded:
                raise OSError(errno.EXDEV, "only one of both names would be replicated")
            os.link(node.path, name, dst_dir_fd=parent.fd, follow_symlinks=True)
            operation = Link(volume.directory, old, parent.number, name)
            ticket = 0 if excluded else self._tell(operation, (old,), parent, node, several=(old,))
            status = volume.status(parent, name)
            return Deferred(ticket, volume.entry(parent, name, status)[1])

    # --- removing and moving ---------------------------------------------------------------

    def unlink(self, request: Request) -> Reply:
        """Remove a name."""
        name = request.text(40)
        with (
            self._volume.modifying(request.node),
            self._nodes.use(request.node) as parent,
            self._nodes.lock,
        ):
            return self._remove(Unlink, parent, name)

    def rmdir(self, request: Request) -> Reply:
        """Remove an empty directory."""
        name = request.text(40)
        with (
            self._volume.modifying(request.node),
            self._nodes.use(request.node) as parent,
            self._nodes.lock,
        ):
            return self._remove(Rmdir, parent, name)

    def _remove(self, kind: type[Unlink] | type[Rmdir], parent: Node, name: bytes) -> Reply:
        with ExitStack() as stack:
            number, victim, several = self._lend(stack, parent, name)
            excluded = self._volume.is_excluded(parent, name) or self._is_own_device(victim)
            (os.unlink if kind is Unlink else os.rmdir)(name, dir_fd=parent.fd)
            try:
                if excluded:
                    return None
                operation = kind(self._volume.directory, parent.number, name)
                return Deferred(self._tell(operation, (number,), parent, several=several))
            finally:
                if victim is not None:
                    self._nodes.remove_name(victim, parent, name)

    def rename(self, request: Request) -> Reply:
        """Move a name."""
        new = protocol.LONG.unpack_from(request.buffer, 40)[0]
        return self._rename(request, 48, new, 0)

    def rename2(self, request: Request) -> Reply:
        """Move a name, or exchange two."""
        new, flags, _ = protocol.RENAME2_IN.unpack_from(request.buffer, 40)
        if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE):
            raise OSError(errno.EINVAL, "rename flags")
        return self._rename(request, 56, new, flags)

    def _rename(self, request: Request, offset: int, new_number: int, flags: int) -> Reply:
        old = request.text(offset)
        new = request.text(offset + 1 + len(old))
        volume, nodes = self._volume, self._nodes
        with ExitStack() as stack:
            stack.enter_context(volume.modifying(new_number))
            source = stack.enter_context(nodes.use(request.node))
            destination = stack.enter_context(nodes.use(new_number))
            stack.enter_context(nodes.lock)
            moved_number, moved, several = self._lend(stack, source, old)
            other_number, other, others = self._lend(stack, destination, new)
            if self._is_own_device(moved) or (flags and self._is_own_device(other)):
                raise OSError(errno.EPERM, "devices are not replicated")
            excluded = self._check_border((source, old), (destination, new))
            libc.rename(source.fd, old, destination.fd, new, flags)
            operation = Rename(volume.directory, source.number, old, new_number, new, flags)
            touched = (moved_number, other_number) if other_number else (moved_number,)
            try:
                if excluded:
                    return None
                told = self._tell(operation, touched, source, destination, several=several + others)
                return Deferred(told)
            finally:
                if moved_number != other_number:  # Two names of one inode: nothing happens.
                    self._renamed((source, old, moved), (destination, new, other), flags)

    def _is_own_device(self, node: Node | None) -> bool:
        """Whether what the kernel is about to remove or move is a device; it knows that."""
        return node is not None and self._volume.is_own_device(node.mode)

    def _check_border(self, *places: tuple[Node, bytes]) -> bool:
        """Whether two places are both not replicated; EXDEV if a move would change that of any."""
        volume = self._volume
        first, second = (volume.is_excluded(parent, name) for parent, name in places)
        if first is not second or any(volume.must_stay(*place) for place in places):
            raise OSError(errno.EXDEV, "a part would begin or cease to be replicated")
        return first

    def _renamed(
        self,
        old: tuple[Node, bytes, Node | None],
        new: tuple[Node, bytes, Node | None],
        flags: int,
    ) -> None:
        source, old_name, moved = old
        destination, new_name, other = new
        if moved is not None:
            self._nodes.remove_name(moved, source, old_name)
            self._nodes.add_name(moved, destination, new_name)
        if other is not None:
            self._nodes.remove_name(other, destination, new_name)
            if flags & RENAME_EXCHANGE:
                self._nodes.add_name(other, source, old_name)

    def _lend(
        self, stack: ExitStack, parent: Node, name: bytes
    ) -> tuple[int, Node | None, tuple[int, ...]]:
        """Inode number at `name` (0: nothing there), and its node if the kernel knows it.

        The number once more, if it has other names, too.
        """
        try:
            status = os.stat(name, dir_fd=parent.fd, follow_symlinks=False)
        except FileNotFoundError:
            return 0, None, ()
        several = () if status.st_nlink == 1 or stat.S_ISDIR(status.st_mode) else (status.st_ino,)
        node = self._nodes.use_if_known(status.st_ino)
        if node is not None:
            stack.enter_context(node)
        return status.st_ino, node, several

    def _tell(
        self,
        operation: NAMESPACE_OPERATION,
        touched: tuple[int, ...],
        *nodes: Node,
        several: tuple[int, ...] = (),
    ) -> int:
        for node in nodes:
            node.told = True
        ticket = self._volume.journal.namespace(operation, touched, several)
        for number in touched:
            node_or_none = self._nodes.get(number)
            if node_or_none is not None:
                node_or_none.ticket, node_or_none.told = ticket, True
        return ticket
