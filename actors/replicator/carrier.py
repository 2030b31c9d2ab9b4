"""The journal of a mirror: every modification goes into the change map and to the session.

One lock gives marks, frames and their order. A modification of an inode that the target does
not know in this session is preceded by what leads to the inode. Tickets are the session's
serial number and the frame's; one of an earlier session is safe when a later one has copied
everything, because the map kept what the earlier one did not carry.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Final

from mirrorfarm.actors.replicator import frames
from mirrorfarm.actors.replicator.changes import Change, ChangeMap, Key, Marks
from mirrorfarm.actors.replicator.gate import BOTH, Gate
from mirrorfarm.actors.replicator.journal import Answer, Places
from mirrorfarm.actors.replicator.moves import Moves
from mirrorfarm.actors.replicator.operations import (
    ANY_OPERATION,
    CHANGE_OPERATION,
    NAMESPACE_OPERATION,
    RENAME_EXCHANGE,
    ROOT,
    SET_SIZE,
    Create,
    Fallocate,
    Forget,
    Fsync,
    Introduce,
    Link,
    RemoveXattr,
    Rename,
    SetAttr,
    SetXattr,
    Unlink,
    Write,
    encode,
)
from mirrorfarm.actors.replicator.source import Source

_SHIFT: Final = 44
_NEVER: Final = (1 << _SHIFT) - 1  # Number of a frame that no session has.


class Carrier:
    """Implements `journal.Journal`."""

    def __init__(
        self,
        *,
        held: Callable[[], None],
        lost: Callable[[int, str], None],
    ) -> None:
        """`held`: a modification waits at the frozen gate. `lost(errno, text)`: disk failed."""
        self.gate = Gate(self._is_safe, self._is_full, held)
        self.marks = Marks()
        self.places: dict[int, Places] = {}
        self._lost = lost
        self._lock = threading.Lock()
        self._source: Source | None = None
        self._serial = 0
        self._synced = False
        self._introduced: set[Key] = set()
        self._watched: dict[Key, Change] = {}
        self.moves = Moves(self._lock)

    @property
    def frozen(self) -> bool:
        """Whether `enter` would wait now."""
        return self.gate.frozen

    def enter(self) -> None:
        """Wait at the gate; `leave` ends what this begins."""
        self.gate.enter()

    def leave(self) -> None:  # noqa: D102 - see `enter`.
        self.gate.leave()

    def when_safe(self, ticket: int, answer: Answer) -> None:
        """Answer when the gate allows it."""
        self.gate.when_safe(ticket, answer)

    def attach(self, directory: int, places: Places) -> None:
        """A file system begins to serve `directory`."""
        self.places[directory] = places

    def detach(self, directory: int) -> None:
        """The file system of `directory` serves no more."""
        self.places.pop(directory, None)

    def opened(self, directory: int, node: int) -> None:
        """Do nothing: modifications make the marks."""

    closed = opened

    def local_failed(self, error: int, text: str) -> None:
        """The local disk lost data: answer nothing more."""
        self.gate.poison()
        self._lost(error, text)

    def write(self, operation: Write, data: memoryview) -> int:
        """Mark and send bytes just written."""

        def mark() -> None:
            self.marks.current.mark_write(operation)
            self._touch((operation.directory, operation.node), operation.offset, operation.length)

        payload = bytes(data) if self._source is not None else data
        return self._carry(operation, (operation.node,), mark, payload)

    def change(self, operation: CHANGE_OPERATION) -> int:
        """Mark and send a change of an inode."""

        def mark() -> None:
            self.marks.current.mark_change(operation)
            cut = isinstance(operation, SetAttr) and operation.valid & SET_SIZE
            whole = bool(cut) or isinstance(operation, Fallocate)
            self._touch((operation.directory, operation.node), 0, -1 if whole else 0)

        return self._carry(operation, (operation.node,), mark)

    def namespace(
        self,
        operation: NAMESPACE_OPERATION,
        touched: tuple[int, ...],
        several: tuple[int, ...] = (),
    ) -> int:
        """Mark and send a change of names; `Places.lock` is held."""
        needed = [operation.parent]
        if isinstance(operation, Rename):
            if len(touched) == 2 and touched[0] == touched[1]:
                return 0  # Two names of one inode: rename(2) does nothing.
            needed.append(operation.new_parent)
        if isinstance(operation, Link):
            needed.append(operation.node)

        def mark() -> None:
            self.marks.current.mark_names(operation, touched)
            for node in (*needed, *touched):
                self._touch((operation.directory, node), 0, 0, names=True)
            self._note_move(operation, touched, several)

        return self._carry(operation, tuple(needed), mark)

    def fsync(self, operation: Fsync) -> int:
        """Ask the secondary to flush."""
        return self._carry(operation, (operation.node,), lambda: None, flags=frames.WITH_ANSWER)

    def forgotten(self, directory: int, node: int) -> None:
        """Tell the target that it may forget an inode."""
        with self._lock:
            # A copy may be about to ask for what the kernel just forgot.
            known = (directory, node) in self._introduced and node != ROOT
            if known and not self.moves.noting:
                self._introduced.discard((directory, node))
                self._put(Forget(directory, node))

    # --- sending ---------------------------------------------------------------------------

    def _carry(
        self,
        operation: ANY_OPERATION,
        needed: tuple[int, ...],
        mark: Callable[[], None],
        data: bytes | memoryview = b"",
        flags: int = 0,
    ) -> int:
        """Mark and send at once, and before it what the target must know; return the ticket."""
        directory = operation.directory
        with self._lock:
            lone = self._source is None
            if lone or self._knows(directory, *needed):
                mark()
                return self._lone() if lone else self._put(operation, data, flags)
        places = self.places[directory]
        with places.lock:
            lost = ""
            try:
                chains = [places.introductions(node) for node in needed]
            except OSError as fault:  # It is on this disk already, and must at least be marked.
                chains, lost = [], f"what leads to a modification cannot be read: {fault}"
            if None in chains:
                return 0  # Removed: nobody could open it after a failover.
            with self._lock:
                mark()
                if lost and self._source is not None:
                    self._source.give_up(lost)
                self._introduce([step for chain in chains for step in chain or ()])
                return self._put(operation, data, flags)

    def _knows(self, directory: int, *nodes: int) -> bool:
        introduced = self._introduced
        for node in nodes:  # noqa: SIM110 - a generator costs twice as much as all this.
            if node != ROOT and (directory, node) not in introduced:
                return False
        return True

    def _introduce(self, chain: list[Introduce]) -> None:
        for step in chain:
            key = (step.directory, step.node)
            if key not in self._introduced:
                self._put(step)
                self._introduced.add(key)
                # The target makes up what it lacks: a listing of the parent is out of date.
                self._touch((step.directory, step.parent), 0, 0, names=True)

    def _put(self, operation: ANY_OPERATION, data: bytes | memoryview = b"", flags: int = 0) -> int:
        source = self._source
        if source is None:
            return self._lone()
        # `data` may be the file system's buffer, which it uses again.
        seq = source.send(frames.OP, encode(operation), bytes(data), flags)
        if not seq:
            return self._lone()
        if isinstance(operation, Create):
            self._introduced.add((operation.directory, operation.node))
        return self._serial << _SHIFT | seq

    def _lone(self) -> int:
        """Ticket of what no session carries: safe alone, or when a later one copied all."""
        return self._serial << _SHIFT | _NEVER

    # --- the gate's questions, asked with its lock held ------------------------------------

    def _is_safe(self, ticket: int) -> bool:
        serial, seq = ticket >> _SHIFT, ticket & _NEVER
        source = self._source
        if serial == self._serial:
            return source is not None and source.is_safe(seq)
        return source is not None and self._synced

    def _is_full(self) -> bool:
        source = self._source
        return source is not None and source.full

    # --- the plane's side ------------------------------------------------------------------

    @property
    def source(self) -> Source | None:
        """The session's stream; None: none."""
        return self._source

    def reset(self, changes: ChangeMap | None, base: str) -> None:
        """A new term of leading begins, with the map found on disk, or none."""
        with self._lock:
            self.marks = Marks(changes or ChangeMap(), None, changes is not None, base)
            self._source, self._synced = None, False
            self._introduced = set()

    def open(self, source: Source) -> ChangeMap:
        """Send every modification from now on; return all that earlier ones marked."""
        with self._lock:
            self._serial += 1
            self._source, self._synced = source, False
            self._introduced = set()
            self.moves.begin()
            self.marks.end_checkpoint(durable=False)
            return self.marks.snapshot()

    def close(self, source: Source) -> bool:
        """Send nothing more to `source`; its unacknowledged frames are marked already."""
        with self._lock:
            if self._source is not source:
                return False
            self._source, self._synced = None, False
            self._introduced = set()
            self.moves.end()
            self.marks.end_checkpoint(durable=False)
        self.gate.look_again()
        return True

    def synced(self, source: Source) -> None:
        """The target has flushed the whole copy of `source`'s session."""
        with self._lock:
            if self._source is not source:
                return
            self._synced = True
            self._step()
        self.gate.look_again()

    def set_gate(self, mode: str, base: str, *, new: bool) -> str:
        """Set the gate; name the beginning of the map; return what can be vouched for."""
        with self._lock:
            trusted = self.marks.name(base, new=new)
        self.gate.set(mode)
        with self._lock:
            self._step()
        return trusted

    def changes(self) -> int:
        """Number of zones and other things that are marked as changed."""
        with self._lock:
            return self.marks.snapshot().weight()

    def _step(self) -> None:
        if self._synced and self.gate.mode == BOTH:
            self.marks.in_step()

    def begin_checkpoint(self) -> bool:
        """Set marks aside if the peer is in step; the caller asks it to flush, in the stream."""
        with self._lock:
            return self._synced and self.gate.mode == BOTH and self.marks.begin_checkpoint()

    def end_checkpoint(self, source: Source) -> None:
        """`source`'s target flushed everything sent before the question."""
        with self._lock:
            if self._source is source:
                self.marks.end_checkpoint(durable=True)

    # --- the copy's side -------------------------------------------------------------------

    def _note_move(
        self, operation: NAMESPACE_OPERATION, touched: tuple[int, ...], several: tuple[int, ...]
    ) -> None:
        """What a copy must hear of; and what the target does not know any more."""
        self.moves.note(operation, touched, several)
        # What lost a name may have others here that the target does not know yet, and none
        # there: it has to be introduced again.
        lost: tuple[int, ...] = ()
        if isinstance(operation, Create):
            # A number used again after its inode went means something else now.
            lost = (operation.node,)
        elif isinstance(operation, Unlink):
            lost = touched
        elif isinstance(operation, Rename) and not operation.flags & RENAME_EXCHANGE:
            lost = touched[1:]
        if self.moves.noting:
            self._introduced.difference_update((operation.directory, node) for node in lost)

    def end_copy(self) -> None:
        """The copy is over: moves need not be noted any more."""
        with self._lock:
            self.moves.end()

    def watch(self, key: Key) -> None:
        """Note from now on what of an inode changes, until `unwatch`; begins anew if repeated."""
        with self._lock:
            self._watched[key] = Change()

    def unwatch(self, key: Key) -> None:
        """Stop noting."""
        with self._lock:
            self._watched.pop(key, None)

    def _touch(self, key: Key, offset: int, length: int, *, names: bool = False) -> None:
        change = self._watched.get(key)
        if change is None:
            return
        change.names, change.attributes = change.names or names, True
        change.whole = change.whole or length < 0
        change.mark(offset, max(length, 0))

    def send_unless(
        self,
        key: Key,
        touched: Callable[[Change], bool],
        source: Source,
        sendings: list[tuple[ANY_OPERATION, bytes]],
        dismissed: Iterable[Key] = (),
    ) -> bool:
        """Send operations of the copy unless a modification since `watch` overtook them.

        What was read from the disk before a modification must not be sent behind it. Nor may
        anything be said of an inode that the target does not know (any more).
        """
        with self._lock:
            watched = self._watched.get(key)
            if self._source is not source or watched is None or touched(watched):
                return False
            new = {one.node for one, _ in sendings if isinstance(one, Introduce | Create)}
            for one, _ in sendings:
                if isinstance(one, Link | SetAttr | SetXattr | RemoveXattr | Write):
                    if one.node not in new and not self._knows(one.directory, one.node):
                        return False
            self._introduced.difference_update(dismissed)
            for operation, data in sendings:
                self._put(operation, data)
                if isinstance(operation, Introduce | Create):
                    self._introduced.add((operation.directory, operation.node))
            return True

    def introduce(self, source: Source, orders: list[ANY_OPERATION]) -> None:
        """Send what leads to some inodes; `Places.lock` is held."""
        with self._lock:
            if self._source is source:
                self._introduce([order for order in orders if isinstance(order, Introduce)])

    def knows(self, directory: int, node: int) -> bool:
        """Whether the target knows an inode in this session."""
        with self._lock:
            return self._knows(directory, node)
