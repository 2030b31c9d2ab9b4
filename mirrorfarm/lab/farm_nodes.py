"""A farm on one machine, without daemons: nodes that echo their name, behind their filters.

Every node has a network namespace with the virtual addresses on its loopback and its own
filter at its only interface; the switch floods what goes to the virtual MAC, because nobody
ever sends from it. Whoever uses this moves buckets and looks at what becomes of connections.
"""

import contextlib
import selectors
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from xxhash import xxh64_intdigest

from mirrorfarm.lab.network import Wiring, batch, inside
from mirrorfarm.limits import BUCKETS
from mirrorfarm.netfilter.announce import hardware_address
from mirrorfarm.netfilter.bpf_program import FarmProgram
from mirrorfarm.netfilter.rules import State, rule
from mirrorfarm.netfilter.share import Owners, bucket_of, share
from mirrorfarm.netfilter.tables import EVERY_PEER

VIRTUAL = "198.18.0.100"
VIRTUAL_6 = "2001:db8:0:0::100"
VIRTUAL_MAC = "02:bf:c6:12:00:64"
PORT = 8000
SEED = 0x5EED
INTERFACE = "eth0"
FOR_EVER = 2**63
# Network namespaces share the kernel's secret of SYN cookies, as machines do not: here one node
# would take the cookie of another. That ends with the first answer only if it is longer than
# the question by more than the few sizes a cookie can stand for.
ANSWER_BYTES = 32
_LISTEN_STATE = "0A"


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
class Farm:
    """Nodes n1, n2, … with equal powers and a client `c`, until the end of the block."""

    prefix: str
    nodes: int = 3
    old: bool = False  # Attach as older kernels do.
    cookies: int = 1  # net.ipv4.tcp_syncookies
    directed: bool = False  # The client knows n1 alone, which relays.
    wiring: Wiring = field(init=False)
    filters: dict[str, FarmProgram] = field(default_factory=dict)
    owners: Owners = ()
    _servers: list[EchoServer] = field(default_factory=list)
    _macs: dict[str, bytes] = field(default_factory=dict)

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
            for name in self.names:
                with inside(self.wiring.namespace(name)):
                    self._macs[name] = hardware_address(INTERFACE)
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
        place = f"lladdr {self.known_mac().hex(':')} dev {INTERFACE} nud permanent"
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
                rules = (rule("tcp", "on_port", str(PORT)),)
                filter_.set_address(raw(address), rules, SEED, directed=self.directed)
            filter_.set_peers(self._macs[name], [self._macs[other] for other in self._peers(name)])
            own = [State.HARD if owner == name else State.FOREIGN for owner in self.owners]
            whom = [self._whom(name, owner, State.HARD) for owner in self.owners]
            filter_.set_buckets(0, own, whom)
            filter_.renew(FOR_EVER)
            filter_.attach(INTERFACE, old=self.old)
        lines = [f"addr add {VIRTUAL}/32 dev lo", f"addr add {VIRTUAL_6}/128 dev lo nodad"]
        batch(lines, namespace)
        self._servers.append(EchoServer(name, namespace))

    def known_mac(self) -> bytes:
        """Return the hardware address at which the client sees the virtual addresses."""
        return self._macs["n1"] if self.directed else bytes.fromhex(VIRTUAL_MAC.replace(":", ""))

    # --- moves -------------------------------------------------------------------------------

    def owned(self, name: str) -> list[int]:
        """Return the buckets that a node owns."""
        return [bucket for bucket in range(BUCKETS) if self.owners[bucket] == name]

    def move(self, buckets: Iterable[int], loser: str, gainer: str, state: State) -> None:
        """Move buckets: first the loser stops taking new connections, then the gainer begins."""
        moved = sorted(buckets)
        self._write(loser, moved, gainer, state)
        for name in (gainer, *self.names):
            if name != loser:
                self._write(name, moved, gainer, state)
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
            for other in (name, *self.names):
                self._write(other, ready, name, State.HARD)
            hardened += len(ready)
        return hardened

    def _write(self, name: str, buckets: list[int], owner: str, state: State) -> None:
        """Tell a node that `owner` has buckets in `state`."""
        whom = self._whom(name, owner, state)
        own = state if name == owner else State.FOREIGN
        self.filters[name].change_buckets(0, buckets, own, whom)

    def _peers(self, name: str) -> list[str]:
        return [other for other in self.names if other != name]

    def _whom(self, name: str, owner: str, state: State) -> int:
        """Return to whom a node relays what is not its own: all, while the owner is not alone."""
        if not self.directed:
            return 0
        if state is State.SOFT:
            return EVERY_PEER
        return 0 if name == owner else self._peers(name).index(owner) + 1

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
