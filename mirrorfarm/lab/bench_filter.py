"""What the farm's filter in the kernel costs, and how evenly it spreads clients.

    python -m mirrorfarm.lab.bench_filter [--only TEXT] [--json FILE]

The cost of a packet is what the kernel says of many runs of the program on one frame
(BPF_PROG_TEST_RUN), without interface, driver or IP stack; the floor is what that costs for a
frame that the program leaves alone at once. Changes of buckets are measured in a network namespace
of their own. So no traffic of the machine is touched.
"""

import argparse
import json
import math
import random
import socket
import statistics
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory

from mirrorfarm.cli.show import table
from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.lab.bench_mirror import Row
from mirrorfarm.lab.network import inside, order
from mirrorfarm.limits import BUCKETS, MICROSECOND_NS
from mirrorfarm.netfilter.bpf_program import FarmProgram
from mirrorfarm.netfilter.choice import make
from mirrorfarm.netfilter.filter import BucketTable, PacketFilter, Settings
from mirrorfarm.netfilter.packet import Kind, Packet
from mirrorfarm.netfilter.rules import Placement, State, bucket, rule
from mirrorfarm.netfilter.share import share

SEED = 0x5EED
VIRTUAL, VIRTUAL_6 = "198.18.0.100", "2001:db8:f::100"
CLIENT, CLIENT_6 = "198.18.0.50", "2001:db8:f::50"
OTHER = "198.18.0.101"
PORT = 80
RULES = (rule("tcp", "on_port", str(PORT)), rule("udp", "on_addr", "53", group=1))
REPEAT = 200_000
ROUNDS = 9
CHANGED = 42
CHANGES = (
    (1, State.FOREIGN, State.HARD),
    (25, State.FOREIGN, State.HARD),
    (BUCKETS, State.FOREIGN, State.HARD),
    (BUCKETS, State.FOREIGN, State.SOFT),
    (BUCKETS, State.SOFT, State.HARD),
)
CLIENTS = 50_000
TRIALS = 1_000
SYN, ACK = 0x02, 0x10
FOR_EVER = 2**63

Part = Callable[[list[Row]], None]


class Typical(Row):
    """A time on a machine that does other things too: the median must be within the limit."""

    @property
    def reached(self) -> bool:
        """Whether the typical result is within the limit."""
        return bool(self.values) and statistics.median(self.values) <= self.limit


def frame(virtual: str, flags: int, source: str = "", port: int = 40_000) -> bytes:
    """Return a TCP segment of a client to an address, in Ethernet."""
    segment = struct.pack("!HHIIBBHHH", port, PORT, 7, 9, 0x50, flags, 64_240, 0, 0)
    destination = ip_address(virtual).packed
    if len(destination) == 16:
        head = struct.pack("!IHBB", 6 << 28, len(segment), 6, 64)
        addresses = ip_address(source or CLIENT_6).packed + destination
        return bytes(12) + b"\x86\xdd" + head + addresses + segment
    head = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0x4000, 64, 6, 0)
    addresses = ip_address(source or CLIENT).packed + destination
    return bytes(12) + b"\x08\x00" + head + addresses + segment + bytes(6)


def cost(rows: list[Row]) -> None:
    """Measure what a packet costs, case after case, several rounds of all of them."""
    cases = (
        ("frame that is no IP: the floor", bytes(12) + b"\x08\x06" + bytes(46), None, math.inf),
        ("packet for another address", frame(OTHER, SYN), None, 70),
        ("opening, owned", frame(VIRTUAL, SYN), State.HARD, 70),
        ("opening, another node's", frame(VIRTUAL, SYN), State.FOREIGN, 70),
        ("segment of a connection, owned", frame(VIRTUAL, ACK), State.HARD, 70),
        ("opening, owned, IPv6", frame(VIRTUAL_6, SYN), State.HARD, 70),
        ("segment, another node's: socket lookup", frame(VIRTUAL, ACK), State.FOREIGN, 150),
        ("the same, IPv6", frame(VIRTUAL_6, ACK), State.FOREIGN, 150),
    )
    made = [Typical(f"{name}, ns", limit, "ns") for name, _, _, limit in cases]
    with closing(loaded()) as program:
        for _ in range(ROUNDS):
            for row, (_, sent, state, _) in zip(made, cases, strict=True):
                if state is not None:
                    program.set_buckets(0, (state,) * BUCKETS)
                row.values.append(program.run(sent, REPEAT).nanoseconds)
    rows += made


