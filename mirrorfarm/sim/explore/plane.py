"""The data plane of one node as the explorer sees it: a set of writes, and what they wait for.

A minimal model of `actors/replicator`: the stream between two planes is in order and is lost
as a whole; what it does not keep is a change map (a copy brings everything).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mirrorfarm.transport import messages as msg

Frame = tuple[str, int, int, Any]  # Kind, term, session, value.


@dataclass(slots=True)
class Plane:
    """`data` is what survives a crash."""

    data: frozenset[int] = frozenset()
    map_base: str = ""
    wish: msg.PlaneWish = field(default_factory=lambda: msg.PlaneWish(0, "off"))
    waiting: dict[int, bool] = field(default_factory=dict)  # Write: whether it is applied here.
    confirmed: frozenset[int] = frozenset()  # By the peer, in this session.
    sent: frozenset[int] = frozenset()  # In this session, not yet confirmed.
    up: bool = False
    behind: bool = False
    told_held: bool = False

    def end(self) -> None:
        """Its process ends."""
        self.wish, self.waiting, self.map_base = msg.PlaneWish(0, "off"), {}, ""
        self.confirmed = self.sent = frozenset()
        self.up = self.behind = self.told_held = False


class Hands:
    """What a plane does to its surroundings; the world implements it."""

    say: Callable[[msg.ANY_MESSAGE], None]  # To the mirror of this node.
    stream: Callable[[Frame], None]  # To the peer's plane.
    acknowledged: Callable[[int, int], None]  # Write, term: the application was told.
    applied: Callable[[int, int, bool], None]  # Term, session, whether it is a copy.


def order(p: Plane, wish: msg.PlaneWish, hands: Hands) -> None:
    """Become what the mirror wants."""
    before = p.wish
    if wish.number >= before.number:
        p.wish = wish
        if wish.number > before.number:
            _change(p, before, wish, hands)
    report(p, hands)
    release(p, hands)


def report(p: Plane, hands: Hands) -> None:
    """Answer the wish; `both` only when nothing told to the application is unconfirmed."""
    w = p.wish
    if w.gate == "both" and p.sent:
        return
    changes = 1 if p.map_base else -1
    hands.say(
        msg.PlaneIs(
            w.number, w.role, w.term, w.gate, w.sid, p.map_base, behind=p.behind, changes=changes
        )
    )


def _change(p: Plane, before: msg.PlaneWish, wish: msg.PlaneWish, hands: Hands) -> None:
    unconfirmed = bool(p.sent or any(p.waiting.values()))
    p.behind = before.role == "lead" and wish.role == "off" and unconfirmed
    p.told_held = p.told_held and wish.gate == "frozen"
    if wish.role != "lead":
        p.waiting, p.up, p.sent = {}, False, frozenset()
        if before.role == "follow" and (wish.term, wish.sid) != (before.term, before.sid):
            hands.stream(("BROKEN", before.term, before.sid, 0))
        if wish.role == "off" and not wish.clean:
            p.map_base = ""
        return
    if (before.role, before.term) != ("lead", wish.term):
        p.confirmed = frozenset()
    p.map_base = wish.map_base if wish.map_new or wish.map_base == p.map_base else ""
    if wish.sid and wish.sid != before.sid:
        p.confirmed, p.sent, p.up = frozenset(), frozenset(), False
        hands.stream(("OPEN", wish.term, wish.sid, wish.plan))
    elif not wish.sid:
        p.up, p.sent = False, frozenset()


def write(p: Plane, number: int, hands: Hands) -> None:
    """The application modifies something."""
    if p.wish.role == "lead":
        p.waiting[number] = False
        release(p, hands)


def release(p: Plane, hands: Hands) -> None:
    """Apply what may be applied, and tell the application what is done."""
    wish = p.wish
    if wish.role != "lead":
        return
    for number in list(p.waiting):
        if wish.gate == "frozen" and not p.told_held:
            p.told_held = True
            hands.say(msg.WriteHeld(wish.term))
        if wish.gate == "frozen" and not p.waiting[number]:
            continue
        if not p.waiting[number]:
            p.waiting[number] = True
            hands.applied(wish.term, 0, False)
            p.data |= {number}
            if p.up:
                _replicate(p, number, hands)
        if wish.gate == "self" or (wish.gate == "both" and number in p.confirmed):
            del p.waiting[number]
            hands.acknowledged(number, wish.term)


def _replicate(p: Plane, number: int, hands: Hands) -> None:
    p.sent |= {number}
    hands.stream(("REPL", p.wish.term, p.wish.sid, number))


def broken(p: Plane, term: int, sid: int, hands: Hands) -> None:
    """The stream of a session is cut."""
    if p.wish.role == "lead" and p.wish.sid and (p.wish.term, p.wish.sid) == (term, sid):
        p.up = False
        hands.say(msg.SessionBroken(term, sid, "no acknowledgement in time"))


def receive(p: Plane, frame: Frame, hands: Hands) -> None:
    """A frame of the peer's plane came in."""
    kind, term, sid, value = frame
    wish = p.wish
    if (term, sid) != (wish.term, wish.sid):
        if kind == "OPEN" and wish.role == "follow":
            hands.stream(("BROKEN", term, sid, 0))
    elif wish.role == "follow":
        _follow(p, kind, value, hands)
    elif wish.role == "lead":
        _lead(p, kind, value, hands)


def _follow(p: Plane, kind: str, value: Any, hands: Hands) -> None:
    term, sid = p.wish.term, p.wish.sid
    if kind == "OPEN":
        hands.stream(("UP", term, sid, value))
    elif kind == "REPL":
        hands.applied(term, sid, False)
        p.data |= {value}
        hands.stream(("RACK", term, sid, value))
    elif kind == "COPY":
        hands.applied(term, sid, True)
        p.data = value
        hands.say(msg.CopyComplete(term, sid))


def _lead(p: Plane, kind: str, value: Any, hands: Hands) -> None:
    wish = p.wish
    if kind == "UP":
        p.up = True
        hands.say(msg.SessionUp(wish.term, wish.sid))
        if value != "none":
            hands.stream(("COPY", wish.term, wish.sid, p.data))
        for number, applied in p.waiting.items():
            if applied:
                _replicate(p, number, hands)
    elif kind == "RACK":
        p.confirmed |= {value}
        p.sent -= {value}
        if wish.gate == "both" and not p.sent:
            report(p, hands)
        release(p, hands)
    elif kind == "BROKEN":
        broken(p, wish.term, wish.sid, hands)
