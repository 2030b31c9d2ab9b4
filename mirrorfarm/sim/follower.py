"""The secondary's worker on a simulated disk: carries out operations, answers the copy.

A model of `replicator.follower` and `replicator.applier`: files and their extents, no names.
"""

import errno
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from mirrorfarm.actors.replicator import operations, questions
from mirrorfarm.actors.replicator.target import Answer, Flush
from mirrorfarm.errors import FrameInvalid
from mirrorfarm.limits import ZONE_BYTES
from mirrorfarm.sim.storage import FILES, FIRST_NODE, Extents, extent_of

_encode = msgspec.msgpack.Encoder().encode
_NAMELESS = questions.Entry(b".", 1, 0o40755, 0, 0, 2, 0, 0, 0, b"")


class SimFollower:
    """Implements `target.TargetWorker`."""

    def __init__(
        self,
        disk: Extents,
        wrote: Callable[[int, int, int, int], None],
        kept: Callable[[int, int], None],
        copied: Callable[[int, int], None],
        refused: Callable[[int, str], None],
    ) -> None:
        """`wrote(extent, write, term, sid)`, `kept(extent, write)`, `copied(term, sid)`."""
        self._disk = disk
        self._wrote, self._kept, self._copied, self._refused = wrote, kept, copied, refused
        self._session = (0, 0)
        self._known: set[int] = set()
        self._ends: set[int] = set()
        self._copying = False
        self.aside = ""  # Name of what keeps what the next session replaces.

    def begin(self, term: int, sid: int) -> None:
        """A session begins; until its copy ends the files may be in any state."""
        self._session = (term, sid)
        self._known, self._ends, self._copying = set(), set(), True

    def apply(self, record: bytes, payload: bytes) -> Flush | None:
        """Carry out one operation; of an Fsync return what flushes."""
        operation = operations.decode(record, len(payload))
        match operation:
            case operations.Fsync():
                return self._flush()
            case operations.Write(node=node, offset=offset):
                if node not in self._known:
                    raise OSError(errno.ESTALE, f"inode {node} was never introduced")
                value = int.from_bytes(payload, "little")
                self._replace(extent_of(node, offset // ZONE_BYTES), value)
            case operations.Introduce(node=node):
                self._known.add(node)
            case operations.Forget(node=node):
                self._known.discard(node)
            case _:
                raise FrameInvalid(f"{type(operation).__name__} in a simulation")
        return None

    def _replace(self, extent: int, value: int) -> None:
        before = self._disk.read(extent)
        if self._copying and self.aside and before and before != value:
            self._disk.kept.add(before)
            self._kept(extent, before)
        short = self._disk.write(extent, value)
        self._wrote(extent, value, *self._session)
        if short:
            raise OSError(short, "the disk stopped half way")

    def _flush(self) -> Flush:
        disk = self._disk
        return partial(disk.flush, disk.order)

    def copy(self, record: bytes, payload: bytes) -> Answer | Callable[[], Answer] | None:
        """Answer a question of the copy."""
        if payload:
            raise FrameInvalid("a question has no payload")
        question = questions.decode(record)
        match question:
            case questions.List():
                return question.number, _encode(self._list()), b""
            case questions.Hashes():
                return question.number, _encode(self._hashes(question)), b""
            case questions.End():
                self._copying = False
                self._ends.add(question.number)
            case questions.Flush():
                pass
            case _:
                raise FrameInvalid("a question of names in a simulation")
        flush = self._flush()

        def slow() -> Answer:
            flush()
            return question.number, b"", b""

        return slow

    def copied(self, answer: Answer) -> None:
        """Everything before a Flush or an End is durable."""
        if answer[0] in self._ends:
            self._copied(*self._session)

    def failed(self, error: int, text: str) -> None:
        """The disk refused something."""
        self._refused(error, text)

    def _list(self) -> questions.Listing:
        entries = []
        for node in range(FIRST_NODE, FIRST_NODE + FILES):
            zones = self._disk.zones(node)
            size = (zones[-1] + 1) * ZONE_BYTES if zones else 0
            entries.append(questions.Entry(b"%d" % node, node, 0o100644, 0, 0, 1, size, 0, 0, b""))
        return questions.Listing(_NAMELESS, entries, more=False)

    def _hashes(self, question: questions.Hashes) -> questions.Digests:
        found: list[list[bytes]] = []
        for item in question.items:
            held: dict[int, int] = dict(self._disk.of_file(item.node))
            zones = range(item.first, item.first + item.count)
            found.append([_digest(held.get(zone, 0)) for zone in zones])
        return questions.Digests(found)


def _digest(value: int) -> bytes:
    return value.to_bytes(8, "little") if value else b""


class Later:
    """Runs flushes beside the stream: each takes as long as the disk does."""

    def __init__(self, after: Callable[[Callable[[], Any]], None]) -> None:
        self._after = after

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> None:
        """Call `function` when the disk is done."""
        self._after(partial(function, *arguments))

    def shutdown(self, wait: bool) -> None:
        """Do nothing: what was submitted finds that its session is over."""