def known(rows: list[Row]) -> None:
    """Measure a segment of a connection that lives here, in another node's bucket."""
    row = Typical("segment of a connection here, another's bucket, ns", 150, "ns")
    with closing(loaded()) as program, socket.create_server(("127.0.0.1", 0)) as listener:
        here = listener.getsockname()
        program.set_address(ip_address(here[0]).packed, (rule("tcp", "on_port"),), SEED)
        with socket.create_connection(here) as client, listener.accept()[0]:
            sent = bytearray(frame(here[0], ACK, *client.getsockname()))
            sent[36:38] = here[1].to_bytes(2, "big")
            row.values = [program.run(bytes(sent), REPEAT).nanoseconds for _ in range(ROUNDS)]
            if program.verdicts()["known"] != ROUNDS * REPEAT:
                row.values = []
                row.note = "the connection was not found"
    rows.append(row)


def relayed(rows: list[Row]) -> None:
    """Measure what the one node that receives pays to pass an opening on to its owner."""
    row = Typical("opening, relayed to its owner (vmac_directed), ns", math.inf, "ns")
    sent = bytes(6) + frame(VIRTUAL, SYN)[6:]  # To the loopback's own address, as in a test run.
    with closing(loaded()) as program:
        program.set_address(ip_address(VIRTUAL).packed, RULES, SEED, directed=True)
        program.set_peers(b"\x02\0\0\0\0\x01", [b"\x02\0\0\0\0\x02"])
        program.set_buckets(0, (State.FOREIGN,) * BUCKETS, (1,) * BUCKETS)
        row.values = [program.run(sent, REPEAT).nanoseconds for _ in range(ROUNDS)]
        if program.verdicts()["relayed"] != ROUNDS * REPEAT:
            row.values = []
            row.note = "it was not relayed"
    rows.append(row)


def loaded() -> FarmProgram:
    """Return the program with its addresses and a lease."""
    program = FarmProgram.load()
    for address in (VIRTUAL, VIRTUAL_6):
        program.set_address(ip_address(address).packed, RULES, SEED)
    program.renew(FOR_EVER)
    return program


def update(rows: list[Row]) -> None:
    """Measure the change of buckets, from the table of the daemon to the kernel's."""
    with namespace(), TemporaryDirectory(prefix="mf-filter-") as folder:
        for kind in ("bpf", "nft"):
            filter_ = make(kind, Path(folder) / "ledger.json")
            settings = Settings("bench", (), (ip_address(VIRTUAL),), RULES, SEED)
            filter_.open(settings)
            with closing(filter_):
                rows += [changed(kind, filter_, *change) for change in CHANGES]


def changed(kind: str, filter_: PacketFilter, count: int, one: State, other: State) -> Row:
    """Return how long it takes to change so many buckets between two states, there and back."""
    name = f"{kind}: {count} buckets {one.name} - {other.name}, µs"
    row = Typical(name, 2_000 if count == BUCKETS else math.inf, "µs")
    for number in range(CHANGED):
        state = other if number % 2 else one
        table = BucketTable(number, (bytes([state] * count + [State.FOREIGN] * (BUCKETS - count)),))
        begin_ns = time.perf_counter_ns()
        filter_.apply(table)
        row.values.append((time.perf_counter_ns() - begin_ns) / MICROSECOND_NS)
    row.values = row.values[2:]  # The first comes from another state.
    return row


@contextmanager
def namespace() -> Iterator[None]:
    """Use a network of its own in the block: nobody's packets meet the filters."""
    name = f"mffilter{random.getrandbits(16):04x}"
    order("ip", "netns", "add", name)
    try:
        with inside(name):
            yield
    finally:
        order("ip", "netns", "del", name)


