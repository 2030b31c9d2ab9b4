"""What the handlers of one mounted directory share: nodes, handles, locks, journal."""

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Final

from mirrorfarm.actors.replicator import inventory, libc
from mirrorfarm.actors.replicator.disks import is_failure
from mirrorfarm.actors.replicator.exclusions import Exclusions
from mirrorfarm.actors.replicator.fuse import protocol
from mirrorfarm.actors.replicator.fuse.nodes import DESCRIPTORS_MAX, Node, NodeTable
from mirrorfarm.actors.replicator.fuse.protocol import Request
from mirrorfarm.actors.replicator.journal import Journal
from mirrorfarm.actors.replicator.operations import (
    CHANGE_OPERATION,
    ROOT,
    SET_MODE,
    Introduce,
    SetAttr,
)
from mirrorfarm.oserrors import located

_ORDER_LOCKS: Final = 64
_NAMES_S: Final = 0.02  # As long as names are held by who only changes some.


class Handle:
    """An open file or directory."""

    __slots__ = ("fd", "lock", "node", "pending", "synchronous", "writing")

    def __init__(
        self, fd: int, node: Node, writing: bool = False, synchronous: bool = False
    ) -> None:
        self.fd = fd
        self.node = node
        self.writing = writing
        self.synchronous = synchronous
        self.lock = threading.Lock()
        # Directories: entries read from the disk that did not fit: (offset before, entries).
        self.pending: tuple[int, list[tuple[int, int, int, bytes]]] = (-1, [])


