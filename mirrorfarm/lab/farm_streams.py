"""A farm on one machine, without daemons: nodes that echo their name, a client, live streams.

Every node has a network namespace with the virtual addresses on its loopback and its own
filter at its only interface; the switch floods what goes to the virtual MAC, because nobody
ever sends from it. Whoever uses this moves buckets and looks at what becomes of connections.
"""

import contextlib
import ctypes
import random
import selectors
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from xxhash import xxh64_intdigest

from mirrorfarm.lab.network import Wiring, batch, inside
from mirrorfarm.limits import BUCKETS
from mirrorfarm.netfilter.bpf_program import FarmProgram
from mirrorfarm.netfilter.rules import State, rule
from mirrorfarm.netfilter.share import Owners, bucket_of, share

VIRTUAL = "198.18.0.100"
VIRTUAL_6 = "2001:db8:0:0::100"
VIRTUAL_MAC = "02:bf:c6:12:00:64"
PORT = 8000
SEED = 0x5EED
INTERFACE = "eth0"
FOR_EVER = 2**63
ANSWER_SECONDS = 3.0
# Network namespaces share the kernel's secret of SYN cookies, as machines do not: here one node
# would take the cookie of another. That ends with the first answer only if it is longer than
# the question by more than the few sizes a cookie can stand for.
ANSWER_BYTES = 32
_LISTEN_STATE = "0A"
_ATTACH_FILTER = 26  # SO_ATTACH_FILTER


def raw(address: str) -> bytes:
    """Return an address as its 4 or 16 bytes."""
    return ip_address(address).packed


def bucket_of_client(address: str, port: int) -> int:
    """Return the bucket of a connection from there."""
    return bucket_of(xxh64_intdigest(raw(address) + port.to_bytes(2, "big"), SEED))


def set_kernel(name: str, value: int) -> None:
    """Set `net.…` in the network namespace that this thread is in."""
    (Path("/proc/sys") / name.replace(".", "/")).write_text(f"{value}\n", encoding="ascii")


class EchoServer:
    """Answers everything at the virtual addresses with its name, in a thread of its own."""

    def __init__(self, name: str, namespace: str) -> None:
        self._answer = name.encode().ljust(ANSWER_BYTES)
        with inside(namespace):
            self._listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self._listener.bind(("::", PORT))
        self._listener.listen(1024)
        self._listener.setblocking(False)
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, name=f"echo-{name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close every connection and end the thread."""
        self._stopped = True
        self._thread.join()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._stopped:
                for key, _ in selector.select(0.1):
                    self._serve_one(selector, key.fileobj)  # type: ignore[arg-type]
            for key in list(selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]

    def _serve_one(self, selector: selectors.BaseSelector, ready: socket.socket) -> None:
        if ready is self._listener:
            with contextlib.suppress(OSError):
                connection, _ = ready.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.setblocking(False)
                selector.register(connection, selectors.EVENT_READ)
            return
        try:
            if ready.recv(4096):
                ready.send(self._answer)
                return
        except OSError:
            pass  # Reset: the client sees it, and counts.
        selector.unregister(ready)
        ready.close()


@dataclass
class Stream:
    """A connection that lives on."""

    connection: socket.socket
    bucket: int
    node: str  # That answered first, and must answer always.
    alive: bool = True


