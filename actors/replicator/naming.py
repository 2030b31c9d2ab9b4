"""Names of the directories that a copy visits, made the same at the target.

Names are compared and put right with the namespace lock held, so both listings are of one
moment. Of an inode with several names the target may know another one at each: `settle` puts
all of them right in one such moment, after which the target does with them what is done here.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from mirrorfarm.actors.replicator import inventory
from mirrorfarm.actors.replicator.asking import Asker, SessionLost
from mirrorfarm.actors.replicator.carrier import Carrier
from mirrorfarm.actors.replicator.changes import Key
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

_TRIES: Final = 3  # In a row that came to nothing,
_ROUNDS: Final = 100  # and in all.
_PART: Final = 256  # Orders sent at once: modifications of the application wait behind them.
_NOT_THERE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Place(NamedTuple):
    """A directory to visit."""

    directory: int
    chain: tuple[Introduce, ...]  # What leads to it; () for the root.
    deep: bool  # Everything below; else only what the map says.
    only: frozenset[int] = frozenset()  # With all below them; () for no such limit.

    @property
    def node(self) -> int:
        """Its number."""
        return self.chain[-1].node if self.chain else ROOT

    @property
    def key(self) -> Key:
        """Directory and number."""
        return self.directory, self.node

    @property
    def path(self) -> bytes:
        """Where it was when it was found, relative to the root."""
        return b"/".join(step.name for step in self.chain) or b"."


class Names:
    """Compares names and has the target change its own."""

    def __init__(
        self,
        carrier: Carrier,
        asker: Asker,
        roots: list[int],
        exclusions: Sequence[Exclusions],
    ) -> None:
        """See `resync.Copy`."""
        self._carrier = carrier
        self._asker = asker
        self._roots = roots
        self._exclusions = exclusions
        self._twins: dict[Key, int] = {}  # Of several names: inode here -> there.
        self._taken: dict[Key, int] = {}  # The other way round.

    def places(self, directory: int) -> Places:
        """What knows where inodes are; SessionLost if the mount is gone."""
        places = self._carrier.places.get(directory)
        if places is None:
            raise SessionLost
        return places

    def open(self, place: Place) -> int:
        """A descriptor of a directory; -1: it is not there any more."""
        try:
            fd = inventory.open_below(place.path, self._roots[place.directory])
        except OSError as fault:
            if fault.errno in _NOT_THERE:
                return -1
            raise
        if place.node in {ROOT, os.fstat(fd).st_ino}:
            return fd
        os.close(fd)
        return -1

    def entries(self, place: Place, fd: int) -> list[tuple[bytes, int, bool]]:
        """Name, inode, and whether it is a directory, of all that is replicated of a directory."""
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

    def put_right(self, place: Place, fd: int) -> "Right":
        """Make the target's names those of here; return what is there then."""
        attempt = rounds = 0
        while True:
            rounds += 1
            self.introduce(place, fd, [])
            if not self._carrier.knows(*place.key):
                return Right()  # Removed before the target heard of it: nothing is to be asked.
            begun = False
            # Names change all the time: hold them still for a moment.
            if attempt >= _TRIES or rounds > _ROUNDS:
                found, sent = self._put_right_held(place, fd)
            else:
                self._carrier.watch(place.key)
                found = self._compare(place, fd)
                begun, sent = self._send_parts(place, found)
                self._carrier.unwatch(place.key)
            if sent:
                if found.twins:  # A name of several may have been cut off and made up meanwhile.
                    _, now = self._asker.list_directory(place.directory, place.node)
                    found.right.refresh(now)
                return found.right
            self._asker.room()
            attempt = 0 if begun else attempt + 1

    def _send_parts(self, place: Place, found: "_Found") -> tuple[bool, bool]:
        """Send what is to be done with names; return whether it was begun, and whether it is done.

        What was compared counts until a name changes, which ends this between two parts.
        """
        begun = False
        for some in found.parts():
            self._asker.room()
            with self.places(place.directory).lock:
                if not self._send_names(place.key, some):
                    return begun, False
            begun = True
        return begun, True

    def _put_right_held(self, place: Place, fd: int) -> tuple["_Found", bool]:
        with self.places(place.directory).lock:
            self._carrier.watch(place.key)
            found = self._compare(place, fd)
            sent = self._send_names(place.key, found)
            self._carrier.unwatch(place.key)
            return found, sent

    def settle(self, directory: int, parents: Iterable[int]) -> bool:
        """Put the names in all of some directories right in one moment; return whether they are."""
        places = self.places(directory)
        with places.lock:
            for parent in parents:
                chain = () if parent == ROOT else places.introductions(parent)
                place = Place(directory, chain or (), False)
                if place.node != parent:
                    continue  # Removed: so are the names in it.
                fd = self.open(place)
                if fd < 0:
                    return False
                try:
                    self.introduce(place, fd, [])
                    found, sent = self._put_right_held(place, fd)
                finally:
                    os.close(fd)
                if not sent:
                    return False
                for order in found.orders:
                    if isinstance(order, Create | Link):
                        self._carrier.moves.emptied((directory, order.node))
        return True

    def _send_names(self, key: Key, found: "_Found") -> bool:
        orders = [(order, b"") for order in found.orders]
        sent = self._carrier.send_unless(
            key, lambda change: change.names, self._asker.source, orders, found.dismissed.values()
        )
        if sent:
            self._twins.update(found.twins)
            for (directory, here), there in found.twins.items():
                self._taken[directory, there] = here
            for gone in found.dismissed.values():  # This may have been its only name there.
                self._carrier.moves.emptied(gone)
            for order in found.orders:
                if isinstance(order, Create | Link):
                    self._carrier.moves.made((key[0], order.node))
        return sent

    def _compare(self, place: Place, fd: int) -> "_Found":
        _, theirs = self._asker.list_directory(place.directory, place.node)
        ours = {}
        for name in inventory.names(fd):
            if not self._excluded(place, name):
                entry = inventory.entry(fd, name)
                if entry is not None:
                    ours[name] = entry
        found = _Found()
        for name, entry in theirs.items():
            if name not in ours and not self._excluded(place, name):
                found.remove(place, entry)
        # First what may stay: a new name of it becomes one more name, not a file of its own.
        make = []
        for name, entry in ours.items():
            there = theirs.get(name)
            if there is None or not self._is_same(place, entry, there, found):
                make.append((entry, there))
            else:
                found.right.kept[name, entry.inode] = there
        for entry, there in make:
            if there is not None:
                found.remove(place, there)
            order = self._making(place, fd, entry, found)
            found.orders.append(order)
            found.right.named.add(entry.inode)
            if isinstance(order, Create):
                found.right.created.add(entry.inode)
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
            known = self._carrier.knows(*key) and key not in found.dismissed.values()
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

    def introduce(self, place: Place, fd: int, entries: list[Entry]) -> None:
        """Tell the target what leads to some inodes, as far as that is still so."""
        steps = [step for step in place.chain if not self._carrier.knows(step.directory, step.node)]
        new = [e for e in entries if not self._carrier.knows(place.directory, e.inode)]
        if not steps and not new:
            return
        places = self.places(place.directory)
        for some in _parts(new):
            self._asker.room()
            with places.lock:
                chain = self._check(place, places) if steps else ()
                if chain is None:
                    return  # Removed meanwhile.
                orders: list[ANY_OPERATION] = list(chain)
                for entry in some:
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
                number = inventory.number_below(path, self._roots[place.directory])
            except OSError as fault:
                if fault.errno not in _NOT_THERE:
                    raise
                return places.introductions(place.node)  # Moved; this may take a whole walk.
            if number != step.node:
                return places.introductions(place.node)
        return place.chain


