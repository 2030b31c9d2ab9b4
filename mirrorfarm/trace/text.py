"""What a trace holds, as rows to read and as values for JSON."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import xxhash

from mirrorfarm.actors.effects import Later, Send
from mirrorfarm.actors.events import Received
from mirrorfarm.trace.decoder import Checkpoint, Note
from mirrorfarm.trace.facts import name_of
from mirrorfarm.trace.files import Source
from mirrorfarm.trace.named import Named
from mirrorfarm.trace.step import Step, Unreadable
from mirrorfarm.trace.steps import Gap, Item, Position
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.trace_encoder import PROTOCOL_BYTES, STAND_IN, STAND_IN_BYTES

KINDS: Final = ("input", "recv", "effect", "send", "timer", "checkpoint", "note", "gap")
ARROWS = {"input": "<-", "recv": "<-", "effect": "->", "send": "->", "timer": "->"}
TEXT_MAX = 2_000
_LEAVES: Final = frozenset((str, int, bool, float, type(None)))


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a trace: an event, an effect, or what is told about them."""

    real_ns: int  # Time of day.
    boot_ns: int
    node: str
    process: str
    actor: str
    step: int
    kind: str  # input recv effect send timer checkpoint note gap
    value: Any
    frame: int | None = None  # Of a message that was sent.

    @property
    def type(self) -> str:
        """The name of the value's type."""
        if isinstance(self.value, Unreadable):
            return self.value.kind
        if isinstance(self.value, list) and self.value:
            return str(self.value[0])
        return type(self.value).__name__

    @property
    def kinds(self) -> set[str]:
        """Everything that `--kind` may call it: of a message, its own name as well."""
        found = {self.kind, self.type}
        if isinstance(self.value, Received | Send):
            found.add(name_of(self.value.message))
        return found

    def text(self) -> str:
        """Return the value as a person reads it."""
        if isinstance(self.value, Checkpoint):
            return f"{'begins as' if self.value.birth else 'has the state of'} {self.value.kind}"
        if isinstance(self.value, Note):
            return f"{self.value.name}: {' '.join(str(one) for one in self.value.values)}"
        if isinstance(self.value, Gap):
            return f"{self.value.steps or 'an unknown number of'} steps are missing"
        if isinstance(self.value, Unreadable):
            return f"{self.value.kind} (too large to be recorded)"
        number = f" #{self.frame}" if self.frame is not None else ""
        return f"{ARROWS[self.kind]} {told(self.value)}{number}"

    def json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        row: dict[str, Any] = {
            "real_ns": self.real_ns,
            "boot_ns": self.boot_ns,
            "node": self.node,
            "process": self.process,
            "actor": self.actor,
            "step": self.step,
            "kind": self.kind,
            "type": self.type,
            "value": as_json(self.value),
        }
        return row | ({"frame": self.frame} if self.frame is not None else {})


def rows(source: Source, items: Iterator[Item], at: Position) -> Iterator[Row]:
    """Return the rows of what a process recorded; `at` is where its items are being read."""
    node, process = source.node, source.process
    number = at.number or 0
    for item in items:
        if not isinstance(item, Step):
            actor = item.actor if isinstance(item, Checkpoint) else ""
            kind = type(item).__name__.lower()
            real_ns = at.epoch_ns + item.now_ns
            yield Row(real_ns, item.now_ns, node, process, actor, number, kind, item)
            continue
        number = item.number
        what = (item.real_ns, item.now_ns, node, process, item.actor, number)
        yield Row(*what, "recv" if isinstance(item.event, Received) else "input", item.event)
        sent = iter(item.sent)
        for effect in item.effects:
            if isinstance(effect, Send):
                yield Row(*what, "send", effect, next(sent, None))
            else:
                yield Row(*what, "timer" if isinstance(effect, Later) else "effect", effect)


def told(value: Any) -> str:
    """Return a value in short: fields that are as usual are left out."""
    text = _told(value)
    return text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}…"


def _told(value: Any) -> str:
    if isinstance(value, Address):
        return str(value)
    if isinstance(value, Received):
        by = f" by {value.network}" if value.network else ""
        number = f" #{value.sequence}" if value.sequence else ""
        return f"{value.source}{by}{number}: {_told(value.message)}"
    if isinstance(value, Send):
        by = f" by {value.network}" if value.network else ""
        return f"{value.to}{by}: {_told(value.message)}"
    if isinstance(value, msgspec.Struct):
        kind = type(value)
        usual = dict(
            zip(reversed(kind.__struct_fields__), reversed(kind.__struct_defaults__), strict=False)
        )
        parts = [
            f"{name}={_told(part)}"
            for name in kind.__struct_fields__
            if (part := getattr(value, name)) != usual.get(name, usual)
        ]
        return _grouped(kind.__name__, parts)
    if isinstance(value, bytes):
        return _bytes(value)
    if isinstance(value, Named):
        return _grouped(value[0], [f"{name}={_told(one)}" for name, one in value.named().items()])
    if isinstance(value, tuple | list):
        return f"[{', '.join(_told(one) for one in value)}]"
    return repr(value) if isinstance(value, str) else str(value)


def _grouped(name: str, parts: list[str]) -> str:
    return " ".join([name, *parts]) if len(parts) < 2 else f"{name}({', '.join(parts)})"


def _bytes(value: bytes) -> str:
    if len(value) == STAND_IN_BYTES and value.startswith(STAND_IN):
        length = int.from_bytes(value[4:12], "big")
        return f"<{length} bytes, xxh3 {value[12:].hex()}>"
    head = value[:8].hex()
    return f"<{len(value)} bytes{f' {head}…' if len(value) > 8 else f' {head}' if head else ''}>"


def as_json(value: Any, keep: bool = False) -> Any:
    """Return a value with the names of its fields, for JSON; `type` is its own name.

    Contents are told by their length and xxh3-64; the small tables of the protocol (`keep`) are
    hexadecimal digits.
    """
    kind: Any = type(value)
    if kind in _LEAVES:
        return value
    if kind is Address:
        return str(value)
    if isinstance(value, msgspec.Struct):
        keep = keep or kind in PROTOCOL_BYTES
        row = {} if kind.__struct_config__.tag is None else {"type": kind.__name__}
        for name in kind.__struct_fields__:
            part = getattr(value, name)
            row[name] = part if type(part) in _LEAVES else as_json(part, keep)
        return row
    if kind is bytes:
        return value.hex() if keep else _contents(value)
    if kind is tuple or kind is list:
        return [as_json(one, keep) for one in value]
    if kind is dict:
        return {str(key): as_json(one, keep) for key, one in value.items()}
    return _as_json(value)


def _as_json(value: Any) -> Any:
    """Return what is no event, effect, or part of one."""
    match value:
        case Named():
            named = {name: as_json(one) for name, one in value.named().items()}
            return {"type": value[0], **named}
        case Checkpoint():
            return {"core": value.kind, "birth": value.birth, "state": as_json(value.state)}
        case Note():
            return {"note": value.name, "values": as_json(value.values)}
        case Gap():
            return {"steps": value.steps}
        case Unreadable():
            return {"type": value.kind, "unreadable": True}
        case _:
            return str(value)


def _contents(value: bytes) -> dict[str, Any]:
    if len(value) == STAND_IN_BYTES and value.startswith(STAND_IN):
        size, digest = value[4:12], value[12:]
        return {"bytes": int.from_bytes(size, "big"), "xxh3": digest.hex()}
    return {"bytes": len(value), "xxh3": xxhash.xxh3_64_hexdigest(value)}
