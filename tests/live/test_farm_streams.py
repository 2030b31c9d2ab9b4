"""Buckets move between nodes, and no connection notices."""

import contextlib
import os
import random
import socket
import struct
import sys
import time
from pathlib import Path

import pytest

from mirrorfarm.lab.farm import PORT, VIP4, VIP6, FarmLab, FarmNode, farm, resets
from mirrorfarm.lab.network import inside, order
from mirrorfarm.limits import BUCKETS
from mirrorfarm.netfilter.bpf_system import attached
from mirrorfarm.netfilter.packet import ICMP, ICMPV6, parse_frame
from mirrorfarm.netfilter.rules import State

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
]

STREAMS, MOVES, NEW = 90, 40, 5
SILENT_SECONDS = 15.0


class Streams:
    """Connections that live on, each with the node that answered it first."""

    def __init__(self, lab: FarmLab, stack: contextlib.ExitStack, address: str, count: int) -> None:
        self.socks = [
            stack.enter_context(lab.connect(address, SILENT_SECONDS)) for _ in range(count)
        ]
        self.names = [sock.recv(100).decode() for sock in self.socks]
        self.right = self.names == [lab.owner(sock) for sock in self.socks]
        self.alive = [True] * count
        self.slowest_ns = 0

    def ask(self) -> int:
        """Ask on each that lives; return how many are answered by their node."""
        for number, sock in enumerate(self.socks):
            if self.alive[number]:
                begin_ns = time.monotonic_ns()
                try:
                    sock.send(b"?")
                    self.alive[number] = sock.recv(100).decode() == self.names[number]
                except OSError:
                    self.alive[number] = False
                self.slowest_ns = max(self.slowest_ns, time.monotonic_ns() - begin_ns)
        return sum(self.alive)


def answered_by_owner(lab: FarmLab, address: str) -> bool:
    """Open a connection; return whether its bucket's owner answered."""
    with lab.connect(address) as sock:
        return sock.recv(100).decode() == lab.owner(sock)


def programs(node: FarmNode) -> int:
    """Return how many programs are at a node's interface as newer kernels have them."""
    with inside(node.namespace):
        found = attached(socket.if_nametoindex("eth0"))
    for program in found:
        program.close()
    return len(found)


def cookies_taken(node: FarmNode) -> int:
    """Return how many handshakes a node's kernel has completed by a SYN cookie."""
    with inside(node.namespace):
        text = Path("/proc/thread-self/net/netstat").read_text(encoding="ascii")
    heads, values = (line.split() for line in text.splitlines() if line.startswith("TcpExt: "))
    return int(values[heads.index("SyncookiesRecv")])


@pytest.mark.parametrize("address", [VIP4, VIP6])
@pytest.mark.parametrize(
    ("kind", "delivery", "cookies", "old"),
    [
        *(("bpf", "vmac_invisible", 1, False), ("bpf", "vmac_invisible", 2, False)),
        *(("bpf", "vmac_invisible", 1, True), ("bpf", "vmac_directed", 1, False)),
        *(("nft", "vmac_invisible", 1, False), ("nft", "vmac_invisible", 2, False)),
        ("nfqueue", "vmac_invisible", 1, False),
    ],
)
def test_streams_survive_forty_moves_and_new_ones_find_their_owner(
    kind: str, delivery: str, cookies: int, old: bool, address: str
) -> None:
    chance = random.Random(20)
    with farm(kind, delivery, old=old) as lab, contextlib.ExitStack() as stack:
        for node in lab.nodes:
            setting = f"net.ipv4.tcp_syncookies={cookies}"
            order("ip", "netns", "exec", node.namespace, "sysctl", "-qw", setting)
        seen = stack.enter_context(resets(lab))
        assert not old or not any(map(programs, lab.nodes)), "not attached as older kernels do"
        streams = Streams(lab, stack, address, STREAMS)
        assert streams.right
        right = hardened = 0
        for move in range(MOVES):
            lab.move_at_random(chance, all_of_it=move % 4 == 0)
            assert streams.ask() == STREAMS, move
            right += sum(answered_by_owner(lab, address) for _ in range(NEW))
            hardened += lab.harden()
        assert streams.ask() == STREAMS
        taken = sum(map(cookies_taken, lab.nodes))
        relayed = [node.counters().get("relayed", 0) for node in lab.nodes]
        sys.stdout.write(
            f"\n{kind} {delivery} {address} syncookies={cookies}: {MOVES} moves, {STREAMS} streams "
            f"alive, {right}/{MOVES * NEW} at the owner, {hardened} buckets hardened, {taken} "
            f"cookies, slowest echo {streams.slowest_ns / 1e6:.1f} ms\n"
        )
        stack.close()
        assert right == MOVES * NEW
        assert hardened > 0
        assert (taken > 0) == (cookies == 2)
        assert not seen
        if lab.directed:
            assert relayed[0] > 1_000
            assert relayed[1:] == [0, 0]
            assert lab.nodes[1].counters()["opened"] > 20


