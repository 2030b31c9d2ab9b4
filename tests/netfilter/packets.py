"""Packets as bytes, whole and broken, and a stream of random ones."""

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address

SYN, SYN_ACK, ACK, RST, FIN = 0x02, 0x12, 0x10, 0x04, 0x11
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION = 0, 43, 44, 51, 60


def address(text: str) -> bytes:
    return ip_address(text).packed


def tcp(source: int, destination: int, flags: int = SYN, offset: int = 5) -> bytes:
    return struct.pack(
        "!HHIIBBHHH", source, destination, 7, 9, offset << 4, flags, 64240, 0, 0
    ) + b"\x01" * (4 * max(0, offset - 5))


def udp(source: int, destination: int, body: bytes = b"") -> bytes:
    return struct.pack("!HHHH", source, destination, 8 + len(body), 0) + body


def icmp(kind: int, code: int = 0, body: bytes = b"") -> bytes:
    return struct.pack("!BBHI", kind, code, 0, 0) + body


def extension(following: int, bytes_long: int = 8) -> bytes:
    return bytes((following, bytes_long // 8 - 1)) + bytes(bytes_long - 2)


def fragment(following: int, offset: int = 0, more: int = 0) -> bytes:
    return struct.pack("!BBHI", following, 0, offset << 3 | more, 77)


def authentication(following: int, bytes_long: int = 24) -> bytes:
    return bytes((following, bytes_long // 4 - 2)) + bytes(bytes_long - 2)


def ipv4(
    source: str,
    destination: str,
    protocol: int,
    body: bytes = b"",
    *,
    options: bytes = b"",
    identification: int = 0,
    fragment_field: int = 0,
    total: int | None = None,
    first: int | None = None,
) -> bytes:
    length = 20 + len(options) + len(body) if total is None else total
    start = 0x40 | (5 + len(options) // 4) if first is None else first
    head = struct.pack(
        "!BBHHHBBH", start, 0, length, identification, fragment_field, 64, protocol, 0
    )
    return head + address(source) + address(destination) + options + body


def ipv6(
    source: str, destination: str, following: int, body: bytes = b"", payload: int | None = None
) -> bytes:
    length = len(body) if payload is None else payload
    head = struct.pack("!IHBB", 6 << 28, length, following, 64)
    return head + address(source) + address(destination) + body


def arp(operation: int, source: str, destination: str) -> bytes:
    return (
        struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
        + bytes(6)
        + address(source)
        + bytes(6)
        + address(destination)
    )


def ethernet(packet: bytes, kind: int | None = None) -> bytes:
    """Wrap a packet; its version gives the type unless `kind` does."""
    if kind is None:
        kind = 0x86DD if packet[:1] >= b"\x60" else 0x0800
    return b"\x02\xbf\xc6\x12\0\x64" + b"\x02\0\0\0\0\x50" + struct.pack("!H", kind) + packet


@dataclass
class Traffic:
    """Random frames from many clients to a few addresses, most of them whole, some broken."""

    destinations: tuple[str, ...]
    ports: tuple[int, ...]
    seed: int = 1
    dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    def frames(self, number: int) -> Iterator[bytes]:
        for _ in range(number):
            yield self.frame()

    def frame(self) -> bytes:
        destination = self.dice.choice(self.destinations)
        packet = self._ipv6(destination) if ":" in destination else self._ipv4(destination)
        kind = None
        fate = self.dice.random()
        if fate < 0.10:
            packet = packet[: self.dice.randrange(len(packet) + 1)]
        elif fate < 0.25:
            packet = self._damaged(packet, self.dice.randrange(1, 4))
        elif fate < 0.30:
            packet += self.dice.randbytes(self.dice.randrange(64))
        elif fate < 0.32:
            kind = self.dice.choice((0x0800, 0x86DD, 0x0806, 0x8100, 0x88A8))
        return ethernet(packet, kind)

    def _damaged(self, packet: bytes, places: int) -> bytes:
        raw = bytearray(packet)
        for _ in range(places):
            raw[self.dice.randrange(len(raw))] = self.dice.randrange(256)
        return bytes(raw)

    def _payload(self, protocols: tuple[int, ...]) -> tuple[int, bytes]:
        dice = self.dice
        protocol = dice.choice(protocols)
        source = dice.randrange(65536)
        destination = dice.choice((*self.ports * 2, dice.randrange(65536)))
        if protocol == TCP:
            flags = dice.choice((SYN, SYN_ACK, ACK, RST, FIN, 0, 0xC2, dice.randrange(256)))
            offset = dice.choice((5, 5, 5, 8, 10, 15, 4, 0))
            return protocol, tcp(source, destination, flags, offset) + dice.randbytes(4)
        if protocol == UDP:
            return protocol, udp(source, destination, dice.randbytes(dice.randrange(40)))
        if protocol in (ICMP, ICMPV6):
            kind = dice.choice(
                (0, 1, 2, 3, 4, 5, 8, 8, 8, 11, 12, 128, 128, 128, 129, 133, 136, 137, 255)
            )
            return protocol, icmp(kind, dice.randrange(4), dice.randbytes(28))
        return protocol, dice.randbytes(dice.randrange(32))

    def _ipv4(self, destination: str) -> bytes:
        dice = self.dice
        source = str(ip_address(dice.getrandbits(32)))
        protocol, body = self._payload((*(TCP, TCP, UDP) * 4, *(ICMP,) * 3, ICMPV6, 47, 0, 255))
        flags = dice.choice((*(0, 0x4000) * 6, 0x8000, 0x2000, 1, 0x20B9, dice.randrange(65536)))
        total = dice.choice((None, None, None, None, None, None, 0, dice.randrange(90), 65535))
        return ipv4(
            source,
            destination,
            protocol,
            body,
            options=b"\x01" * (4 * dice.choice((0, 0, 0, 0, 1, 4, 10))),
            identification=dice.randrange(65536),
            fragment_field=flags,
            total=total,
        )

    def _ipv6(self, destination: str) -> bytes:
        dice = self.dice
        source = str(ip_address(dice.getrandbits(128)))
        following, body = self._payload((*(TCP, TCP, UDP) * 4, *(ICMPV6,) * 3, ICMP, 59, 135, 50))
        for _ in range(dice.choice((0, 0, 0, 0, 1, 1, 2, 3, 7, 8, 9))):
            following, body = self._extended(following, body)
        payload = dice.choice((None, None, None, None, None, None, 0, dice.randrange(90), 65535))
        return ipv6(source, destination, following, body, payload)

    def _extended(self, following: int, body: bytes) -> tuple[int, bytes]:
        dice = self.dice
        kind = dice.choice((HOP_BY_HOP, ROUTING, DESTINATION, AUTHENTICATION, FRAGMENT))
        if kind == FRAGMENT:
            offset, more = dice.choice(((0, 0), (0, 0), (0, 0), (0, 0), (0, 1), (185, 1), (200, 0)))
            return kind, fragment(following, offset, more) + body
        if kind == AUTHENTICATION:
            return kind, authentication(following, dice.choice((8, 12, 24, 32))) + body
        return kind, extension(following, dice.choice((8, 8, 16, 64, 200))) + body