def _target(fd: int, entry: Entry) -> bytes:
    """Where a symbolic link points; what is none any more has changed since, and is not sent.

    OSError if the disk does not tell: without it the target would have none, and not miss it.
    """
    return inventory.target(fd, entry.name) if stat.S_ISLNK(entry.mode) else b""


def _parts(entries: list[Entry]) -> Iterator[list[Entry]]:
    """Give some at a time; none at all is one part, too."""
    for first in range(0, max(len(entries), 1), _PART):
        yield entries[first : first + _PART]


@dataclass(slots=True)
class Right:
    """A directory of the target whose names are right, by the inodes of here.

    Not by the names: what lies at one of them when it is looked at next may be another inode.
    """

    kept: dict[tuple[bytes, int], Entry] = field(default_factory=dict)  # The target's entries.
    named: set[int] = field(default_factory=set)  # Were given a name there.
    created: set[int] = field(default_factory=set)  # Were made there: they are empty.

    def refresh(self, now: dict[bytes, Entry]) -> None:
        """Take the entries of now, as far as they are of the same inodes."""
        for (name, inode), entry in list(self.kept.items()):
            del self.kept[name, inode]
            if name in now and now[name].inode == entry.inode:
                self.kept[name, inode] = now[name]


@dataclass(slots=True)
class _Found:
    """What a comparison of one directory came to; it counts only if its orders are sent."""

    right: Right = field(default_factory=Right)
    orders: list[ANY_OPERATION] = field(default_factory=list)
    twins: dict[Key, int] = field(default_factory=dict)
    made: set[int] = field(default_factory=set)
    dismissed: dict[int, Key] = field(default_factory=dict)  # By the place of their order.

    def remove(self, place: Place, entry: Entry) -> None:
        """Have the target remove a name."""
        kind = Rmdir if stat.S_ISDIR(entry.mode) else Unlink
        if entry.known:
            self.dismissed[len(self.orders)] = (place.directory, entry.known)
        self.orders.append(kind(place.directory, place.node, entry.name))

    def parts(self) -> Iterator["_Found"]:
        """Give it in parts that can be sent one after the other, at least one."""
        for first in range(0, max(len(self.orders), 1), _PART):
            last = first + _PART
            places = [at for at in range(first, last) if at in self.dismissed]
            yield _Found(
                orders=self.orders[first:last],
                twins=self.twins if last >= len(self.orders) else {},
                dismissed={at: self.dismissed[at] for at in places},
            )
