"""The inodes that the kernel knows of one mounted directory, and where each one lies.

A node's number is its inode number on the backing disk (`ROOT` for the root): one identity for
the kernel, the journal and the stream. A node remembers every name it was seen under, so that
its O_PATH descriptor can be closed and opened again: only some thousands are open at once. A
node without a name (unlinked while the kernel still holds it) keeps its descriptor, which also
keeps the disk from using the number again. Where others change the disk (`fleeting`: a secondary)
a file's is kept only while somebody has the file open: else it would keep the space of what was
removed.
"""

import errno
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager

from mirrorfarm.actors.replicator import inventory
from mirrorfarm.actors.replicator.ancestry import GONE, Place, closed_above
from mirrorfarm.actors.replicator.operations import ROOT

DESCRIPTORS_MAX = 4_096
_EVICTIONS_MAX = 16  # Tried in one go: the rest is tried the next time.
_PATH_ONLY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Node:
    """One inode. `with node:` gives back what `NodeTable.use` lent."""

    __slots__ = (
        "capable",
        "children",
        "default_acl",
        "excluded",
        "fd",
        "handles",
        "lookups",
        "mode",
        "names",
        "number",
        "table",
        "ticket",
        "told",
        "unwritten",
        "users",
        "writers",
    )

    def __init__(self, table: "NodeTable", number: int, mode: int) -> None:
        self.table = table
        self.number = number
        self.mode = mode  # As last seen; only the kind is sure to be right.
        self.fd = -1
        self.names: tuple[Place, ...] = ()
        self.lookups = 0  # How often the kernel was told of it and has not forgotten it.
        self.children = 0  # Nodes that remember a name in this one.
        self.users = 0  # Threads that use the descriptor now.
        self.handles = 0  # Open files.
        self.writers = 0  # Writing handles.
        self.ticket = 0  # Of the last modification: what a close waits for.
        self.told = False  # The journal heard of it: it must hear when it is forgotten.
        self.unwritten = False  # The disk refused what the kernel still has in its cache.
        self.excluded = False  # Not replicated, under none of its names.
        self.capable: bool | None = None  # Whether it has file capabilities; None: unknown.
        self.default_acl: bool | None = None  # Directories: whether there is one; None: unknown.

    def __enter__(self) -> "Node":
        return self

    def __exit__(self, *_: object) -> None:
        self.table.give_back(self)

    @property
    def path(self) -> str:
        """Path of the inode itself, whatever its names; for use while the node is lent."""
        return f"/proc/self/fd/{self.fd}"

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)


