"""Packets that belong to a flow without saying so: fragments, and ICMP errors of routers.

They are made of bytes, read and placed by the sources that the filters of production are made
from (`netfilter/packet.py`, `rules.py`); only the tables are those of the simulated filters.
"""

import struct
from collections.abc import Callable
from typing import Final

from mirrorfarm.netfilter.packet import ICMP, TCP, UDP, Packet, parse
from mirrorfarm.netfilter.rules import Known, Placement, State, Verdict, accepts, bucket, rule
from mirrorfarm.sim.engine import Draws
from mirrorfarm.sim.farm import FarmNode, FarmWorld
from mirrorfarm.sim.monitors.packets import Fragments, IcmpError

RULES: Final = (rule("udp", "on_port"), rule("tcp", "on_addr"))
SEED: Final = 7
FRAGMENT_BYTES: Final = 64
_VIRTUAL: Final = bytes((198, 18, 0, 100))
_ROUTER: Final = bytes((198, 18, 0, 254))
_MORE: Final = 0x2000  # More fragments follow.
_UNREACHABLE: Final = 3
# Who sees a packet that one node sees, and lets anything in.
Listening = Callable[[str], list[FarmNode]]


class Packets:
    """Sends such packets to a farm now and then."""

    def __init__(self, world: FarmWorld, listening: Listening) -> None:
        self._world, self._listening = world, listening
        self._draws: Draws = world.stream("packets")
        self._datagrams = 0

    def go_on(self, flows: dict[int, tuple[int, int, str, int]]) -> None:
        """Send some: a datagram in fragments, or an error about one of the connections."""
        what = self._draws.below(64)
        if what == 0:
            self.datagram()
        elif what == 1 and flows:
            flow = self._draws.choice(tuple(flows))
            self.error(flow, flows[flow][2])

    def datagram(self) -> None:
        """Send a datagram in two to four fragments."""
        draws, world = self._draws, self._world
        source = bytes((198, 19, draws.below(256), draws.below(256)))
        ports = struct.pack("!HHHH", draws.between(1_024, 65_535), 53, 8 + 4 * FRAGMENT_BYTES, 0)
        count = draws.between(2, 4)
        anchor = draws.choice(world.names)
        self._datagrams += 1
        accepted = []
        for number in range(count):
            field = number * FRAGMENT_BYTES // 8 | (_MORE if number < count - 1 else 0)
            body = ports if number == 0 else b""
            accepted.append(self._accepted(parse(_ipv4(source, UDP, body, field)), anchor))
        world.seen("", Fragments(self._datagrams, tuple(accepted)))

    def error(self, flow: int, at: str) -> None:
        """Have a router say that a packet of a connection could not be delivered."""
        told = _ipv4(_VIRTUAL, TCP, struct.pack("!HHI", 80, 40_000, flow & 0xFFFFFFFF), 0)
        packet = parse(_ipv4(_ROUTER, ICMP, struct.pack("!BBHI", _UNREACHABLE, 1, 0, 0) + told, 0))
        self._world.seen("", IcmpError(flow, at, self._accepted(packet, at)))

    def _accepted(self, packet: Packet, anchor: str) -> tuple[str, ...]:
        """Return which nodes take a packet that `anchor` sees."""
        placed = bucket(packet, RULES, SEED)
        return tuple(
            node.name for node in self._listening(anchor) if self._takes(node, packet, placed)
        )

    @staticmethod
    def _takes(node: FarmNode, packet: Packet, placed: Placement | Verdict) -> bool:
        if not isinstance(placed, Placement):
            return placed is Verdict.EVERYONE
        state = State(node.filter.rows[placed.group][placed.bucket])
        return accepts(packet, state, Known.NOTHING)


def _ipv4(source: bytes, protocol: int, body: bytes, fragment_field: int) -> bytes:
    """Return a packet to the virtual address (RFC 791); nobody here looks at its checksum."""
    length = 20 + max(len(body), FRAGMENT_BYTES)
    head = struct.pack("!BBHHHBBH", 0x45, 0, length, 1, fragment_field, 64, protocol, 0)
    return head + source + _VIRTUAL + body.ljust(FRAGMENT_BYTES, b"\0")
