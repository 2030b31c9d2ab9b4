"""What a copy has brought over whole, and what moved before it was.

A copy that walks past a directory must hear of what comes into it afterwards. What is whole at
the target may move as often as it likes: its moves travel in the stream like all modifications,
and mean there what they mean here.
"""

import threading

from mirrorfarm.actors.replicator.changes import Key
from mirrorfarm.actors.replicator.operations import (
    NAMESPACE_OPERATION,
    Create,
    Link,
    Rename,
)


class Moves:
    """Of one session at a time; what moved is heard by `note`, all else is the copy's."""

    def __init__(self, lock: threading.Lock) -> None:
        """Nothing is noted before `begin`; `lock` is held by who calls `begin`, `end`, `note`."""
        self.noting = False
        self._lock = lock
        self._moved: dict[Key, None] = {}
        self._whole: set[Key] = set()
        self._parents: dict[Key, set[int]] = {}

    def begin(self) -> None:
        """A copy begins: the target has nothing whole."""
        self.end()
        self.noting = True

    def end(self) -> None:
        """No copy is under way: moves need not be noted."""
        self.noting = False
        self._moved, self._whole, self._parents = {}, set(), {}

    def note(
        self, operation: NAMESPACE_OPERATION, touched: tuple[int, ...], several: tuple[int, ...]
    ) -> None:
        """Hear of a modification of names that the application made; see `Journal.namespace`.

        Of an inode with several names the target may know another one at each of them: what it
        does with one name need not be what was done here. So all of them are compared once more.
        """
        if not self.noting:
            return
        directory = operation.directory
        if isinstance(operation, Create):
            self._whole.add((directory, operation.node))
            return
        parents = [operation.parent]
        if isinstance(operation, Rename):
            parents.append(operation.new_parent)
        for node in several:
            if (directory, node) not in self._whole:
                self._parents.setdefault((directory, node), set()).update(parents)
        for node in touched if isinstance(operation, Rename | Link) else several:
            if (directory, node) not in self._whole:
                self._moved[directory, node] = None

    def take(self) -> dict[Key, frozenset[int]]:
        """What moved since the last question and is not whole.

        With the directories where names of it were seen or made, if it has, or had, several.
        """
        with self._lock:
            moved = [key for key in self._moved if key not in self._whole]
            self._moved = {}
            return {key: frozenset(self._parents.get(key, ())) for key in moved}

    def named(self, key: Key, parent: int) -> None:
        """The copy saw a name of an inode that has several."""
        with self._lock:
            if self.noting and key not in self._whole:
                self._parents.setdefault(key, set()).add(parent)

    def copied(self, key: Key) -> None:
        """The target has all of an inode, of a directory with all that is below it."""
        with self._lock:
            self._now_whole(key)

    def _now_whole(self, key: Key) -> None:
        if self.noting:
            self._whole.add(key)
            self._parents.pop(key, None)

    def settled(self, key: Key) -> None:
        """The target has all of an inode with several names, if none of these moved again."""
        with self._lock:
            if key not in self._moved:
                self._now_whole(key)

    def missed(self, key: Key) -> None:
        """An inode was not, or not only, where it was looked for: it has to be visited again."""
        with self._lock:
            if self.noting:
                self._moved[key] = None

    def emptied(self, key: Key) -> None:
        """The target has to make an inode anew, or may have to: it has nothing of it then."""
        with self._lock:
            if self.noting:
                self._whole.discard(key)
                self._moved[key] = None

    def made(self, key: Key) -> None:
        """The target makes an inode, or a name of it, on the copy's order: its content follows."""
        with self._lock:
            self._whole.discard(key)

    def is_whole(self, key: Key) -> bool:
        """Whether the target has all of an inode: later modifications travel in the stream."""
        with self._lock:
            return key in self._whole
