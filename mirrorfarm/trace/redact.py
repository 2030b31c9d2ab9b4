"""Take names out of events and effects: what remains are numbers and the words of the protocol.

A word stays if it is a constant of the cores' own sources: `PRIM`, `durable`, `ok`. Every other
text (names of nodes and modules, addresses, paths, log lines) is replaced.
"""

import sys
from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from types import CodeType, FunctionType
from typing import Any, Final

import msgspec

from mirrorfarm.actors.effects import ApplyTable, Later, PlaneOrder, Tell
from mirrorfarm.actors.events import HardwareIs
from mirrorfarm.trace.named import Named
from mirrorfarm.trace.registry import CORES
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import FarmBeat
from mirrorfarm.transport.trace_encoder import STAND_IN, plain

KEY_BYTES: Final = 16
WORD_MAX: Final = 32
_OWN: Final = ("mirrorfarm.actors.", "mirrorfarm.transport.messages", "mirrorfarm.modules.settings")


def vocabulary() -> frozenset[str]:
    """Return every word that is a constant in the sources of the cores and their messages."""
    assert CORES, "they are imported"
    words = {
        word
        for name, module in list(sys.modules.items())
        if name.startswith(_OWN) and module is not None
        for one in vars(module).values()
        for word in _constants(one, name)
    }
    return frozenset(word for word in words if len(word) <= WORD_MAX and "\n" not in word)


def _constants(value: Any, module: str) -> Iterator[str]:
    if isinstance(value, FunctionType):
        yield from _of_code(value.__code__)
    elif isinstance(value, type) and value.__module__ == module:
        for one in vars(value).values():
            inner = getattr(one, "__func__", getattr(one, "fget", one))
            yield from _constants(inner, module) if not isinstance(inner, type) else ()
        for default in getattr(value, "__struct_defaults__", ()):
            yield from _constants(default, module)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, tuple | frozenset | set | list):
        for one in value:
            yield from _constants(one, module)
    elif isinstance(value, dict):
        yield from _constants(list(value.items()), module)


def _of_code(code: CodeType) -> Iterator[str]:
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from _of_code(one)
        elif isinstance(one, str):
            yield one
        elif isinstance(one, tuple | frozenset):
            yield from (word for word in one if isinstance(word, str))


@lru_cache(maxsize=1_024)
def _kind(name: str, fields: tuple[str, ...]) -> type[msgspec.Struct]:
    """Return a class for values of a type that this build does not know: only those are written."""
    return msgspec.defstruct(name, [*fields], array_like=True, tag=name)


class Redactor:
    """Replaces texts: with `hash` by a keyed hash, so that what was equal stays so."""

    def __init__(self, mode: str, key: bytes, words: frozenset[str]) -> None:
        assert mode in {"hash", "drop"}, mode
        assert len(key) == KEY_BYTES, "a key of 128 bits"
        self._hashes = mode == "hash"
        self._key = key
        self._words = words

    def text(self, text: str) -> str:
        """Return what stands for a text."""
        if text in self._words or not text:
            return text
        if not self._hashes:
            return ""
        data = text.encode("utf-8", "replace")
        return f"x{blake2b(data, digest_size=6, key=self._key).hexdigest()}"

    def contents(self, data: bytes) -> bytes:
        """Return what stands for bytes: the tables of a farm stay, digests of contents do not."""
        if data[: len(STAND_IN)] != STAND_IN:
            return data
        known = self._hashes and blake2b(data, digest_size=8, key=self._key).digest()
        return data[:-8] + (known or bytes(8))

    def item(self, value: Any) -> Any:
        """Return an event or effect without names, of the same type."""
        if isinstance(value, Named) and len(value) == 1 + len(value.fields):
            fields = tuple(value.fields)
            if len(set(fields)) < len(fields):  # The header of the trace is damaged or forged.
                fields = tuple(f"field{number}" for number in range(len(fields)))
            return _kind(value[0], fields)(*(self.value(one) for one in value[1:]))
        if isinstance(value, list):  # Of a type that this build does not know.
            return [*value[:1], *(self.value(one) for one in value[1:])]
        return self.value(value)

    def value(self, value: Any) -> Any:
        """Return any part of one without names."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bytes):
            return self.contents(value)
        if isinstance(value, Address):  # As a destination it may name several nodes.
            nodes = " ".join(self.text(node) for node in value.nodes)
            return Address(nodes, self.text(value.module), self.text(value.actor))
        if isinstance(value, Tell | Later):
            first, event = msgspec.structs.astuple(value)
            return type(value)(self.value(first), self.item(event))
        if isinstance(value, PlaneOrder):  # Bytes in it may not be stand-ins yet.
            return PlaneOrder(self.text(value.verb), tuple(self.value(plain(value.arguments))))
        if isinstance(value, msgspec.Struct):
            fields = type(value).__struct_fields__
            parts = [self.value(getattr(value, name)) for name in fields]
            if isinstance(value, FarmBeat | HardwareIs):
                parts[fields.index("mac")] = b""
            if isinstance(value, ApplyTable):
                parts[fields.index("peers")] = (b"",) * len(value.peers)
            return type(value)(*parts)
        if isinstance(value, tuple | list):
            return type(value)(self.value(one) for one in value)
        if isinstance(value, dict):
            return {self.text(key): self.value(one) for key, one in value.items()}
        return value
