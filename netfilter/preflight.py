"""What nodes of a farm tell one another by marked frames before clients depend on the network.

The frames have the sender's own MAC as source and the token of one check. Those to a virtual MAC
are packets to its address, because switches that listen to IGMP or MLD treat nothing else as they
treat the packets of clients; their protocol is for experiments (RFC 3692, 253), so every filter
of a farm drops them. The others have an ethertype for local experiments (IEEE 802, 0x88B5).
Here are the frames, what each node counts of them, and the records that nodes report.
"""

import struct
from enum import IntEnum
from typing import NamedTuple

import msgspec

from mirrorfarm.limits import CHECK_ROWS_MAX, CHECK_SIZE_MAX, FARM_NODES_MAX, VIRTUAL_ADDRESSES_MAX
from mirrorfarm.netfilter.neighbours import BROADCAST, IPAddress, checksum, mac_text

ETHERTYPE = 0x88B5
TOKEN_BYTES = 16
# Of each kind, one sender sends to each target so many: enough to tell loss from absence.
PROBES = 5
SIZE_PROBES = 2
COPIES_MAX = 1_000  # More of one frame is a loop, and need not be counted.

BUSY = "another check of a farm goes on"  # How a refusal begins that is no fault of the node.

PROTOCOL = 253
_IPV4, _IPV6 = 0x0800, 0x86DD
_ETHERNET_BYTES, _IPV4_BYTES, _IPV6_BYTES = 14, 20, 40
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


# What a packet socket passes to `parse`: no VLAN (that is another interface's; one of number 0 is
# a priority alone), then one of the ethertypes, with the protocol of the probes.
PROGRAM = (
    (0x20, 0, 0, 0xFFFF_F030),  # Whether there is a tag: without one the next may be an old one.
    (0x15, 3, 0, 0),
    (0x20, 0, 0, 0xFFFF_F02C),
    (0x54, 0, 0, 0xFFF),
    (0x15, 0, 8, 0),
    (0x28, 0, 0, 12),
    (0x15, 5, 0, ETHERTYPE),
    (0x15, 0, 1, _IPV4),
    (0x30, 0, 0, 23),
    (0x15, 2, 0, PROTOCOL),
    (0x30, 0, 0, 20),
    (0x15, 0, 1, PROTOCOL),
    (0x06, 0, 0, CHECK_SIZE_MAX + 64),
    (0x06, 0, 0, 0),
)


def build(
    probe: Probe,
    source: bytes,
    to: bytes = BROADCAST,
    ends: tuple[IPAddress, IPAddress] | None = None,
) -> bytes:
    """Return the frame between two MACs; with `ends` it is a packet between these addresses."""
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
    ethertype, head = ETHERTYPE, b""
    if ends is not None:
        assert not probe.size, "only frames to nodes are filled up"
        ethertype, head = _packet_head(len(body), *ends)
    start = to + source + struct.pack("!H", ethertype)
    return start + (head + body).ljust(max(_PAYLOAD_BYTES_MIN, probe.size), b"\0")


def _packet_head(length: int, source: IPAddress, to: IPAddress) -> tuple[int, bytes]:
    """Return ethertype and IP header; no router passes the packet on."""
    if to.version == 6:
        head = struct.pack("!IHBB", 6 << 28, length, PROTOCOL, 1)
        return _IPV6, head + source.packed + to.packed
    fields = (0x45, 0, _IPV4_BYTES + length, 0, 0x4000, 1, PROTOCOL)
    ends = source.packed + to.packed
    total = checksum(struct.pack("!BBHHHBBH", *fields, 0) + ends)
    return _IPV4, struct.pack("!BBHHHBBH", *fields, total) + ends


def _body_of(frame: bytes) -> bytes:
    """Return what follows the headers of a probe; empty for other frames."""
    ethertype, packet = int.from_bytes(frame[12:14], "big"), frame[_ETHERNET_BYTES:]
    if ethertype == ETHERTYPE:
        return packet
    if ethertype == _IPV4 and packet[:1] == b"\x45" and packet[9:10] == bytes((PROTOCOL,)):
        return packet[_IPV4_BYTES:]
    if ethertype == _IPV6 and packet[6:7] == bytes((PROTOCOL,)):
        return packet[_IPV6_BYTES:]
    return b""


def parse(frame: bytes, token: bytes) -> Probe | None:
    """Return the probe of this check in a frame; None for anything else, and for cut frames."""
    payload = _body_of(frame)
    if len(payload) < _body.size:
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
    sources: tuple[str, ...]  # The node's own address beside each of them; "": it has none.


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

    def shared(self, place: Place) -> dict[int, str]:
        """Return the virtual MACs of an interface, once for each version of IP, by an address."""
        found: dict[tuple[str, bool], int] = {}
        for number in place.addresses:
            if self.virtual_macs[number]:
                found.setdefault((self.virtual_macs[number], ":" in self.addresses[number]), number)
        return {number: mac for (mac, _), number in found.items()}

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
