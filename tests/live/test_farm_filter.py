"""A farm of three nodes and a client on one bridge: every client is answered by exactly one."""

import contextlib
import itertools
import json
import os
import random
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import pytest

from mirrorfarm.lab.farm import (
    CONNECT_SECONDS,
    LEASE_MS,
    PORT,
    VIP4,
    VIP6,
    FarmLab,
    FarmNode,
    farm,
    resets,
)
from mirrorfarm.lab.flood import packed
from mirrorfarm.lab.network import inside as namespace
from mirrorfarm.netfilter.announce import hardware_address
from mirrorfarm.netfilter.bpf_system import attached
from mirrorfarm.netfilter.choice import choose
from mirrorfarm.netfilter.delivery import Delivery
from mirrorfarm.netfilter.packet import UDP
from mirrorfarm.netfilter.rules import State
from tests.netfilter import packets

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
]

KINDS = ("bpf", "nft", "nfqueue")
CONNECTIONS = 300


def tell(text: str) -> None:
    """Show a measurement: `pytest -s`."""
    sys.stdout.write(f"\n{text}\n")


def wait(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.005)
    return condition()


def name_of(sock: socket.socket) -> str:
    """Return the name with which the service of a connection begins."""
    return sock.recv(100).decode()


def answers(lab: FarmLab, address: str, count: int) -> tuple[int, Counter[str]]:
    """Connect `count` times; return how often the predicted owner answered, and who did."""
    right, who = 0, Counter[str]()
    for _ in range(count):
        with lab.connect(address) as sock:
            name = name_of(sock)
            right += name == lab.owner(sock)
            who[name] += 1
    return right, who


def answer_from(lab: FarmLab, address: str) -> str:
    """Connect; return the owner, which must be who answers; of n1, which is dead, nobody does."""
    with lab.client():
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    with sock:
        client = lab.wiring.address("c", "lan") if address == VIP4 else "2001:db8::e"
        sock.bind((client, 0))
        owner = lab.owner(sock)
        sock.settimeout(0.15 if owner == "n1" else CONNECT_SECONDS)
        try:
            sock.connect((address, PORT))
        except TimeoutError:
            assert owner == "n1", f"{owner} does not answer"
        else:
            assert name_of(sock) == owner != "n1"
    return owner


def is_silent(lab: FarmLab, address: str = VIP4, seconds: float = 0.3) -> bool:
    """Tell whether nobody answers, by TCP nor by UDP."""
    for ask in (lab.connect, lab.ask):
        try:
            answer = ask(address, seconds)
        except TimeoutError:
            continue
        if isinstance(answer, socket.socket):
            answer.close()
        return False
    return True


