"""Handlers of open files: create, open, read, write, flush, fsync, fallocate.

A write goes to the local page cache first and then to the journal, both with the inode's order
lock held, so that a write that failed here was never sent. In `commit` mode it is answered
without waiting; flush, close and fsync wait for all that was sent for the inode.
"""

import errno
import os
import stat
from collections.abc import Callable, Mapping

from mirrorfarm.actors.replicator import inventory, libc
from mirrorfarm.actors.replicator.fuse import protocol
from mirrorfarm.actors.replicator.fuse.names import Names
from mirrorfarm.actors.replicator.fuse.nodes import Node
from mirrorfarm.actors.replicator.fuse.protocol import Deferred, Reply, Request
from mirrorfarm.actors.replicator.fuse.volume import Handle, Volume, acting_as
from mirrorfarm.actors.replicator.operations import (
    SET_SIZE,
    Fallocate,
    Fsync,
    SetAttr,
    SetXattr,
    Write,
)

# Handled by the kernel above us, or harmful below: an O_APPEND descriptor ignores offsets, and
# what is synchronous here is decided by the journal.
_DROPPED = (
    os.O_NOFOLLOW
    | os.O_CREAT
    | os.O_EXCL
    | os.O_TRUNC
    | os.O_NOCTTY
    | os.O_APPEND
    | os.O_DIRECT
    | os.O_SYNC
    | os.O_DSYNC
)
_CAPABILITY = "security.capability"


