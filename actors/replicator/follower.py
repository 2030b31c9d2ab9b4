"""The secondary's side of a session: applies operations, answers the questions of the copy.

A fault of our own in that is told as one of the disk: what is here cannot be trusted either.
"""

import contextlib
import errno
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from mirrorfarm.actors.replicator import inventory, operations, questions
from mirrorfarm.actors.replicator.applier import Applier
from mirrorfarm.actors.replicator.backing import Backing, Inode
from mirrorfarm.actors.replicator.disks import is_failure
from mirrorfarm.actors.replicator.quarantine import Quarantine
from mirrorfarm.actors.replicator.target import Answer, Flush
from mirrorfarm.errors import FrameInvalid
from mirrorfarm.oserrors import told

_encode: Final = msgspec.msgpack.Encoder().encode
_T = TypeVar("_T")
# How long an answer may take to gather: what a slow disk did not give by then is asked for again.
# The stream stands still meanwhile, and the source takes its silence for that of a dead peer.
_ANSWER_S: Final = 0.2


class OwnFault(OSError):
    """Something that should not have happened; its text says what."""

    def __init__(self, fault: Exception) -> None:
        super().__init__(errno.EIO, repr(fault))

    def __str__(self) -> str:
        return self.strerror or ""


def _ignore(_: str) -> None:
    """Report to nobody."""


def _number(inode: Inode | None) -> int:
    return 0 if inode is None else inode.number


def _carried_out(work: Callable[..., _T], *arguments: Any) -> _T:
    """Give what `work` returns; whatever it raises is an OSError, or the peer's FrameInvalid."""
    try:
        return work(*arguments)
    except (OSError, FrameInvalid):
        raise
    except Exception as fault:
        raise OwnFault(fault) from fault


