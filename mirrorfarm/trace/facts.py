"""What steps mean: roles taken, registers changed, silences noticed, orders given.

A step is full of detail; a fact is what somebody would tell of it. The vocabulary is that of
docs/protocols/invariants.md. `Facts.of` is fed all steps in their order, because most facts are
changes.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.durations import span
from mirrorfarm.trace.step import Step, Unreadable
from mirrorfarm.transport import messages as msg

PENDING_MAX: Final = 1_024
TOLD_LEVELS: Final = frozenset("CEU")  # Of log lines.


class Fact(msgspec.Struct, frozen=True):
    """One thing that happened; `text` is a predicate whose subject is the step's node."""

    kind: str
    text: str
    values: dict[str, Any] = {}


def name_of(value: Any) -> str:
    """Return the name of an event, an effect or a message, whether or not this build knows it."""
    if isinstance(value, list):
        return str(value[0]) if value else ""
    if type(value) is Unreadable:
        return value.kind
    return type(value).__name__


def row_of(value: Any) -> tuple[Any, ...]:
    """Return the fields of an event, an effect or a message in their order."""
    if isinstance(value, list):
        return tuple(value[1:])
    return msgspec.structs.astuple(value) if isinstance(value, msgspec.Struct) else ()


def said(value: Any) -> Any:
    """Return what an event or effect carries: the message, the event that is told, or itself."""
    match value:
        case ev.Received() | fx.Send():
            return value.message
        case fx.Tell() | fx.Later():
            return value.event
        case _:
            return value


def module_of(step: Step) -> str:
    """Return the module that a step is about; of a witness: `witness`."""
    return step.process.removesuffix(".replica")


def in_sync(names: Iterable[str]) -> str:
    """Return a set of nodes as it is written everywhere."""
    return "{" + ", ".join(names) + "}"


@dataclass(slots=True)
class Side:
    """What one process said of itself last."""

    incarnation: int = -1
    about: msg.Announcement | None = None
    wish: msg.PlaneWish | None = None
    view: tuple[Any, ...] = ()
    stores: dict[int, Any] = field(default_factory=dict)  # Writings that are under way.


@dataclass(slots=True)
class Facts:
    """Makes facts of steps; `sides` is the present, by node and process."""

    sides: dict[tuple[str, str], Side] = field(default_factory=dict)

    def side(self, step: Step) -> Side:
        """Return what the process of a step said last; nothing, if it has just started."""
        key = step.node, step.process
        side = self.sides.get(key)
        if side is None or side.incarnation != step.incarnation:
            side = self.sides[key] = Side(step.incarnation)
        return side

    def of(self, step: Step) -> list[Fact]:
        """Return the facts of one step."""
        side = self.side(step)
        facts = list(_of_event(step.event, side))
        for effect in step.effects:
            make = _EFFECTS.get(effect.__class__)
            if make is not None:
                facts.extend(make(effect, side))
        return facts


# --- events --------------------------------------------------------------------------------


def _of_event(event: Any, side: Side) -> Iterator[Fact]:
    match event:
        case ev.Received(_, msg.Command() as order):
            text = f"was ordered to {order.verb} by {order.who}"
            yield Fact("command", text, {"verb": order.verb, "who": order.who})
        case ev.RegisterStored(counter):
            stored = side.stores.pop(-1 - counter, None)
            if stored is not None:
                yield _register(stored)
        case ev.Stored(counter):
            record = side.stores.pop(counter, None)
            if record is not None:
                values = {"term": record.term, "sid": record.sid, "was": record.was}
                text = f"had its record on the disk: {record.was} in term {record.term}"
                yield Fact("durable", text, {**values, "cons": record.cons})
        case ev.StoreFailed(_, error, text):
            yield Fact("failure", f"could not write its record: {text}", {"errno": error})
        case ev.GuardActed():
            yield Fact("guard", "was fenced by its guard: the lease was over")
        case ev.FilterFailed(reason):
            yield Fact("failure", f"answers nobody: {reason}")
        case ev.ScriptEnded(_, name, code) if code or event.timed_out or event.failure:
            how = event.failure or ("it took too long" if event.timed_out else f"exit code {code}")
            yield Fact("script", f"had its script {name} fail: {how}", {"script": name})
        case _:
            make, row = _SEEN.get(name_of(event)), row_of(event)
            fact = make(row) if make is not None and row else None
            if fact is not None:
                yield fact