@dataclass
class Farm:
    """Nodes n1, n2, … with equal powers and a client `c`, until the end of the block."""

    prefix: str
    nodes: int = 3
    old: bool = False  # Attach as older kernels do.
    cookies: int = 1  # net.ipv4.tcp_syncookies
    wiring: Wiring = field(init=False)
    filters: dict[str, FarmProgram] = field(default_factory=dict)
    owners: Owners = ()
    _servers: list[EchoServer] = field(default_factory=list)

    def __post_init__(self) -> None:
        machines = (*self.names, "c")
        hosts = {name: number for number, name in enumerate(self.names, 1)} | {"c": 50}
        self.wiring = Wiring(self.prefix, machines, ("farm",), hosts)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the nodes."""
        return tuple(f"n{number}" for number in range(1, self.nodes + 1))

    def __enter__(self) -> "Farm":
        try:
            self.wiring.build()
            self._prepare_client()
            self.owners = share(dict.fromkeys(self.names, 1), SEED)
            for name in self.names:
                self._begin(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        for filter_ in self.filters.values():
            filter_.close()
        self.wiring.remove()

    def _prepare_client(self) -> None:
        """Tell the client where the virtual addresses are; who answers ARP is another matter."""
        place = f"lladdr {VIRTUAL_MAC} dev {INTERFACE} nud permanent"
        lines = [f"neigh replace {address} {place}" for address in (VIRTUAL, VIRTUAL_6)]
        batch(lines, self.wiring.namespace("c"))

    def _begin(self, name: str) -> None:
        namespace = self.wiring.namespace(name)
        with inside(namespace):
            set_kernel("net.ipv4.conf.all.arp_ignore", 1)
            set_kernel("net.ipv4.conf.all.arp_announce", 2)
            set_kernel("net.ipv4.tcp_syncookies", self.cookies)
            filter_ = self.filters[name] = FarmProgram.load()
            for address in (VIRTUAL, VIRTUAL_6):
                filter_.set_address(raw(address), (rule("tcp", "on_port", str(PORT)),), SEED)
            own = [State.HARD if owner == name else State.FOREIGN for owner in self.owners]
            filter_.set_buckets(0, own)
            filter_.renew(FOR_EVER)
            filter_.attach(INTERFACE, old=self.old)
        lines = [f"addr add {VIRTUAL}/32 dev lo", f"addr add {VIRTUAL_6}/128 dev lo nodad"]
        batch(lines, namespace)
        self._servers.append(EchoServer(name, namespace))

    # --- moves -------------------------------------------------------------------------------

    def owned(self, name: str) -> list[int]:
        """Return the buckets that a node owns."""
        return [bucket for bucket in range(BUCKETS) if self.owners[bucket] == name]

    def move(self, buckets: Iterable[int], loser: str, gainer: str, state: State) -> None:
        """Move buckets: first the loser stops taking new connections, then the gainer begins."""
        moved = sorted(buckets)
        self.filters[loser].change_buckets(0, moved, State.FOREIGN)
        self.filters[gainer].change_buckets(0, moved, state)
        wanted = set(moved)
        self.owners = tuple(
            gainer if bucket in wanted else owner for bucket, owner in enumerate(self.owners)
        )

    def harden(self) -> int:
        """Make the soft buckets hard in which no other node has connections; return how many."""
        busy = {name: self.busy_buckets(name) for name in self.names}
        hardened = 0
        for name, filter_ in self.filters.items():
            others = {bucket for other in self.names if other != name for bucket in busy[other]}
            states = filter_.states(0)
            ready = [b for b, state in enumerate(states) if state is State.SOFT and b not in others]
            filter_.change_buckets(0, ready, State.HARD)
            hardened += len(ready)
        return hardened

    def busy_buckets(self, name: str) -> set[int]:
        """Return the buckets in which a node's kernel knows connections, half-closed ones too."""
        found = set()
        with inside(self.wiring.namespace(name)):
            for table in ("tcp", "tcp6"):
                text = Path(f"/proc/thread-self/net/{table}").read_text(encoding="ascii")
                for line in text.splitlines()[1:]:
                    words = line.split()
                    if words[1].endswith(f":{PORT:04X}") and words[3] != _LISTEN_STATE:
                        address, _, port = words[2].partition(":")
                        found.add(bucket_of_client(_address_of(address), int(port, 16)))
        return found

    def verdicts(self) -> dict[str, Counter[str]]:
        """Return the counters of each node's filter."""
        return {name: Counter(filter_.verdicts()) for name, filter_ in self.filters.items()}


def _address_of(words: str) -> str:
    """Return an address of /proc/net/tcp: words in the order of this machine's bytes."""
    packed = b"".join(struct.pack("=I", int(words[i : i + 8], 16)) for i in range(0, len(words), 8))
    address = ip_address(packed)
    return str(getattr(address, "ipv4_mapped", None) or address)


