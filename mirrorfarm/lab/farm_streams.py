"""The client of a farm: streams that live on, and what moves of buckets do to them."""

import contextlib
import ctypes
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from mirrorfarm.lab.farm_nodes import INTERFACE, PORT, VIRTUAL, Farm, bucket_of_client
from mirrorfarm.lab.network import inside
from mirrorfarm.netfilter.rules import State

ANSWER_SECONDS = 3.0
_ATTACH_FILTER = 26  # SO_ATTACH_FILTER


@dataclass
class Stream:
    """A connection that lives on."""

    connection: socket.socket
    bucket: int
    node: str  # That answered first, and must answer always.
    alive: bool = True


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
