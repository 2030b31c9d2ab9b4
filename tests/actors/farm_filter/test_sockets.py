"""Connections are found in the buckets of their clients, as the filter places them."""

import ipaddress
import socket
import struct

import pytest

from mirrorfarm.actors.farm_filter.sockets import count, packet_of
from mirrorfarm.actors.vip import connections
from mirrorfarm.limits import BUCKETS
from mirrorfarm.netfilter.packet import TCP, Kind, Packet
from mirrorfarm.netfilter.rules import bucket, rule, xxhash_bucket

V4, V6 = ipaddress.ip_address("198.18.0.100"), ipaddress.ip_address("2001:db8::100")
RULES = (rule("tcp", "on_port", "80"),)


def identity(source: bytes, destination: bytes) -> bytes:
    """Return what the kernel calls a socket of port 80 whose client is at port 4711."""
    own, remote = source.ljust(16, b"\0"), destination.ljust(16, b"\0")
    return struct.pack("!HH", 80, 4711) + own + remote + bytes(12)


@pytest.mark.parametrize(
    ("address", "raw", "client"),
    [
        (V4, identity(V4.packed, bytes((198, 18, 0, 7))), bytes((198, 18, 0, 7))),
        (
            V4,
            identity(b"\0" * 10 + b"\xff\xff" + V4.packed, b"\0" * 10 + b"\xff\xff\xc6\x12\0\x07"),
            bytes((198, 18, 0, 7)),
        ),
        (V6, identity(V6.packed, V6.packed[:15] + b"\x09"), V6.packed[:15] + b"\x09"),
    ],
)
def test_a_socket_is_what_its_client_sends(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, raw: bytes, client: bytes
) -> None:
    sent = Packet(Kind.STREAM, address.version, client, address.packed, TCP, 4711, 80)
    assert packet_of(raw, address) == sent
    assert bucket(packet_of(raw, address), RULES, 7) == bucket(sent, RULES, 7)


def test_of_more_connections_than_are_listed_nothing_is_concluded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bucket of one that was left out would be taken for drained, and its client be reset."""
    home = ipaddress.ip_address("127.0.0.1")
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()),
        server.accept()[0],
    ):
        monkeypatch.setattr(connections, "_SOCKETS_MAX", 1)
        with pytest.raises(OSError, match="more connections than are listed"):
            count((home,), (rule("tcp", "on_port"),), 3, 1, xxhash_bucket)


def test_the_kernels_own_list_is_counted() -> None:
    home = ipaddress.ip_address("127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            with accepted:
                rules = (rule("tcp", "on_port", str(port)),)
                live, counted = count((home,), rules, 3, 1, xxhash_bucket)
                key = home.packed + client.getsockname()[1].to_bytes(2, "big")
                assert counted == 1
                found = int.from_bytes(live[0], "little")
                assert found == 1 << xxhash_bucket(key, 3)
                assert len(live[0]) == BUCKETS // 8
