"""One name for all states that can only do the same.

Times count relative to now, and all that are longer ago than any deadline as one; running
numbers (heartbeats, requests, wishes, records) by their order; identities of generations by
where they occur first. Words for people do not count.
"""

import dataclasses
from collections import deque
from enum import Enum
from typing import Any

import msgspec
import xxhash

from mirrorfarm.actors.events import Received
from mirrorfarm.actors.heartbeat.core import _Hearing
from mirrorfarm.actors.module.mirror.state import Settings
from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.modules.settings import Module

# Longer ago than any deadline but that of an offer (30 s) and that of a question to a settled
# plane (2 s): at the former a session ends for a reason that it would end for anyway.
OLD_NS = 1_250 * MILLISECOND_NS
IDENTITY_CHARACTERS = 32

DURATIONS = frozenset(
    {"lease_ns", "stored_lease_ns", "new_lease_ns", "lease_left_ns", "silent_ns", "late_ns"}
)
WORDS = frozenset(
    {"facts", "reason", "would_change", "command", "answered", "pending", "out", "forced"}
    | {"changes", "progress", "announced", "rests", "resources", "run", "token", "side_run"}
    | {"opened"}
)
# Numbers of which only the order counts; those that two nodes compare are in one class.
RANKED = {
    "number": "number",
    "_number": "number",
    "request": "request",
    "reading": "request",
    "swapping": "request",
    "learnt": "request",
    "probes": "request",
    "counter": "counter",
    "stores": "counter",
    "generation": "generation",
    "_generation": "generation",
}
_VALUE, _TIME, _RANKED, _WHETHER = range(4)
PEER = {"n1": "n2", "n2": "n1"}


class Part:
    """The values of something that does not change any more, so that they are looked at once."""

    __slots__ = ("behind_ns", "flat", "names", "ranked", "times")

    def __init__(self, behind_ns: int = 0) -> None:
        self.behind_ns = behind_ns  # Of the clock that its moments are of.
        self.flat: list[Any] = []
        self.times: list[tuple[int, int]] = []  # Place in `flat`, and a moment.
        self.ranked: list[tuple[int, str, int]] = []  # Place, class, number.
        self.names: list[tuple[int, str]] = []  # Place, identity.

    def time(self, value: int) -> None:
        """Add a moment; 0: never."""
        if value:
            self.times.append((len(self.flat), value))
        self.flat.append(None)

    def rank(self, kind: str, value: int) -> None:
        """Add a number of which only the order counts."""
        self.ranked.append((len(self.flat), kind, value))
        self.flat.append(None)

    def add(self, value: Any, owner: str = "") -> None:
        """Add anything; `owner`: the node whose running numbers are in it."""
        kind = type(value)
        if value is None or kind in _PLAIN:
            self.flat.append(value)
        elif kind is str:
            if len(value) == IDENTITY_CHARACTERS:
                self.names.append((len(self.flat), value))
            self.flat.append(value)
        elif kind in _SEQUENCES:
            self.flat.append(len(value))
            for one in value:
                self.add(one, owner)
        elif kind is frozenset:
            self.flat.append(sorted(value))
        elif kind is dict:
            self.flat.append(len(value))
            for key, one in value.items():
                self.add(key, owner)
                self.add(one, owner)
        elif issubclass(kind, Enum):
            self.flat.append(value.value)
        else:
            self._add_fields(kind, value, owner)

    def _add_fields(self, kind: type, value: Any, owner: str) -> None:
        plan = _plans.get(kind)
        if plan is None:
            plan = _plans[kind] = _plan_of(kind)
        self.flat.append(kind.__name__)
        if kind is Received:
            owner = value.source.node
        elif hasattr(value, "asker"):
            owner = value.asker
        elif kind is _Hearing:
            owner = PEER[owner]  # What is heard are the peer's numbers.
        for name, how, word in plan:
            one = getattr(value, name)
            if how == _TIME:
                self.time(one)
            elif how == _WHETHER:
                self.flat.append(bool(one))
            elif how == _RANKED:
                self._add_ranked(word + owner, one)
            else:
                self.add(one, owner)

    def _add_ranked(self, kind: str, one: Any) -> None:
        if isinstance(one, dict):
            self.flat.append(len(one))
            for number, then in one.items():
                self.rank(kind, number)
                self.flat.append(then)
        elif isinstance(one, str):
            self.add(one)
        else:
            self.rank(kind, one)


_PLAIN = frozenset({int, bool, bytes})
_SEQUENCES = frozenset({tuple, list, deque})
_encode = msgspec.msgpack.Encoder().encode
_plans: dict[type, tuple[tuple[str, int, str], ...]] = {}


def _plan_of(kind: Any) -> tuple[tuple[str, int, str], ...]:
    """Return the fields of a type that count, and how."""
    if issubclass(kind, Settings | Module):
        return ()
    if issubclass(kind, msgspec.Struct):
        names = kind.__struct_fields__
    else:
        names = tuple(field.name for field in dataclasses.fields(kind))
    plan = []
    for name in names:
        if name in WORDS:
            continue
        if name.endswith("_ns") and name not in DURATIONS:
            plan.append((name, _TIME, ""))
        elif name == "lost":
            plan.append((name, _WHETHER, ""))
        else:
            word = RANKED.get(name, "")
            plan.append((name, _RANKED if word else _VALUE, word))
    return tuple(plan)


def digest(parts: list[Part], now: int) -> bytes:
    """Return the same bytes for all states that can only do the same."""
    flat: list[Any] = []
    names: dict[str, int] = {}
    classes: dict[str, list[tuple[int, int]]] = {}
    for part in parts:
        base = len(flat)
        flat += part.flat
        there = now - part.behind_ns
        for place, moment in part.times:
            flat[base + place] = max(moment - there, -OLD_NS)
        for place, name in part.names:
            flat[base + place] = names.setdefault(name, len(names))
        for place, kind, number in part.ranked:
            classes.setdefault(kind, []).append((base + place, number))
    for places in classes.values():
        ranks = {number: rank for rank, number in enumerate(sorted({n for _, n in places}))}
        for place, number in places:
            flat[place] = ranks[number]
    return xxhash.xxh3_128_digest(_encode(flat))
