"""ARP (RFC 826, 5227) and neighbour discovery (RFC 4861, 4862) frames, as bytes.

Building never fails for valid addresses; parsing never raises for any bytes.
"""

import ipaddress
import struct
from typing import NamedTuple

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

ETHERTYPE_ARP = 0x0806
ETHERTYPE_IPV6 = 0x86DD
ICMPV6 = 58
BROADCAST = b"\xff" * 6
ALL_NODES = ipaddress.IPv6Address("ff02::1")
ALL_NODES_MAC = bytes.fromhex("333300000001")

_ARP_REQUEST = 1
_ARP_REPLY = 2
_NEIGHBOUR_SOLICITATION = 135
_NEIGHBOUR_ADVERTISEMENT = 136
_FLAG_SOLICITED = 0x4000_0000
_FLAG_OVERRIDE = 0x2000_0000
_OPTION_SOURCE_LINK = 1
_OPTION_TARGET_LINK = 2
_ETHERNET_BYTES = 14
_IPV6_BYTES = 40
_ICMP_BYTES = 24  # Header and target of a solicitation or advertisement.

_arp = struct.Struct("!HHBBH6s4s6s4s")


class Claim(NamedTuple):
    """Somebody says, by a frame, that it has this address."""

    address: str
    mac: str


class Question(NamedTuple):
    """Somebody asks, by a frame, which MAC `address` has."""

    address: IPAddress
    asker: IPAddress | None  # None: who asks has no address yet (a probe for duplicates).
    mac: bytes  # Of who asks.


def mac_text(mac: bytes) -> str:
    """Return six bytes as `02:00:00:00:00:01`."""
    return mac.hex(":")


def announcements(address: IPAddress, mac: bytes, source: bytes = b"") -> tuple[bytes, ...]:
    """Return the frames by which neighbours learn that `address` is now at `mac`.

    For IPv4 both forms in use, request and reply: some systems learn from one only. `source` is
    the sender of the Ethernet frame where that is not `mac`: switches learn from it.
    """
    source = source or mac
    if isinstance(address, ipaddress.IPv6Address):
        return (_advertisement(address, mac, (source, ALL_NODES_MAC), ALL_NODES, _FLAG_OVERRIDE),)
    packed = address.packed
    return (
        _arp_frame(_ARP_REQUEST, (mac, packed), (bytes(6), packed), source),
        _arp_frame(_ARP_REPLY, (mac, packed), (BROADCAST, packed), source),
    )


def answer(question: Question, mac: bytes, source: bytes) -> bytes:
    """Return the frame that tells who asked that the address is at `mac`; sent from `source`."""
    address, asker = question.address, question.asker
    if isinstance(address, ipaddress.IPv4Address):
        target = (question.mac, asker.packed if asker else bytes(4))
        return _arp_frame(_ARP_REPLY, (mac, address.packed), target, source, question.mac)
    if isinstance(asker, ipaddress.IPv6Address):
        ends = (source, question.mac)
        return _advertisement(address, mac, ends, asker, _FLAG_SOLICITED | _FLAG_OVERRIDE)
    return announcements(address, mac, source)[0]  # Who has no address hears it as all do.


def solicited_group(address: ipaddress.IPv6Address) -> ipaddress.IPv6Address:
    """Return the multicast group in which questions for `address` are asked (RFC 4291, 2.7.1)."""
    return ipaddress.IPv6Address(b"\xff\x02" + bytes(9) + b"\x01\xff" + address.packed[13:])


def question(address: IPAddress, mac: bytes) -> bytes:
    """Return the frame that asks who uses `address`, without claiming it."""
    if isinstance(address, ipaddress.IPv4Address):
        return _arp_frame(_ARP_REQUEST, (mac, bytes(4)), (bytes(6), address.packed), mac)
    body = struct.pack("!BBHI", _NEIGHBOUR_SOLICITATION, 0, 0, 0) + address.packed
    group = solicited_group(address)
    return _icmp_frame((mac, b"\x33\x33" + group.packed[12:]), bytes(16), group, body)


def parse_claim(frame: bytes) -> Claim | None:
    """Return who claims which address by this Ethernet frame; None if it claims nothing."""
    if len(frame) < _ETHERNET_BYTES:
        return None
    ethertype = int.from_bytes(frame[12:14], "big")
    if ethertype == ETHERTYPE_ARP:
        return _parse_arp(frame[_ETHERNET_BYTES:])
    if ethertype == ETHERTYPE_IPV6:
        return _parse_advertisement(frame[6:12], frame[_ETHERNET_BYTES:])
    return None


def parse_question(frame: bytes) -> Question | None:
    """Return what this Ethernet frame asks; None if it asks nothing, or claims (sender = asked)."""
    if len(frame) < _ETHERNET_BYTES:
        return None
    ethertype = int.from_bytes(frame[12:14], "big")
    if ethertype == ETHERTYPE_ARP:
        return _parse_arp_question(frame[_ETHERNET_BYTES:])
    if ethertype == ETHERTYPE_IPV6:
        return _parse_solicitation(frame[6:12], frame[_ETHERNET_BYTES:])
    return None