class NodeTable:
    """All nodes of one directory. `lock` is the namespace lock of the file system."""

    def __init__(
        self, root_fd: int, descriptors_max: int = DESCRIPTORS_MAX, *, fleeting: bool = False
    ) -> None:
        self._fleeting = fleeting
        status = os.fstat(root_fd)
        self.device = status.st_dev
        self.lock: AbstractContextManager[object] = threading.RLock()
        self._table_lock = threading.Lock()
        self._descriptors_max = descriptors_max
        self._open: OrderedDict[int, Node] = OrderedDict()
        root = Node(self, ROOT, status.st_mode)
        root.fd, root.lookups = root_fd, 1
        self.root = root
        self._nodes = {ROOT: root}

    def __len__(self) -> int:
        return len(self._nodes)

    # --- lending ---------------------------------------------------------------------------

    def use(self, number: int) -> Node:
        """Lend a node whose descriptor is open; ESTALE if the inode is not there any more."""
        with self._table_lock:
            node = self._nodes.get(number)
            if node is None:
                raise OSError(errno.ESTALE, "unknown inode")
            node.users += 1
            if node.fd >= 0:
                if number != ROOT:
                    self._open.move_to_end(number)
                return node
        try:
            self._open_above(node)
            self._reopen(node)
        except BaseException:
            self.give_back(node)
            raise
        return node

    def use_if_known(self, number: int) -> Node | None:
        """Lend a node if the kernel knows it."""
        return self.use(number) if number in self._nodes else None

    def give_back(self, node: Node) -> None:
        """End what `use` began."""
        with self._table_lock:
            node.users -= 1
            self._let_go(node)

    def opened(self, node: Node) -> None:
        """Note one more open file; the node is lent."""
        with self._table_lock:
            node.handles += 1

    def closed(self, node: Node) -> None:
        """Note that an open file is closed."""
        with self._table_lock:
            node.handles -= 1
            self._let_go(node)

    def _let_go(self, node: Node) -> None:
        if self._fleeting and not (node.users or node.handles or node.is_directory):
            self._close(node)

    def get(self, number: int) -> Node | None:
        """Give the node without its descriptor."""
        return self._nodes.get(number)

    def _open_above(self, node: Node) -> None:
        for one in closed_above(node, self._nodes):
            try:
                self.give_back(self.use(one.number))
            except OSError as fault:
                if fault.errno not in GONE:
                    raise
                return  # Another name may lead there.

    def _reopen(self, node: Node) -> None:
        fd = self._search(node)
        if fd < 0:
            with self.lock:  # A rename may have been under way.
                fd = self._search(node)
        if fd < 0:
            raise OSError(errno.ESTALE, "inode without a known name")
        with self._table_lock:
            if node.fd >= 0:
                os.close(fd)  # Another thread was faster.
                return
            node.fd = fd
            self._open[node.number] = node
            self._evict()

    def _search(self, node: Node) -> int:
        for parent, name in node.names:
            try:
                with self.use(parent) as directory, inventory.placing(directory.fd):
                    fd = os.open(name, _PATH_ONLY, dir_fd=directory.fd)
            except OSError as fault:
                if fault.errno not in GONE:
                    raise
                continue
            status = os.fstat(fd)
            if status.st_ino == node.number and status.st_dev == self.device:
                return fd
            os.close(fd)
        return -1

    def _evict(self) -> None:
        for _ in range(_EVICTIONS_MAX):
            if len(self._open) <= self._descriptors_max:
                return
            number, node = next(iter(self._open.items()))
            if node.users or not node.names:
                self._open.move_to_end(number)
                continue
            self._close(node)

    def _close(self, node: Node) -> None:
        self._open.pop(node.number, None)
        if node.fd >= 0:
            os.close(node.fd)
            node.fd = -1

    # --- names -----------------------------------------------------------------------------

    def found(self, parent: Node, name: bytes, number: int, mode: int) -> Node:
        """Count one lookup by the kernel of what lies at `name` in `parent`."""
        with self._table_lock:
            node = self._nodes.get(number)
            if node is None:
                node = self._nodes[number] = Node(self, number, mode)
            elif stat.S_ISDIR(mode) and node.names != ((parent.number, name),):
                for old in node.names:
                    self._drop_name(node, old)  # A directory has one name.
            node.mode = mode
            node.lookups += 1
            self._add_name(node, (parent.number, name))
        return node

    def add_name(self, node: Node, parent: Node, name: bytes) -> None:
        """Remember one more name."""
        with self._table_lock:
            self._add_name(node, (parent.number, name))

    def remove_name(self, node: Node, parent: Node, name: bytes) -> None:
        """Forget a name that is gone; the node must be lent, so that it keeps its descriptor."""
        with self._table_lock:
            self._drop_name(node, (parent.number, name))

    def _add_name(self, node: Node, place: Place) -> None:
        if place not in node.names:
            node.names += (place,)
            self._nodes[place[0]].children += 1

    def _drop_name(self, node: Node, place: Place) -> None:
        if place in node.names:
            node.names = tuple(other for other in node.names if other != place)
            parent = self._nodes.get(place[0])
            if parent is not None:
                parent.children -= 1

    # --- forgetting ------------------------------------------------------------------------

    def forget(self, number: int, count: int) -> Node | None:
        """Take back `count` lookups; give the node if it may be removed now."""
        with self._table_lock:
            node = self._nodes.get(number)
            if node is None:
                return None
            node.lookups -= count
            return node if self._is_idle(node) else None

    def remove(self, node: Node) -> list[Node] | None:
        """Remove a node if it is idle, and give its parents: they may be idle now too."""
        with self._table_lock:
            if not self._is_idle(node) or self._nodes.get(node.number) is not node:
                return None
            places = node.names
            for place in places:
                self._drop_name(node, place)
            del self._nodes[node.number]
            self._close(node)
            return [self._nodes[parent] for parent, _ in places if parent in self._nodes]

    def _is_idle(self, node: Node) -> bool:
        return node.lookups <= 0 and node.children <= 0 and node.users == 0 and node.number != ROOT

    def close(self) -> None:
        """Close every descriptor, the root's too."""
        with self._table_lock:
            for node in self._nodes.values():
                if node.fd >= 0:
                    os.close(node.fd)
                    node.fd = -1
            self._nodes.clear()
            self._open.clear()

    # --- places ----------------------------------------------------------------------------

    def path_to(self, directory: Node) -> bytes:
        """Path of a directory relative to the root, as known; b"" for the root itself."""
        parts: list[bytes] = []
        node: Node | None = directory
        while node is not None and node.names:
            number, name = node.names[0]
            parts.append(name)
            node = self._nodes.get(number)
        return b"/".join(reversed(parts))

    def way_to(self, number: int) -> list[tuple[int, int, bytes, int]] | None:
        """Give the steps (number, parent, name, mode) from the root; `lock` is held.

        Every step is checked on the disk: OSError if that does not tell. None: the inode has no
        name any more.
        """
        steps: list[tuple[int, int, bytes, int]] = []
        while number != ROOT:
            step = self._step_to(number)
            if step is None:
                break
            steps.append(step)
            number = step[1]
        steps.reverse()
        if number == ROOT:
            return steps
        above = None if self._is_nameless(number) else self._walk_to(number)
        return None if above is None else above + steps

    def _step_to(self, number: int) -> tuple[int, int, bytes, int] | None:
        node = self._nodes.get(number)
        for parent, name in node.names if node is not None else ():
            try:
                with self.use(parent) as directory, inventory.placing(directory.fd):
                    status = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
            except OSError as fault:
                if fault.errno not in GONE:
                    raise
                continue
            if status.st_ino == number and status.st_dev == self.device:
                return number, parent, name, status.st_mode
        return None

    def _is_nameless(self, number: int) -> bool:
        try:
            with self.use(number) as node:
                status = os.fstat(node.fd)
        except OSError as fault:
            if fault.errno not in GONE:
                raise
            return False
        return status.st_nlink == 0

    def _walk_to(self, number: int) -> list[tuple[int, int, bytes, int]] | None:
        """Look for an inode in the whole tree: its only known names are gone. Slow, and rare."""
        for steps in _walk(self.root.fd, self.device):
            if steps[-1][0] == number:
                return steps
        return None