def populations() -> Iterator[tuple[str, list[bytes]]]:
    """Yield 50,000 clients of several kinds."""
    dice = random.Random(SEED)
    first = int(ip_address("198.18.0.0"))
    in_order = [(first + i).to_bytes(4, "big") for i in range(CLIENTS)]
    yield "random", [dice.randbytes(4) for _ in range(CLIENTS)]
    yield "one after the other", in_order
    yield (
        "the first of each /24",
        [((10 << 24) + (i << 8) + 1).to_bytes(4, "big") for i in range(CLIENTS)],
    )
    yield "IPv6, random", [dice.randbytes(16) for _ in range(CLIENTS)]


def spread(clients: list[bytes], nodes: int, ports: int = 0) -> float:
    """Return what the node with most gets, in mean shares; `ports`: connections of each client."""
    names = [f"n{number}" for number in range(1, nodes + 1)]
    owners = share(dict.fromkeys(names, 1), SEED)
    counts = dict.fromkeys(names, 0)
    rules = (rule("tcp", "on_port" if ports else "on_addr"),)
    dice = random.Random(nodes)
    for client in clients:
        for _ in range(max(1, ports)):
            port = dice.randrange(32_768, 61_000)
            version = 4 if len(client) == 4 else 6
            found = bucket(Packet(Kind.SYN, version, client, b"", 6, port, PORT), rules, SEED)
            assert isinstance(found, Placement)
            counts[owners[found.bucket]] += 1
    return max(counts.values()) * nodes / (len(clients) * max(1, ports))


def evenness(rows: list[Row]) -> None:
    """Measure how evenly clients are spread over equal nodes, beside pure chance."""
    found = list(populations())
    for nodes in (3, 16):
        chance = by_chance(nodes, CLIENTS)
        expected, rare = statistics.mean(chance), statistics.quantiles(chance, n=100)[-1]
        # No hash is more even than chance: 1.02 is too much to ask of few clients per node.
        limit = round(max(1.02, rare), 3)
        row = Row(f"{nodes} nodes, {CLIENTS} clients, by address: most / mean", limit, "")
        row.values = [spread(clients, nodes) for _, clients in found]
        row.note = f"by chance: {expected:.3f}, in 1 of 100 more than {rare:.3f}"
        rows.append(row)
        each = Row(f"{nodes} nodes, the same, 10 connections each by port: most / mean", 1.02, "")
        each.values = [spread(clients, nodes, 10) for _, clients in found]
        rows.append(each)


def by_chance(nodes: int, clients: int, trials: int = TRIALS) -> list[float]:
    """Return most / mean of so many trials in which every client goes to any node alike."""
    dice = random.Random(SEED)
    usable = 256 - 256 % nodes  # Bytes beyond would be one node's more often than another's.
    unusable = bytes(range(usable, 256))
    found = []
    for _ in range(trials):
        thrown = bytearray()
        while len(thrown) < clients:
            thrown += dice.randbytes(clients).translate(None, unusable)
        counts = [0] * nodes
        for value, count in Counter(thrown[:clients]).items():
            counts[value % nodes] += count
        found.append(max(counts) * nodes / clients)
    return found


PARTS: dict[str, Part] = {
    "cost": cost,
    "known": known,
    "relayed": relayed,
    "update": update,
    "evenness": evenness,
}


def main() -> int:
    """Measure every part, print a table; exit 1 if something is missing or beyond its limit."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write the single results here")
    parser.add_argument("--only", default="", help=f"parts that contain this: {', '.join(PARTS)}")
    options = parser.parse_args()
    rows: list[Row] = []
    try:
        for name, measure in PARTS.items():
            if options.only in name:
                measure(rows)
    except SystemUnsuitable as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    heads = ("what", "runs", "median", "most", "allowed", "reached", "")
    table(heads, [row.cells() for row in rows])
    if options.json:
        results = {row.name: [round(value, 3) for value in row.values] for row in rows}
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0 if all(row.reached for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