def _arp_frame(
    operation: int,
    sender: tuple[bytes, bytes],
    target: tuple[bytes, bytes],
    source: bytes,
    to: bytes = BROADCAST,
) -> bytes:
    """Build a frame from `source` to `to`; sender and target are a MAC and an address each."""
    body = _arp.pack(1, 0x0800, 6, 4, operation, *sender, *target)
    return to + source + struct.pack("!H", ETHERTYPE_ARP) + body


def _advertisement(
    address: ipaddress.IPv6Address,
    mac: bytes,
    ends: tuple[bytes, bytes],
    to: ipaddress.IPv6Address,
    flags: int,
) -> bytes:
    """Build a frame between two MACs, `ends`, that says to `to` that `address` is at `mac`."""
    head = struct.pack("!BBHI", _NEIGHBOUR_ADVERTISEMENT, 0, 0, flags)
    body = head + address.packed + bytes((_OPTION_TARGET_LINK, 1)) + mac
    return _icmp_frame(ends, address.packed, to, body)


def _icmp_frame(
    ends: tuple[bytes, bytes], source: bytes, to: ipaddress.IPv6Address, body: bytes
) -> bytes:
    """Wrap an ICMPv6 body between two MACs; hop limit 255 proves that it was not routed."""
    pseudo = source + to.packed + struct.pack("!II", len(body), ICMPV6)
    body = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
    head = struct.pack("!IHBB", 6 << 28, len(body), ICMPV6, 255) + source + to.packed
    return ends[1] + ends[0] + struct.pack("!H", ETHERTYPE_IPV6) + head + body


def checksum(data: bytes) -> int:
    """Internet checksum (RFC 1071); every body here has an even length."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF


def _parse_arp(body: bytes) -> Claim | None:
    fields = _arp_fields(body)
    if fields is None:
        return None
    operation, mac, sender, _ = fields
    if operation not in (_ARP_REQUEST, _ARP_REPLY) or sender == bytes(4):
        return None  # A zero sender asks and claims nothing.
    return Claim(str(ipaddress.IPv4Address(sender)), mac_text(mac))


def _parse_arp_question(body: bytes) -> Question | None:
    fields = _arp_fields(body)
    if fields is None:
        return None
    operation, mac, sender, target = fields
    if operation != _ARP_REQUEST or sender == target or mac[0] & 1:
        return None
    asker = ipaddress.IPv4Address(sender) if any(sender) else None
    return Question(ipaddress.IPv4Address(target), asker, mac)


def _arp_fields(body: bytes) -> tuple[int, bytes, bytes, bytes] | None:
    """Return operation, sender's MAC and address, address asked; None if this is no such ARP."""
    if len(body) < _arp.size:
        return None
    hardware, protocol, hardware_bytes, protocol_bytes, operation, mac, sender, _, target = (
        _arp.unpack_from(body)
    )
    if (hardware, protocol, hardware_bytes, protocol_bytes) != (1, 0x0800, 6, 4):
        return None
    return operation, mac, sender, target


def _parse_advertisement(ethernet_source: bytes, packet: bytes) -> Claim | None:
    """Read a neighbour advertisement; the link address may be left out: then its sender's."""
    body = _icmp_body(packet, _NEIGHBOUR_ADVERTISEMENT)
    if body is None:
        return None
    mac = _link_option(body, _OPTION_TARGET_LINK) or ethernet_source
    return Claim(str(ipaddress.IPv6Address(body[8:24])), mac_text(mac))


def _parse_solicitation(ethernet_source: bytes, packet: bytes) -> Question | None:
    body = _icmp_body(packet, _NEIGHBOUR_SOLICITATION)
    if body is None or ethernet_source[0] & 1:
        return None
    source = ipaddress.IPv6Address(packet[8:24])
    if source.is_multicast:
        return None
    asker = None if source.is_unspecified else source
    mac = _link_option(body, _OPTION_SOURCE_LINK) or ethernet_source
    return None if mac[0] & 1 else Question(ipaddress.IPv6Address(body[8:24]), asker, mac)


def _icmp_body(packet: bytes, kind: int) -> bytes | None:
    """Return the ICMPv6 body of neighbour discovery of this kind; None if it may not be one."""
    if len(packet) < _IPV6_BYTES + _ICMP_BYTES or packet[0] >> 4 != 6:
        return None
    length = int.from_bytes(packet[4:6], "big")
    body = packet[_IPV6_BYTES : _IPV6_BYTES + length]
    if packet[6] != ICMPV6 or packet[7] != 255 or len(body) != length or length < _ICMP_BYTES:
        return None
    pseudo = packet[8:40] + struct.pack("!II", length, ICMPV6)
    if body[0] != kind or length % 2 or checksum(pseudo + body) != 0:
        return None
    return body


def _link_option(body: bytes, kind: int) -> bytes | None:
    """Return the link address in the first option of this kind."""
    options = body[_ICMP_BYTES:]
    while len(options) >= 8 and options[1] > 0:
        if options[0] == kind:
            return options[2:8]
        options = options[8 * options[1] :]
    return None
