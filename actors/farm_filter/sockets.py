"""In which buckets the application has live TCP connections, as the kernel lists them.

`translating`: whether connections count whose address is translated behind the filter.
"""

import struct
from collections.abc import Callable
from ipaddress import ip_address

from mirrorfarm.actors.farm_filter.translated import translated
from mirrorfarm.actors.vip.connections import identities
from mirrorfarm.limits import BUCKETS
from mirrorfarm.netfilter.neighbours import IPAddress
from mirrorfarm.netfilter.packet import TCP, Kind, Packet
from mirrorfarm.netfilter.rules import Placement, Rules, bucket

Place = Callable[[bytes, int], int]

_PORTS = struct.Struct("!HH")


def count(
    addresses: tuple[IPAddress, ...],
    rules: Rules,
    seed: int,
    groups: int,
    place: Place,
    *,
    translating: bool = False,
) -> tuple[tuple[bytes, ...], int]:
    """Return by group the buckets with connections (bitmaps of 128 bytes), and how many.

    Raises OSError if the kernel cannot list them.
    """
    found = [0] * groups
    connections = 0
    for address in addresses:
        packets = [packet_of(identity, address) for identity in identities(address)]
        for packet in packets + (translated(address) if translating else []):
            where = bucket(packet, rules, seed, place)
            if isinstance(where, Placement):
                found[where.group] |= 1 << where.bucket
                connections += 1
    return tuple(bits.to_bytes(BUCKETS // 8, "little") for bits in found), connections


def live(addresses: tuple[IPAddress, ...], *, translating: bool = False) -> int:
    """Return how many connections there are, also those that no rule is about; -1: not known."""
    try:
        return sum(
            len(identities(address)) + (len(translated(address)) if translating else 0)
            for address in addresses
        )
    except OSError:
        return -1


def packet_of(identity: bytes, address: IPAddress) -> Packet:
    """Return what the client of a socket sends; `identity`: the kernel's inet_diag_sockid."""
    own_port, port = _PORTS.unpack_from(identity)
    remote = identity[20:24] if address.version == 4 else identity[20:36]
    if address.version == 4 and not any(identity[20:30]) and identity[30:32] == b"\xff\xff":
        remote = identity[32:36]  # A socket of IPv6 with an IPv4 connection.
    source = ip_address(remote).packed
    return Packet(Kind.STREAM, address.version, source, address.packed, TCP, port, own_port)
