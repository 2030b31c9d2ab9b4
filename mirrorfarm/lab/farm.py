"""A farm on one machine: nodes that share an address on one bridge, and a client.

Each node has a daemon (filter, address) and a service in processes of their own, so that one can
be killed or frozen while the other goes on. Tables of buckets are ordered from here.
"""

import contextlib
import json
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.lab.farm_daemon import settings_of
from mirrorfarm.lab.network import Wiring, batch, inside, unique_prefix
from mirrorfarm.limits import BUCKETS
from mirrorfarm.netfilter.announce import hardware_address
from mirrorfarm.netfilter.delivery import Delivery
from mirrorfarm.netfilter.filter import Settings
from mirrorfarm.netfilter.jhash import jhash_bucket
from mirrorfarm.netfilter.neighbours import IPAddress
from mirrorfarm.netfilter.packet import TCP, UDP, Kind, Packet
from mirrorfarm.netfilter.rules import Placement, State, bucket, xxhash_bucket
from mirrorfarm.netfilter.tables import EVERY_PEER

VIP4, VIP6 = "198.18.0.100", "2001:db8::100"
PORT = 8_000
RULES = (("tcp", "on_port", str(PORT)), ("udp", "on_port", str(PORT)))
ANSWER_SECONDS = 60.0
LEASE_MS = 120_000  # A daemon that waits for its turn on a busy machine loses nothing.
CONNECT_SECONDS = 15.0  # The kernel asks again after one, three and seven.
_LISTENS = "0A"  # In /proc/net/tcp.
_FIN, _SYN, _RST = 1, 2, 4


@dataclass
class FarmNode:
    """One node: its processes and the states of its buckets (one group)."""

    name: str
    namespace: str
    config: dict[str, Any]
    daemon: subprocess.Popen[str] | None = None
    service: subprocess.Popen[str] | None = None
    states: bytearray = field(default_factory=lambda: bytearray(BUCKETS))
    view: int = 0

    def start(self) -> None:
        """Start the daemon and, unless it runs, the service."""
        if self.service is None:
            addresses = [str(PORT), *self.config["addresses"]]
            self.service = start_service(self.namespace, self.name, *addresses)
        self.start_daemon()

    def start_daemon(self) -> None:
        """Start the daemon alone: every bucket is FOREIGN, and there is no lease."""
        self.daemon = _spawn(self.namespace, "farm_daemon")
        self.states = bytearray(BUCKETS)
        self.order(self.config)

    def order(self, order: dict[str, Any]) -> dict[str, Any]:
        """Order something of the daemon and return its answer; raise SystemUnsuitable."""
        assert self.daemon
        assert self.daemon.stdin
        assert self.daemon.stdout
        self.daemon.stdin.write(json.dumps(order) + "\n")
        self.daemon.stdin.flush()
        ready, _, _ = select.select([self.daemon.stdout], [], [], ANSWER_SECONDS)
        line = self.daemon.stdout.readline() if ready else ""
        if not line:
            raise SystemUnsuitable(f"the daemon of {self.name} does not answer")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def set(self, buckets: Sequence[int], state: State) -> dict[str, Any]:
        """Give `buckets` another state, all at once."""
        for number in buckets:
            self.states[number] = state
        self.view += 1
        return self.order({"view": self.view, "groups": [self.states.hex()]})

    def mac(self) -> bytes:
        """Return the node's own MAC."""
        with inside(self.namespace):
            return hardware_address("eth0")

    def clients(self) -> list[tuple[IPAddress, int]]:
        """Return address and port of each connection that the kernel knows, half-closed too."""
        with inside(self.namespace):
            tables = [
                Path(f"/proc/thread-self/net/{name}").read_text(encoding="ascii")
                for name in ("tcp", "tcp6")
            ]
        rows = [line.split() for table in tables for line in table.splitlines()[1:]]
        return [
            _client(row[2])
            for row in rows
            if row[1].endswith(f":{PORT:04X}") and row[3] != _LISTENS
        ]

    def counters(self) -> dict[str, int]:
        """Return the counters of the filter."""
        answer: dict[str, int] = self.order({"counters": True})["counters"]
        return answer

    def kill(self) -> None:
        """Kill the daemon; its service goes on."""
        if self.daemon:
            end(self.daemon)
            self.daemon = None

    def freeze(self) -> None:
        """Stop the daemon where it is."""
        assert self.daemon
        self.daemon.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.daemon
        self.daemon.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Let the daemon close everything; raise SystemUnsuitable if it does not end well."""
        assert self.daemon
        assert self.daemon.stdin
        self.daemon.stdin.close()
        code = self.daemon.wait(timeout=ANSWER_SECONDS)
        end(self.daemon)
        self.daemon = None
        if code:
            raise SystemUnsuitable(f"the daemon of {self.name} ended with {code}")

    def end(self) -> None:
        """Kill what runs."""
        for process in (self.daemon, self.service):
            if process:
                end(process)
        self.daemon = self.service = None


def start_service(namespace: str, name: str, port: str, *addresses: str) -> subprocess.Popen[str]:
    """Start a service that says a name, and wait until it listens; `end` ends it."""
    service = _spawn(namespace, "farm_service", name, port, *addresses)
    assert service.stdout
    assert service.stdout.readline() == "ready\n", "the service does not start"
    return service


def end(process: subprocess.Popen[str]) -> None:
    """Kill a process, if it runs, and forget it."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream:
            with contextlib.suppress(OSError):
                stream.close()


