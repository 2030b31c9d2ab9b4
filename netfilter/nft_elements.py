"""A change of buckets as one transaction of nfnetlink: elements that leave and join the sets.

The same could be said to libnftables in words and would take four times as long, most of it for
writing and reading them. Layouts are those of linux/netfilter/nf_tables.h.
"""

import struct
from functools import cache
from itertools import compress
from typing import NamedTuple

from mirrorfarm.limits import BUCKETS
from mirrorfarm.netfilter.filter import NO_BUCKETS, BucketTable
from mirrorfarm.netfilter.nft_rules import BUCKET_SETS, table_name

ADD, DELETE = 12, 14  # NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM
INET = 1  # NFPROTO_INET
_TABLE, _SET, _ELEMENTS = 1, 2, 3  # NFTA_SET_ELEM_LIST_*
_ELEMENT, _KEY, _VALUE = 1, 1, 1  # NFTA_LIST_ELEM, NFTA_SET_ELEM_KEY, NFTA_DATA_VALUE
_NESTED = 1 << 15

_head = struct.Struct("=HH")
_mark = struct.Struct("=I")  # `type mark` has the byte order of the machine.
# In which states a bucket is an element of a set, to be looked up by the state.
_members = {
    name: bytes(number in states for number in range(256)) for name, states in BUCKET_SETS.items()
}


class Message(NamedTuple):
    """One message of a transaction."""

    kind: int
    family: int
    attributes: bytes
    meaning: str  # What it asks for, in words.


def changes(
    module: str, groups: int, before: BucketTable | None, after: BucketTable
) -> list[Message]:
    """Return the messages, one transaction, that lead from one table of buckets to another.

    `groups`: how many the module has. `before`: None if it is not known what their sets hold;
    they are emptied first.
    """
    found = []
    for group in range(groups):
        for name, members in _members.items():
            of = f"{name}_{group}"
            if before is None:
                found.append(_message(DELETE, module, of, b""))
            old = (before or NO_BUCKETS).group(group).translate(members)
            new = after.group(group).translate(members)
            for kind, elements in ((DELETE, _only(old, new)), (ADD, _only(new, old))):
                if elements:
                    found.append(_message(kind, module, of, elements))
    return found


def _only(these: bytes, those: bytes) -> bytes:
    """Return the elements of the buckets that are 1 in `these` and 0 in `those`."""
    if these == those:
        return b""
    wanted = int.from_bytes(these) & ~int.from_bytes(those)
    return b"".join(compress(_elements(), wanted.to_bytes(BUCKETS)))


@cache
def _elements() -> tuple[bytes, ...]:
    """Return the element of each bucket."""
    return tuple(
        _nested(_ELEMENT, _nested(_KEY, _attribute(_VALUE, _mark.pack(bucket))))
        for bucket in range(BUCKETS)
    )


def _message(kind: int, module: str, name: str, elements: bytes) -> Message:
    """Return a message about elements of a set; one that deletes none deletes all."""
    attributes = _text(_TABLE, table_name(module)) + _text(_SET, name)
    if elements:
        attributes += _nested(_ELEMENTS, elements)
    verb = "add buckets to" if kind == ADD else "delete buckets from"
    return Message(kind, INET, attributes, f"{verb} {name} of table inet {table_name(module)}")


def _nested(kind: int, value: bytes) -> bytes:
    return _attribute(kind | _NESTED, value)


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _attribute(kind: int, value: bytes) -> bytes:
    """Return an attribute, filled up to whole words."""
    return _head.pack(_head.size + len(value), kind) + value + bytes(-len(value) % 4)