class Follower:
    """Implements `target.TargetWorker` on the replicated directories."""

    def __init__(
        self,
        applier: Applier,
        copied: Callable[[int, int], None],
        failed: Callable[[int, str], None],
        report: Callable[[str], None] = _ignore,
    ) -> None:
        """`copied(term, sid)`: the copy is here and durable. `failed(errno, text)`: the disk.

        `report` gets what of the disk failed, and what to do.
        """
        self._applier = applier
        self._copied = copied
        self._failed = failed
        self._report = report
        self._session = (0, 0)
        self._ends: set[int] = set()
        self._lock = threading.Lock()
        self.aside: Quarantine | None = None  # Keeps what the next session replaces.
        # Of a long listing: directory, node, the last name that was told; then those behind it.
        self._listed: tuple[tuple[int, int, bytes], list[bytes]] = ((0, 0, b""), [])

    def begin(self, term: int, sid: int) -> None:
        """A session begins; until its copy ends the tree may be in any state."""
        self._session = (term, sid)
        self._ends = set()
        self._listed = ((0, 0, b""), [])
        self._applier.begin(lenient=True, aside=self.aside)

    def apply(self, record: bytes, payload: bytes) -> Flush | None:
        """Carry out one operation; of an Fsync return what flushes."""
        return _carried_out(self._apply, record, payload)

    def _apply(self, record: bytes, payload: bytes) -> Flush | None:
        operation = operations.decode(record, len(payload))
        with self._telling(operation):
            if isinstance(operation, operations.Fsync):
                return partial(_carried_out, self._applier.flusher(operation))
            self._applier.apply(operation, payload)
        return None

    def copy(self, record: bytes, payload: bytes) -> Answer | Callable[[], Answer] | None:
        """Answer a question of the copy."""
        return _carried_out(self._copy, record, payload)

    def _copy(self, record: bytes, payload: bytes) -> Answer | Callable[[], Answer] | None:
        if payload:
            raise FrameInvalid("a question has no payload")
        question = questions.decode(record)
        with self._telling(question):
            return self._answer(question)

    def _answer(self, question: questions.ANY_QUESTION) -> Answer | Callable[[], Answer] | None:
        match question:
            case questions.List():
                return question.number, _encode(self._list(question)), b""
            case questions.Hashes():
                return question.number, _encode(self._hashes(question)), b""
            case questions.Attributes():
                found = self._attributes(question)
                return question.number, _encode(questions.Names(found)), b""
            case questions.End():
                self._applier.lenient = False
                self._applier.keep_no_more()
                with self._lock:
                    self._ends.add(question.number)
            case questions.Flush():
                pass
        return self._flusher(question.number)

    @contextlib.contextmanager
    def _telling(self, asked: operations.ANY_OPERATION | questions.ANY_QUESTION) -> Iterator[None]:
        """Say where the disk failed, and what to do."""
        try:
            if isinstance(asked, questions.Flush | questions.End):
                yield
                return
            backing = self._applier.backing(asked.directory)
            node = getattr(asked, "parent", getattr(asked, "node", operations.ROOT))
            with inventory.placing(backing.root_fd, backing.path(node)):
                yield
        except OSError as fault:
            if is_failure(fault):
                self._report(told(fault))
            raise

    def copied(self, answer: Answer) -> None:
        """Everything before a Flush or an End is durable."""
        with self._lock:
            ended = answer[0] in self._ends
        if ended:
            self._copied(*self._session)

    def failed(self, error: int, text: str) -> None:
        """The disk refused something."""
        self._failed(error, text)

    def _flusher(self, number: int) -> Callable[[], Answer]:
        def flush() -> Answer:
            _carried_out(self._applier.sync_all)
            return number, b"", b""

        return flush

    def _list(self, question: questions.List) -> questions.Listing:
        backing = self._applier.backing(question.directory)
        if backing.get(question.node).absent:  # Removed since the source looked.
            return questions.Listing(
                questions.Entry(b".", 0, 0, 0, 0, 0, 0, 0, 0, b""), [], more=False
            )
        fd = inventory.open_root(backing.fd(question.node))
        try:
            this = inventory.describe(b".", os.fstat(fd), f"/proc/self/fd/{fd}/.".encode())
            entries, rest = self._page(backing, question, fd)
        finally:
            os.close(fd)
        last = entries[-1].name if rest else b""
        self._listed = ((question.directory, question.node, last), rest)
        return questions.Listing(this, entries, more=bool(rest))

    def _page(
        self, backing: Backing, question: questions.List, fd: int
    ) -> tuple[list[questions.Entry], list[bytes]]:
        """Entries behind a name, and the names behind these."""
        where, names = self._listed
        if not names or where != (question.directory, question.node, question.after):
            names = [name for name in inventory.names(fd) if name > question.after]
        entries: list[questions.Entry] = []
        ends = time.monotonic() + _ANSWER_S
        for place, name in enumerate(names):
            # A copy has devices removed: in their directories they would be in the way.
            entry = inventory.entry(fd, name, devices=True)
            if entry is None:
                continue
            owner = backing.owner(entry.inode) if entry.links > 1 else None
            known = _number(backing.at(question.node, name))
            entries.append(msgspec.structs.replace(entry, known=known, elsewhere=_number(owner)))
            if len(entries) >= questions.ENTRIES_MAX or time.monotonic() > ends:
                return entries, names[place + 1 :]
        return entries, []

    def _hashes(self, question: questions.Hashes) -> questions.Digests:
        """Digests of the first zones, one at least: of all unless the disk is slow."""
        backing = self._applier.backing(question.directory)
        found: list[list[bytes]] = []
        ends = time.monotonic() + _ANSWER_S
        for item in question.items:
            inode = backing.get(item.node)
            if inode.absent or not stat.S_ISREG(inode.mode):
                found.append([b""] * item.count)
                continue
            digests: list[bytes] = []
            found.append(digests)
            with inventory.placing(backing.root_fd, backing.path(item.node)):
                fd = backing.data_fd(item.node)
                zones = inventory.Zones(fd)
                for zone in range(item.first, item.first + item.count):
                    digests.append(inventory.digest(zones.read(zone)))
                    if time.monotonic() > ends:
                        return questions.Digests(found)
        return questions.Digests(found)

    def _attributes(self, question: questions.Attributes) -> list[bytes]:
        backing = self._applier.backing(question.directory)
        inode = backing.get(question.node)
        if inode.absent:
            return []
        names = os.listxattr(f"/proc/self/fd/{backing.fd(question.node)}")
        return [os.fsencode(name) for name in names]
