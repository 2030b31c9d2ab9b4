"""Handlers of attributes: mode, owner, size, times, and extended attributes."""

import errno
import os
import stat
import time
from collections.abc import Callable, Mapping

from mirrorfarm.actors.replicator import inventory, libc
from mirrorfarm.actors.replicator.disks import NO_ATTRIBUTE
from mirrorfarm.actors.replicator.fuse import protocol
from mirrorfarm.actors.replicator.fuse.nodes import Node
from mirrorfarm.actors.replicator.fuse.protocol import Deferred, Reply, Request
from mirrorfarm.actors.replicator.fuse.volume import Volume
from mirrorfarm.actors.replicator.operations import (
    SET_ALL,
    SET_ATIME,
    SET_GID,
    SET_MODE,
    SET_MTIME,
    SET_SIZE,
    SET_UID,
    RemoveXattr,
    SetAttr,
    SetXattr,
)

_OWNER = SET_UID | SET_GID


class Attributes:
    """Handlers bound to one volume."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._nodes = volume.nodes

    def handlers(self) -> Mapping[int, Callable[[Request], Reply]]:
        """Give the operations served here."""
        return {
            protocol.GETATTR: self.getattr,
            protocol.SETATTR: self.setattr,
            protocol.SETXATTR: self.setxattr,
            protocol.GETXATTR: self.getxattr,
            protocol.LISTXATTR: self.listxattr,
            protocol.REMOVEXATTR: self.removexattr,
            protocol.STATFS: self.statfs,
        }

    def getattr(self, request: Request) -> Reply:
        """Tell the attributes of an inode."""
        with self._volume.watching_disk(request.node), self._nodes.use(request.node) as node:
            return self._attributes(os.fstat(node.fd))

    def _attributes(self, status: os.stat_result) -> bytes:
        head = protocol.ATTRIBUTES_VALID.pack(self._volume.cache_seconds, 0, 0)
        return head + protocol.pack_attributes(status)

    def setattr(self, request: Request) -> Reply:
        """Change attributes; all but size and times wait for the secondary at once.

        Size and times are data: like a write they wait in `each` mode only, and the next
        flush or close waits for them.
        """
        volume = self._volume
        values = protocol.SETATTR_IN.unpack_from(request.buffer, 40)
        valid = values[0]
        number = request.node
        with volume.modifying(number), self._nodes.use(number) as node, volume.order(node):
            try:
                self._apply(node, values)
            except OSError:  # A part of it may have been done.
                self._tell(node, valid & SET_ALL, os.fstat(node.fd))
                raise
            status = os.fstat(node.fd)
            if valid & protocol.SETATTR_KILL_SUIDGID and valid & SET_SIZE:
                volume.drop_privileges(node, status)
                status = os.fstat(node.fd)
            ticket = self._tell(node, valid & SET_ALL, status)
            reply = self._attributes(status)
        if volume.each or valid & (SET_MODE | _OWNER):
            return Deferred(ticket, reply)
        return reply

    def _apply(self, node: Node, values: tuple[int, ...]) -> None:
        valid, _, handle, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, _, uid, gid, _ = (
            values
        )
        if valid & SET_SIZE:
            if valid & protocol.SETATTR_HANDLE:
                os.ftruncate(self._volume.handle(handle).fd, size)
            else:
                os.truncate(node.path, size)
        if valid & _OWNER:
            libc.own(node.fd, uid if valid & SET_UID else -1, gid if valid & SET_GID else -1)
        if valid & SET_MODE:
            os.chmod(node.path, stat.S_IMODE(mode))
        if valid & (SET_ATIME | SET_MTIME):
            now = time.time_ns()
            given_atime = atime * protocol.SECOND_NS + atime_ns
            given_mtime = mtime * protocol.SECOND_NS + mtime_ns
            new_atime = now if valid & protocol.SETATTR_ATIME_NOW else given_atime
            new_mtime = now if valid & protocol.SETATTR_MTIME_NOW else given_mtime
            libc.set_times(
                node.fd,
                inventory.told_time(new_atime) if valid & SET_ATIME else None,
                inventory.told_time(new_mtime) if valid & SET_MTIME else None,
            )

    def _tell(self, node: Node, valid: int, status: os.stat_result) -> int:
        """Hand over the resulting values."""
        if valid & _OWNER and not stat.S_ISLNK(status.st_mode):
            valid |= SET_MODE  # A change of owner clears setuid.
        if valid & SET_SIZE:
            valid |= SET_MTIME
        if not valid:
            return 0
        operation = SetAttr(
            self._volume.directory,
            node.number,
            valid,
            status.st_mode,
            status.st_uid,
            status.st_gid,
            status.st_size,
            inventory.told_time(status.st_atime_ns),
            inventory.told_time(status.st_mtime_ns),
        )
        return self._volume.change(node, operation)

    # --- extended attributes ---------------------------------------------------------------

    def setxattr(self, request: Request) -> Reply:
        """Set an extended attribute, or an ACL."""
        volume = self._volume
        size, flags, more, _ = protocol.SETXATTR_IN.unpack_from(request.buffer, 40)
        start = 56 if volume.extended_setxattr else 48
        name = request.text(start)
        start += len(name) + 1
        value = bytes(request.view[start : start + size])
        with (
            volume.modifying(request.node, answers=NO_ATTRIBUTE),
            self._nodes.use(request.node) as node,
            volume.order(node),
        ):
            os.setxattr(node.path, name, value, flags)
            node.default_acl = node.capable = None
            operation = SetXattr(volume.directory, node.number, name, value)
            ticket = volume.change(node, operation)
            if volume.extended_setxattr and more & protocol.SETXATTR_KILL_SGID:
                volume.drop_privileges(node, os.fstat(node.fd), group_only=True)
                ticket = node.ticket
        return Deferred(ticket)

    def removexattr(self, request: Request) -> Reply:
        """Remove an extended attribute."""
        volume = self._volume
        name = request.text(40)
        with (
            volume.modifying(request.node, answers=NO_ATTRIBUTE),
            self._nodes.use(request.node) as node,
            volume.order(node),
        ):
            os.removexattr(node.path, name)
            node.default_acl = None
            ticket = volume.change(node, RemoveXattr(volume.directory, node.number, name))
        return Deferred(ticket)

    def getxattr(self, request: Request) -> Reply:
        """Read an extended attribute, or its size."""
        size = protocol.XATTR_IN.unpack_from(request.buffer, 40)[0]
        name = request.text(48)
        watching = self._volume.watching_disk(request.node, answers=NO_ATTRIBUTE)
        with watching, self._nodes.use(request.node) as node:
            return _sized(os.getxattr(node.path, name), size)

    def listxattr(self, request: Request) -> Reply:
        """List the extended attributes, or tell the list's size."""
        size = protocol.XATTR_IN.unpack_from(request.buffer, 40)[0]
        with self._volume.watching_disk(request.node), self._nodes.use(request.node) as node:
            names = os.listxattr(node.path)
        return _sized(b"".join(os.fsencode(name) + b"\0" for name in names), size)

    def statfs(self, request: Request) -> Reply:
        """Tell how full the disk is."""
        with self._volume.watching_disk():
            found = os.statvfs(self._nodes.root.fd)
        return protocol.STATFS_OUT.pack(
            found.f_blocks,
            found.f_bfree,
            found.f_bavail,
            found.f_files,
            found.f_ffree,
            found.f_bsize,
            found.f_namemax,
            found.f_frsize,
            0,
        )


def _sized(value: bytes, size: int) -> bytes:
    """Value if it fits `size`; its size if `size` is zero."""
    if not size:
        return protocol.WRITTEN.pack(len(value), 0)
    if len(value) > size:
        raise OSError(errno.ERANGE, "too small")
    return value
