"""Nodes that receive through one filter each, and a sender with a cable to each of them.

For `bench_receive`. Every node has a network namespace of its own, and all filters stay in place
from the beginning to the end; the sender's core also does all that a packet sets off at the node.
"""

import ctypes
import os
import random
import socket
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.lab.farm import VIP4, VIP6, FarmNode
from mirrorfarm.lab.farm_daemon import settings_of
from mirrorfarm.lab.flood import Sent, flood
from mirrorfarm.lab.network import NAMESPACES, batch, inside, order, unique_prefix
from mirrorfarm.limits import BUCKETS
from mirrorfarm.netfilter.announce import hardware_address
from mirrorfarm.netfilter.rules import State
from mirrorfarm.netfilter.share import share

SEED = 0x5EED
NODES = 3
FLOWS = 4_096
PORT = 9
PAYLOAD = bytes(18)  # Of the shortest frame.
LEASE_MS = 10_000
# New flows are introduced no faster than a Python process decides.
INTRODUCED, PAUSE_SECONDS = 32, 0.004
SETTLE_SECONDS = 5.0
STEERING = "/sys/class/net/eth0/queues/rx-0/rps_cpus"
ATTACH_FILTER = 26  # SO_ATTACH_FILTER

NOTHING = "no filter"
BPF, BPF_ADDRESS = "ours, bpf, by address and port", "ours, bpf, by address"
CLUSTER = "iptables -m cluster (tracks connections)"
JHASH = "nft jhash mod 3 (stateless), by address and port"
NFT, NFQUEUE = "ours, nft, by address and port", "ours, nfqueue, by address and port"


class Case(NamedTuple):
    """One way to filter: one of ours (`kind`, `filter_`), or commands that set up another."""

    name: str
    kind: str = ""
    filter_: str = ""
    commands: tuple[tuple[str, ...], ...] = ()

    @property
    def filters(self) -> bool:
        """Whether anything is dropped."""
        return bool(self.kind or self.commands)


_CLUSTER = (
    f"iptables -t mangle -A PREROUTING -d {VIP4} -m cluster --cluster-total-nodes {NODES} "
    f"! --cluster-local-node 1 --cluster-hash-seed {SEED} -j DROP"
)
_JHASH = (
    "table ip bench { chain in { type filter hook prerouting priority raw; "
    f"ip daddr {VIP4} jhash ip saddr . th sport mod {NODES} seed {SEED} != 0 drop\n}}\n}}\n"
)
CASES = (
    Case(NOTHING),
    Case(BPF, "bpf", "on_port"),
    Case(BPF_ADDRESS, "bpf", "on_addr"),
    Case(CLUSTER, commands=(tuple(_CLUSTER.split()),)),
    Case(JHASH, commands=(("nft", _JHASH),)),
    Case(NFT, "nft", "on_port"),
    Case(NFQUEUE, "nfqueue", "on_port"),
)


def datagrams(to: bytes, source: bytes) -> list[bytes]:
    """Return one frame of each flow: as many clients, one port each, all for the address."""
    chance = random.Random(SEED)
    network, virtual = int(ip_address("198.18.0.0")), ip_address(VIP4).packed
    body = struct.pack("!HHH", PORT, 8 + len(PAYLOAD), 0) + PAYLOAD  # No checksum is allowed.
    frames = []
    for host in chance.sample(range(0x1000, 0x1F000), FLOWS):
        head = struct.pack("!BBHHHBBH", 0x45, 0, 28 + len(PAYLOAD), 0, 0x4000, 64, 17, 0)
        head += (network + host).to_bytes(4, "big") + virtual
        head = head[:10] + header_checksum(head).to_bytes(2, "big") + head[12:]
        port = chance.randrange(1_024, 65_536).to_bytes(2, "big")
        frames.append(to + source + b"\x08\x00" + head + port + body)
    return frames


def header_checksum(head: bytes) -> int:
    """Return the checksum of an IPv4 header in which its place is zero."""
    total = sum(int.from_bytes(head[at : at + 2], "big") for at in range(0, len(head), 2))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def own_states(nodes: int = NODES) -> bytes:
    """Return the states of the buckets at the first of so many equal nodes."""
    owners = share({f"n{number}": 1 for number in range(1, nodes + 1)}, SEED)
    return bytes(State.HARD if owner == "n1" else State.FOREIGN for owner in owners)