def _walk(root_fd: int, device: int) -> Iterator[list[tuple[int, int, bytes, int]]]:
    """Give the steps to every inode below; one descriptor for each level of depth.

    OSError if something cannot be read, so that nothing is held to be gone that is not.
    """
    fd = os.open(f"/proc/self/fd/{root_fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    levels: list[tuple[int, list[bytes], int]] = [(fd, inventory.names(fd), ROOT)]
    steps: list[tuple[int, int, bytes, int]] = []
    unread: OSError | None = None
    try:
        while levels:
            fd, names, parent = levels[-1]
            if not names:
                os.close(levels.pop()[0])
                if steps:
                    steps.pop()
                continue
            name = names.pop()
            try:
                with inventory.placing(fd):
                    status = inventory.status_at(fd, name)
            except OSError as fault:
                if fault.errno != errno.EXDEV:  # That is of no other file system.
                    unread = fault
                continue
            step = (status.st_ino, parent, name, status.st_mode)
            yield [*steps, step]
            if stat.S_ISDIR(status.st_mode) and status.st_dev == device:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                deeper = os.open(name, flags, dir_fd=fd)
                levels.append((deeper, inventory.names(deeper), status.st_ino))
                steps.append(step)
        if unread is not None:  # What is looked for may lie there.
            raise unread
    finally:
        for fd, _, _ in levels:
            os.close(fd)
