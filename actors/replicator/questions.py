"""What the source of a copy asks the target, in the stream, and what the target answers.

Questions are numbered by the asker and answered at their place in the stream, so an answer
tells how the target is after all that was sent before, and before all that was sent after.
"""

from typing import Annotated

import msgspec

from mirrorfarm.actors.replicator.operations import Index, Name, Node, Offset
from mirrorfarm.errors import FrameInvalid

ENTRIES_MAX = 20_000  # Of one Listing.
ZONES_MAX = 4_096  # Of one Hashes: 256 MiB.
ITEMS_MAX = 1_024

Number = Annotated[int, msgspec.Meta(ge=1, le=2**62)]


class Question(msgspec.Struct, frozen=True, array_like=True):
    """Base of all questions."""

    number: Number


class List(Question, frozen=True, tag=1):
    """Tell what is in a directory, by name, behind `after`."""

    directory: Index
    node: Node
    after: bytes = b""


class HashItem(msgspec.Struct, frozen=True, array_like=True):
    """Some zones of a file."""

    node: Node
    first: Offset
    count: Annotated[int, msgspec.Meta(ge=0, le=ZONES_MAX)]


class Hashes(Question, frozen=True, tag=2):
    """Tell the xxh3_128 digests of these zones; a zone without bytes has an empty one."""

    directory: Index
    items: Annotated[list[HashItem], msgspec.Meta(max_length=ITEMS_MAX)]


class Attributes(Question, frozen=True, tag=3):
    """Tell the names of the extended attributes of an inode."""

    directory: Index
    node: Node


class Flush(Question, frozen=True, tag=4):
    """Make everything before this durable."""


class End(Question, frozen=True, tag=5):
    """That was the copy: make everything durable, and tell your mirror."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One name in a directory, and its inode. `extra`: digest of xattrs and a link's target."""

    name: Name
    inode: int  # Of the side that says so.
    mode: int
    uid: int
    gid: int
    links: int
    size: int
    mtime_ns: int
    rdev: int
    extra: bytes
    known: int = 0  # Target: as which node of the source's it was introduced at this name.
    elsewhere: int = 0  # Target: as which one it was introduced at any other of its names.


class Listing(msgspec.Struct, frozen=True, array_like=True):
    """Answer to List; `this` is the directory itself; `more`: ask again behind the last."""

    this: Entry
    entries: list[Entry]
    more: bool


class Digests(msgspec.Struct, frozen=True, array_like=True):
    """Answer to Hashes: a list of digests for each item."""

    items: list[list[bytes]]


class Names(msgspec.Struct, frozen=True, array_like=True):
    """Answer to Attributes."""

    names: list[bytes]


ANY_QUESTION = List | Hashes | Attributes | Flush | End

_decoder = msgspec.msgpack.Decoder(ANY_QUESTION)


def decode(record: bytes) -> ANY_QUESTION:
    """Question in `record`; FrameInvalid if anything is off."""
    try:
        question: ANY_QUESTION = _decoder.decode(record)
    except (msgspec.DecodeError, RecursionError) as fault:
        raise FrameInvalid(f"question: {fault}") from None
    if isinstance(question, Hashes) and sum(item.count for item in question.items) > ZONES_MAX:
        raise FrameInvalid("too many zones in one question")
    return question