def test_without_soft_buckets_streams_break_and_this_lab_would_tell() -> None:
    chance = random.Random(40)
    with farm("bpf", "vmac_invisible") as lab, contextlib.ExitStack() as stack:
        seen = stack.enter_context(resets(lab))
        streams = Streams(lab, stack, VIP4, STREAMS)
        for move in range(8):
            lab.move_at_random(chance, all_of_it=move % 4 == 0, state=State.HARD)
            alive = streams.ask()
            assert all(answered_by_owner(lab, VIP4) for _ in range(NEW))
        stack.close()
        assert alive < STREAMS / 2
        assert len(seen) >= STREAMS / 2


def checksum(data: bytes) -> bytes:
    """Return the Internet checksum (RFC 1071)."""
    total = sum(
        int.from_bytes(data[i : i + 2].ljust(2, b"\0"), "big") for i in range(0, len(data), 2)
    )
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return (~total & 0xFFFF).to_bytes(2, "big")


def payload_bytes(frame: bytes) -> int:
    """Return how much data a TCP segment carries."""
    if frame[12:14] == b"\x08\x00":
        start, end = 34, 14 + int.from_bytes(frame[16:18], "big")
    else:
        start, end = 54, 54 + int.from_bytes(frame[18:20], "big")
    return end - start - (frame[start + 12] >> 4) * 4


def last_answer(watcher: socket.socket, port: int) -> bytes:
    """Return the last frame seen that carries an answer to a port of the client."""
    found = b""
    with contextlib.suppress(BlockingIOError):
        while True:
            frame = watcher.recv(2048)
            packet = parse_frame(frame)
            ports = (packet.source_port, packet.destination_port)
            if ports == (PORT, port) and payload_bytes(frame):
                found = frame
    assert found, "no answer was seen"
    return found


def too_big(answer: bytes, mtu: int, to: bytes) -> bytes:
    """Return the frame by which a router says that the node's next segment was too big."""
    start = 34 if answer[12:14] == b"\x08\x00" else 54
    segment = bytearray(answer[14 : start + 20])
    at = start - 14 + 4
    sent = int.from_bytes(segment[at : at + 4], "big") + payload_bytes(answer)
    segment[at : at + 4] = (sent & 0xFFFF_FFFF).to_bytes(4, "big")
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
    return to + answer[:6] + answer[12:14] + packet


def path_mtu(lab: FarmLab, node: FarmNode, virtual: str) -> int:
    """Return what a node believes of the path from the virtual address to the client."""
    client = lab.wiring.address("c", "lan") if virtual == VIP4 else "2001:db8::e"
    words = ("route", "get", client, "from", virtual)
    text = order("ip", "-n", node.namespace, *words).split()
    return int(text[text.index("mtu") + 1]) if "mtu" in text else 1500


@pytest.mark.parametrize("delivery", ["vmac_invisible", "vmac_directed"])
@pytest.mark.parametrize(("virtual", "mtu"), [(VIP4, 1000), (VIP6, 1280)])
def test_a_narrower_path_is_found_by_the_node_that_has_the_connection(
    virtual: str, mtu: int, delivery: str
) -> None:
    with farm("bpf", delivery) as lab, contextlib.ExitStack() as stack:
        with lab.client():
            watcher = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        watcher.bind(("eth0", 3))
        watcher.setblocking(False)
        watcher.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)  # SO_RCVBUFFORCE: it loses nothing.
        streams = Streams(lab, stack, virtual, 20)
        for node in lab.nodes:
            sock = streams.socks[streams.names.index(node.name)]
            assert streams.ask() == 20
            answer = last_answer(watcher, sock.getsockname()[1])
            assert path_mtu(lab, node, virtual) == 1500
            watcher.send(too_big(answer, mtu, lab.known_mac(virtual)))
            deadline = time.monotonic() + 30
            while (found := path_mtu(lab, node, virtual)) != mtu:
                assert time.monotonic() < deadline, f"{node.name} believes in {found}, not {mtu}"
                time.sleep(0.01)
        assert streams.ask() == 20


@pytest.mark.parametrize("virtual", [VIP4, VIP6])
def test_even_when_two_nodes_answer_an_opening_neither_resets_the_connection(virtual: str) -> None:
    """It must not happen; a SYN repeated across a move comes near to it."""
    with farm("bpf", "vmac_invisible") as lab, contextlib.ExitStack() as stack:
        seen = stack.enter_context(resets(lab))
        for node in lab.nodes:
            node.set(range(BUCKETS), State.SOFT)
        streams = Streams(lab, stack, virtual, 100)
        for _ in range(3):
            assert streams.ask() == 100
        silenced = sum(node.counters()["resets"] for node in lab.nodes)
        stack.close()
        assert silenced > 50
        assert not seen