def _register(stored: fx.RegisterStore) -> Fact:
    register = stored.register
    values = {
        "module": stored.module,
        "term": register.term,
        "ver": register.ver,
        "holder": register.holder,
        "isr": list(register.isr),
        "gen": register.gen,
    }
    text = (
        f"had on its disk that {register.holder} holds {stored.module} in term {register.term} "
        f"with the in-sync set {in_sync(register.isr)} (version {register.ver})"
    )
    return Fact("register", text, values)


def _write(kind: str) -> Callable[[tuple[Any, ...]], Fact | None]:
    verbs = {
        "invoke": "was asked for write {} to {}",
        "ok": "acknowledged write {} to {}",
        "info": "could not confirm write {} to {}",
        "fail": "refused write {} to {}",
    }

    def make(row: tuple[Any, ...]) -> Fact | None:
        width = 2 + (kind == "ok")
        if len(row) < width or not all(type(part) is int for part in row[:width]):
            return None  # Another's event of this name.
        values = {"op": kind, "write": row[0], "extent": row[1]}
        if kind == "ok":
            values["term"] = row[2]
        return Fact("write", verbs[kind].format(row[0], row[1]), values)

    return make


def _read(row: tuple[Any, ...]) -> Fact | None:
    if len(row) != 2 or not all(type(part) is int for part in row):
        return None
    text = f"read write {row[0]} from {row[1]}" if row[0] else f"read nothing from {row[1]}"
    return Fact("read", text, {"write": row[0], "extent": row[1]})


def _fault(row: tuple[Any, ...]) -> Fact:
    words = [str(part) for part in row if part != ""]
    told = words[1:] if words[1:] and words[1].startswith(words[0]) else words
    return Fact("fault", f"had a fault: {' '.join(told)}", {"fault": words[0] if words else ""})


# Observations that only a simulation has, by name; their fields are those of its monitors.
_SEEN: Final[dict[str, Callable[[tuple[Any, ...]], Fact | None]]] = {
    "Invoked": _write("invoke"),
    "Told": _write("ok"),
    "Failed": _write("info"),
    "Refused": _write("fail"),
    "Read": _read,
    "Fault": _fault,
    "Died": lambda row: Fact("fault", f"lost its process {row[0]}", {"fault": "died"}),
    "PowerLost": lambda _: Fact("fault", "lost its power", {"fault": "power"}),
    "VipIs": lambda row: Fact(
        "vip", f"had the virtual addresses {'put up' if row[-1] else 'taken down'}"
    ),
    "AppRuns": lambda row: Fact(
        "app", "had its application " + ("started" if row[-1] else "ended"), {"runs": bool(row[-1])}
    ),
}


# --- effects -------------------------------------------------------------------------------


def _told(effect: fx.Tell, side: Side) -> Iterator[Fact]:
    match effect.event:
        case ev.Announce(about):
            yield from _announced(about, side)
        case ev.PeerSilent(silent_ns):
            text = f"had heard nothing from its peer for {span(silent_ns)}"
            yield Fact("silent", text, {"silent_ns": silent_ns})
        case ev.NetworkSilent(network):
            yield Fact("network", f"heard nothing on network {network}", {"network": network})
        case ev.NetworkHeard(network):
            yield Fact("network", f"heard its peer on network {network}", {"network": network})
        case ev.ArbiterSilent():
            yield Fact("arbiter", "got no answer from its arbiter", {"answers": False})
        case ev.ArbiterHeard():
            yield Fact("arbiter", "heard its arbiter again", {"answers": True})
        case ev.Stalled(late_ns):
            text = f"did not run for {span(late_ns)}"
            yield Fact("stall", text, {"late_ns": late_ns})
        case ev.FarmPicture():
            yield from _pictured(effect.event, side)


