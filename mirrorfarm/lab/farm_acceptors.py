"""How many nodes of a farm take one packet: numbered datagrams, and who answers each.

Every node answers a datagram with its name. A number that is answered twice was taken by two
nodes; one that is not answered was taken by none, or lost on the way.
"""

import contextlib
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from mirrorfarm.lab.cluster import OneMachine

PORT = 9_999
SOCKETS = 256  # Each has a port of its own: they fall into as many buckets.
PER_SECOND = 2_000
BURST = 64
LATE_SECONDS = 2.0
_NUMBER = struct.Struct("!Q")

# What a node runs: `python3 -IS -c SERVER ADDRESS NAME`.
SERVER = f"""
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_IP, 15, 1)  # IP_FREEBIND: the address comes and goes.
sock.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE: it loses none.
sock.bind((sys.argv[1], {PORT}))
while True:
    data, client = sock.recvfrom(64)
    sock.sendto(data[:8] + sys.argv[2].encode(), client)
"""


@dataclass
class Datagrams:
    """A client that sends numbered datagrams until it is told to end."""

    lab: OneMachine
    address: str
    sent: dict[int, float] = field(default_factory=dict)  # Number -> when.
    answers: dict[int, list[str]] = field(default_factory=dict)  # Number -> nodes.
    _ends: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Datagrams":
        self._thread = threading.Thread(target=self._run, name="datagrams", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._thread is not None
        alive = self._thread.is_alive()
        self._ends.set()
        self._thread.join(60)
        assert alive, "the client ended before it was told to"

    def _run(self) -> None:
        with self.lab.as_client(), contextlib.ExitStack() as stack:
            sockets = [
                stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                for _ in range(SOCKETS)
            ]
            poll = select.poll()
            by_fd = {}
            for sock in sockets:
                sock.setblocking(False)
                sock.bind(("", 0))
                poll.register(sock, select.POLLIN)
                by_fd[sock.fileno()] = sock
            next_at, number, late = time.monotonic(), 0, 0.0
            while not late or time.monotonic() < late:
                if self._ends.is_set() and not late:
                    late = time.monotonic() + LATE_SECONDS
                now = time.monotonic()
                # Who had to wait does not make up for it: queues on the way would overflow.
                next_at = max(next_at, now - BURST / PER_SECOND)
                while next_at <= now and not late:
                    next_at += 1 / PER_SECOND
                    self.sent[number] = time.monotonic()
                    with contextlib.suppress(OSError):
                        packet = _NUMBER.pack(number)
                        sockets[number % SOCKETS].sendto(packet, (self.address, PORT))
                    number += 1
                for descriptor, _ in poll.poll(1):
                    self._receive(by_fd[descriptor])

    def _receive(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):  # Nothing more; or an error that a cut cable caused.
            while True:
                data = sock.recv(64)
                (number,) = _NUMBER.unpack_from(data)
                self.answers.setdefault(number, []).append(data[8:].decode())

    def most(self) -> int:
        """Return the largest number of answers that one datagram got."""
        return max(map(len, self.answers.values()), default=0)

    def between(self, begin: float, end: float) -> Counter[str]:
        """Return who answered what was sent between two monotonic times; "": nobody."""
        return Counter(
            node
            for number, at in self.sent.items()
            if begin <= at < end
            for node in self.answers.get(number, [""])
        )


def change(lab: OneMachine, random: Random, settled: Callable[[set[str]], None]) -> str:
    """Change something in a farm of whose nodes all are UP; return what, when it is undone.

    `settled(members)` waits until the farm has these members and a stable view.
    """
    node = random.choice(lab.nodes)
    everybody, rest = set(lab.nodes), set(lab.nodes) - {node}
    first = min(rest)
    match random.choice(("drain", "power", "stop", "kill", "cut")):
        case "drain":
            lab.mirrorfarm(first, "farm", "drain", node, "-m", lab.module)
            lab.mirrorfarm(first, "farm", "resume", node, "-m", lab.module)
            what = f"{node} drained and resumed"
        case "power":
            power = random.choice((0, 2, 5))
            lab.mirrorfarm(first, "farm", "power", node, str(power), "-m", lab.module)
            lab.mirrorfarm(first, "farm", "power", node, "1", "-m", lab.module)
            what = f"power of {node} {power} and 1 again"
        case "stop":
            lab.order(node, "stop")
            settled(rest)
            lab.order(node, "start")
            what = f"{node} stopped and started"
        case "kill":
            lab.run(node, ["kill", "-9", *map(str, _inner(lab, node))])
            settled(rest)
            what = f"the process of {node} killed"
        case _:
            lab.cut(node)
            settled(rest)
            lab.mend(node)
            what = f"the cable of {node} out and in"
    settled(everybody)
    return what


def _inner(lab: OneMachine, node: str) -> list[int]:
    """Return the module's process as the node itself numbers it."""
    found = lab.run(node, ["pgrep", "-f", "mirrorfarm.module_process"]).stdout.split()
    return [int(word) for word in found]