class NamesLock:
    """The namespace lock, reentrant. A copy may hold it while it asks the secondary something.

    Who waits so long says so before: somebody else has to serve what needs no lock.
    """

    def __init__(self, about_to_wait: Callable[[], None]) -> None:
        self._lock = threading.RLock()
        self._about_to_wait = about_to_wait

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=_NAMES_S):
            self._about_to_wait()
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class Volume:
    """One directory being served; also the `Places` that the journal asks."""

    def __init__(
        self,
        root_fd: int,
        directory: int,
        journal: Journal,
        *,
        read_only: bool,
        writeback: bool,
        each: bool,
        about_to_wait: Callable[[], None],
        descriptors_max: int = DESCRIPTORS_MAX,
        devices_allowed: bool = False,
        exclusions: Exclusions | None = None,
    ) -> None:
        self.devices_allowed = devices_allowed
        self.directory = directory
        self.journal = journal
        self.exclusions = exclusions or Exclusions()
        self.read_only = read_only
        self.writeback = writeback and not read_only  # As wished; then as the kernel agreed.
        self.each = each
        self.about_to_wait = about_to_wait
        self.nodes = NodeTable(root_fd, descriptors_max, fleeting=read_only)
        self.nodes.lock = NamesLock(about_to_wait)
        self.cache_seconds = 0 if read_only else protocol.CACHE_SECONDS
        self.extended_setxattr = False
        self._handles: dict[int, Handle] = {}
        self._next_handle = 1
        self._handle_lock = threading.Lock()
        self._order = tuple(threading.Lock() for _ in range(_ORDER_LOCKS))

    # --- gate and order --------------------------------------------------------------------

    @contextmanager
    def modifying(self, node: int, *, answers: tuple[int, ...] = ()) -> Iterator[None]:
        """Stay inside the gate for one modification, and watch the disk; see `watching_disk`."""
        if self.read_only:
            raise OSError(errno.EROFS, "read-only")
        if self.journal.frozen:
            self.about_to_wait()
        self.journal.enter()
        try:
            with self.watching_disk(node, answers=answers):
                yield
        finally:
            self.journal.leave()

    def order(self, node: Node) -> threading.Lock:
        """Lock that gives the changes of an inode one order, on disk and in the stream."""
        return self._order[node.number % _ORDER_LOCKS]

    def change(self, node: Node, operation: CHANGE_OPERATION) -> int:
        """Hand over a change of an inode that has a name."""
        if node.excluded or (not node.names and os.fstat(node.fd).st_nlink == 0):
            return 0
        node.told = True
        node.ticket = self.journal.change(operation)
        return node.ticket

    def drop_privileges(self, node: Node, status: os.stat_result, group_only: bool = False) -> int:
        """Take setuid and setgid away after somebody wrote; order lock held, node lent.

        Return the ticket of that; 0: there was nothing to take away.
        """
        mode = status.st_mode
        drop = 0 if group_only else stat.S_ISUID
        if group_only or mode & stat.S_IXGRP:
            drop |= stat.S_ISGID
        if not stat.S_ISREG(mode) or not mode & drop:
            return 0
        mode &= ~drop
        os.chmod(node.path, stat.S_IMODE(mode))
        return self.change(node, SetAttr(self.directory, node.number, SET_MODE, mode=mode))

    @contextmanager
    def watching_disk(self, node: int = ROOT, *, answers: tuple[int, ...] = ()) -> Iterator[None]:
        """Tell the journal when the disk itself fails.

        Around all that a request does, but for its wait at the gate. `node`: of the request;
        `answers`: errors that a sound disk gives, too.
        """
        try:
            yield
        except OSError as fault:
            self.judge(fault, node, answers)
            raise

    def judge(self, fault: OSError, node: int, answers: tuple[int, ...] = ()) -> None:
        """As `watching_disk`, of an error that the request goes on after."""
        if is_failure(fault, answers):
            if fault.errno != errno.EROFS or not self._shown_read_only(node):
                self.tell_failure(fault, node)

    def tell_failure(self, fault: OSError, number: int) -> None:
        """Tell the journal that the disk failed, and where: at an inode that the request is for.

        A name that the error has may be of another directory: a rename is of two.
        """
        if not inventory.is_located(fault):
            fault.filename = fault.filename2 = None
            known = self.nodes.get(number)
            if known is not None and known.fd >= 0:  # Opening it would ask the disk once more.
                with suppress(OSError), self.nodes.use(number) as node:
                    inventory.locate(fault, node.fd)
        self.journal.local_failed(fault.errno or errno.EIO, located(fault))

    def _shown_read_only(self, number: int) -> bool:
        """Whether an inode is seen through a read-only mount of a disk that can be written."""
        try:
            with self.nodes.use(number) as node:
                return _is_read_only(node.fd) and not _is_read_only(self.nodes.root.fd)
        except OSError:
            return False

    # --- places, for the journal -----------------------------------------------------------

    @property
    def lock(self) -> AbstractContextManager[object]:
        """The namespace lock."""
        return self.nodes.lock

    def introductions(self, node: int) -> tuple[Introduce, ...] | None:
        """All that leads to `node`, root first; see `Places`."""
        with self.watching_disk():
            steps = self.nodes.way_to(node)
            if steps is None:
                return None
            for step in steps:
                known = self.nodes.get(step[0])
                if known is not None:
                    known.told = True
            return tuple(Introduce(self.directory, *step, self._target(*step)) for step in steps)

    def _target(self, _: int, parent: int, name: bytes, mode: int) -> bytes:
        """Where a symbolic link points; OSError if the disk does not tell."""
        if not stat.S_ISLNK(mode):
            return b""
        with self.nodes.use(parent) as directory:
            return inventory.target(directory.fd, name)

    # --- entries ---------------------------------------------------------------------------

    def status(self, parent: Node, name: bytes) -> os.stat_result:
        """What lies at `name`; EXDEV where another file system is mounted."""
        found = inventory.status_at(parent.fd, name)
        if found.st_dev != self.nodes.device or found.st_ino == ROOT:
            raise OSError(errno.EXDEV, "another file system inside of a replicated directory")
        return found

    def entry(self, parent: Node, name: bytes, status: os.stat_result) -> tuple[Node, bytes]:
        """Count a lookup; give the node and what the kernel is answered."""
        node = self.nodes.found(parent, name, status.st_ino, status.st_mode)
        if self.exclusions:
            excluded = self.is_excluded(parent, name)
            node.excluded = excluded and (node.excluded or len(node.names) == 1)
        if self.is_own_device(status.st_mode):
            node.excluded = True
        keep = self.cache_seconds
        head = protocol.ENTRY.pack(node.number, 0, keep, keep, 0, 0)
        return node, head + protocol.pack_attributes(status)

    # --- what is not replicated ------------------------------------------------------------

    def is_excluded(self, parent: Node, name: bytes) -> bool:
        """Whether what lies at a place is this node's own; the journal hears nothing of it."""
        if not self.exclusions or parent.excluded:
            return parent.excluded
        if not self.exclusions.needs_paths:
            return self.exclusions.excludes(b"", name)
        with self.nodes.lock:  # No rename in the middle of the path.
            return self.exclusions.excludes(self.nodes.path_to(parent), name)

    def is_own_device(self, mode: int) -> bool:
        """Whether an inode is a device that is not replicated: it stays this node's own."""
        return inventory.is_device(mode) and not self.devices_allowed

    def must_stay(self, parent: Node, name: bytes) -> bool:
        """Whether a path that is excluded lies below a directory; namespace lock held."""
        if not self.exclusions.needs_paths or parent.excluded:
            return False
        above = self.nodes.path_to(parent)
        return self.exclusions.name_below(above + b"/" + name if above else name)

    # --- looking up ------------------------------------------------------------------------

    def forget(self, number: int, count: int) -> None:
        """Take back lookups; drop the node, and ancestors kept for it, when none is left."""
        idle = self.nodes.forget(number, count)
        pending = [idle] if idle is not None else []
        while pending:
            node = pending.pop()
            # With both locks nobody can hand over an operation on it in between.
            with self.order(node), self.nodes.lock:
                parents = self.nodes.remove(node)
                if parents is None:
                    continue
                pending += parents
                if node.told:
                    self.journal.forgotten(self.directory, node.number)

    # --- handles ---------------------------------------------------------------------------

    def add_handle(self, handle: Handle) -> int:
        """Number an open file."""
        with self._handle_lock:
            number = self._next_handle
            self._next_handle += 1
            self._handles[number] = handle
        self.nodes.opened(handle.node)
        return number

    def handle(self, number: int) -> Handle:
        """Give the open file; EBADF if there is none."""
        try:
            return self._handles[number]
        except KeyError:
            raise OSError(errno.EBADF, "no such handle") from None

    def remove_handle(self, number: int) -> Handle | None:
        """Take the open file out and close it."""
        with self._handle_lock:
            handle = self._handles.pop(number, None)
        if handle is not None:
            os.close(handle.fd)
            self.nodes.closed(handle.node)
        return handle

    def close(self) -> None:
        """Close every descriptor."""
        with self._handle_lock:
            for handle in self._handles.values():
                os.close(handle.fd)
            self._handles.clear()
        self.nodes.close()


def _is_read_only(fd: int) -> bool:
    return bool(os.statvfs(fd).f_flag & os.ST_RDONLY)


@contextmanager
def acting_as(request: Request) -> Iterator[None]:
    """Let what is created belong to the caller."""
    if request.uid == 0 and request.gid == 0:
        yield
        return
    libc.act_as(request.uid, request.gid)
    try:
        yield
    finally:
        libc.act_as(0, 0)
