"""What nodes of a farm tell one another by marked frames before clients depend on the network.

The frames have an ethertype for local experiments (IEEE 802, 0x88B5), the sender's own MAC as
source and the token of one check: nobody else reads them, and no other check's are counted.
Here are the frames, what each node counts of them, and the records that nodes report.
"""

import struct
from enum import IntEnum
from typing import NamedTuple

import msgspec

from mirrorfarm.limits import CHECK_ROWS_MAX, CHECK_SIZE_MAX, FARM_NODES_MAX, VIRTUAL_ADDRESSES_MAX
from mirrorfarm.netfilter.neighbours import BROADCAST, mac_text

ETHERTYPE = 0x88B5
TOKEN_BYTES = 16
# Of each kind, one sender sends to each target so many: enough to tell loss from absence.
PROBES = 5
SIZE_PROBES = 2
COPIES_MAX = 1_000  # More of one frame is a loop, and need not be counted.

BUSY = "another check of a farm goes on"  # How a refusal begins that is no fault of the node.

_ETHERNET_BYTES = 14
_PAYLOAD_BYTES_MIN = 46  # Shorter frames are padded by some drivers, and by others refused.
_MAGIC = b"mirrorfarm"
_body = struct.Struct(f"!10sB{TOKEN_BYTES}sBBBHH")


class Kind(IntEnum):
    """What a frame is to find out; its receiver needs no more."""

    VIRTUAL = 1  # To a virtual MAC: does it reach every node?
    BROADCAST = 2
    OWN = 3  # To the MAC of a node.
    SIZE = 4  # The same, filled up to a size.
    ASK = 5  # The same; is answered.
    ANSWER = 6
    WIDE_VIRTUAL = 7  # As VIRTUAL and OWN, while every node receives whatever there is.
    WIDE_OWN = 8


class Probe(NamedTuple):
    """One frame. `segment` and `target` are places of addresses and nodes in the module."""

    token: bytes
    kind: Kind
    sender: int  # Node.
    segment: int  # Address whose interface the sender used.
    target: int  # VIRTUAL: address; BROADCAST: 0; else node.
    number: int
    size: int = 0  # Bytes after the Ethernet header; 0: as few as possible.


def build(probe: Probe, source: bytes, to: bytes = BROADCAST) -> bytes:
    """Return the frame; `source` and `to` are MACs."""
    assert not source[0] & 1, "a group MAC is nobody's own"
    body = _body.pack(
        _MAGIC,
        probe.kind,
        probe.token,
        probe.sender,
        probe.segment,
        probe.target,
        probe.number,
        probe.size,
    )
    head = to + source + struct.pack("!H", ETHERTYPE)
    return head + body.ljust(max(_PAYLOAD_BYTES_MIN, probe.size), b"\0")


def parse(frame: bytes, token: bytes) -> Probe | None:
    """Return the probe of this check in a frame; None for anything else, and for cut frames."""
    payload = frame[_ETHERNET_BYTES:]
    if len(payload) < _body.size or frame[12:14] != ETHERTYPE.to_bytes(2, "big"):
        return None
    magic, kind, marked, sender, segment, target, number, size = _body.unpack_from(payload)
    if magic != _MAGIC or marked != token or kind not in tuple(Kind) or len(payload) < size:
        return None
    if sender >= FARM_NODES_MAX or target >= FARM_NODES_MAX or segment >= VIRTUAL_ADDRESSES_MAX:
        return None
    if number >= PROBES or size > CHECK_SIZE_MAX:
        return None
    return Probe(token, Kind(kind), sender, segment, target, number, size)


# --- what nodes report ---------------------------------------------------------------------


class Record(msgspec.Struct, frozen=True):
    """Base of the records below; they travel as JSON."""


class Place(Record, frozen=True):
    """An interface of a node, with the virtual addresses (by their places) that belong to it."""

    interface: str
    mac: str
    mtu: int
    up: bool  # Switched on, with a carrier.
    addresses: tuple[int, ...]


class Facts(Record, frozen=True):
    """What a node knows without the network."""

    node: str
    nodes: tuple[str, ...]  # Of the module, in its order: probes count them so.
    addresses: tuple[str, ...]
    delivery: str
    virtual_macs: tuple[str, ...]  # Of each address; "": nodes use their own.
    rules: str  # Digest of all that nodes must have equal.
    pulse_ns: int
    silent_ns: int
    places: tuple[Place, ...] = ()
    faults: tuple[str, ...] = ()  # Addresses that belong to no interface, and why.
    filter: str = ""  # bpf nft nfqueue; "": none works, `filter_why` tells.
    filter_why: str = ""
    parameters: dict[str, str] = {}  # Of the kernel, such as net/ipv4/conf/all/rp_filter.
    way_out: str = ""  # Interface of the default route; "": there is none.

    def place(self, address: int) -> Place | None:
        """Return the interface to which an address belongs."""
        return next((place for place in self.places if address in place.addresses), None)


class Seen(Record, frozen=True):
    """Frames of one sender and kind that arrived; `copies` counts each arrival."""

    interface: str
    sender: int
    segment: int
    kind: int
    target: int
    size: int
    frames: int
    copies: int


class Trip(Record, frozen=True):
    """Round trips to a node by frames; none of `times_ns`: no answer."""

    segment: int
    target: int
    times_ns: tuple[int, ...]


class Ping(Record, frozen=True):
    """A round trip to a node on a network of the heartbeats; -1: no answer."""

    network: str
    target: int
    time_ns: int


class Claimed(Record, frozen=True):
    """Somebody said that it has an address (by its place): `mac` in words, `source` in fact."""

    interface: str
    address: int
    mac: str
    source: str


class Learned(Record, frozen=True):
    """What became of a neighbour entry that was made to be changed by an announcement."""

    address: int
    mac: str  # Afterwards; "": the entry is gone.


class Report(Record, frozen=True):
    """What a node has received and found since its check began."""

    seen: tuple[Seen, ...] = ()
    trips: tuple[Trip, ...] = ()
    pings: tuple[Ping, ...] = ()
    claims: tuple[Claimed, ...] = ()  # Answers to questions.
    told: tuple[Claimed, ...] = ()  # Announcements.
    learned: tuple[Learned, ...] = ()
    faults: tuple[str, ...] = ()  # What could not be sent or read.


class Tally:
    """Frames counted, in bounded memory."""

    def __init__(self) -> None:
        # (interface, sender, segment, kind, target, size) -> copies by number.
        self._rows: dict[tuple[str, int, int, int, int, int], dict[int, int]] = {}

    def add(self, interface: str, probe: Probe) -> None:
        """Count a frame that arrived on an interface."""
        p = probe
        key = (interface, p.sender, p.segment, int(p.kind), p.target, p.size)
        if key not in self._rows and len(self._rows) >= CHECK_ROWS_MAX:
            return
        copies = self._rows.setdefault(key, {})
        copies[p.number] = min(copies.get(p.number, 0) + 1, COPIES_MAX)

    def rows(self) -> tuple[Seen, ...]:
        """Return what was counted, in a fixed order."""
        return tuple(
            Seen(*key, frames=len(copies), copies=sum(copies.values()))
            for key, copies in sorted(self._rows.items())
        )


def is_host_mac(text: str) -> bool:
    """Tell whether this is a MAC as `mac_text` writes it, and may be one node's own."""
    try:
        mac = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        return False
    return len(mac) == 6 and mac_text(mac) == text and any(mac) and not mac[0] & 1
