"""The records of a frame as values: the other side of `mirrorfarm.transport.trace_encoder`.

A slot's rows, whose places change, are lists. What is in a place is a word, a number or a tuple:
it never changes but is replaced, so slots and typed values share it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgpack
import xxhash

from mirrorfarm.actors.effects import Later, Tell
from mirrorfarm.trace.named import Named, fields_of
from mirrorfarm.trace.registry import class_of, typed
from mirrorfarm.transport.trace_encoder import (
    CHECKPOINT,
    DEFINE,
    DIGEST,
    INPUT,
    NOTE,
    RECV,
    SLOTS_MAX,
    TOLD,
)
from mirrorfarm.transport.trace_ring import FRAME_BYTES_MAX

VALUES_MAX: Final = 65_536  # In one array of a record.
# In all values that a frame makes anew: a record of four bytes makes all those of its slot.
MADE_MAX: Final = 16_000_000
DEPTH_MAX: Final = 32  # Rows within rows.
# What a value that is none of a trace makes of those who take it for one.
MALFORMED: Final = (
    *(ValueError, TypeError, LookupError, AttributeError),
    *(RecursionError, ArithmeticError),
)


class FrameBroken(ValueError):
    """What a frame holds is not what a trace holds; the text says what."""


@dataclass(slots=True)
class Slot:
    """A row of values; `value` is the present one, as in the record that was read last."""

    kind: int
    actor: str
    value: list[Any]
    places: list[tuple[list[Any], int]]
    paths: list[list[int]]
    now: int  # Of the step of the last record.
    timed: bool
    type: Any  # The class of its values; None: this build knows none.
    nests: bool  # It has an event inside, whose class is not known beforehand.
    fields: list[str] | None  # Their names, of a type that this build does not know.
    size: int = 0  # At most so many values are in `value`.
    recount: int = 0  # At this size they are counted again.
    made: Any = None  # The typed value, if nothing has changed since.

    def measure(self) -> None:
        """Count the values: what they were replaced by was only added."""
        self.size = size_of(self.value, 2 * DEPTH_MAX)
        self.recount = 2 * self.size + 100

    def object(self) -> Any:
        """Return the present value, typed; as plain values if this build does not know it."""
        if self.made is None:
            value = self.value
            if self.nests:
                value = [*value[:2], _settled(value[2], class_of(value[2]))]
            self.made = self.named(_settled(value, self.type))
        return self.made

    def named(self, made: Any) -> Any:
        """Return a typed value with the names of its fields, if it is one of no known type."""
        return Named(made, self.fields) if type(made) is list and self.fields else made

    @property
    def sent(self) -> int | None:
        """Of a message that was sent: the number of its frame, if it is known."""
        number = self.value[-1]
        return number if type(number) is int else None


def _settled(value: Any, kind: Any) -> Any:
    """Return a value typed; one that cannot be is copied, for it must not change any more."""
    made = value if kind is None else typed(value, kind)
    return _thawed(made) if made is value else made


def _thawed(value: Any) -> Any:
    """Return plain values as they were written: all rows are lists, and new ones."""
    return [_thawed(one) for one in value] if type(value) in {list, tuple} else value


def _frozen(value: Any) -> Any:
    """Return a plain value whose rows are tuples."""
    return tuple([_frozen(one) for one in value]) if type(value) is list else value


def size_of(value: Any, depth: int = DEPTH_MAX) -> int:
    """Return how many values are in a plain one; raise FrameBroken if they are too deep within."""
    if type(value) is dict:
        value = value.values()
    elif type(value) not in {list, tuple}:
        return 1
    if not depth:
        raise FrameBroken(f"more than {DEPTH_MAX} rows within each other")
    return 1 + sum([size_of(one, depth - 1) for one in value])


def _whole(number: Any) -> int:
    """Return a number of a record; raise FrameBroken if it is no whole one."""
    if type(number) is not int:
        raise FrameBroken("a number of its records is no whole number")
    return number


def _word(name: Any) -> str:
    """Return a name in a record; raise FrameBroken if it is no text."""
    if type(name) is not str:
        raise FrameBroken("a name in its records is no text")
    return name


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a core, after the steps before it."""

    actor: str
    kind: str  # Name of the core's class.
    state: Any
    birth: bool  # It begins with this.
    now_ns: int = field(default=0, compare=False)  # That of the step before.