def _announced(about: msg.Announcement, side: Side) -> Iterator[Fact]:
    before, side.about = side.about, about
    values = {"role": about.role, "status": about.status, "term": about.term}
    values |= {"sid": about.sid, "ver": about.ver, "cons": about.cons, "phase": about.phase}
    if before is None:
        yield Fact("role", f"began as {about.role}", {**values, "before": ""})
    elif before.role != about.role:
        text = f"became {about.role} in term {about.term}"
        yield Fact("role", text, {**values, "before": before.role})
    elif before.status != about.status:
        yield Fact("status", f"became {about.role} {about.status}", values)


def _pictured(picture: ev.FarmPicture, side: Side) -> Iterator[Fact]:
    view = (picture.view if picture.open else 0, picture.open, picture.members)
    before, side.view = side.view, view
    if view == before:
        return
    values = {"view": picture.view, "open": picture.open, "members": list(picture.members)}
    text = f"answered clients by view {picture.view} of {in_sync(picture.members)}"
    if not picture.open:
        text = f"answered nobody: {picture.reason or 'it is not in a view'}"
    yield Fact("view", text, values)


def _sent(effect: fx.Send, side: Side) -> Iterator[Fact]:
    match effect.message:
        case msg.PlaneWish() as wish if wish != side.wish:
            before, side.wish = side.wish, wish
            new = (wish.role, wish.gate, wish.term, wish.sid)
            if before is None or new != (before.role, before.gate, before.term, before.sid):
                values = {"role": wish.role, "gate": wish.gate, "term": wish.term}
                text = f"ordered its data plane to be {wish.role}, gate {wish.gate}"
                yield Fact("gate", f"{text}, in term {wish.term}", {**values, "sid": wish.sid})
        case msg.SyncOffer(term, sid, plan):
            values = {"term": term, "sid": sid, "plan": plan}
            yield Fact("session", f"offered session {sid} of term {term}", values)
        case msg.SyncRefused(term, sid, reason):
            values = {"term": term, "sid": sid}
            yield Fact("session", f"refused session {sid}: {reason}", values)
        case msg.Synced(term, sid):
            values = {"term": term, "sid": sid}
            yield Fact("session", f"had all of session {sid} of term {term}", values)
        case msg.Leave():
            yield Fact("leave", "told its peer that it stops")
        case msg.CommandResult(_, outcome, text):
            yield Fact("answer", f"answered an order: {outcome} {text}".rstrip(), {})
        case msg.ViewCommit(number):
            yield Fact("view", f"committed view {number}", {"view": number})


def _logged(effect: fx.Log, _: Side) -> Iterator[Fact]:
    if effect.level in TOLD_LEVELS:
        yield Fact("log", f"logged “{effect.text}”", {"level": effect.level})


def _stores(effect: fx.Store | fx.RegisterStore, side: Side) -> Iterator[Fact]:
    """Nothing has happened yet: that is when the disk has answered."""
    if isinstance(effect, fx.Store):
        side.stores[effect.record.counter] = effect.record
    else:
        side.stores[-1 - effect.counter] = effect
    while len(side.stores) > PENDING_MAX:
        del side.stores[next(iter(side.stores))]
    return iter(())


def _plane(effect: fx.PlaneOrder, _: Side) -> Iterator[Fact]:
    yield Fact("plane", f"gave its data plane the order {effect.verb}", {"verb": effect.verb})


def _plain(kind: str, text: str) -> Callable[[Any, Side], Iterator[Fact]]:
    return lambda effect, side: iter((Fact(kind, text),))


_EFFECTS: Final[dict[type, Callable[[Any, Side], Iterator[Fact]]]] = {
    fx.Tell: _told,
    fx.Send: _sent,
    fx.Log: _logged,
    fx.Store: _stores,
    fx.RegisterStore: _stores,
    fx.PlaneOrder: _plane,
    fx.StartScript: lambda effect, side: iter(
        (Fact("script", f"ran its script {effect.name}", {"script": effect.name}),)
    ),
    fx.AddressAdd: _plain("vip", "put the virtual addresses up"),
    fx.AddressRemove: _plain("vip", "took the virtual addresses down"),
    fx.EndReplica: _plain("failure", "ended the process of its replicator: it hung"),
}