class Client:
    """The client of a farm: streams that live on, and connections of one question each."""

    def __init__(self, farm: Farm, virtual: str = VIRTUAL) -> None:
        self.farm = farm
        self.virtual = virtual
        self.streams: list[Stream] = []
        self.events: Counter[str] = Counter()
        self.slowest_ns = 0  # Answer on a stream.

    def close(self) -> None:
        """Close every stream."""
        for stream in self.streams:
            stream.connection.close()

    def connect(self) -> Stream:
        """Open a connection and ask who answers; raise OSError if nobody does."""
        family = socket.AF_INET6 if ":" in self.virtual else socket.AF_INET
        with inside(self.farm.wiring.namespace("c")):
            connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect((self.virtual, PORT))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            address, port, *_ = connection.getsockname()
            connection.sendall(b"?")
            node = connection.recv(64).decode().strip()
        except OSError:
            connection.close()
            raise
        return Stream(connection, bucket_of_client(str(ip_address(address)), port), node)

    def open(self, number: int) -> None:
        """Open streams that live on."""
        self.streams += [self.connect() for _ in range(number)]

    def ask_once(self) -> bool:
        """Open a connection and close it; return whether its bucket's owner answered."""
        stream = self.connect()
        stream.connection.close()
        return stream.node == self.farm.owners[stream.bucket]

    def ask_all(self) -> None:
        """Ask on every stream that lives; note which died, and how."""
        for stream in self.streams:
            if not stream.alive:
                continue
            begin_ns = time.monotonic_ns()
            try:
                stream.connection.sendall(b"?")
                answer = stream.connection.recv(64).decode().strip()
            except OSError as error:
                self._lost(stream, type(error).__name__)
                continue
            if answer != stream.node:
                self._lost(stream, "closed" if not answer else "answered by another node")
                continue
            self.slowest_ns = max(self.slowest_ns, time.monotonic_ns() - begin_ns)
            self.events["answered"] += 1

    def alive(self) -> int:
        """Return how many streams live."""
        return sum(stream.alive for stream in self.streams)

    def _lost(self, stream: Stream, how: str) -> None:
        stream.alive = False
        self.events[how] += 1


# Classic BPF that lets TCP resets through, of IPv4 without options and IPv6 without extensions.
_RESETS = (
    *((0x28, 0, 0, 12), (0x15, 0, 4, 0x0800)),  # Ethernet type: not IPv4, on to line 6.
    *((0x30, 0, 0, 23), (0x15, 0, 7, 6), (0x30, 0, 0, 47), (0x05, 0, 0, 3)),  # TCP: its flags.
    *((0x30, 0, 0, 20), (0x15, 0, 3, 6), (0x30, 0, 0, 67)),  # The same of IPv6.
    *((0x45, 0, 1, 4), (0x06, 0, 0, 128), (0x06, 0, 0, 0)),  # RST: take 128 bytes, or nothing.
)


@contextlib.contextmanager
def resets(namespace: str) -> Iterator[list[bytes]]:
    """Collect the TCP resets that pass the interface in the block, in both directions."""
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *row) for row in _RESETS))
    found: list[bytes] = []
    with inside(namespace):
        watcher = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        option = struct.pack("@HP", len(_RESETS), ctypes.addressof(program))
        watcher.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, option)
        watcher.setblocking(False)
        watcher.bind((INTERFACE, 0x0003))  # ETH_P_ALL
        yield found
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(watcher.recv(128))
    finally:
        watcher.close()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What many moves did to the connections of a client."""

    moves: int
    moved: int  # Buckets, in sum.
    hardened: int
    streams: int
    alive: int
    right: int  # New connections that the right node answered.
    wrong: int
    resets: int
    slowest_ns: int
    cookies: int  # Handshakes completed by a SYN cookie in a soft bucket.


def many_moves(
    farm: Farm,
    virtual: str,
    *,
    seed: int,
    moves: int = 40,
    streams: int = 90,
    state: State = State.SOFT,
) -> Outcome:
    """Move random buckets under live streams; after each move ask all, and five new ones.

    Each move takes half of what a node owns, each fourth all of it. `state` is how the gainer
    opens them: HARD is wrong, and shows what for there is SOFT.
    """
    dice = random.Random(seed)
    client = Client(farm, virtual)
    before = farm.verdicts()
    moved = hardened = right = wrong = 0
    with resets(farm.wiring.namespace("c")) as seen, contextlib.closing(client):
        client.open(streams)
        for number in range(moves):
            loser, gainer = dice.sample(farm.names, 2)
            buckets = farm.owned(loser)
            if number % 4:
                buckets = dice.sample(buckets, len(buckets) // 2)
            farm.move(buckets, loser, gainer, state)
            moved += len(buckets)
            client.ask_all()
            for _ in range(5):
                answered = client.ask_once()
                right, wrong = right + answered, wrong + (not answered)
            hardened += farm.harden()
        client.ask_all()
        alive = client.alive()
    cookies = sum((now - before[name])["cookie"] for name, now in farm.verdicts().items())
    reset = len(seen)
    return Outcome(
        *(moves, moved, hardened, streams, alive, right, wrong, reset, client.slowest_ns, cookies)
    )
