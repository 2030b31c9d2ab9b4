"""The copy of a session, at the source, while the application goes on writing.

Every modification travels in the stream from the session's first moment on; the copy brings
what was there before. Its rule: what it read from the disk goes into the stream only if no
modification of the same thing overtook it meanwhile, else it reads again (`Carrier.watch`,
`send_unless`). Names are compared and put right with the namespace lock held, so both listings
are of one moment. What moves while the walk is under way is visited again at the end.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from mirrorfarm.actors.replicator import inventory
from mirrorfarm.actors.replicator.asking import Asker, SessionLost
from mirrorfarm.actors.replicator.carrier import Carrier
from mirrorfarm.actors.replicator.changes import Change, ChangeMap
from mirrorfarm.actors.replicator.contents import Contents
from mirrorfarm.actors.replicator.exclusions import Exclusions
from mirrorfarm.actors.replicator.journal import Places
from mirrorfarm.actors.replicator.operations import (
    ANY_OPERATION,
    ROOT,
    Create,
    Introduce,
    Link,
    Rmdir,
    Unlink,
)
from mirrorfarm.actors.replicator.questions import Entry

_TRIES: Final = 3
_PERMANENT: Final = Change(names=True, attributes=True, whole=True)


class Place(NamedTuple):
    """A directory to visit."""

    directory: int
    chain: tuple[Introduce, ...]  # What leads to it; () for the root.
    deep: bool  # Everything below; else only what the map or `only` says.
    only: frozenset[int] = frozenset()

    @property
    def node(self) -> int:
        """Its number."""
        return self.chain[-1].node if self.chain else ROOT

    @property
    def path(self) -> bytes:
        """Where it was when it was found, relative to the root."""
        return b"/".join(step.name for step in self.chain) or b"."


class Copy:
    """One copy; `run` returns when the target has everything and flushed it."""

    def __init__(
        self,
        carrier: Carrier,
        asker: Asker,
        roots: list[int],
        changes: ChangeMap | None,
        exclusions: Sequence[Exclusions],
    ) -> None:
        """`roots`: descriptors of the directories below the mounts. `changes` None: copy all."""
        self._carrier = carrier
        self._asker = asker
        self._roots = roots
        self._changes = changes
        self._exclusions = exclusions
        self._twins: dict[tuple[int, int], int] = {}  # Of several names: inode here -> there.
        self._taken: dict[tuple[int, int], int] = {}  # The other way round.
        self.contents = Contents(carrier, asker)

    def run(self) -> None:
        """Copy; SessionLost if the session ends, OSError if this disk cannot be read."""
        changes = self._changes
        if changes is None or changes.nodes:
            for directory in range(len(self._roots)):
                if changes is not None:
                    self._widen(directory, changes)
                self._walk([Place(directory, (), changes is None)])
            while moved := self._carrier.take_moved():
                for directory, node in moved:
                    self._revisit(directory, node)
        self._asker.flush(end=True)

    # --- walking ---------------------------------------------------------------------------

    def _walk(self, places: list[Place]) -> None:
        while places:
            place = places.pop()
            try:
                fd = os.open(
                    place.path,
                    os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
                    dir_fd=self._root(place.directory),
                )
            except (FileNotFoundError, NotADirectoryError):
                continue  # Moved: it will be visited again. Or gone.
            except OSError as fault:
                if fault.errno == errno.ELOOP:
                    continue
                raise
            try:
                if place.node in {ROOT, os.fstat(fd).st_ino}:
                    places += self._visit(place, fd)
            finally:
                os.close(fd)

    def _root(self, directory: int) -> int:
        return self._roots[directory]

    def _visit(self, place: Place, fd: int) -> list[Place]:
        """Put one directory right; return those below that must be visited."""
        mine = self._change(place.directory, place.node)
        if mine is not None or place.node == ROOT:
            # Before anything is made in it: that inherits the ACL that the target has by then.
            self._introduce(place, fd, [])
            self.contents.attributes(place.directory, fd, b".", place.node, None)
        if place.deep or place.only or (mine is not None and mine.names):
            theirs, created = self._names(place, fd)
        else:
            theirs, created = {}, set()
        deeper: list[Place] = []
        files: list[tuple[Entry, Entry | None, Change]] = []
        for name, inode, is_directory in self._entries(place, fd):
            fresh = name in created
            change = self._change(place.directory, inode)
            whole = place.deep or fresh or inode in place.only or bool(change and change.whole)
            entry = None
            if whole or change is not None:
                entry = inventory.entry(fd, name)
                if entry is None or entry.inode != inode:
                    continue  # Changed since: a live modification says so.
                files.append((entry, theirs.get(name), _PERMANENT if whole else change or Change()))
            if is_directory:
                mode = entry.mode if entry is not None else stat.S_IFDIR | 0o755
                step = Introduce(place.directory, inode, place.node, name, mode)
                deeper.append(Place(place.directory, (*place.chain, step), whole))
        if files:
            self._introduce(place, fd, [entry for entry, _, _ in files])
            self.contents.copy(place.directory, fd, files, created)
        return deeper

    def _entries(self, place: Place, fd: int) -> list[tuple[bytes, int, bool]]:
        found = []
        with os.scandir(fd) as entries:
            for item in entries:
                name = os.fsencode(item.name)
                if not self._excluded(place, name):
                    found.append((name, item.inode(), item.is_dir(follow_symlinks=False)))
        return found

    def _excluded(self, place: Place, name: bytes) -> bool:
        exclusions = self._exclusions[place.directory]
        return bool(exclusions) and exclusions.excludes(place.path if place.chain else b"", name)

    def _change(self, directory: int, node: int) -> Change | None:
        return None if self._changes is None else self._changes.nodes.get((directory, node))

    def _revisit(self, directory: int, node: int) -> None:
        """Visit what moved while the walk was under way."""
        places = self._carrier.places.get(directory)
        if places is None:
            raise SessionLost
        with places.lock:
            chain = places.introductions(node)
        if chain:
            self._walk([Place(directory, chain[:-1], False, frozenset((node,)))])

    def _widen(self, directory: int, changes: ChangeMap) -> None:
        """Compare every directory that has a name of a changed inode with several names.

        Or one that had several: `whole` says so, too. Else a new name of an old file would become
        a file of its own at the target, and what lost its other names would stay one with them.
        """
        places = [Place(directory, (), False)]
        while places:
            place = places.pop()
            try:
                fd = inventory.open_directory(place.path, self._root(directory))
            except OSError:
                continue
            try:
                for name, inode, is_directory in self._entries(place, fd):
                    if is_directory:
                        step = Introduce(directory, inode, place.node, name, stat.S_IFDIR)
                        places.append(Place(directory, (*place.chain, step), False))
                    elif change := changes.nodes.get((directory, inode)):
                        entry = inventory.entry(fd, name)
                        if entry is not None and (entry.links > 1 or change.whole):
                            parent = changes.nodes.setdefault((directory, place.node), Change())
                            parent.names = True
            finally:
                os.close(fd)

    # --- names -----------------------------------------------------------------------------

    def _names(self, place: Place, fd: int) -> tuple[dict[bytes, Entry], set[bytes]]:
        """Make the target's names those of here; return its entries, and the names created."""
        key = (place.directory, place.node)
        places = self._carrier.places.get(place.directory)
        if places is None:
            raise SessionLost
        for attempt in range(_TRIES + 1):
            self._introduce(place, fd, [])
            self._carrier.watch(key)
            if attempt == _TRIES:  # Names change all the time: hold them still for a moment.
                with places.lock:
                    self._carrier.watch(key)
                    found = self._compare(place, fd)
                    sent = self._send_names(key, found)
            else:
                found = self._compare(place, fd)
                with places.lock:
                    sent = self._send_names(key, found)
            self._carrier.unwatch(key)
            if sent:
                if found.twins:  # A name of several may have been cut off and made up meanwhile.
                    _, found.theirs = self._asker.list_directory(place.directory, place.node)
                return found.theirs, found.created
            self._asker.room()
        return {}, set()

    def _send_names(self, key: tuple[int, int], found: "_Found") -> bool:
        orders = [(order, b"") for order in found.orders]
        sent = self._carrier.send_unless(
            key, lambda change: change.names, self._asker.source, orders, found.dismissed
        )
        if sent:
            self._twins.update(found.twins)
            for (directory, here), there in found.twins.items():
                self._taken[directory, there] = here
        return sent

    def _compare(self, place: Place, fd: int) -> "_Found":
        _, theirs = self._asker.list_directory(place.directory, place.node)
        ours = {}
        for name in inventory.names(fd):
            if not self._excluded(place, name):
                entry = inventory.entry(fd, name)
                if entry is not None:
                    ours[name] = entry
        found = _Found(theirs)
        for name, entry in theirs.items():
            if name not in ours and not self._excluded(place, name):
                found.remove(place, entry)
        # First what may stay: a new name of it becomes one more name, not a file of its own.
        make = []
        for name, entry in ours.items():
            there = theirs.get(name)
            if there is None or not self._is_same(place, entry, there, found):
                make.append((entry, there))
        for entry, there in make:
            if there is not None:
                found.remove(place, there)
            found.orders.append(self._making(place, fd, entry, found))
            found.created.add(entry.name)
        return found

    def _is_same(self, place: Place, here: Entry, there: Entry, found: "_Found") -> bool:
        """Whether the inode there may become the one here by changing what is in it."""
        kind = stat.S_IFMT(here.mode)
        if kind != stat.S_IFMT(there.mode) or here.rdev != there.rdev:
            return False
        if kind == stat.S_IFLNK and here.extra != there.extra:
            return False
        if kind == stat.S_IFDIR:
            return True
        key = (place.directory, here.inode)
        if known := there.known or there.elsewhere:
            if known == here.inode and max(here.links, there.links) > 1:
                found.twins[key] = there.inode
            return known == here.inode
        if max(here.links, there.links) == 1:
            return True
        if self._carrier.knows(*key) or key in found.twins:
            return found.twins.get(key, self._twins.get(key)) == there.inode
        if self._taken.get((place.directory, there.inode), here.inode) != here.inode:
            return False
        if there.inode in found.twins.values():
            return False
        found.twins[key] = there.inode
        found.orders.append(
            Introduce(place.directory, here.inode, place.node, here.name, here.mode)
        )
        return True

    def _making(self, place: Place, fd: int, entry: Entry, found: "_Found") -> ANY_OPERATION:
        """What brings an inode into being at the target, or one more name of it."""
        key = (place.directory, entry.inode)
        if entry.links > 1 and not stat.S_ISDIR(entry.mode):
            known = self._carrier.knows(*key) and key not in found.dismissed
            if known or key in found.twins or entry.inode in found.made:
                return Link(place.directory, entry.inode, place.node, entry.name)
            found.made.add(entry.inode)
        return Create(
            place.directory,
            entry.inode,
            place.node,
            entry.name,
            entry.mode,
            entry.uid,
            entry.gid,
            entry.mtime_ns,
            entry.rdev,
            _target(fd, entry),
        )

    def _introduce(self, place: Place, fd: int, entries: list[Entry]) -> None:
        """Tell the target what leads to some inodes, as far as that is still so."""
        steps = [step for step in place.chain if not self._carrier.knows(step.directory, step.node)]
        new = [e for e in entries if not self._carrier.knows(place.directory, e.inode)]
        if not steps and not new:
            return
        places = self._carrier.places.get(place.directory)
        if places is None:
            raise SessionLost
        self._asker.room()
        with places.lock:
            chain = self._check(place, places) if steps else ()
            if chain is None:
                return  # Removed meanwhile.
            orders: list[ANY_OPERATION] = list(chain)
            for entry in new:
                now = inventory.entry(fd, entry.name)
                if now is not None and now.inode == entry.inode:
                    way = (place.directory, entry.inode, place.node, entry.name, now.mode)
                    orders.append(Introduce(*way, _target(fd, now)))
            self._carrier.introduce(self._asker.source, orders)

    def _check(self, place: Place, places: Places) -> tuple[Introduce, ...] | None:
        """What leads to a place now; the lock is held. None: it has no name any more."""
        path = b""
        for step in place.chain:
            path = path + b"/" + step.name if path else step.name
            try:
                status = os.stat(path, dir_fd=self._roots[place.directory], follow_symlinks=False)
            except OSError:
                return places.introductions(place.node)  # Moved; this may take a whole walk.
            if status.st_ino != step.node:
                return places.introductions(place.node)
        return place.chain


def _target(fd: int, entry: Entry) -> bytes:
    """Where a symbolic link points; what is none any more has changed since, and is not sent."""
    if stat.S_ISLNK(entry.mode):
        with contextlib.suppress(OSError):
            return os.readlink(entry.name, dir_fd=fd)
    return b""


@dataclass(slots=True)
class _Found:
    """What a comparison of one directory came to; it counts only if its orders are sent."""

    theirs: dict[bytes, Entry]
    orders: list[ANY_OPERATION] = field(default_factory=list)
    created: set[bytes] = field(default_factory=set)
    twins: dict[tuple[int, int], int] = field(default_factory=dict)
    made: set[int] = field(default_factory=set)
    dismissed: list[tuple[int, int]] = field(default_factory=list)

    def remove(self, place: Place, entry: Entry) -> None:
        """Have the target remove a name."""
        kind = Rmdir if stat.S_ISDIR(entry.mode) else Unlink
        self.orders.append(kind(place.directory, place.node, entry.name))
        if entry.known:
            self.dismissed.append((place.directory, entry.known))
