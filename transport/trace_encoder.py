"""Steps of cores as bytes: what changed since the last value of the same kind, and no more.

docs/protocols/trace.md is the format's description. Most records repeat what the one before of
the same actor, type and peer said, but for a number and a time. So each such row of values has
a *slot*: it is defined once in a frame, with its first value and the places where values of this
kind may differ; a record is then the slot's number and, place by place, what differs: between
two integers their difference, in a row the parts that changed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress
from operator import attrgetter, ne
from typing import Any, Final, NamedTuple, get_type_hints

import msgpack
import msgspec
import xxhash

from mirrorfarm.actors.effects import ApplyTable, Later, PlaneOrder, Send, Tell
from mirrorfarm.actors.events import Event, FarmPicture, HardwareIs, Received, SocketsCounted
from mirrorfarm.transport.messages import FarmBeat, Message, ViewAck, ViewCommit, ViewProposal

FORMAT: Final = 2

# What a row of values is, as its slot says.
INPUT: Final = 0  # An event; `passed` follows the slot's number in each record.
EFFECT: Final = 1
SEND: Final = 2  # An effect that is a message; the number of its frame comes behind its fields.
RECV: Final = 3  # An event that is a message; `passed` as with INPUT.
TIMER: Final = 4  # An effect that is a timer.
KINDS: Final = {"input": INPUT, "effect": EFFECT, "send": SEND, "recv": RECV, "timer": TIMER}
# Records that are not of a slot begin with one of these.
DEFINE: Final = -1
NOTE: Final = -10
CHECKPOINT: Final = -11
DIGEST: Final = -12
TOLD: Final = -1  # In the place of differences: the event in the present value of another slot.

FRAME_BYTES: Final = 262_144  # Before compression; the last step may go beyond.
RECORD_BYTES_MAX: Final = 262_144  # A bigger one becomes a note.
SLOTS_MAX: Final = 16_384  # In one frame.
DIGEST_RECORDS: Final = 1_000
# Bytes are contents of files, packages, pictures of state, unless they are the protocol's own
# small tables: the core of a farm decides by them.
PROTOCOL_BYTES: Final = frozenset(
    (
        *(FarmBeat, ViewProposal, ViewAck, ViewCommit, ApplyTable),
        *(SocketsCounted, FarmPicture, HardwareIs),
    )
)
# In the place of contents: their length and their xxh3-64, both big-endian, after this.
STAND_IN: Final = b"\0mft"
STAND_IN_BYTES: Final = len(STAND_IN) + 16

_BYTES: Final = (bytes, bytearray, memoryview)
_LEAVES: Final = frozenset((str, int, bool, float, type(None)))
_OPEN: Final = frozenset(("message", "event"))  # Fields whose class is part of a slot's key.


def stand_in(contents: bytes | bytearray | memoryview) -> bytes:
    """Return what is recorded in the place of contents; of a stand-in, itself."""
    if len(contents) == STAND_IN_BYTES and contents[: len(STAND_IN)] == STAND_IN:
        return bytes(contents)
    digest = xxhash.xxh3_64_intdigest(contents)
    return STAND_IN + len(contents).to_bytes(8, "big") + digest.to_bytes(8, "big")


def plain(value: Any, keep: bool = False) -> Any:
    """Return a value as numbers, words and rows; bytes as they are only with `keep`."""
    kind = type(value)
    if kind in _LEAVES:
        return value
    if kind in _BYTES:
        return bytes(value) if keep else stand_in(value)
    if isinstance(value, msgspec.Struct):
        keep = keep or kind in PROTOCOL_BYTES
        row = [plain(getattr(value, name), keep) for name in kind.__struct_fields__]
        tag = kind.__struct_config__.tag
        return row if tag is None else [tag, *row]
    if kind is tuple or kind is list:
        return [plain(one, keep) for one in value]
    if kind is dict:
        return {str(key): plain(one, keep) for key, one in value.items()}
    return f"<{kind.__name__}>"  # Its text might hold contents.


def changed(new: Any, old: Any, keep: bool = False) -> Any:
    """Return what makes `new` of `old`: a difference, the changed parts by index, or all of it."""
    kind = type(new)
    if kind is not type(old):
        return plain(new, keep)
    if kind is int:
        return new - old
    first = 0
    if isinstance(new, msgspec.Struct):
        keep = keep or kind in PROTOCOL_BYTES
        first = 0 if kind.__struct_config__.tag is None else 1
        new, old = msgspec.structs.astuple(new), msgspec.structs.astuple(old)
    if type(new) is not tuple or len(new) != len(old):
        return plain(new, keep)
    changes = {}
    for index in compress(range(len(new)), map(ne, new, old)):
        one, before = new[index], old[index]
        whole = type(one) is int and type(before) is int  # Most are.
        changes[str(first + index)] = one - before if whole else changed(one, before, keep)
    return changes


class _Leaf(NamedTuple):
    """A place in a value: the attributes that lead there, the indices in its plain form."""

    name: str
    path: tuple[int, ...]
    keep: bool


@lru_cache(maxsize=1_024)
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _leaves(value: Any, names: tuple[str, ...] = (), path: tuple[int, ...] = ()) -> Iterator[_Leaf]:
    """Return the places where two values of one slot may differ."""
    kind: Any = type(value)
    for index, name in enumerate(kind.__struct_fields__, 1):
        part = getattr(value, name)
        opens = not names and name in _OPEN
        if isinstance(part, Event | Message) and (opens or _hints(kind)[name] is type(part)):
            yield from _leaves(part, (*names, name), (*path, index))
        else:
            yield _Leaf(".".join((*names, name)), (*path, index), kind in PROTOCOL_BYTES)


def _getter(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    if not names:
        return lambda _: ()
    get = attrgetter(names[0])
    return lambda value: (get(value),)


@dataclass(slots=True)
class _Slot:
    number: int
    get: Callable[[Any], tuple[Any, ...]]
    keep: tuple[bool, ...]
    last: tuple[Any, ...]
    now: int  # Of the step of the last record.
    steps: list[int]  # By place: the last difference between two integers.
    told: Any = None  # Of a Tell or a Later: the event in it.
    given: Any = None  # The last value, if it was such an event: `last` is older.


class Encoder:
    """Makes the records of one frame after the other."""

    def __init__(self) -> None:
        self._slots: dict[Any, _Slot] = {}
        self._told: dict[int, _Slot] = {}  # By the identity of an event: which slot told it last.
        self._defined = 0
        self._packer = msgpack.Packer(unicode_errors="replace")
        self._now = 0
        self.records = 0  # Inputs and effects of this file.
        self.size = 0  # Bytes of this frame.
        self.unreadable = 0  # Values of it that could not be represented.
        self._digest = xxhash.xxh3_128()
        self._out: list[bytes] = []
        self._sealed = bytearray()  # Of them, what is in the digest.

    def file(self) -> None:
        """Begin a file."""
        self.records = 0
        self._digest = xxhash.xxh3_128()

    def frame(self, now: int, lamport: int) -> bytes:
        """Return the head of a new frame, whose first step has the number `lamport`."""
        self._slots.clear()
        self._told.clear()
        self._defined = self.size = 0
        self._now = now
        before = self._digest.digest()
        self._digest = xxhash.xxh3_128(before)
        return self._packer.pack(
            {"now": now, "lamport": lamport, "records": self.records, "digest": before}
        )

    @property
    def is_full(self) -> bool:
        """Whether the frame should end."""
        return self.size >= FRAME_BYTES or self._defined >= SLOTS_MAX // 2

    def taken(self) -> bytes:
        """Return what was made since the last call."""
        self._seal()
        data = bytes(self._sealed)
        self._sealed.clear()
        return data

    def step(
        self, actor: str, now: int, event: Any, effects: Sequence[Any], sent: Sequence[int | None]
    ) -> None:
        """Add one step; `sent`: the numbers of the frames of its messages, in their order."""
        passed, self._now = now - self._now, now
        self._put(actor, event, (passed,), ())
        count = 0
        for effect in effects:
            if type(effect) is Send:
                number = sent[count] if count < len(sent) else None
                count += 1
                self._put(actor, effect, (), (number,))
            else:
                self._put(actor, effect, (), ())
        before = self.records
        self.records += 1 + len(effects)
        if before // DIGEST_RECORDS != self.records // DIGEST_RECORDS:
            self._seal()
            self._add(self._packer.pack([DIGEST, self.records, self._digest.digest()]))
            self._seal()

    def note(self, name: str, *values: Any) -> None:
        """Add a note."""
        self._add(self._packer.pack([NOTE, name, *values]))

    def checkpoint(self, actor: str, kind: str, state: Any, birth: bool) -> None:
        """Add the whole state of a core, after the steps that were added before."""
        data = self._packed([CHECKPOINT, actor, kind, state, birth])
        if data:
            self._add(data)
        else:
            self.unreadable += 1
            self.note("unstated", actor, kind)

    def _add(self, data: bytes) -> None:
        self._out.append(data)
        self.size += len(data)

    def _seal(self) -> None:
        data = b"".join(self._out)
        self._out.clear()
        self._digest.update(data)
        self._sealed += data

    def _put(
        self, actor: str, value: Any, before: tuple[Any, ...], behind: tuple[Any, ...]
    ) -> None:
        """Add a record of one value."""
        kind = type(value)
        key: tuple[Any, ...] = (kind, actor)
        if kind is Received:
            key = (kind, actor, type(value.message), value.source.node, value.network)
        elif kind is Send:
            key = (kind, actor, type(value.message), value.to.node, value.network)
        elif kind is Tell or kind is Later:
            key = (kind, actor, type(value.event))
        slot = self._slots.get(key)
        if slot is None or kind is PlaneOrder:  # Its arguments are of any type.
            self._define(key, actor, value, before, behind)
        elif before and self._again(slot, value, before):
            pass
        elif data := self._packed(self._record(slot, value, before, behind)):
            self._out.append(data)
            self.size += len(data)
        else:
            self._define(key, actor, value, before, behind)
        if kind is Tell or kind is Later:
            self._remember(self._slots.get(key), value.event)

    def _record(
        self, slot: _Slot, value: Any, before: tuple[Any, ...], behind: tuple[Any, ...]
    ) -> list[Any]:
        """Return what differs from the last value of the slot, place by place."""
        if slot.given is not None:
            slot.last, slot.given = slot.get(slot.given), None
        new, last = slot.get(value) + behind, slot.last
        record = [slot.number, *before]
        places, since = len(new), self._now - slot.now
        # This is most of what a trace costs: the comparison stays out of the interpreter.
        for place in compress(range(places), map(ne, new, last)):
            change = changed(new[place], last[place], slot.keep[place])
            if type(change) is int and type(last[place]) is int:
                # A time is often as far from the step's as the last one was from its.
                if change != slot.steps[place] and abs(change - since) < abs(change):
                    record += (places + place, change - since)
                else:
                    record += (place, change)
                slot.steps[place] = change
            else:
                record += (place, change)
        slot.last, slot.now = new, self._now
        return record

    def _again(self, slot: _Slot, value: Any, before: tuple[Any, ...]) -> bool:
        """Add an event that an actor told another one, or itself, by where it was told."""
        teller = self._told.pop(id(value), None)
        if teller is None or teller.told is not value:
            return False
        slot.given, slot.now = value, self._now
        self._add(self._packer.pack([slot.number, *before, TOLD, teller.number]))
        return True

    def _remember(self, teller: _Slot | None, event: Any) -> None:
        """Note what is told: most likely its next record is that it was given to a core."""
        if teller is not None:
            self._told.pop(id(teller.told), None)
            teller.told = event
            self._told[id(event)] = teller

    def _define(
        self,
        key: Any,
        actor: str,
        value: Any,
        before: tuple[Any, ...],
        behind: tuple[Any, ...],
    ) -> None:
        """Give a slot to values like this one, and add the record."""
        first = plain(value)
        if not isinstance(value, msgspec.Struct) or self._defined >= SLOTS_MAX:
            self._refuse(actor, type(value).__name__, before)
            return
        leaves = list(_leaves(value))
        paths = [list(leaf.path) for leaf in leaves]
        if behind:
            paths.append([len(first)])
            first += behind
        kind = _kind_of(value, event=bool(before))
        data = self._packed([DEFINE, kind, actor, first, paths])
        if not data:
            self._slots.pop(key, None)
            self._refuse(actor, type(value).__name__, before)
            return
        number = self._defined
        self._defined += 1
        get = _getter([leaf.name for leaf in leaves])
        keep = (*(leaf.keep for leaf in leaves), False)
        steps = [0] * len(keep)
        self._slots[key] = _Slot(number, get, keep, get(value) + behind, self._now, steps)
        self._add(data)
        self._add(self._packer.pack([number, *before]))

    def _packed(self, record: list[Any]) -> bytes:
        """Return the bytes of a record; none: it cannot be represented."""
        try:
            data: bytes = self._packer.pack(record)
        except (ValueError, OverflowError, TypeError, RecursionError):
            self._packer.reset()
            return b""
        return data if len(data) <= RECORD_BYTES_MAX else b""

    def _refuse(self, actor: str, kind: str, passed: tuple[Any, ...]) -> None:
        """Put a note in the place of what cannot be represented."""
        self.unreadable += 1
        self.note("unreadable", actor, kind, *passed)


def _kind_of(value: Any, event: bool) -> int:
    if event:
        return RECV if type(value) is Received else INPUT
    return SEND if type(value) is Send else TIMER if type(value) is Later else EFFECT
