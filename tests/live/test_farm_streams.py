"""Buckets move between nodes, and no connection notices."""

import contextlib
import socket
import struct
import time

import pytest

from mirrorfarm.lab.farm_nodes import ANSWER_BYTES, PORT, VIRTUAL, VIRTUAL_6, Farm
from mirrorfarm.lab.farm_streams import Client, Outcome, many_moves, resets
from mirrorfarm.lab.network import inside, order
from mirrorfarm.netfilter.packet import ICMP, ICMPV6, parse_frame
from mirrorfarm.netfilter.rules import State

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]


@pytest.mark.parametrize("virtual", [VIRTUAL, VIRTUAL_6])
@pytest.mark.parametrize(("cookies", "old"), [(1, False), (2, False), (1, True)])
def test_streams_survive_forty_moves_and_new_ones_find_their_owner(
    virtual: str, cookies: int, old: bool
) -> None:
    with Farm("mfst", cookies=cookies, old=old) as farm:
        outcome = many_moves(farm, virtual, seed=40)
    print(f"\n{virtual}, tcp_syncookies={cookies}: {outcome}")
    assert (outcome.alive, outcome.resets) == (90, 0)
    assert (outcome.right, outcome.wrong) == (200, 0)
    assert outcome.hardened > 0
    assert (outcome.cookies > 0) == (cookies == 2)


@pytest.mark.parametrize("virtual", [VIRTUAL, VIRTUAL_6])
def test_streams_survive_as_well_when_one_node_receives_all_and_relays(virtual: str) -> None:
    with Farm("mfst", directed=True) as farm:
        outcome = many_moves(farm, virtual, seed=41)
        verdicts = farm.verdicts()
    print(f"\n{virtual}, relayed: {outcome}")
    assert (outcome.alive, outcome.resets) == (90, 0)
    assert (outcome.right, outcome.wrong) == (200, 0)
    assert verdicts["n1"]["relayed"] > 1000
    assert verdicts["n2"]["opened"] > 20
    assert verdicts["n2"]["relayed"] == verdicts["n3"]["relayed"] == 0


def test_without_soft_buckets_streams_break_and_this_lab_would_tell() -> None:
    with Farm("mfst") as farm:
        outcome: Outcome = many_moves(farm, VIRTUAL, seed=40, moves=8, state=State.HARD)
    assert outcome.alive < 45
    assert outcome.resets >= 45
    assert outcome.wrong == 0


def checksum(data: bytes) -> bytes:
    """Return the Internet checksum (RFC 1071)."""
    total = sum(
        int.from_bytes(data[i : i + 2].ljust(2, b"\0"), "big") for i in range(0, len(data), 2)
    )
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return (~total & 0xFFFF).to_bytes(2, "big")


def last_answer(watcher: socket.socket, port: int) -> bytes:
    """Return the last frame seen that carries an answer to a port of the client."""
    found = b""
    with contextlib.suppress(BlockingIOError):
        while True:
            frame = watcher.recv(2048)
            packet = parse_frame(frame)
            if (packet.source_port, packet.destination_port) == (PORT, port) and len(frame) > 90:
                found = frame
    assert found, "no answer was seen"
    return found


def too_big(answer: bytes, mtu: int) -> bytes:
    """Return the frame by which a router says that the node's next segment was too big."""
    start = 34 if answer[12:14] == b"\x08\x00" else 54
    segment = bytearray(answer[14 : start + 20])
    at = start - 14 + 4
    sent = int.from_bytes(segment[at : at + 4], "big") + ANSWER_BYTES
    segment[at : at + 4] = (sent & 0xFFFF_FFFF).to_bytes(4, "big")
    mac = answer[6:12]  # Of the node; to it alone, unless the caller changes that.
    if start == 34:
        body = b"\x03\x04\0\0\0\0" + mtu.to_bytes(2, "big") + segment
        body = body[:2] + checksum(body) + body[4:]
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, ICMP, 0)
        head += answer[30:34] + answer[26:30]
        packet = head[:10] + checksum(head) + head[12:] + body
    else:
        body = b"\x02\0\0\0" + mtu.to_bytes(4, "big") + segment
        pseudo = answer[38:54] + answer[22:38] + struct.pack("!II", len(body), ICMPV6)
        body = body[:2] + checksum(pseudo + body) + body[4:]
        head = struct.pack("!IHBB", 6 << 28, len(body), ICMPV6, 64)
        packet = head + answer[38:54] + answer[22:38] + body
    return mac + answer[:6] + answer[12:14] + packet


def path_mtu(farm: Farm, node: str, virtual: str) -> int:
    """Return what a node believes of the path from the virtual address to the client."""
    client = farm.wiring.address("c", "farm") if virtual == VIRTUAL else "2001:db8::32"
    words = ("route", "get", client, "from", virtual)
    text = order("ip", "-n", farm.wiring.namespace(node), *words).split()
    return int(text[text.index("mtu") + 1]) if "mtu" in text else 1500


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize(("virtual", "mtu"), [(VIRTUAL, 1000), (VIRTUAL_6, 1280)])
def test_a_narrower_path_is_found_by_the_node_that_has_the_connection(
    virtual: str, mtu: int, directed: bool
) -> None:
    with Farm("mfst", directed=directed) as farm, contextlib.ExitStack() as stack:
        client = stack.enter_context(contextlib.closing(Client(farm, virtual)))
        with inside(farm.wiring.namespace("c")):
            watcher = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        watcher.bind(("eth0", 3))
        watcher.setblocking(False)
        client.open(20)
        for name in farm.names:
            stream = next(stream for stream in client.streams if stream.node == name)
            client.ask_all()
            answer = last_answer(watcher, stream.connection.getsockname()[1])
            assert path_mtu(farm, name, virtual) == 1500
            watcher.send(farm.known_mac() + too_big(answer, mtu)[6:])
            deadline = time.monotonic() + 5
            while path_mtu(farm, name, virtual) != mtu:
                assert time.monotonic() < deadline, name
                time.sleep(0.01)
        client.ask_all()
        assert client.alive() == 20


def test_every_opening_is_taken_by_exactly_one_node() -> None:
    with Farm("mfst") as farm, resets(farm.wiring.namespace("c")) as seen:
        client = Client(farm)
        assert all(client.ask_once() for _ in range(300))
        verdicts = farm.verdicts()
        assert sum(counts["opened"] for counts in verdicts.values()) == 300
        assert sum(counts["foreign"] for counts in verdicts.values()) >= 600
        assert all(60 < counts["opened"] < 140 for counts in verdicts.values())
    assert seen == []


def test_a_port_without_a_rule_does_not_answer_and_the_nodes_own_addresses_do() -> None:
    with Farm("mfst") as farm:
        own = farm.wiring.address("n2", "farm")
        with inside(farm.wiring.namespace("c")):
            with pytest.raises(TimeoutError):
                socket.create_connection((VIRTUAL, PORT + 1), timeout=0.5)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((own, PORT + 1), timeout=5)
            socket.create_connection((own, PORT), timeout=5).close()
        assert sum(counts["refused"] for counts in farm.verdicts().values()) >= 3