class Files:
    """Handlers bound to one volume."""

    def __init__(self, volume: Volume, names: Names) -> None:
        self._volume = volume
        self._names = names
        self._nodes = volume.nodes
        self._opened = protocol.OPEN_DIRECT_IO if volume.read_only else protocol.OPEN_KEEP_CACHE

    def handlers(self) -> Mapping[int, Callable[[Request], Reply]]:
        """Give the operations served here."""
        return {
            protocol.CREATE: self.create,
            protocol.OPEN: self.open,
            protocol.READ: self.read,
            protocol.WRITE: self.write,
            protocol.FLUSH: self.flush,
            protocol.RELEASE: self.release,
            protocol.FSYNC: self.fsync,
            protocol.FALLOCATE: self.fallocate,
            protocol.LSEEK: self.lseek,
        }

    # --- opening ---------------------------------------------------------------------------

    def create(self, request: Request) -> Reply:
        """Create and open a regular file; open it if somebody was faster and that is allowed."""
        flags = protocol.CREATE_IN.unpack_from(request.buffer, 40)[0]
        name = request.text(56)
        volume = self._volume
        with volume.modifying(request.node), self._nodes.use(request.node) as parent:
            try:
                with self._nodes.lock:
                    fd, node, ticket, entry = self._create(request, parent, name)
            except FileExistsError:
                if flags & os.O_EXCL:
                    raise
                return self._open_existing(parent, name, flags)
            # Outside of the namespace lock: it comes after the order locks.
            return Deferred(ticket, entry + self._add(node, fd, flags))

    def _create(self, request: Request, parent: Node, name: bytes) -> tuple[int, Node, int, bytes]:
        flags, mode, umask, _ = protocol.CREATE_IN.unpack_from(request.buffer, 40)
        backing = self._flags(flags) | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        bits = stat.S_IMODE(mode & ~self._names.mask(parent, umask))
        with acting_as(request):
            fd = os.open(name, backing, bits, dir_fd=parent.fd)
        try:
            status = os.fstat(fd)
            ticket = self._names.tell_created(parent, name, status)
        except BaseException:
            os.close(fd)
            raise
        node, entry = self._volume.entry(parent, name, status)
        node.ticket, node.told = ticket, not node.excluded
        return fd, node, ticket, entry

    def _open_existing(self, parent: Node, name: bytes, flags: int) -> Reply:
        status = self._volume.status(parent, name)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EEXIST, "not a regular file")
        node, entry = self._volume.entry(parent, name, status)
        with self._nodes.use(node.number):
            return entry + self._add_existing(node, self._open(node, flags), flags)

    def open(self, request: Request) -> Reply:
        """Open a file; its first opening for writing is told to the journal."""
        flags = protocol.OPEN_IN.unpack_from(request.buffer, 40)[0]
        volume, number = self._volume, request.node
        writing = bool(flags & os.O_ACCMODE)
        watching = volume.modifying(number) if writing else volume.watching_disk(number)
        with watching, self._nodes.use(number) as node:
            return self._add_existing(node, self._open(node, flags), flags)

    def _open(self, node: Node, flags: int) -> int:
        return os.open(node.path, self._flags(flags))

    def _add_existing(self, node: Node, fd: int, flags: int) -> bytes:
        try:
            with self._volume.order(node):
                if node.writers == 0 and flags & os.O_ACCMODE:
                    self._volume.journal.opened(self._volume.directory, node.number)
                return self._add_locked(node, fd, flags)
        except BaseException:
            os.close(fd)
            raise

    def _add(self, node: Node, fd: int, flags: int) -> bytes:
        with self._volume.order(node):
            return self._add_locked(node, fd, flags)

    def _add_locked(self, node: Node, fd: int, flags: int) -> bytes:
        writing = bool(flags & os.O_ACCMODE)
        node.writers += writing
        handle = Handle(fd, node, writing, bool(flags & (os.O_SYNC | os.O_DSYNC)))
        opened = self._opened
        if node.unwritten:
            # The kernel keeps pages that it could not write as if it had: without this, whoever
            # opens the file again reads, and builds upon, what is on neither disk.
            node.unwritten, opened = False, opened & ~protocol.OPEN_KEEP_CACHE
        return protocol.OPENED.pack(self._volume.add_handle(handle), opened, 0)

    def _flags(self, flags: int) -> int:
        flags &= ~_DROPPED
        if self._volume.writeback and flags & os.O_ACCMODE == os.O_WRONLY:
            flags = flags & ~os.O_ACCMODE | os.O_RDWR  # The kernel reads what it fills up.
        return flags | os.O_CLOEXEC

    def release(self, request: Request) -> Reply:
        """Close a handle."""
        handle = self._volume.remove_handle(protocol.LONG.unpack_from(request.buffer, 40)[0])
        if handle is not None and handle.writing:
            node = handle.node
            with self._volume.order(node):
                node.writers -= 1
                if node.writers == 0:
                    self._volume.journal.closed(self._volume.directory, node.number)
        return None

    # --- data ------------------------------------------------------------------------------

    def read(self, request: Request) -> Reply:
        """Read from the backing file into the thread's own buffer."""
        number, offset, size = protocol.READ_IN.unpack_from(request.buffer, 40)
        target = request.scratch[:size]
        handle = self._volume.handle(number)
        with self._volume.watching_disk(handle.node.number):
            return target[: os.preadv(handle.fd, (target,), offset)]

    def write(self, request: Request) -> Reply:
        """Write locally and hand over."""
        number, offset, size, flags = protocol.WRITE_IN.unpack_from(request.buffer, 40)
        start = protocol.WRITE_DATA
        data = request.view[start : start + size]
        volume = self._volume
        handle = volume.handle(number)
        node = handle.node
        with volume.modifying(node.number), volume.order(node):
            kept = self._capability(handle) if flags & protocol.WRITE_CACHE else b""
            written, fault = self._write_all(handle, data, offset)
            if fault:
                if not written:
                    raise fault
                volume.judge(fault, node.number)
            ticket = 0
            status = os.fstat(handle.fd)
            if status.st_nlink and not node.excluded:
                # Even with the writeback cache, whose times the kernel tells by SETATTR: it
                # does not always do so after the last write.
                mtime_ns = status.st_mtime_ns
                operation = Write(volume.directory, node.number, offset, written, mtime_ns)
                node.told = True
                node.ticket = ticket = volume.journal.write(operation, data[:written])
            if kept:  # Last: these may fail.
                ticket = self._keep_capability(handle, kept) or ticket
            if flags & protocol.WRITE_KILL_SUIDGID:
                ticket = self._drop_privileges(node) or ticket
        if fault and (volume.writeback or flags & protocol.WRITE_CACHE):
            raise fault  # The kernel takes a short answer to its write-back for a full one.
        reply = protocol.WRITTEN.pack(written, 0)
        if volume.each or (handle.synchronous and not volume.writeback):
            return Deferred(ticket, reply)
        return reply

    @staticmethod
    def _write_all(handle: Handle, data: memoryview, offset: int) -> tuple[int, OSError | None]:
        """Write as much as the disk takes; return how much, and why it was not everything."""
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(handle.fd, data[written:], offset + written)
        except OSError as fault:
            handle.node.unwritten = True
            return written, fault
        return written, None

    @staticmethod
    def _capability(handle: Handle) -> bytes:
        """File capabilities, which a write takes away; b"": none.

        An application that wrote took them away then. If they are there when the kernel writes
        that back, they were given since, as by `cp -a`, which closes a file last.
        """
        node = handle.node
        if node.capable is not False:
            try:
                return os.getxattr(handle.fd, _CAPABILITY)
            except OSError as fault:
                if fault.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                    raise
                node.capable = False
        return b""

    def _keep_capability(self, handle: Handle, value: bytes) -> int:
        os.setxattr(handle.fd, _CAPABILITY, value)
        volume, number = self._volume, handle.node.number
        with self._nodes.use(number) as node:
            return volume.change(
                node, SetXattr(volume.directory, number, _CAPABILITY.encode(), value)
            )

    def _drop_privileges(self, node: Node) -> int:
        with self._nodes.use(node.number) as lent:
            return self._volume.drop_privileges(lent, os.fstat(lent.fd))

    def fallocate(self, request: Request) -> Reply:
        """Allocate, punch, zero or shift a range."""
        number, offset, length, mode = protocol.FALLOCATE_IN.unpack_from(request.buffer, 40)
        volume = self._volume
        node = volume.handle(number).node
        with volume.modifying(node.number), self._nodes.use(node.number), volume.order(node):
            fd = volume.handle(number).fd
            before = os.fstat(fd).st_size
            try:
                libc.fallocate(fd, mode, offset, length)
            except OSError:
                if (size := os.fstat(fd).st_size) != before:  # There was room for a part of it.
                    volume.change(node, SetAttr(volume.directory, node.number, SET_SIZE, size=size))
                raise
            mtime_ns = os.fstat(fd).st_mtime_ns
            operation = Fallocate(volume.directory, node.number, mode, offset, length, mtime_ns)
            ticket = volume.change(node, operation)
            if request.uid:  # The kernel leaves this to us, and does not say so as for a write.
                ticket = self._drop_privileges(node) or ticket
        return Deferred(ticket) if volume.each else None

    def lseek(self, request: Request) -> Reply:
        """Find data or holes; what writes or mappings made data only the kernel may know yet."""
        if not self._volume.read_only:
            raise OSError(errno.ENOSYS, "unknown to the disk")
        number, offset, whence = protocol.LSEEK_IN.unpack_from(request.buffer, 40)
        return protocol.LONG.pack(os.lseek(self._volume.handle(number).fd, offset, whence))

    # --- durability ------------------------------------------------------------------------

    def flush(self, request: Request) -> Reply:
        """Answer a close when the secondary has all that was written to the inode."""
        handle = self._volume.handle(protocol.LONG.unpack_from(request.buffer, 40)[0])
        return Deferred(handle.node.ticket) if handle.node.ticket else None

    def fsync(self, request: Request) -> Reply:
        """Flush on both disks at the same time; answer when both did."""
        number, flags = protocol.FSYNC_IN.unpack_from(request.buffer, 40)
        handle = self._volume.handle(number)
        return flush_both(self._volume, handle, bool(flags & protocol.FSYNC_DATA_ONLY))


def flush_both(volume: Volume, handle: Handle, data_only: bool) -> Reply:
    """Start the secondary's flush, do the local one, wait for the secondary."""
    node, ticket = handle.node, handle.node.ticket
    with volume.watching_disk():
        named = bool(node.names) or os.fstat(handle.fd).st_nlink > 0
    if named and not node.excluded:
        node.told = True
        if not volume.read_only:
            ticket = volume.journal.fsync(Fsync(volume.directory, node.number, data_only))
    volume.about_to_wait()
    try:
        (os.fdatasync if data_only else os.fsync)(handle.fd)
    except OSError as fault:
        if fault.errno != errno.EINVAL:
            inventory.locate(fault, handle.fd)
            volume.tell_failure(fault, node.number)
        raise
    return Deferred(ticket)
