"""The mirror's protocol without its implementation: two nodes, a register, and no clock at all.

Messages stay where they are sent, so that loss, repetition, delay and every order are covered;
the arbiter may hold a lease to be over at any moment. What holds here rests on no time: the
register, the in-sync set and the sessions (rules R1 to R8 of docs/protocols/mirror.md). Each
name in `BROKEN` leaves one of these rules out.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

Writes = frozenset[int]
Message = tuple[object, ...]  # Kind, addressee (-1: the arbiter), then what the kind needs.
NONE: Writes = frozenset()
ARBITER = -1
BOTH = 3  # Sets of nodes are bit masks.

BROKEN = {
    "acknowledge locally": "R1",
    "acknowledge before durable": "R1",
    "alone without the arbiter": "R2",
    "unknown answer is yes": "R3",
    "no version": "R4",
    "no-op keeps its version": "R4",
    "grow before the gate": "R5",
    "grow without the data": "R5",
    "no session": "R6",
    "session forgotten": "R7",
    "promote from outside": "R8",
    "arbiter forgets": "R15",
}


class Node(NamedTuple):
    """One node; what a crash keeps comes first."""

    term: int = 1
    sid: int = 0  # The last session begun in this term.
    data: Writes = NONE
    whole: bool = True
    role: str = "second"  # primary second waiting target down
    isr: int = 0
    ver: int = 0
    gate: int = 0  # Who must have a write before the application is told.
    held: Writes = NONE  # Applied here, not yet told.
    confirmed: Writes = NONE  # By the peer in this session.


class Register(NamedTuple):
    """What the arbiter keeps."""

    term: int = 1
    ver: int = 1
    holder: int = 0
    isr: int = BOTH


class State(NamedTuple):
    """Everything."""

    nodes: tuple[Node, Node]
    register: Register = Register()
    messages: frozenset[Message] = frozenset()
    told: Writes = NONE  # To the application.
    tellers: frozenset[tuple[int, int]] = frozenset()  # Term, node.
    writes: int = 0
    crashes: int = 0


class Bounds(NamedTuple):
    """How far to go."""

    writes: int = 2
    terms: int = 3
    versions: int = 5
    crashes: int = 2
    messages: int = 10
    sessions: int = 2


START = State((Node(role="primary", isr=BOTH, ver=1, gate=BOTH), Node()))
Move = tuple[str, State]


def one(node: int) -> int:
    """Return the set with only this node."""
    return 1 << node


def changed(s: State, i: int, node: Node, *sent: Message, **rest: Any) -> State:
    """Return the state with another node `i`, and more messages."""
    nodes = (node, s.nodes[1]) if i == 0 else (s.nodes[0], node)
    return s._replace(nodes=nodes, messages=s.messages | set(sent), **rest)


def moves(s: State, broken: str, bounds: Bounds) -> Iterator[Move]:
    """Return every state that can follow, with what happened."""
    for i in (0, 1):
        yield from _of_node(s, i, broken, bounds)
    for message in s.messages:
        if message[1] == ARBITER:
            yield from _at_arbiter(s, message, broken, bounds)
        else:
            yield from _received(s, message, broken)
    if broken == "arbiter forgets" and s.register != Register():
        yield "the arbiter is restored from an old copy", s._replace(register=Register())


# --- what a node does by itself --------------------------------------------------------------


def _of_node(s: State, i: int, broken: str, bounds: Bounds) -> Iterator[Move]:
    n = s.nodes[i]
    name = "AB"[i]
    if n.role == "down":
        sid = 0 if broken == "session forgotten" else n.sid
        yield f"{name} starts", changed(s, i, n._replace(role="waiting", sid=sid))
        return
    if s.crashes < bounds.crashes:
        after = Node(n.term, n.sid, n.data, n.whole, "down")
        yield f"{name} crashes", changed(s, i, after, crashes=s.crashes + 1)
    if n.role == "primary":
        yield from _of_primary(s, i, broken, bounds)
    elif n.role in {"second", "waiting"} and n.whole:
        yield f"{name} asks for the role", changed(s, i, n, ("promote", ARBITER, i, n.term))
    peer = s.nodes[1 - i]
    if n.role in {"primary", "second"} and peer.role == "primary" and peer.term > n.term:
        after = Node(peer.term, 0, n.data, n.whole, "waiting")
        yield f"{name} hears of term {peer.term}", changed(s, i, after)


def _of_primary(s: State, i: int, broken: str, bounds: Bounds) -> Iterator[Move]:
    n, o, name = s.nodes[i], 1 - i, "AB"[i]
    if s.writes < bounds.writes:
        w = s.writes + 1
        after = n._replace(data=n.data | {w}, held=n.held | {w})
        told = s.told | {w} if broken == "acknowledge locally" else s.told
        sent = ("write", o, n.term, n.sid, w)
        yield f"{name} applies write {w}", changed(s, i, after, sent, writes=w, told=told)
    for w in sorted(n.held):
        if not n.gate & one(o) or w in n.confirmed:
            after = n._replace(held=n.held - {w})
            tellers = s.tellers | {(n.term, i)}
            words = f"{name} tells the application that write {w} is done"
            yield words, changed(s, i, after, told=s.told | {w}, tellers=tellers)
    if (n.isr | n.gate) & one(o):
        yield from _leave_behind(s, i, broken)
    elif n.sid < bounds.sessions:
        after = n._replace(sid=n.sid + 1, confirmed=NONE)
        again: list[Message] = [("write", o, n.term, after.sid, w) for w in sorted(n.held)]
        offer = ("offer", o, n.term, after.sid, n.data)
        yield f"{name} opens session {after.sid}", changed(s, i, after, offer, *again)


def _leave_behind(s: State, i: int, broken: str) -> Iterator[Move]:
    n, name = s.nodes[i], "AB"[i]
    question = ("set", ARBITER, i, n.term, n.ver, one(i))
    alone = n._replace(isr=one(i), gate=one(i))
    if broken == "alone without the arbiter":
        yield f"{name} goes on alone by itself", changed(s, i, alone)
        return
    yield f"{name} asks to leave the other behind", changed(s, i, n, question)
    if broken == "unknown answer is yes" and question in s.messages:
        yield f"{name} takes silence for yes", changed(s, i, alone)


# --- the arbiter -----------------------------------------------------------------------------


def _at_arbiter(s: State, message: Message, broken: str, bounds: Bounds) -> Iterator[Move]:
    kind, _, i, term, *rest = message
    assert isinstance(i, int)
    r = s.register
    if kind == "promote":
        free = not (r.holder == i and s.nodes[i].role == "primary")
        member = r.isr & one(i) or broken == "promote from outside"
        if free and member and r.term < bounds.terms and isinstance(term, int) and term <= r.term:
            after = Register(r.term + 1, r.ver + 1, i, r.isr | one(i))
            yield f"the arbiter gives term {after.term} to {'AB'[i]}", _registered(s, i, after)
        return
    ver, isr = rest
    current = ver == r.ver or broken == "no version"
    if (term, i) != (r.term, r.holder) or not current:
        yield "the arbiter refuses", s._replace(messages=s.messages | {("register", i, r)})
    elif isr == r.isr and broken == "no-op keeps its version":
        answer = ("yes", i, term, ver, isr)
        yield "the arbiter says yes, nothing changes", s._replace(messages=s.messages | {answer})
    elif r.ver < bounds.versions and isinstance(isr, int):
        after = r._replace(ver=r.ver + 1, isr=isr)
        yield f"the arbiter sets version {after.ver}", _registered(s, i, after)


def _registered(s: State, i: int, register: Register) -> State:
    answer: Message = ("register", i, register)
    return s._replace(register=register, messages=s.messages | {answer})


# --- what a node is told ---------------------------------------------------------------------


def _received(s: State, message: Message, broken: str) -> Iterator[Move]:
    kind, i, *rest = message
    assert isinstance(i, int)
    n = s.nodes[i]
    if n.role == "down":
        return
    if kind == "register":
        yield from _told_register(s, i, rest[0])
    elif kind == "yes":
        if n.role == "primary" and (rest[0], rest[1]) == (n.term, n.ver):
            isr = rest[2]
            assert isinstance(isr, int)
            yield f"{'AB'[i]} goes on alone", changed(s, i, n._replace(isr=isr, gate=isr | one(i)))
    else:
        yield from _in_session(s, message, broken)


def _told_register(s: State, i: int, r: object) -> Iterator[Move]:
    assert isinstance(r, Register)
    n, name = s.nodes[i], "AB"[i]
    if r.term < n.term:
        return
    if r.holder == i and n.role in {"second", "waiting"} and r.term > n.term and n.whole:
        after = Node(r.term, 0, n.data, True, "primary", r.isr, r.ver, r.isr | one(i))
        yield f"{name} is primary in term {r.term}", changed(s, i, after)
    elif r.holder == i and n.role == "primary" and r.term == n.term and r.ver > n.ver:
        after = n._replace(isr=r.isr, ver=r.ver, gate=r.isr | one(i))
        yield f"{name} learns version {r.ver}", changed(s, i, after)
    elif r.holder != i and n.role == "primary" and r.term > n.term:
        yield f"{name} was replaced", changed(s, i, Node(r.term, 0, n.data, n.whole, "waiting"))


def _in_session(s: State, message: Message, broken: str) -> Iterator[Move]:
    kind, i, term, sid, value = message
    assert isinstance(i, int)
    n, o, name = s.nodes[i], 1 - i, "AB"[i]
    same = term == n.term and (sid == n.sid or broken == "no session")
    assert isinstance(term, int)
    assert isinstance(sid, int)
    if isinstance(value, int):
        w = value
        if kind == "write" and n.role == "second" and same:
            answer = ("confirm", o, term, sid, w)
            yield f"{name} has write {w}", changed(s, i, n._replace(data=n.data | {w}), answer)
            if broken == "acknowledge before durable":
                yield f"{name} confirms write {w} from memory", changed(s, i, n, answer)
        elif kind == "confirm" and n.role == "primary" and same and w in n.held:
            after = n._replace(confirmed=n.confirmed | {w})
            yield f"{name} counts write {w}", changed(s, i, after)
        return
    assert isinstance(value, frozenset)
    if kind == "offer":
        if n.role == "waiting" and (term, sid) > (n.term, n.sid):
            after = Node(term, sid, n.data, False, "target")
            yield f"{name} begins session {sid}", changed(s, i, after)
        elif n.role == "target" and (term, sid) == (n.term, n.sid):
            after = n._replace(role="second", data=value, whole=True)
            yield f"{name} ends its copy", changed(s, i, after, ("synced", o, term, sid, value))
    elif kind == "more" and n.role == "second" and (term, sid) == (n.term, n.sid):
        after = n._replace(data=n.data | value)
        synced = ("synced", o, term, sid, after.data)
        yield f"{name} ends a further pass", changed(s, i, after, synced)
    elif kind == "synced" and n.role == "primary" and same and not n.isr & one(o):
        yield from _synced(s, i, value, broken)


def _synced(s: State, i: int, theirs: Writes, broken: str) -> Iterator[Move]:
    """The peer says what it has: send the rest, or gate on it and then ask to add it."""
    n, o, name = s.nodes[i], 1 - i, "AB"[i]
    missing = (n.data - n.held) - theirs - n.confirmed
    if missing and broken != "grow without the data":
        more = ("more", o, n.term, n.sid, n.data)
        yield f"{name} sends a further pass", changed(s, i, n, more)
        return
    gate = n.gate if broken == "grow before the gate" else BOTH
    question = ("set", ARBITER, i, n.term, n.ver, BOTH)
    writes = [("write", o, n.term, n.sid, w) for w in sorted(n.held)]
    yield f"{name} asks to add the other", changed(s, i, n._replace(gate=gate), question, *writes)


# --- what must hold --------------------------------------------------------------------------


def violated(s: State) -> str:
    """Return which invariant does not hold; or ""."""
    for i, n in enumerate(s.nodes):
        holds = n.role == "primary" and (s.register.holder, s.register.term) == (i, n.term)
        if holds and not s.told <= n.data:
            return f"S4: {'AB'[i]}, primary of term {n.term}, lacks {sorted(s.told - n.data)}"
    if len({term for term, _ in s.tellers}) != len(s.tellers):
        return "S1: two nodes told their applications in one term"
    return ""
