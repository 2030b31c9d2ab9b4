"""The header fields by which a packet finds its node, read at fixed offsets; never raises.

`farm.bpf.c` reads the same fields by the same bounds, so that both filters place every packet
alike; tests/live/test_bpf.py compares them. Nothing is verified that the kernel verifies later
(checksums, options): a packet it would drop may be accepted here, by one node.

Formats: RFC 791 (IPv4), 8200 (IPv6), 4302 (AH), 9293 (TCP), 768 (UDP), 792 and 4443 (ICMP),
826 (ARP), 4861 (neighbours).
"""

from enum import IntEnum
from typing import NamedTuple

from mirrorfarm.limits import EXTENSION_HEADERS_MAX, PACKET_HEAD_BYTES_MAX

ICMP = 1
TCP = 6
UDP = 17
ICMPV6 = 58
ARP = 0x0806  # No IP protocol has this number.

ETHERNET_BYTES = 14

_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION = 0, 43, 44, 51, 60
_EXTENSIONS = frozenset((_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION))
# Destination unreachable, time exceeded, parameter problem; of IPv6 also packet too big.
_ERRORS = frozenset((3, 11, 12))
_ERRORS_V6 = frozenset((1, 2, 3, 4))
_ECHO, _ECHO_V6 = 8, 128
_NEIGHBOUR_TYPES = range(133, 138)  # Router and neighbour discovery.
_SYN, _ACK = 0x02, 0x10


class Kind(IntEnum):
    """What a packet is, as far as its placement goes."""

    MALFORMED = 0  # Truncated or absurd; its addresses are known if they could be read.
    OTHER = 1  # Well formed, but no traffic that is balanced.
    SYN = 2  # Opens a TCP connection.
    STREAM = 3  # Any other TCP segment.
    UDP = 4
    ECHO = 5  # A ping, asking.
    ICMP_ERROR = 6
    FRAGMENT = 7  # First or later; ports are not looked at: only the first has them.
    NEIGHBOUR = 8  # Neighbour discovery of IPv6.
    ARP = 9  # Source and destination are the addresses in its body.


class Packet(NamedTuple):
    """What counts of one packet. Addresses are 4 or 16 bytes, empty if they were not read."""

    kind: Kind
    version: int = 0  # 4, 6, or 0 if it is neither.
    source: bytes = b""
    destination: bytes = b""
    protocol: int = 0  # After the extension headers; or ARP.
    source_port: int = 0  # Of TCP and UDP, unless it is a fragment.
    destination_port: int = 0
    identification: int = 0  # IPv4 only.
    embedded: bytes = b""  # The packet that an ICMP error is about, as far as it is there.

    @property
    def is_icmp(self) -> bool:
        """Whether it is ICMP of its own version; true of a fragment too."""
        return self.protocol == (ICMP if self.version == 4 else ICMPV6)


_NOTHING = Packet(Kind.MALFORMED)


def parse(data: bytes, offset: int = 0) -> Packet:
    """Read an IP packet that begins at `offset`; what lies beyond 256 bytes is not looked at."""
    head = data[offset : offset + PACKET_HEAD_BYTES_MAX]
    version = head[0] >> 4 if head else 0
    if version == 4 and len(head) >= 20:
        return _parse_ipv4(head)
    if version == 6 and len(head) >= 40:
        return _parse_ipv6(head)
    return _NOTHING


def parse_frame(frame: bytes) -> Packet:
    """Read an Ethernet frame: IPv4, IPv6 or ARP; anything else, VLAN tags too, is OTHER."""
    if len(frame) < ETHERNET_BYTES:
        return _NOTHING
    ethertype = int.from_bytes(frame[12:14], "big")
    if ethertype == ARP:
        return parse_arp(frame, ETHERNET_BYTES)
    version = {0x0800: 4, 0x86DD: 6}.get(ethertype)
    if version is None:
        return Packet(Kind.OTHER)
    packet = parse(frame, ETHERNET_BYTES)
    return packet if packet.version == version else _NOTHING


