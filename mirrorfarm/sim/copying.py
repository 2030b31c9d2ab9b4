"""One session of a leading plane in virtual time: its stream, its copy, its checkpoints.

A model of `replicator.session`, `replicator.asking` and `replicator.resync`, which are threads
that wait; the stream's end (`source.Source`) and the journal (`carrier.Carrier`) are the real
ones. The copy compares digests zone by zone and sends what differs, unless a modification
overtook it, as the real one does; it knows files and their zones, but no names.
"""

import errno
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from mirrorfarm.actors.replicator import core, frames, questions
from mirrorfarm.actors.replicator.carrier import Carrier
from mirrorfarm.actors.replicator.changes import Change, ChangeMap
from mirrorfarm.actors.replicator.operations import ROOT, Write
from mirrorfarm.actors.replicator.source import Source
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS, ZONE_BYTES
from mirrorfarm.sim.storage import FILES, FIRST_NODE, extent_of
from mirrorfarm.sim.surroundings import Surroundings, introduction

AGAIN_NS = 2 * SECOND_NS
FLUSH_AGAIN_NS = 30 * SECOND_NS
CHECKPOINT_NS = 5 * SECOND_NS
ZONES = 4_096  # Compared with one question at most.
_encode = msgspec.msgpack.Encoder().encode
Then = Callable[[bytes], None]