@dataclass(frozen=True, slots=True)
class Note:
    """Something else about the steps: lost, broke, unreadable."""

    name: str
    values: tuple[Any, ...]
    now_ns: int = field(default=0, compare=False)


Record = Slot | Checkpoint | Note


@dataclass(slots=True)
class Decoder:
    """Decodes one frame."""

    content: bytes
    types: Any = None  # What the header says of fields: see `mirrorfarm.trace.named`.
    now: int = 0
    lamport: int = 0
    records: int = 0
    verified: int = 0  # Digests that fitted.
    digest: bytes = b""
    rest: int = 0  # Bytes behind the last whole record.
    made: int = 0  # Values that were made anew.
    _slots: list[Slot] = field(default_factory=list)
    _unpacker: Any = None

    def open(self) -> bool:
        """Read the head; return False if it is cut off, raise FrameBroken if it is none."""
        self._unpacker = unpacker_of(self.content)
        try:
            head = next(self._unpacker, None)
            if head is None:
                return False
            self.now, self.lamport = _whole(head["now"]), _whole(head["lamport"]) - 1
            self.records, self.digest = _whole(head["records"]), head["digest"]
            if type(self.digest) is not bytes:
                raise FrameBroken("its digest is none")
        except MALFORMED as error:
            raise FrameBroken(f"it does not begin with the head of a frame: {error}") from error
        return True

    def read(self) -> Iterator[Record]:
        """Return the records; raise FrameBroken where the rest cannot be understood."""
        try:
            yield from self._records()
        except FrameBroken:
            raise
        except MALFORMED as error:
            raise FrameBroken(f"no record of a trace: {error or type(error).__name__}") from error

    def _records(self) -> Iterator[Record]:
        unpacker = self._unpacker
        begin = end = unpacker.tell()
        hasher = xxhash.xxh3_128(self.digest)
        for record in unpacker:
            head, end = record[0], unpacker.tell()
            if head >= 0:
                yield self._apply(self._slots[head], record)
            elif head == DEFINE:
                self._define(record)
            elif head == CHECKPOINT:
                _, actor, kind, state, birth = record
                size_of(state)
                yield Checkpoint(_word(actor), _word(kind), state, bool(birth), self.now)
            elif head == DIGEST:
                mark = end - len(msgpack.packb(record))
                hasher.update(self.content[begin:mark])
                if hasher.digest() != record[2] or self.records != record[1]:
                    raise FrameBroken("its records are not those that were written")
                hasher.update(self.content[mark:end])
                begin = end
                self.verified += 1
            elif head == NOTE:
                self._noted(record)
                yield Note(_word(record[1]), tuple(record[2:]), self.now)
        self.rest = len(self.content) - end

    def _define(self, record: list[Any]) -> None:
        _, kind, actor, value, paths = record
        if len(self._slots) >= SLOTS_MAX:
            raise FrameBroken("too many slots")
        if type(value) is not list or type(value[0]) is not str or type(actor) is not str:
            raise FrameBroken("a slot is not that of an actor's values")
        size_of(value)
        places = []
        for path in paths:
            if path == [0]:
                raise FrameBroken("a slot whose type would change")
            if min(path) < 0:
                raise FrameBroken("a slot names a place from its end")
            place = value
            for index in path[:-1]:
                place = place[index]
            if type(place) is not list or not 0 <= path[-1] < len(place):
                raise FrameBroken("a slot names a place that it does not have")
            places.append((place, path[-1]))
        if len({(id(row), index) for row, index in places}) < len(places):
            raise FrameBroken("a slot names a place twice")
        for row, index in places:
            row[index] = _frozen(row[index])
        known = class_of(value)
        timed = kind in {INPUT, RECV}
        nests, fields = known is Tell or known is Later, fields_of(value[0], self.types)
        slot = Slot(kind, actor, value, places, paths, self.now, timed, known, nests, fields)
        slot.measure()
        self._count(slot.size)
        self._slots.append(slot)

    def _apply(self, slot: Slot, record: list[Any]) -> Slot:
        at = 1
        if slot.timed:
            self.now += _whole(record[1])
            self.lamport += 1
            at = 2
        if len(record) > at:
            slot.made = None
            self._count(slot.size)
            if record[at] == TOLD:
                teller = self._slots[record[at + 1]]
                self._count(max(0, teller.size - slot.size))
                _give(slot, teller)
            else:
                self._change(slot, record, at)
        slot.now = self.now
        self.records += 1
        return slot

    def _count(self, size: int) -> None:
        """Raise FrameBroken if the frame makes values without end."""
        self.made += size
        if self.made > MADE_MAX:
            raise FrameBroken(f"its records make more than {MADE_MAX:,} values")

    def _change(self, slot: Slot, record: list[Any], at: int) -> None:
        places, count, since = slot.places, len(slot.places), self.now - slot.now
        before = -1
        for index in range(at, len(record), 2):
            number, new = record[index], record[index + 1]
            which = number if number < count else number - count
            if which <= before:  # Each is made anew once, as was counted.
                raise FrameBroken("its places do not follow one another")
            before = which
            row, place = places[which]
            if type(new) is int and type(row[place]) is int:
                row[place] += new if number < count else new + since
            elif type(new) is dict:
                slot.size += size_of(new)
                row[place] = _changed(row[place], new)
            elif type(new) is list:
                slot.size += size_of(new)
                row[place] = _frozen(new)
            else:
                row[place] = new
        if slot.size > slot.recount:
            slot.measure()

    def _noted(self, record: list[Any]) -> None:
        """What is missing counts as if it were there."""
        size_of(record)
        if record[1] == "lost":
            self.lamport += _whole(record[2])
        elif record[1] == "unreadable":
            self.records += 1
            _, _, actor, kind, *passed = record
            _word(actor), _word(kind)
            if passed:
                self.now += _whole(passed[0])
                self.lamport += 1


