"""The simulated data plane of one node: a set of writes instead of files.

Same orders and answers as the replicator; the stream between two of them is in order and is
lost as a whole when the link is cut, as TCP is.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from mirrorfarm.transport.messages import (
    ANY_MESSAGE,
    CopyComplete,
    PlaneIs,
    PlaneWish,
    SessionBroken,
    SessionUp,
    StorageFailed,
    WriteHeld,
)


@dataclass(slots=True)
class SimPlane:
    """Directories of one node, as numbered writes. `data` is what survives a crash."""

    node: str
    say: Callable[[ANY_MESSAGE], None]  # To the mirror of this node.
    stream: Callable[[tuple[object, ...]], None]  # To the peer's plane, in order.
    acknowledge: Callable[[int, int], None]  # (write, term): the application was told.
    applied: Callable[[int, int], None]  # (term, sid): a write became durable here.

    data: set[int] = field(default_factory=set)
    changed: set[int] = field(default_factory=set)
    map_base: str = ""
    wish: PlaneWish = field(default_factory=lambda: PlaneWish(0, "off"))
    waiting: dict[int, bool] = field(default_factory=dict)  # write -> applied here
    confirmed: set[int] = field(default_factory=set)  # By the peer, in this session.
    up: bool = False
    behind: bool = False  # Ended while the peer had not confirmed everything.
    failed: bool = False  # The disk refused something: nothing is written or told any more.
    told_held: bool = False
    sent: set[int] = field(default_factory=set)  # In this session, not yet confirmed.
    unsure: set[int] = field(default_factory=set)  # Under way when the last session broke.
    kept: set[int] = field(default_factory=set)  # Set aside before a copy replaced it.
    # With `ack_mode=received`: when a flush of what came in is over; None: before it is confirmed.
    flush_later: Callable[[int], None] | None = None
    volatile: set[int] = field(default_factory=set)  # In `data`, but lost if power fails.
    flushing: bool = False  # The peer was asked to flush before the clean end here.

    def order(self, wish: PlaneWish) -> None:
        """Become what the mirror wants."""
        before = self.wish
        if wish.number >= before.number:
            self.wish = wish
            if wish.number > before.number:
                self._change(before, wish)
        self._report()
        self._release()

    def _report(self) -> None:
        """Answer the wish; `both` only when nothing told to the application is unconfirmed."""
        if (self.wish.gate == "both" and self.sent) or self.flushing:
            return
        self.say(
            PlaneIs(
                self.wish.number,
                self.wish.role,
                self.wish.term,
                self.wish.gate,
                self.wish.sid,
                self.map_base,
                behind=self.behind,
                changes=len(self.changed) if self.map_base else -1,
            )
        )

    def _change(self, before: PlaneWish, wish: PlaneWish) -> None:
        self.behind = (
            before.role == "lead"
            and wish.role == "off"
            and bool(self.sent or any(self.waiting.values()))
        )
        self.flushing = (
            self.flush_later is not None
            and self.up
            and (before.role, wish.role, wish.clean) == ("lead", "off", True)
        )
        if self.flushing:
            self.stream(("FLUSH", before.term, before.sid, 0))
        if wish.role == "off":
            self.failed = False
        if wish.role == "lead" or (before.role == "follow" and wish.clean):
            self.volatile.clear()  # Whoever leads flushes first, and so does a clean end.
        if wish.role != "lead":
            self.waiting.clear()
            self.up = False
            if before.role == "follow" and (wish.term, wish.sid) != (before.term, before.sid):
                self.stream(("BROKEN", before.term, before.sid, "the target ended it"))
            if wish.role == "off" and not wish.clean:
                self.map_base = ""
            return
        self._lead_as(before, wish)

    def _lead_as(self, before: PlaneWish, wish: PlaneWish) -> None:
        """Set map, gate and session of a leading plane."""
        if (before.role, before.term) != ("lead", wish.term):
            self.told_held = False
            self.confirmed, self.unsure = set(), set()
            if wish.map_base and wish.map_new:
                self.map_base, self.changed = wish.map_base, set()
            elif self.map_base != wish.map_base:
                self.map_base = ""
        if wish.map_base and wish.map_base != self.map_base and wish.map_new:
            self.map_base = wish.map_base
            self.changed = {w for w in self.waiting if w not in self.confirmed}
        if not wish.map_base:
            self.map_base, self.changed = "", set()
        if wish.gate != "frozen":
            self.told_held = False
        if wish.sid and wish.sid != before.sid:
            self.unsure |= self.sent
            self.confirmed, self.sent, self.up = set(), set(), False
            self.stream(("OPEN", wish.term, wish.sid, wish.plan))
        elif not wish.sid:
            self.unsure |= self.sent
            self.up, self.sent = False, set()

    def write(self, number: int) -> None:
        """The application modifies something."""
        if self.wish.role != "lead" or self.failed:
            return
        self.waiting[number] = False
        self._release()

    def flushed(self, number: int) -> None:
        """The disk has a write that came in before."""
        self.volatile.discard(number)

    def end(self, *, power: bool) -> None:
        """Its process ends; if power fails, also what no flush has brought to the disk goes."""
        self.wish, self.waiting = PlaneWish(0, "off"), {}
        self.up = self.failed = self.flushing = False
        self.map_base = ""
        if power:
            self.data -= self.volatile
            self.volatile.clear()

    def fail(self) -> None:
        """The disk refuses something: the application gets errors, the mirror is told."""
        if self.wish.role == "off":
            return
        self.failed = True
        self.waiting.clear()
        self.say(StorageFailed(self.wish.term, "data", 5, "input/output error"))

    def _release(self) -> None:
        wish = self.wish
        if wish.role != "lead" or self.failed:
            return
        for number in list(self.waiting):
            if wish.gate == "frozen" and not self.waiting[number]:
                if not self.told_held:
                    self.told_held = True
                    self.say(WriteHeld(wish.term))
                continue
            if not self.waiting[number]:
                self.waiting[number] = True
                self.applied(wish.term, 0)
                self.data.add(number)
                if self.map_base:
                    self.changed.add(number)
                if self.up:
                    self.sent.add(number)
                    self.stream(("REPL", wish.term, wish.sid, number))
            done = wish.gate == "self" or (wish.gate == "both" and number in self.confirmed)
            if wish.gate == "frozen" and not self.told_held:
                self.told_held = True
                self.say(WriteHeld(wish.term))
            if done:
                del self.waiting[number]
                self.acknowledge(number, wish.term)

    def broken(self, reason: str) -> None:
        """The stream to the peer is cut."""
        if self.flushing:
            self.flushing, self.behind = False, True
            self._report()
        if self.wish.role == "lead" and self.wish.sid:
            self.up = False
            self.say(SessionBroken(self.wish.term, self.wish.sid, reason))

    def receive(self, frame: tuple[object, ...]) -> None:
        """A frame of the peer's plane came in."""
        kind, term, sid, value = frame
        wish = self.wish
        if kind == "FLUSHED" and self.flushing:
            self.flushing, self.behind = False, self.behind or bool(value)
            self._report()
            return
        if (term, sid) != (wish.term, wish.sid):
            if kind == "OPEN" and wish.role == "follow":
                self.stream(("BROKEN", term, sid, "another session"))
            elif kind == "FLUSH":
                self.stream(("FLUSHED", term, sid, 1))
            return
        if wish.role == "follow":
            self._follow(str(kind), value)
        elif wish.role == "lead":
            self._lead(str(kind), value)

    def _follow(self, kind: str, value: object) -> None:
        wish = self.wish
        if self.failed:
            return
        if kind == "OPEN":
            self.stream(("UP", wish.term, wish.sid, value))
        elif kind == "REPL":
            assert isinstance(value, int)
            self.applied(wish.term, wish.sid)
            self.data.add(value)
            if self.flush_later is not None:
                self.volatile.add(value)
                self.flush_later(value)
            self.stream(("RACK", wish.term, wish.sid, value))
        elif kind == "FLUSH":
            self.volatile.clear()
            self.stream(("FLUSHED", wish.term, wish.sid, 0))
        elif kind == "COPY":
            assert isinstance(value, tuple)
            self.applied(wish.term, wish.sid)
            whole: bool = value[0]
            numbers: frozenset[int] = value[1]
            if wish.quarantine and whole:
                self.kept |= self.data - numbers
            self.data = set(numbers) if whole else self.data | numbers
            self.volatile.clear()
            self.stream(("COPIED", wish.term, wish.sid, whole))
            self.say(CopyComplete(wish.term, wish.sid))

    def _lead(self, kind: str, value: object) -> None:
        wish = self.wish
        if kind == "UP":
            self.up = True
            self.say(SessionUp(wish.term, wish.sid))
            if value == "full":
                self.stream(("COPY", wish.term, wish.sid, (True, frozenset(self.data))))
            elif value == "map":
                changed = frozenset(self.changed | self.unsure)
                self.stream(("COPY", wish.term, wish.sid, (False, changed)))
            for number, applied in self.waiting.items():
                if applied:
                    self.sent.add(number)
                    self.stream(("REPL", wish.term, wish.sid, number))
        elif kind == "RACK":
            assert isinstance(value, int)
            self.confirmed.add(value)
            self.sent.discard(value)
            self.unsure.discard(value)
            if wish.gate == "both" and not self.sent:
                self._report()
            self._release()
        elif kind == "BROKEN":
            self.broken(str(value))