def parse_arp(data: bytes, offset: int = 0) -> Packet:
    """Read an ARP question; replies and announcements are OTHER."""
    body = data[offset : offset + 28]
    if len(body) < 28 or body[:6] != b"\0\x01\x08\0\x06\x04":
        return _NOTHING
    source, destination = body[14:18], body[24:28]
    asks = body[6:8] == b"\0\x01" and source != destination
    return Packet(Kind.ARP if asks else Kind.OTHER, 4, source, destination, ARP)


def _parse_ipv4(head: bytes) -> Packet:
    begin = (head[0] & 15) * 4
    total = head[2] << 8 | head[3]
    identification = head[4] << 8 | head[5]
    base = Packet(Kind.MALFORMED, 4, head[12:16], head[16:20], head[9], 0, 0, identification)
    end = _end(head, total)
    if begin < 20 or begin > end:
        return base
    if (head[6] & 0x3F) or head[7]:  # More fragments, or an offset; the other bits are flags.
        return base._replace(kind=Kind.FRAGMENT)
    return _parse_payload(base, head, begin, end)


def _parse_ipv6(head: bytes) -> Packet:
    payload = head[4] << 8 | head[5]
    base = Packet(Kind.MALFORMED, 6, head[8:24], head[24:40], head[6])
    # No length: a jumbogram, or segments that the kernel has joined.
    end = _end(head, 40 + payload if payload else 0)
    begin, protocol = 40, head[6]
    for _ in range(EXTENSION_HEADERS_MAX):
        if protocol not in _EXTENSIONS:
            break
        if begin + 8 > end:
            return base
        following, length = head[begin], head[begin + 1]
        if protocol == _FRAGMENT:
            if head[begin + 2] or head[begin + 3] & 0xF9:
                return base._replace(kind=Kind.FRAGMENT, protocol=following)
            length = 0  # Reserved; an atomic fragment is a whole packet.
        begin += (length + 2) * 4 if protocol == _AUTHENTICATION else (length + 1) * 8
        protocol = following
    if protocol in _EXTENSIONS:
        return base
    return _parse_payload(base._replace(protocol=protocol), head, begin, end)


def _end(head: bytes, length: int) -> int:
    """Return where the packet ends: what follows is padding. 0: joined segments, all of it."""
    return min(len(head), length) if length else len(head)


def _parse_payload(base: Packet, head: bytes, begin: int, end: int) -> Packet:
    """Read the transport header in head[begin:end]."""
    protocol, room = base.protocol, end - begin
    if protocol == TCP:
        if room < 20 or head[begin + 12] >> 4 < 5:
            return base
        opens = head[begin + 13] & (_SYN | _ACK) == _SYN
        return _with_ports(base, Kind.SYN if opens else Kind.STREAM, head, begin)
    if protocol == UDP:
        return _with_ports(base, Kind.UDP, head, begin) if room >= 8 else base
    if protocol == (ICMP if base.version == 4 else ICMPV6):
        return _parse_icmp(base, head, begin, end) if room >= 8 else base
    return base._replace(kind=Kind.OTHER)


def _with_ports(base: Packet, kind: Kind, head: bytes, begin: int) -> Packet:
    source_port = head[begin] << 8 | head[begin + 1]
    destination_port = head[begin + 2] << 8 | head[begin + 3]
    _, version, source, destination, protocol, _, _, identification, _ = base
    ports = source_port, destination_port
    return Packet(kind, version, source, destination, protocol, *ports, identification)


def _parse_icmp(base: Packet, head: bytes, begin: int, end: int) -> Packet:
    kind_of_message = head[begin]
    if base.version == 4:
        errors, echo, neighbours = _ERRORS, _ECHO, range(0)
    else:
        errors, echo, neighbours = _ERRORS_V6, _ECHO_V6, _NEIGHBOUR_TYPES
    if kind_of_message in errors:
        return base._replace(kind=Kind.ICMP_ERROR, embedded=head[begin + 8 : end])
    if kind_of_message == echo:
        return base._replace(kind=Kind.ECHO)
    return base._replace(kind=Kind.NEIGHBOUR if kind_of_message in neighbours else Kind.OTHER)