def _spawn(namespace: str, program: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"mirrorfarm.lab.{program}", *arguments]
    with inside(namespace):
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


class FarmLab:
    """Three nodes (or as many as asked for) and a client."""

    def __init__(self, kind: str, delivery: str, nodes: int = 3, **config: Any) -> None:
        prefix = unique_prefix()
        self._folder = tempfile.TemporaryDirectory(prefix=f"{prefix}-")
        names = tuple(f"n{number}" for number in range(1, nodes + 1))
        hosts = {name: number for number, name in enumerate((*names, "c"), 11)}
        self.wiring = Wiring(prefix, (*names, "c"), ("lan",), hosts, detect_duplicates=False)
        self.config = {
            "module": "farm",
            "filter": kind,
            "delivery": delivery,
            "interfaces": ["eth0"],
            "addresses": [VIP4, VIP6],
            "rules": RULES,
            "seed": 0x5EED,
        } | config
        self.settings: Settings = settings_of(self.config)
        self.nodes = [
            FarmNode(
                name,
                self.wiring.namespace(name),
                self.config | {"ledger": f"{self._folder.name}/{name}.json"},
            )
            for name in names
        ]
        self.owners = [number % nodes for number in range(BUCKETS)]

    def build(self, lease_ms: int = LEASE_MS) -> None:
        """Make the network, start the nodes, give each its share."""
        self.wiring.build()
        with ThreadPoolExecutor() as threads:
            list(threads.map(FarmNode.start, self.nodes))
        for number, node in enumerate(self.nodes):
            node.set([b for b in range(BUCKETS) if self.owners[b] == number], State.HARD)
            node.order({"lease_ms": lease_ms})
        if self.directed:
            place = f"lladdr {self.known_mac(VIP4).hex(':')} dev eth0 nud permanent"
            lines = [f"neigh replace {address} {place}" for address in (VIP4, VIP6)]
            batch(lines, self.wiring.namespace("c"))
        self._relay()

    @property
    def directed(self) -> bool:
        """Whether the client knows the first node alone, which relays."""
        return self.settings.delivery is Delivery.DIRECTED

    def known_mac(self, address: str) -> bytes:
        """Return the MAC at which the client sees a virtual address."""
        return (
            self.nodes[0].mac() if self.directed else self.settings.virtual_mac(ip_address(address))
        )

    def remove(self) -> None:
        """End and delete everything."""
        for node in self.nodes:
            node.end()
        self.wiring.remove()
        self._folder.cleanup()

    @contextlib.contextmanager
    def client(self) -> Iterator[None]:
        """Use the client's network in the block, by this thread."""
        with inside(self.wiring.namespace("c")):
            yield

    def move(
        self, buckets: Sequence[int], source: int, target: int, state: State = State.SOFT
    ) -> None:
        """Move buckets as planned: the loser closes before the gainer opens them in `state`."""
        self.nodes[source].set(buckets, State.FOREIGN)
        self.nodes[target].set(buckets, state)
        for number in buckets:
            self.owners[number] = target
        self._relay()

    def harden(self) -> int:
        """Make the soft buckets hard in which no other node has connections; return how many."""
        busy = [{self.bucket_of(*client) for client in node.clients()} for node in self.nodes]
        hardened = 0
        for number, node in enumerate(self.nodes):
            others = set[int]().union(*busy[:number], *busy[number + 1 :])
            ready = [b for b in range(BUCKETS) if node.states[b] == State.SOFT and b not in others]
            node.set(ready, State.HARD)
            hardened += len(ready)
        self._relay()
        return hardened

    def _relay(self) -> None:
        """Tell each node to whom it relays what is not its own: all, if the owner is not alone."""
        if not self.directed:
            return
        macs = {node.name: node.mac().hex() for node in self.nodes}
        for number, node in enumerate(self.nodes):
            others = [other for other in range(len(self.nodes)) if other != number]
            whom = bytearray(BUCKETS)
            for b, owner in enumerate(self.owners):
                if self.nodes[owner].states[b] == State.SOFT:
                    whom[b] = EVERY_PEER
                elif owner != number:
                    whom[b] = others.index(owner) + 1
            told = [macs[node.name], *(macs[self.nodes[other].name] for other in others)]
            node.order({"relay": whom.hex(), "macs": told})

    def move_at_random(
        self, chance: random.Random, all_of_it: bool, state: State = State.SOFT
    ) -> int:
        """Move half of a node's buckets, or all, to another one; return how many."""
        source = chance.randrange(len(self.nodes))
        target = (source + chance.randrange(1, len(self.nodes))) % len(self.nodes)
        owned = [b for b in range(BUCKETS) if self.owners[b] == source]
        moved = owned if all_of_it else chance.sample(owned, len(owned) // 2)
        if moved:
            self.move(moved, source, target, state)
        return len(moved)

    def owner(self, sock: socket.socket, protocol: int = TCP, fragments: bool = False) -> str:
        """Return the name of the node that must answer this connected socket of the client."""
        kind = Kind.SYN if protocol == TCP else Kind.UDP
        address, port, *_ = sock.getsockname()
        found = self.bucket_of(
            ip_address(address), port, protocol, Kind.FRAGMENT if fragments else kind
        )
        return self.nodes[self.owners[found]].name

    def bucket_of(
        self, client: IPAddress, port: int, protocol: int = TCP, kind: Kind = Kind.SYN
    ) -> int:
        """Return the bucket of what a client sends from a port."""
        target = ip_address(VIP6 if client.version == 6 else VIP4)
        packet = Packet(kind, client.version, client.packed, target.packed, protocol, port, PORT)
        found = bucket(packet, self.settings.rules, self.settings.seed, self.placing())
        assert isinstance(found, Placement)
        return found.bucket

    def placing(self) -> Callable[[bytes, int], int]:
        """Return the hash of this farm's kind of filter."""
        return jhash_bucket if self.config["filter"] == "nft" else xxhash_bucket

    def connect(self, address: str, seconds: float = CONNECT_SECONDS) -> socket.socket:
        """Connect the client by TCP; raises OSError."""
        with self.client():
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        sock.settimeout(seconds)
        try:
            sock.connect((address, PORT))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            sock.close()
            raise
        return sock

    def ask(self, address: str, seconds: float = CONNECT_SECONDS) -> tuple[list[str], str]:
        """Ask once by UDP; return who answered and who should have."""
        with self.client():
            sock = socket.socket(
                socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM
            )
        with sock:
            sock.connect((address, PORT))
            sock.settimeout(seconds)
            sock.send(b"who?")
            answers = [sock.recv(100).decode()]
            sock.settimeout(0.02)  # A second answer would be there by now.
            with contextlib.suppress(TimeoutError):
                answers.append(sock.recv(100).decode())
            return answers, self.owner(sock, UDP)


def _client(words: str) -> tuple[IPAddress, int]:
    """Return an end in /proc/net/tcp: an address in words of this machine's order, and a port."""
    text, _, port = words.partition(":")
    packed = b"".join(struct.pack("=I", int(text[i : i + 8], 16)) for i in range(0, len(text), 8))
    address = ip_address(packed)
    return getattr(address, "ipv4_mapped", None) or address, int(port, 16)


@contextlib.contextmanager
def farm(kind: str, delivery: str, lease_ms: int = LEASE_MS, **config: Any) -> Iterator[FarmLab]:
    """Build a farm, and remove it whatever happens."""
    lab = FarmLab(kind, delivery, **config)
    try:
        lab.build(lease_ms)
        yield lab
    finally:
        lab.remove()


@contextlib.contextmanager
def resets(lab: FarmLab) -> Iterator[list[str]]:
    """Collect the TCP resets that the client's interface sees in the block: source, header.

    Not those of connections that both sides have ended: where an acknowledgement comes late, behind
    the end, the client repeats its own, and a socket that is gone answers that with a reset.
    """
    with lab.client():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        sock.bind(("eth0", 3))
    sock.setblocking(False)
    seen: list[str] = []
    ended: dict[frozenset[bytes], set[bytes]] = {}  # By both ports: those that sent their FIN.

    def look(source: bytes, header: bytes) -> None:
        ports, flags = frozenset((header[:2], header[2:4])), header[13]
        if flags & _SYN:
            ended[ports] = set()
        if flags & _FIN:
            ended.setdefault(ports, set()).add(header[:2])
        if flags & _RST and len(ended.get(ports, ())) < 2:
            seen.append(f"{ip_address(source)} {header[:20].hex(' ', -4)}")

    def drain() -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                frame = sock.recv(2048)
                if frame[12:14] == b"\x08\x00" and frame[23] == TCP:
                    look(frame[26:30], frame[14 + (frame[14] & 15) * 4 :])
                elif frame[12:14] == b"\x86\xdd" and frame[20] == TCP:
                    look(frame[22:38], frame[54:])

    with sock:
        sock.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)  # SO_RCVBUFFORCE
        yield seen
        drain()
