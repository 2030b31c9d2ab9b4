"""Connections that end elsewhere than on this node: their address is translated behind the filter.

A container's socket is in another network namespace, so the list of sockets lacks it; connection
tracking has it (linux/netfilter/nfnetlink_conntrack.h). What ends on the node itself is left out:
its socket says more exactly how long it lives.
"""

import os
import socket
import struct
from collections.abc import Iterator

from mirrorfarm.netfilter.neighbours import IPAddress
from mirrorfarm.netfilter.packet import TCP, Kind, Packet

_NETLINK_NETFILTER = 12
_GET = 1 << 8 | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
_REQUEST, _DUMP = 0x1, 0x300
_ERROR, _DONE = 2, 3
_ORIGINAL, _STATUS, _PROTOCOL_STATE, _FILTER = 1, 3, 4, 25  # CTA_*
_ADDRESSES, _PROTOCOL = 1, 2  # CTA_TUPLE_IP, CTA_TUPLE_PROTO
_ENDS = {4: (1, 2), 6: (3, 4)}  # CTA_IP_*: source, destination.
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3  # CTA_PROTO_*
_TCP_STATE = 1  # CTA_PROTOINFO_TCP, CTA_PROTOINFO_TCP_STATE
_FILTER_ORIGINAL, _FILTER_REPLY = 1, 2
_BY_DESTINATION = 1 << 1
_TRANSLATED = 1 << 5  # IPS_DST_NAT
_LIVE = range(2, 7)  # From the answer to a SYN until the last ACK.
_NESTED = 1 << 15
_KIND = ~(3 << 14)
_RECEIVE_BYTES = 262_144
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}

_header = struct.Struct("=IHHII")
_attribute = struct.Struct("=HH")


def translated(address: IPAddress) -> list[Packet]:
    """Return what the client of each live connection to `address` sends that is translated.

    Raises OSError if the kernel cannot list them.
    """
    found = []
    for data in _tracked(address):
        packet = _packet_of(data, address)
        if packet is not None:
            found.append(packet)
    return found


def _tracked(address: IPAddress) -> Iterator[bytes]:
    """Yield the attributes of tracked connections; kernels before 5.8 do not choose."""
    destination = _pack(_ENDS[address.version][1], address.packed)
    flags = _pack(_FILTER_ORIGINAL, struct.pack("=I", _BY_DESTINATION))
    body = (
        struct.pack("=BBH", _FAMILIES[address.version], 0, 0)
        + _nest(_ORIGINAL, _nest(_ADDRESSES, destination))
        + _nest(_FILTER, flags + _pack(_FILTER_REPLY, bytes(4)))
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as sock:
        sock.settimeout(1.0)
        sock.bind((0, 0))
        sock.send(_header.pack(_header.size + len(body), _GET, _REQUEST | _DUMP, 1, 0) + body)
        while True:
            data = sock.recv(_RECEIVE_BYTES)
            while len(data) >= _header.size:
                length, kind, _, _, _ = _header.unpack_from(data)
                if kind in (_ERROR, _DONE):
                    (code,) = struct.unpack_from("=i", data, _header.size)
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    return
                yield data[_header.size + 4 : length]
                data = data[(length + 3) & ~3 :]


def _packet_of(data: bytes, address: IPAddress) -> Packet | None:
    """Return what the client sends; None: not live, not translated, or to another address."""
    entry = _read(data)
    original = _read(entry.get(_ORIGINAL, b""))
    ends, protocol = _read(original.get(_ADDRESSES, b"")), _read(original.get(_PROTOCOL, b""))
    source, destination = (ends.get(kind, b"") for kind in _ENDS[address.version])
    status = int.from_bytes(entry.get(_STATUS, b""), "big")
    if not source or destination != address.packed or not status & _TRANSLATED:
        return None
    state = _read(_read(entry.get(_PROTOCOL_STATE, b"")).get(_TCP_STATE, b"")).get(_TCP_STATE, b"")
    if protocol.get(_NUMBER) != bytes((TCP,)) or int.from_bytes(state, "big") not in _LIVE:
        return None
    own, port = (protocol.get(kind, b"") for kind in (_SOURCE_PORT, _DESTINATION_PORT))
    ports = int.from_bytes(own, "big"), int.from_bytes(port, "big")
    return Packet(Kind.STREAM, address.version, source, destination, TCP, *ports)


def _read(data: bytes) -> dict[int, bytes]:
    """Return attributes by kind."""
    found = {}
    while len(data) >= _attribute.size:
        size, kind = _attribute.unpack_from(data)
        if size < _attribute.size:
            break
        found[kind & _KIND] = data[_attribute.size : size]
        data = data[(size + 3) & ~3 :]
    return found


def _nest(kind: int, value: bytes) -> bytes:
    return _pack(kind | _NESTED, value)


def _pack(kind: int, value: bytes) -> bytes:
    return _attribute.pack(_attribute.size + len(value), kind) + value + bytes(-len(value) % 4)