class Receivers:
    """A sender with one cable to each node; each node has one of the filters."""

    def __init__(self) -> None:
        self._prefix = unique_prefix()
        self._sender = f"{self._prefix}-s"
        self._frames: dict[str, list[bytes]] = {}
        self._nodes: dict[str, FarmNode] = {}
        self._resources = ExitStack()
        self._folder = ""
        cores = sorted(os.sched_getaffinity(0))
        self._core, self._other = cores[0], cores[-1]

    @contextmanager
    def built(self) -> Iterator[None]:
        """Build everything, and remove it whatever happens."""
        folder = tempfile.TemporaryDirectory(prefix=f"{self._prefix}-")
        self._folder = self._resources.enter_context(folder)
        self._resources.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
        with self._resources:
            # Daemons and their threads stay on the other core.
            os.sched_setaffinity(0, {self._other})
            self._resources.callback(self._remove)
            batch([f"netns add {name}" for name in (self._sender, *map(self._space, CASES))])
            for case in CASES:
                self._build(case)
            os.sched_setaffinity(0, {self._core})
            yield

    def send(self, case: Case, seconds: float) -> tuple[Sent, float]:
        """Send to a node; return what was sent and which part of it passed the filter."""
        before = self._delivered(case)
        with inside(self._sender):
            sent = flood(self._cable(case), self._frames[case.name], seconds)
        return sent, (self._delivered(case) - before) / sent.frames

    def introduce(self, case: Case) -> None:
        """Send one packet of each flow, slowly."""
        with inside(self._sender), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
            sock.bind((self._cable(case), 0))
            for number, frame in enumerate(self._frames[case.name], 1):
                sock.send(frame)
                if number % INTRODUCED == 0:
                    time.sleep(PAUSE_SECONDS)

    def asked(self, case: Case) -> int:
        """Return how many packets a daemon has seen itself, once it has seen all there are."""
        node, last, deadline = self._nodes[case.name], -1, time.monotonic() + SETTLE_SECONDS
        while (found := node.counters()["asked"]) != last and time.monotonic() < deadline:
            last = found
            time.sleep(0.1)
        return found

    def forget(self, case: Case) -> None:
        """Move a bucket away and back: no flow is remembered."""
        node, moved = self._nodes[case.name], own_states().index(State.HARD)
        node.set([moved], State.FOREIGN)
        node.set([moved], State.HARD)

    def handled(self, case: Case, seconds: float) -> float:
        """Send from one core to the other; return the packets per second that it filtered.

        What the sender sends too much falls off the other core's backlog and does not count.
        Neither does the time in which the sender had to wait: there was nothing to filter.
        """
        node = self._nodes[case.name]
        before = node.counters()
        sent, _ = self.send(case, seconds)
        after = node.counters()
        filtered = sum(after[name] - before[name] for name in ("accepted", "foreign"))
        return filtered / (sent.seconds - sent.waited)

    def steer(self, case: Case) -> None:
        """Let a node receive on the other core."""
        if self._core == self._other:
            raise SystemUnsuitable("this needs two processors, and there is one")
        mask = Path(self._folder) / "mask"
        mask.write_text(f"{1 << self._other:x}\n", encoding="ascii")
        order("ip", "netns", "exec", self._space(case), "cp", str(mask), STEERING)

    def _space(self, case: Case) -> str:
        return f"{self._prefix}-{CASES.index(case)}"

    @staticmethod
    def _cable(case: Case) -> str:
        return f"to{CASES.index(case)}"

    def _build(self, case: Case) -> None:
        space, cable = self._space(case), self._cable(case)
        batch([f"link add {cable} type veth peer name eth0 netns {space}"], self._sender)
        batch([f"link set {cable} up"], self._sender)
        lines = ["link set lo up", "link set eth0 up", "addr add 198.18.0.1/15 dev eth0"]
        batch(lines, space)
        with inside(space):
            mac = hardware_address("eth0")
            sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._resources.callback(sink.close)
            sink.bind(("", PORT))
            discard(sink)
        with inside(self._sender):
            source = hardware_address(cable)
        if case.kind:
            mac = self._start(case)
        else:
            batch([f"addr add {VIP4}/32 dev lo"], space)
        for command in case.commands:
            order("ip", "netns", "exec", space, *command)
        self._frames[case.name] = datagrams(mac, source)

    def _start(self, case: Case) -> bytes:
        """Start one of our filters; return the MAC that its packets go to."""
        config = {
            "module": "bench",
            "filter": case.kind,
            "delivery": "vmac_invisible",
            "interfaces": ["eth0"],
            "addresses": [VIP4, VIP6],
            "rules": [["udp", case.filter_, str(PORT)]],
            "seed": SEED,
            "ledger": f"{self._folder}/{CASES.index(case)}.json",
        }
        node = self._nodes[case.name] = FarmNode(case.name, self._space(case), config)
        node.start_daemon()
        states = own_states()
        node.set([number for number in range(BUCKETS) if states[number]], State.HARD)
        node.order({"lease_ms": LEASE_MS})
        settings = settings_of(config)
        return settings.virtual_mac(settings.addresses[0])

    def _delivered(self, case: Case) -> int:
        """Return how many IPv4 packets a node's stack has handed to its sockets."""
        with inside(self._space(case)):
            text = Path("/proc/thread-self/net/snmp").read_text(encoding="ascii")
        heads, values = (line.split() for line in text.splitlines() if line.startswith("Ip: "))
        return int(values[heads.index("InDelivers")])

    def _remove(self) -> None:
        for node in self._nodes.values():
            node.end()
        for name in (self._sender, *map(self._space, CASES)):
            if (NAMESPACES / name).exists():
                order("ip", "netns", "del", name)


def discard(sock: socket.socket) -> None:
    """Let a socket refuse whatever arrives: the packet went all the way, and nobody reads it."""
    step = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF_RET, 0 bytes.
    program = struct.pack("@HP", 1, ctypes.addressof(step))
    sock.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, program)
