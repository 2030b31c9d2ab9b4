"""The tables of the filter in the kernel, as bytes: what `struct address` and so on hold."""

import struct
from functools import lru_cache

from mirrorfarm.limits import (
    BUCKETS,
    GROUPS_MAX,
    PEERS_MAX,
    RULES_PER_ADDRESS_MAX,
    VIRTUAL_ADDRESSES_MAX,
)
from mirrorfarm.netfilter.rules import Rules, State, rules_of

_DIRECTED = 1
_MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291, 2.5.5.2.

ADDRESS_BYTES = 16
PLACES = VIRTUAL_ADDRESSES_MAX + 1  # One is free: an address is replaced by writing it anew.
EVERY_PEER = PEERS_MAX - 1  # As whom to relay to: all of them, for one of them has it.
FREE = bytes(ADDRESS_BYTES)  # A place in the directory that is not used.

_head = struct.Struct("=QII")
_rule = struct.Struct("=BBBx2s2x")
_word = struct.Struct("=I")
_four = struct.Struct("4s")

# What the program counts, in the order of `enum verdict`.
DROPPED = ("fenced", "malformed", "refused", "foreign", "unknown")
ACCEPTED = ("everyone", "opened", "owned", "known", "cookie")
VERDICTS = (*DROPPED, *ACCEPTED, "relayed")


def address_key(address: bytes) -> bytes:
    """Return the key of a virtual address, given as 4 or 16 bytes."""
    assert len(address) in (4, 16), "an address has 4 or 16 bytes"
    return address if len(address) == 16 else _MAPPED + address


def directory_value(keys: list[bytes]) -> bytes:
    """Return the directory of virtual addresses: place i belongs to element i of `addresses`."""
    assert len(keys) <= PLACES, "the directory is full"
    rest = FREE * (PLACES - len(keys))
    return len(keys).to_bytes(8, "little") + b"".join(keys) + rest


def directory_keys(value: bytes) -> list[bytes]:
    """Return the keys in a directory."""
    places = (8 + i * ADDRESS_BYTES for i in range(int.from_bytes(value[:8], "little")))
    return [value[place : place + ADDRESS_BYTES] for place in places]


def address_value(address: bytes, rules: Rules, seed: int, *, directed: bool = False) -> bytes:
    """Return what the program knows of a virtual address.

    Raises ValueError if more rules apply to it than there is room for.
    """
    own = rules_of(address, rules)
    rows = [_rule.pack(r.protocol, r.filter, r.group, r.port.to_bytes(2, "big")) for r in own]
    rows += [bytes(_rule.size)] * (RULES_PER_ADDRESS_MAX - len(rows))
    return _head.pack(seed, _DIRECTED if directed else 0, len(own)) + b"".join(rows)


def bucket_index(group: int, bucket: int) -> int:
    """Return the place of a bucket in the arrays of the program."""
    assert 0 <= group < GROUPS_MAX, "there is no such group"
    assert 0 <= bucket < BUCKETS, "there is no such bucket"
    return group * BUCKETS + bucket


def bucket_key(group: int, bucket: int) -> bytes:
    """Return the key of a bucket."""
    return _word.pack(bucket_index(group, bucket))


def bucket_value(state: State, peer: int = 0) -> bytes:
    """Return the value of a bucket; `peer` is whom to relay to: 0 nobody, or EVERY_PEER."""
    assert 0 <= peer < PEERS_MAX, "there is no such peer"
    return _word.pack(state | peer << 8)


@lru_cache(maxsize=GROUPS_MAX)
def bucket_keys(group: int) -> tuple[bytes, ...]:
    """Return the keys of all buckets of a group, in order."""
    return tuple(bucket_key(group, bucket) for bucket in range(BUCKETS))


def bucket_values(states: bytes, peers: bytes) -> list[bytes]:
    """Return the values of all buckets of a group, as `bucket_value` does one."""
    assert len(states) == len(peers) == BUCKETS, "a group has one byte per bucket"
    raw = bytearray(4 * BUCKETS)
    raw[0::4], raw[1::4] = states, peers
    return [value for (value,) in _four.iter_unpack(raw)]


def peer_value(mac: bytes) -> bytes:
    """Return what the program knows of a peer; empty: there is none of this number."""
    assert len(mac) in (0, 6), "a hardware address has 6 bytes"
    return mac + b"\x01\0" if mac else bytes(8)


def relay_key(mac: bytes) -> bytes:
    """Return the key of a peer among those whose frames are not relayed again."""
    return mac + bytes(2)
