"""What every format is: it takes one step after the other and writes as it goes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec
import xxhash

from mirrorfarm.trace.facts import Fact
from mirrorfarm.trace.merge import Merge, Placed
from mirrorfarm.trace.steps import Unreadable
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.trace_encoder import PROTOCOL_BYTES, STAND_IN, STAND_IN_BYTES

Write = Callable[[bytes], Any]


class Format(Protocol):
    """One format, being written."""

    def add(self, placed: Placed, facts: list[Fact]) -> None:
        """Take the next step; it may be written later."""
        ...

    def close(self) -> str:
        """Write the rest; return what a user should know about the output, or nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Subject:
    """What is exported."""

    merge: Merge
    run: str  # Its name: tells it from others in one data base.
    limit: int  # Of events, where the tool that reads them has one.


_LEAVES: Final = frozenset((str, int, bool, float, type(None)))
encode: Final = msgspec.json.Encoder().encode


def named(value: Any, keep: bool = False) -> Any:
    """Return an event, effect or message with the names of its fields; `type` is its own name.

    Contents are told by their length and xxh3-64; the small tables of the protocol, as `keep`
    says, are hexadecimal digits.
    """
    kind: Any = type(value)
    if kind in _LEAVES:
        return value
    if kind is Address:
        return f"{value.node}/{value.module}/{value.actor}"
    if isinstance(value, msgspec.Struct):
        keep = keep or kind in PROTOCOL_BYTES
        row = {} if kind.__struct_config__.tag is None else {"type": kind.__name__}
        for name in kind.__struct_fields__:
            part = getattr(value, name)
            row[name] = part if type(part) in _LEAVES else named(part, keep)
        return row
    if isinstance(value, list | tuple):
        return [named(one, keep) for one in value]
    if isinstance(value, bytes):
        return value.hex() if keep else _contents(value)
    if isinstance(value, dict):
        return {str(key): named(one, keep) for key, one in value.items()}
    if isinstance(value, Unreadable):
        return {"type": value.kind, "unreadable": True}
    return str(value)


def _contents(value: bytes) -> dict[str, Any]:
    if len(value) == STAND_IN_BYTES and value.startswith(STAND_IN):
        at = len(STAND_IN)
        size, digest = value[at : at + 8], value[at + 8 :]
        return {"bytes": int.from_bytes(size, "big"), "xxh3": digest.hex()}
    return {"bytes": len(value), "xxh3": xxhash.xxh3_64_hexdigest(value)}