def inside(node: FarmNode, *words: str) -> str:
    """Run a command in a node's network and return what it prints."""
    command = ["ip", "netns", "exec", node.namespace, *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout


def leftovers(node: FarmNode) -> list[str]:
    """Return what of a filter or an address is on a node."""
    printed = {
        "rules": inside(node, "nft", "list", "ruleset"),
        "addresses": inside(node, "ip", "addr"),
        "macs": inside(node, "bridge", "fdb", "show"),
    }
    signs = {"rules": ("mirrorfarm", "NFQUEUE"), "addresses": (VIP4, VIP6), "macs": ("5a:fe",)}
    with namespace(node.namespace):
        programs = attached(socket.if_nametoindex("eth0"))
    names = [program.identity()[1] for program in programs]
    for program in programs:
        program.close()
    return [f"program: {name}" for name in names] + [
        f"{what}: {sign}" for what, text in printed.items() for sign in signs[what] if sign in text
    ]


@pytest.mark.parametrize("delivery", ["vmac_invisible", "multicast"])
@pytest.mark.parametrize("kind", KINDS)
def test_exactly_one_of_three_answers_every_connection_and_every_datagram(
    kind: str, delivery: str
) -> None:
    with farm(kind, delivery) as lab, resets(lab) as seen:
        for address in (VIP4, VIP6):
            right, who = answers(lab, address, CONNECTIONS)
            tell(f"{kind} {delivery} {address}: {dict(who)}")
            assert right == CONNECTIONS
            assert min(who.values()) > CONNECTIONS / 6
            for _ in range(50):
                answered, owner = lab.ask(address)
                assert answered == [owner]
        assert not seen


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_daemon_s_node_answers_nobody_and_the_others_go_on(kind: str) -> None:
    with farm(kind, "vmac_invisible") as lab:
        answers(lab, VIP4, 20)
        lab.nodes[0].order({"lease_ms": 300})
        lab.nodes[0].kill()
        time.sleep(0.4)  # The lease runs out: that is what is tested.
        for address in (VIP4, VIP6):
            owners = Counter(answer_from(lab, address) for _ in range(40))
            assert min(owners[node.name] for node in lab.nodes) > 0, owners


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("delivery", ["vmac_invisible", "multicast"])
def test_when_every_daemon_is_killed_nobody_answers(kind: str, delivery: str) -> None:
    with farm(kind, delivery) as lab:
        answers(lab, VIP4, 1)
        lab.ask(VIP4)
        for node in lab.nodes:
            node.order({"lease_ms": 300})
            node.kill()
        assert wait(lambda: is_silent(lab))
        for address in (VIP4, VIP6):
            assert is_silent(lab, address)


@pytest.mark.alone
@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_daemon_is_silent_after_its_lease_and_cannot_reopen_it(kind: str) -> None:
    with farm(kind, "vmac_invisible") as lab:
        with lab.connect(VIP4) as kept:
            name_of(kept)
            for node in lab.nodes:
                node.order({"lease_ms": 300})
            for node in lab.nodes:
                node.freeze()
            begin = time.monotonic()
            asked = last = 0.0
            with contextlib.suppress(TimeoutError):
                while asked < 1.0:
                    # An answer may come late: what counts is when its question was let in.
                    asked = time.monotonic() - begin
                    kept.settimeout(max(0.1, 1.0 - asked))
                    kept.send(b"?")
                    kept.recv(100)
                    last = asked
                    time.sleep(0.001)
            tell(f"{kind}: last answer to what was asked {last * 1e3:.0f} ms after the freeze")
            assert last < 0.35, "the lease was 300 ms"
            assert is_silent(lab)
        for node in lab.nodes:
            node.thaw()
        # Each daemon tries to go on with the table it had, and must not.
        for node in lab.nodes:
            assert node.order({})["held_always"] is False
        assert is_silent(lab), "what others may own by now was opened again"
        for number, node in enumerate(lab.nodes):
            node.order({"lease_ms": LEASE_MS})
            node.set([b for b, owner in enumerate(lab.owners) if owner == number], State.HARD)
        right, _ = answers(lab, VIP4, 50)
        assert right == 50


@pytest.mark.alone
def test_buckets_and_leases_are_changed_in_milliseconds() -> None:
    with farm("nft", "vmac_invisible") as lab:
        node = lab.nodes[0]
        times = {}
        for count in (1, 25, 1024):
            spent = []
            for turn in range(6):
                state = State.SOFT if turn % 2 else State.FOREIGN
                spent.append(node.set(range(count), state)["apply_ns"])
            times[count] = sorted(spent)[len(spent) // 2] / 1e6
        tell("change of 1, 25, 1024 buckets: " + ", ".join(f"{t:.2f} ms" for t in times.values()))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_and_the_rest_of_the_traffic_is_not_touched(kind: str) -> None:
    parameters = (
        "net.ipv4.conf.eth0.arp_ignore",
        "net.ipv4.conf.eth0.arp_announce",
        "net.netfilter.nf_conntrack_tcp_loose",
        "net.netfilter.nf_conntrack_tcp_be_liberal",
    )

    with farm(kind, "vmac_invisible") as lab:
        first, second = lab.nodes[:2]
        own = lab.wiring.address("n1", "lan")
        with lab.client():
            closed = socket.socket()
        with closed, pytest.raises(ConnectionRefusedError):
            closed.connect((own, 9))  # Refused by the kernel, not dropped by the filter.
        tracking = ["1", "0"] if kind == "bpf" else ["0", "1"]  # `bpf` tracks nothing.
        assert inside(first, "sysctl", "-n", *parameters).split() == ["1", "2", *tracking]
        first.stop()
        assert inside(first, "sysctl", "-n", *parameters).split() == ["0", "0", "1", "0"]
        assert leftovers(first) == []
        second.kill()  # One that could not clean up is replaced by its successor.
        assert leftovers(second) != []
        second.start()
        second.stop()
        assert leftovers(second) == []
        assert inside(second, "sysctl", "-n", *parameters).split() == ["0", "0", "1", "0"]


def test_the_virtual_mac_is_learned_by_no_switch() -> None:
    with farm("nft", "vmac_invisible") as lab:
        answers(lab, VIP4, 30)
        answers(lab, VIP6, 30)
        command = ["bridge", "-n", lab.wiring.namespace("sw"), "fdb", "show"]
        table = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        assert "5a:fe" not in table.stdout


def send_frames(lab: FarmLab, packets: Iterable[bytes]) -> int:
    """Send IP packets from the client to the shared MAC of their family; return how many."""
    macs: dict[int, bytes] = {
        a.version: lab.settings.virtual_mac(a) for a in lab.settings.addresses
    }
    with lab.client():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        source = hardware_address("eth0")
    count = 0
    with sock:
        for packet in packets:
            version = 6 if packet[:1] and packet[0] >> 4 == 6 else 4
            kind = b"\x86\xdd" if version == 6 else b"\x08\x00"
            sock.sendto(macs[version] + source + kind + packet, ("eth0", 0))
            count += 1
            if count % 64 == 0:
                time.sleep(0.001)  # The queue of a veth is short.
    return count


def total(lab: FarmLab, name: str) -> int:
    return sum(node.counters().get(name, 0) for node in lab.nodes)


def await_total(lab: FarmLab, name: str, least: int) -> None:
    """Wait until all nodes together have counted so many packets."""
    if not wait(lambda: total(lab, name) >= least):
        told = [(node.counters(), node.order({})["held_always"]) for node in lab.nodes]
        raise AssertionError(f"not {least} packets {name}; counters and leases are {told}")


def checksummed(packet: bytes) -> bytes:
    """Fill in the sum of an IPv4 header."""
    words = sum(int.from_bytes(packet[at : at + 2], "big") for at in range(0, 20, 2))
    words = (words & 0xFFFF) + (words >> 16)
    words = (words & 0xFFFF) + (words >> 16)
    return packet[:10] + (~words & 0xFFFF).to_bytes(2, "big") + packet[12:]


@pytest.mark.parametrize("kind", KINDS)
def test_of_all_spoofed_packets_each_is_accepted_by_exactly_one_node(kind: str) -> None:
    chance = random.Random(5)
    count = 600
    rules = [["tcp", "on_port", "*"], ["udp", "on_port", "*"]]
    with farm(kind, "vmac_invisible", rules=rules) as lab:
        before = total(lab, "accepted")

        def spoofed() -> Iterator[bytes]:
            for _ in range(count):
                host, port = chance.randrange(1, 250), chance.randrange(1024, 65_536)
                body = packets.udp(port, 9_999)
                yield checksummed(packets.ipv4(f"198.18.7.{host}", VIP4, packets.UDP, body))
                yield packets.ipv6(f"2001:db8:7::{host:x}", VIP6, packets.UDP, body)

        sent, frames = 0, spoofed()
        # A queue on the way is shorter than all of them: none may fall off because nobody had time.
        while some := send_frames(lab, itertools.islice(frames, 100)):
            sent += some
            await_total(lab, "accepted", before + sent)
        assert sent == 2 * count
        time.sleep(0.1)  # A packet accepted twice would be counted by now.
        assert total(lab, "accepted") - before == sent


@pytest.mark.parametrize("kind", KINDS)
def test_connections_are_counted_where_they_are_let_in(kind: str) -> None:
    with farm(kind, "vmac_invisible") as lab:
        opened = Counter[str]()
        for address in (VIP4, VIP6):
            opened += answers(lab, address, 30)[1]
        before = total(lab, "opened")
        for _ in range(20):
            lab.ask(VIP4)
        assert total(lab, "opened") == before, "a datagram opens nothing"
        for node in lab.nodes:
            counted = node.counters()["opened"]
            # More only if a client had to ask again; not what other nodes let in.
            assert opened[node.name] <= counted < sum(opened.values())


@pytest.mark.parametrize("kind", KINDS)
def test_what_no_rule_is_about_is_dropped_without_a_word(kind: str) -> None:
    with farm(kind, "vmac_invisible") as lab:
        before = total(lab, "refused")
        with lab.client():
            closed = socket.socket()
            asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            listening = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        with closed, asking, listening:
            closed.settimeout(0.3)
            with pytest.raises(TimeoutError):
                closed.connect((VIP4, PORT + 1))
            asking.sendto(b"?", (VIP4, PORT + 1))
            others = [
                checksummed(packets.ipv4("198.18.0.14", VIP4, protocol, bytes(40)))
                for protocol in (0, 2, 4, 41, 47, 50, 51, 89, 132, 136, 255)
            ]
            send_frames(lab, others)
            # Every node drops each, and none says so.
            await_total(lab, "refused", before + 3 * (len(others) + 2))
            listening.settimeout(0.1)
            with pytest.raises(TimeoutError):
                listening.recv(1_000)


@pytest.mark.parametrize("kind", KINDS)
def test_absurd_and_truncated_packets_harm_nobody(kind: str) -> None:
    chance = random.Random(6)
    with farm(kind, "vmac_invisible") as lab:
        lab.connect(VIP4).close()

        def absurd() -> Iterator[bytes]:
            for _ in range(3_000):
                version = chance.choice((4, 6))
                if version == 4:
                    address, port = "198.18.0.14", chance.choice((PORT, 0, 65_535))
                    kind_of = chance.choice((6, 17, 1, 0, 255))
                    whole = packets.ipv4(address, VIP4, kind_of, packets.tcp(port, port))
                else:
                    following = chance.choice((0, 6, 17, 43, 44, 51, 58, 60, 255))
                    body = chance.randbytes(chance.randrange(60))
                    whole = packets.ipv6("2001:db8::e", VIP6, following, body)
                data = bytearray(whole)
                for _ in range(chance.randrange(4)):
                    at = chance.randrange(1, len(data))
                    if not (12 <= at < 20 if version == 4 else 8 <= at < 40):
                        data[at] = chance.randrange(256)
                cut = chance.choice((len(data), chance.randrange(1, len(data) + 1)))
                packet = bytes(data)
                yield checksummed(packet)[:cut] if version == 4 and cut > 20 else packet[:cut]

        send_frames(lab, absurd())
        right, _ = answers(lab, VIP4, 30)
        assert right == 30
        assert total(lab, "failed") == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("address", [VIP4, VIP6])
def test_a_datagram_in_fragments_is_answered_by_exactly_one(kind: str, address: str) -> None:
    with farm(kind, "vmac_invisible") as lab:
        who = Counter[str]()
        for _ in range(30):
            with lab.client():
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                sock = socket.socket(family, socket.SOCK_DGRAM)
            with sock:
                sock.connect((address, PORT))
                sock.settimeout(CONNECT_SECONDS)
                # The flow is known now, by its ports: that must not matter to the fragments.
                sock.send(b"who?")
                assert sock.recv(100).decode() == lab.owner(sock, UDP)
                sock.send(bytes(3_000))
                name = sock.recv(100).decode()
                who[name] += 1
                sock.settimeout(0.01)
                with pytest.raises(TimeoutError):
                    sock.recv(100)
                if kind != "nft":  # Fragments have no ports: the address alone decides.
                    assert name == lab.owner(sock, UDP, fragments=True)
        tell(f"{kind} {address}: fragments {dict(who)}")


def test_python_sees_one_packet_of_each_flow() -> None:
    flows, each = 300, 20
    with farm("nfqueue", "vmac_invisible") as lab:
        lab.ask(VIP4)
        before = [node.counters()["asked"] for node in lab.nodes]
        with lab.client(), contextlib.ExitStack() as stack:
            socks = []
            for _ in range(flows):
                sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                sock.connect((VIP4, PORT))
                socks.append(sock)

            def asked() -> list[int]:
                now = [node.counters()["asked"] for node in lab.nodes]
                return [count - old for count, old in zip(now, before, strict=True)]

            for begun, sock in enumerate(socks, 1):
                sock.send(b"?")
                if begun % 50 == 0:  # No more than the queues on the way hold.
                    assert wait(lambda: min(asked()) >= begun), f"{asked()} of {begun} are judged"  # noqa: B023
            for _ in range(each - 1):
                for sock in socks:
                    sock.send(b"?")
                time.sleep(0.005)
        seen = asked()
        tell(f"{flows * each} packets of {flows} flows: Python saw {seen} at the three nodes")
        # A second packet may arrive while the last first one is being judged.
        assert all(flows <= count <= flows * 1.2 for count in seen)


def test_this_kernel_allows_all_three_and_trying_leaves_nothing() -> None:
    lab = FarmLab("nft", "vmac_invisible", nodes=1)
    try:
        lab.wiring.build()
        node = lab.nodes[0]
        with namespace(node.namespace):
            for kind in ("auto", "bpf", "nft", "nfqueue"):
                choice = choose(kind, Delivery.INVISIBLE)
                assert choice.kind == ("bpf" if kind == "auto" else kind)
        assert leftovers(node) == []
    finally:
        lab.remove()


@pytest.mark.alone
@pytest.mark.parametrize("kind", KINDS)
def test_how_many_packets_of_4096_flows_a_second(kind: str) -> None:
    """One node, the client's core sends, filters and receives; nothing is asserted of time."""
    rules = [["udp", "on_port", "*"]]
    with farm(kind, "vmac_invisible", nodes=1, rules=rules) as lab:
        node, chance = lab.nodes[0], random.Random(1)
        with lab.client():
            source = hardware_address("eth0")
        node.set(range(0, 1024, 2), State.FOREIGN)  # Of two nodes, one.
        frames = []
        for _ in range(4_096):
            client = f"198.18.{chance.randrange(16, 250)}.{chance.randrange(1, 250)}"
            body = packets.udp(chance.randrange(1_024, 65_536), 9, bytes(18))
            packet = checksummed(packets.ipv4(client, VIP4, packets.UDP, body))
            mac = lab.settings.virtual_mac(lab.settings.addresses[0])
            frames.append(mac + source + b"\x08\x00" + packet)
        before = node.counters()
        command = [sys.executable, "-m", "mirrorfarm.lab.flood", "eth0", "2"]
        with namespace(lab.wiring.namespace("c")):
            done = subprocess.run(
                command, input=packed(frames), capture_output=True, check=True, timeout=60
            )
        outcome = json.loads(done.stdout)
        assert wait(lambda: node.counters() == node.counters())
        after = node.counters()
        seen = {name: after[name] - before.get(name, 0) for name in after}
        rate = outcome["sent"] / outcome["seconds"]
        tell(f"{kind}: {outcome['sent']} packets of 4096 flows, {rate / 1e3:.0f} k/s, {seen}")
        assert seen["accepted"] + seen["foreign"] <= outcome["sent"] + 100
        if kind == "nfqueue":
            assert 4_000 < seen["asked"] < outcome["sent"] / 4


@pytest.mark.alone
def test_a_queue_that_overflows_drops_and_nothing_is_answered_twice() -> None:
    rules = [["udp", "on_port", "*"]]
    with farm("nfqueue", "vmac_invisible", rules=rules) as lab:
        first, count = lab.nodes[0], 12_000
        before = total(lab, "accepted")
        first.freeze()
        flows = ((host, port) for host in range(1, 13) for port in range(10_000, 11_000))
        body = [packets.udp(port, 9, b"?") for port in range(10_000, 11_000)]

        def spoofed() -> Iterator[bytes]:
            for host, port in flows:
                source = f"198.18.7.{host}"
                packet = packets.ipv4(source, VIP4, packets.UDP, body[port - 10_000])
                yield checksummed(packet)

        sent, frames = 0, spoofed()
        while some := send_frames(lab, itertools.islice(frames, 500)):
            sent += some  # Only the frozen one's queue is to overflow, however slow the others are.
            assert wait(lambda: all(int(waiting(node)[2]) < 500 for node in lab.nodes[1:]))
        assert sent == count
        queue = waiting(first)
        assert int(queue[5]) > 0, "the queue was meant to overflow"
        first.thaw()
        assert wait(lambda: waiting(first)[2] == "0"), "while it is full it drops questions as well"
        right, _ = answered_flows(lab, 30)
        assert right == 30
        accepted = total(lab, "accepted") - before - right
        tell(f"of {count} packets {accepted} were accepted, {queue[5]} fell off the frozen queue")
        assert count * 2 / 3 - 100 < accepted <= count
        assert first.order({})["held_always"] is True


def waiting(node: FarmNode) -> list[str]:
    """Return what the kernel tells of a node's queue: 2 is what waits, 5 what was dropped."""
    return inside(node, "cat", "/proc/net/netfilter/nfnetlink_queue").split()


def answered_flows(lab: FarmLab, count: int) -> tuple[int, int]:
    """Ask by UDP, again and again until somebody answers; return how many were answered right."""
    right = 0
    for _ in range(count):
        answered, owner = lab.ask(VIP4)
        right += answered == [owner]
    return right, count


@pytest.mark.parametrize("kind", KINDS)
def test_an_icmp_error_reaches_every_node_for_only_one_knows_the_connection(kind: str) -> None:
    with farm(kind, "vmac_invisible") as lab:
        lab.connect(VIP4).close()
        lab.connect(VIP6).close()
        quiet = [0]

        def calm() -> bool:
            quiet.append(total(lab, "accepted"))
            return quiet[-1] == quiet[-2]

        assert wait(calm)
        inner = packets.ipv4(VIP4, "198.18.0.14", packets.TCP, packets.tcp(PORT, 40_000)[:8])
        too_big = struct.pack("!BBHHH", 3, 4, 0, 0, 1_300) + checksummed(inner)
        error = checksummed(packets.ipv4("198.18.0.1", VIP4, packets.ICMP, too_big))
        send_frames(lab, [error])
        await_total(lab, "accepted", quiet[-1] + 3)