def _give(slot: Slot, teller: Slot) -> None:
    """Take over the event that is in the present value of another slot."""
    if not teller.nests:
        raise FrameBroken("an event that nobody told")
    event = teller.value[2]
    for path, (row, place) in zip(slot.paths, slot.places, strict=True):
        part = event
        for index in path:
            part = part[index]
        row[place] = _frozen(part)
    slot.size = max(slot.size, teller.size)
    made = teller.object()
    slot.made = slot.named(made.event) if isinstance(made, Tell | Later) else None


def _changed(row: Any, changes: dict[str, Any]) -> tuple[Any, ...]:
    """Return a row with some parts changed."""
    if type(row) is not tuple:
        raise FrameBroken("a change of parts, in what has none")
    parts = list(row)
    for key, new in changes.items():
        place = int(key)
        if str(place) != key or place < 0:  # Another spelling of a part would make it again.
            raise FrameBroken("a part is not named by its number")
        if type(new) is int and type(parts[place]) is int:
            parts[place] += new
        elif type(new) is dict:
            parts[place] = _changed(parts[place], new)
        else:
            parts[place] = _frozen(new)
    return tuple(parts)


def unpacker_of(content: bytes) -> Any:
    """Return an iterator over the values of a frame, with every length bounded."""
    unpacker = msgpack.Unpacker(
        max_buffer_size=FRAME_BYTES_MAX + 1,
        max_str_len=FRAME_BYTES_MAX,
        max_bin_len=FRAME_BYTES_MAX,
        max_array_len=VALUES_MAX,
        max_map_len=VALUES_MAX,
        max_ext_len=0,
        strict_map_key=True,
    )
    unpacker.feed(content)
    return unpacker
