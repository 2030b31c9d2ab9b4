"""The copy of a session, at the source, while the application goes on writing.

Every modification travels in the stream from the session's first moment on; the copy brings
what was there before. Its rule: what it read from the disk goes into the stream only if no
modification of the same thing overtook it meanwhile, else it reads again (`Carrier.watch`,
`send_unless`). What moves while the walk is under way is visited again at the end, until it is
whole at the target: a move of what is whole there needs no visit.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from typing import Final

from mirrorfarm.actors.replicator import inventory
from mirrorfarm.actors.replicator.asking import Asker
from mirrorfarm.actors.replicator.carrier import Carrier
from mirrorfarm.actors.replicator.changes import Change, ChangeMap, Key
from mirrorfarm.actors.replicator.contents import Contents
from mirrorfarm.actors.replicator.exclusions import Exclusions
from mirrorfarm.actors.replicator.naming import Names, Place, Right
from mirrorfarm.actors.replicator.operations import ROOT, Introduce
from mirrorfarm.actors.replicator.questions import Entry

_BATCH: Final = 256
_PERMANENT: Final = Change(names=True, attributes=True, whole=True)


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
        self._names = Names(carrier, asker, roots, exclusions)
        self.contents = Contents(carrier, asker)

    def run(self) -> None:
        """Copy; SessionLost if the session ends, OSError if this disk cannot be read."""
        changes = self._changes
        if changes is None or changes.nodes:
            for directory in range(len(self._roots)):
                if changes is not None:
                    self._widen(directory, changes)
                self._walk([Place(directory, (), changes is None)])
            while moved := self._carrier.moves.take():
                for some in _batches(moved):
                    self._revisit(some)
        self._asker.flush(end=True)

    # --- walking ---------------------------------------------------------------------------

    def _walk(self, places: list[Place]) -> bool:
        """Visit places and what must be visited below; return whether none was missed."""
        missed = False
        whole: list[tuple[int, int]] = []
        while places:
            self._asker.look()
            place = places.pop()
            fd = self._open(place)
            if fd < 0:  # Moved: it will be visited again. Or gone.
                # Something that is not whole may have come into a directory that is.
                whole_there = not place.only and self._carrier.moves.is_whole(place.key)
                missed = missed or not whole_there
                continue
            try:
                with inventory.placing(fd):
                    places += self._visit(place, fd)
            finally:
                os.close(fd)
            if place.deep:
                whole.append(place.key)
        if not missed:  # With all that is below them; only now, for that may move, too.
            for key in whole:
                self._carrier.moves.copied(key)
        return not missed

    def _open(self, place: Place) -> int:
        with inventory.placing(self._roots[place.directory], place.path):
            return self._names.open(place)

    def _visit(self, place: Place, fd: int) -> list[Place]:
        """Put one directory right; return those below that must be visited."""
        mine = self._change(place.directory, place.node)
        if mine is not None or place.node == ROOT:
            # Before anything is made in it: that inherits the ACL that the target has by then.
            self._names.introduce(place, fd, [])
            self.contents.attributes(place.directory, fd, b".", place.node, None)
        if place.deep or place.only or (mine is not None and mine.names):
            right = self._names.put_right(place, fd)
        else:
            right = Right()
        deeper: list[Place] = []
        files: list[tuple[Entry, Entry | None, Change]] = []
        moves = self._carrier.moves
        for name, inode, is_directory in self._names.entries(place, fd):
            fresh = inode in right.named
            if place.only and inode not in place.only and not fresh:
                continue
            change = self._change(place.directory, inode)
            whole = place.deep or fresh or inode in place.only or bool(change and change.whole)
            entry = None
            if whole or change is not None:
                entry = inventory.entry(fd, name)
                if entry is None or entry.inode != inode:
                    continue  # Changed since: a live modification says so.
                there = right.kept.get((name, inode))
                files.append((entry, there, _PERMANENT if whole else change or Change()))
                if entry.links > 1 and not is_directory:
                    moves.named((place.directory, inode), place.node)
            if is_directory and (fresh or not moves.is_whole((place.directory, inode))):
                mode = entry.mode if entry is not None else stat.S_IFDIR | 0o755
                step = Introduce(place.directory, inode, place.node, name, mode)
                deeper.append(Place(place.directory, (*place.chain, step), whole))
        if files:
            self._names.introduce(place, fd, [entry for entry, _, _ in files])
            self.contents.copy(place.directory, fd, files, right.created)
        return deeper

    def _change(self, directory: int, node: int) -> Change | None:
        return None if self._changes is None else self._changes.nodes.get((directory, node))

    def _revisit(self, moved: dict[Key, frozenset[int]]) -> None:
        """Visit what moved while the walk was under way; see `Moves.take`."""
        directory = next(iter(moved))[0]
        places = self._names.places(directory)
        found: dict[tuple[Introduce, ...], set[int]] = {}  # What leads to their directories.
        named: set[int] = set()
        for (_, node), parents in moved.items():
            with places.lock:  # Not for all of them: this may take a walk through everything.
                chain = places.introductions(node)
            if chain:  # Else it is gone.
                found.setdefault(chain[:-1], set()).add(node)
                if parents:
                    named |= parents | {chain[-1].parent}
        right = self._names.settle(directory, named)
        several = {key for key, parents in moved.items() if parents}
        self.contents.settled = several if right else set()
        for chain, nodes in found.items():
            visited = self._walk([Place(directory, chain, False, frozenset(nodes))])
            for key in ((directory, node) for node in nodes):
                if not visited or (key in several and not right):
                    self._carrier.moves.missed(key)
        self.contents.settled = set()

    def _widen(self, directory: int, changes: ChangeMap) -> None:
        """Compare every directory that has a name of a changed inode with several names.

        Or one that had several: `whole` says so, too. Else a new name of an old file would become
        a file of its own at the target, and what lost its other names would stay one with them.
        """
        places = [Place(directory, (), False)]
        while places:
            self._asker.look()
            place = places.pop()
            fd = self._open(place)
            if fd < 0:
                continue  # Moved: what came elsewhere is noted. Or gone.
            try:
                with inventory.placing(fd):
                    places += self._widen_by(place, fd, changes)
            finally:
                os.close(fd)

    def _widen_by(self, place: Place, fd: int, changes: ChangeMap) -> list[Place]:
        """See `_widen`; return the directories below."""
        deeper = []
        for name, inode, is_directory in self._names.entries(place, fd):
            if is_directory:
                step = Introduce(place.directory, inode, place.node, name, stat.S_IFDIR)
                deeper.append(Place(place.directory, (*place.chain, step), False))
            elif change := changes.nodes.get((place.directory, inode)):
                entry = inventory.entry(fd, name)
                if entry is not None and (entry.links > 1 or change.whole):
                    parent = changes.nodes.setdefault((place.directory, place.node), Change())
                    parent.names = True
        return deeper


def _batches(moved: dict[Key, frozenset[int]]) -> Iterator[dict[Key, frozenset[int]]]:
    """Yield a few at a time, of one directory: all names of these are held still at once."""
    for _, same in groupby(moved.items(), lambda item: item[0][0]):
        while batch := dict(islice(same, _BATCH)):
            yield batch