class SimSession:
    """Implements `source.SourceListener`."""

    def __init__(
        self,
        carrier: Carrier,
        around: Surroundings,
        *,
        copied: Callable[[], None],
        pump: Callable[[], None],
    ) -> None:
        """`copied`: the target has flushed all; `pump`: the gate may let more in."""
        self._carrier, self._disk = carrier, around.disk
        self._tell, self._after, self._copied, self._pump = around.tell, around.after, copied, pump
        self.source: Source
        self._changes: ChangeMap | None = None
        self._started = self._told = self._closed = False
        self._number = 0
        self._waits: tuple[int, Then] | None = None
        self._files: list[int] = []
        self._looking = 0
        self.full = False

    def start(self, source: Source, plan: str) -> None:
        """Send all modifications from now on, and copy by `plan` (none map full)."""
        self.source = source
        source.patient = True
        trusted = self._carrier.marks.complete
        changes = self._carrier.open(source)
        self.full = plan == "full" or changes.overflowed or (plan == "map" and not trusted)
        self._changes = None if self.full else changes
        self._look(0)

    # --- driving the stream ----------------------------------------------------------------

    def take(self, batch: list[list[bytes]]) -> None:
        """Frames of the target came."""
        source = self.source
        if not self._closed and not source.over:
            source.look()
            source.take(batch)
            if source.broken:
                self._is_over()

    def _look(self, number: int) -> None:
        """Greet and judge; again when it is due."""
        if self._closed or number != self._looking or self._is_over():
            return
        wait_ns = self.source.look()
        self.source.take([])
        if not self._is_over():
            self._looking += 1
            self._after(max(wait_ns, MILLISECOND_NS), partial(self._look, self._looking))

    def _is_over(self) -> bool:
        if self.source.broken and not self._told and not self._closed:
            self._told = True
            self.session_broken(self.source.broken)
        return self.source.over

    # --- the stream's news -----------------------------------------------------------------

    def session_up(self) -> None:
        """The target answers: copy."""
        if not self._started:
            self._started = True
            self._tell(core.PlaneSessionUp(self.source.term, self.source.sid))
            self._copy()

    def acknowledged(self) -> None:
        """Let go what waited."""
        self._carrier.gate.look_again()
        self._pump()

    def session_broken(self, reason: str) -> None:
        """What the stream did not carry is marked; tell."""
        self._waits = None
        self._carrier.close(self.source)
        self._pump()
        self._tell(core.PlaneSessionBroken(self.source.term, self.source.sid, reason))

    def answered(self, question: int, record: bytes, payload: bytes) -> None:
        """An answer for the copy."""
        del payload
        if self._waits is not None and self._waits[0] == question:
            then, self._waits = self._waits[1], None
            then(record)

    def close(self) -> None:
        """End without a word; what was not carried is marked."""
        self._closed = True
        self._waits = None
        self._carrier.close(self.source)
        self.source.close()

    # --- questions -------------------------------------------------------------------------

    def _ask(self, make: Callable[[int], questions.ANY_QUESTION], then: Then, again: int) -> None:
        self._number += 1
        number, record = self._number, _encode(make(self._number))
        self._waits = (number, then)

        def ask() -> None:
            if self._waits is not None and self._waits[0] == number:
                if self.source.send(frames.COPY, record):
                    self._after(again, ask)

        ask()

    def flush(self, then: Callable[[], None], *, end: bool = False) -> None:
        """Have the target flush everything sent so far; then go on."""
        kind = questions.End if end else questions.Flush
        self._ask(kind, lambda _: then(), FLUSH_AGAIN_NS)

    # --- the copy --------------------------------------------------------------------------

    def _copy(self) -> None:
        files = range(FIRST_NODE, FIRST_NODE + FILES)
        changes = self._changes
        if changes is None:
            self._files = list(files)
        else:
            self._files = [node for node in files if (0, node) in changes.nodes]
        self._ask(lambda n: questions.List(n, 0, ROOT), self._listed, AGAIN_NS)

    def _listed(self, record: bytes) -> None:
        listing = msgspec.msgpack.decode(record, type=questions.Listing)
        self._sizes = {entry.inode: entry.size // ZONE_BYTES for entry in listing.entries}
        self._next()

    def _next(self) -> None:
        if self._disk.error == errno.EIO:
            self._unreadable(errno.EIO)
            return
        if not self._files:
            self.flush(self._ended, end=True)
            return
        node = self._files[0]
        count = max([self._sizes.get(node, 0), *(zone + 1 for zone in self._disk.zones(node))])
        if not count:
            self._files.pop(0)
            self._next()
            return
        self._carrier.introduce(self.source, [introduction(node)])
        self._carrier.watch((0, node))
        item = questions.HashItem(node, 0, min(count, ZONES))
        self._ask(
            lambda n: questions.Hashes(n, 0, [item]),
            lambda record: self._compare(node, record),
            AGAIN_NS,
        )

    def _unreadable(self, error: int) -> None:
        self._carrier.local_failed(error, "data")
        self.source.give_up("the copy failed: the disk cannot be read")
        self._is_over()

    def _compare(self, node: int, record: bytes) -> None:
        try:
            self._send(node, record)
        except OSError as fault:
            self._unreadable(fault.errno or errno.EIO)
        else:
            self._next()

    def _send(self, node: int, record: bytes) -> None:
        """Send what differs of one file."""
        digests = msgspec.msgpack.decode(record, type=questions.Digests).items[0]
        wanted = self._wanted(node)
        sendings: list[tuple[Any, bytes]] = []
        for zone, digest in enumerate(digests):
            value = self._disk.read(extent_of(node, zone))
            data = value.to_bytes(8, "little")
            if (wanted is None or zone in wanted) and digest != (data if value else b""):
                sendings.append((Write(0, node, zone * ZONE_BYTES, 8, 0), data))
        zones = {one.offset // ZONE_BYTES for one, _ in sendings}

        def touched(change: Change) -> bool:
            return change.whole or any(zone in zones for zone in change.marked())

        sent = not sendings or self._carrier.send_unless((0, node), touched, self.source, sendings)
        self._carrier.unwatch((0, node))
        if sent:
            if wanted is None:
                self._carrier.moves.copied((0, node))
            self._files.pop(0)

    def _wanted(self, node: int) -> set[int] | None:
        """Return the zones that changed; None: all are compared."""
        change = self._changes.nodes.get((0, node)) if self._changes is not None else None
        return None if change is None or change.whole else set(change.marked())

    def _ended(self) -> None:
        self._changes = None
        self._carrier.end_copy()
        self.source.patient = False
        self._copied()
        self._carrier.synced(self.source)
        self._pump()
        self._after(CHECKPOINT_NS, self._checkpoint)

    def _checkpoint(self) -> None:
        """Have the target flush now and then, so that the map stays small."""
        if self._closed or self.source.over:
            return
        if self._waits is None and self._carrier.begin_checkpoint():
            self.flush(lambda: self._carrier.end_checkpoint(self.source))
        self._after(CHECKPOINT_NS, self._checkpoint)
