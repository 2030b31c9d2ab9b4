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

_ARP_REQUEST = 1
_ARP_REPLY = 2
_NEIGHBOUR_SOLICITATION = 135
_NEIGHBOUR_ADVERTISEMENT = 136
_FLAG_OVERRIDE = 0x2000_0000
_OPTION_TARGET_LINK = 2
_ETHERNET_BYTES = 14
_IPV6_BYTES = 40
_ICMP_BYTES = 24  # Header and target of a solicitation or advertisement.

_arp = struct.Struct("!HHBBH6s4s6s4s")


class Claim(NamedTuple):
    """Somebody says, by a frame, that it has this address."""

    address: str
    mac: str


def mac_text(mac: bytes) -> str:
    """Return six bytes as `02:00:00:00:00:01`."""
    return mac.hex(":")


def announcements(address: IPAddress, mac: bytes) -> tuple[bytes, ...]:
    """Return the frames by which neighbours learn that `address` is now at `mac`.

    For IPv4 both forms in use, request and reply: some systems learn from one only.
    """
    if isinstance(address, ipaddress.IPv6Address):
        return (_advertisement(address, mac),)
    packed = address.packed
    return (
        _arp_frame(_ARP_REQUEST, mac, packed, bytes(6), packed),
        _arp_frame(_ARP_REPLY, mac, packed, BROADCAST, packed),
    )


def question(address: IPAddress, mac: bytes) -> bytes:
    """Return the frame that asks who uses `address`, without claiming it."""
    if isinstance(address, ipaddress.IPv4Address):
        return _arp_frame(_ARP_REQUEST, mac, bytes(4), bytes(6), address.packed)
    group = ipaddress.IPv6Address(b"\xff\x02" + bytes(9) + b"\x01\xff" + address.packed[13:])
    body = struct.pack("!BBHI", _NEIGHBOUR_SOLICITATION, 0, 0, 0) + address.packed
    return _icmp_frame(mac, bytes(16), group, body)


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


def _arp_frame(
    operation: int, mac: bytes, sender: bytes, target_mac: bytes, target: bytes
) -> bytes:
    body = _arp.pack(1, 0x0800, 6, 4, operation, mac, sender, target_mac, target)
    return BROADCAST + mac + struct.pack("!H", ETHERTYPE_ARP) + body


def _advertisement(address: ipaddress.IPv6Address, mac: bytes) -> bytes:
    head = struct.pack("!BBHI", _NEIGHBOUR_ADVERTISEMENT, 0, 0, _FLAG_OVERRIDE)
    body = head + address.packed + bytes((_OPTION_TARGET_LINK, 1)) + mac
    return _icmp_frame(mac, address.packed, ALL_NODES, body)


def _icmp_frame(mac: bytes, source: bytes, group: ipaddress.IPv6Address, body: bytes) -> bytes:
    """Wrap an ICMPv6 body for a multicast group; hop limit 255 proves it was not routed."""
    pseudo = source + group.packed + struct.pack("!II", len(body), ICMPV6)
    body = body[:2] + struct.pack("!H", _checksum(pseudo + body)) + body[4:]
    head = struct.pack("!IHBB", 6 << 28, len(body), ICMPV6, 255) + source + group.packed
    ethernet = b"\x33\x33" + group.packed[12:] + mac + struct.pack("!H", ETHERTYPE_IPV6)
    return ethernet + head + body


def _checksum(data: bytes) -> int:
    """Internet checksum (RFC 1071); every body here has an even length."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF


def _parse_arp(body: bytes) -> Claim | None:
    if len(body) < _arp.size:
        return None
    hardware, protocol, hardware_bytes, protocol_bytes, operation, mac, sender, _, _ = (
        _arp.unpack_from(body)
    )
    if (hardware, protocol, hardware_bytes, protocol_bytes) != (1, 0x0800, 6, 4):
        return None
    if operation not in (_ARP_REQUEST, _ARP_REPLY) or sender == bytes(4):
        return None  # A zero sender asks and claims nothing.
    return Claim(str(ipaddress.IPv4Address(sender)), mac_text(mac))


def _parse_advertisement(ethernet_source: bytes, packet: bytes) -> Claim | None:
    """Read a neighbour advertisement; the link address may be left out: then its sender's."""
    if len(packet) < _IPV6_BYTES + _ICMP_BYTES or packet[0] >> 4 != 6:
        return None
    length = int.from_bytes(packet[4:6], "big")
    body = packet[_IPV6_BYTES : _IPV6_BYTES + length]
    if packet[6] != ICMPV6 or packet[7] != 255 or len(body) != length or length < _ICMP_BYTES:
        return None
    pseudo = packet[8:40] + struct.pack("!II", length, ICMPV6)
    if body[0] != _NEIGHBOUR_ADVERTISEMENT or length % 2 or _checksum(pseudo + body) != 0:
        return None
    mac, options = ethernet_source, body[_ICMP_BYTES:]
    while len(options) >= 8 and options[1] > 0:
        if options[0] == _OPTION_TARGET_LINK:
            mac = options[2:8]
            break
        options = options[8 * options[1] :]
    return Claim(str(ipaddress.IPv6Address(body[8:24])), mac_text(mac))
