"""The address of a farm on three nodes and a client: who answers for it, with which MAC."""

import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from mirrorfarm.actors.vip.addresses import is_local
from mirrorfarm.actors.vip.shared import SharedAddress
from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.lab.network import Wiring, inside, order, unique_prefix
from mirrorfarm.limits import BUCKETS
from mirrorfarm.netfilter.announce import Responder, hardware_address
from mirrorfarm.netfilter.delivery import Delivery, virtual_mac
from mirrorfarm.netfilter.filter import NO_BUCKETS, BucketTable, Settings
from mirrorfarm.netfilter.neighbours import IPAddress, checksum, mac_text, parse_claim, question
from mirrorfarm.netfilter.packet import ICMPV6
from mirrorfarm.netfilter.rules import Rules, rule

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
]

VIP4, VIP6 = ip_address("198.18.0.100"), ip_address("2001:db8::100")
VIPS: tuple[IPAddress, ...] = (VIP4, VIP6)
NODES = ("a", "b", "d")
CLIENT = "c"
WITH_ARP: Rules = (rule("tcp", "on_addr"), rule("arp", "on_addr"))


class Lab:
    """Three nodes with the address, no filter, and a client that listens to frames."""

    def __init__(self, folder: Path) -> None:
        names = (*NODES, CLIENT)
        hosts = {name: number for number, name in enumerate(names, 11)}
        self.folder = folder
        self.wiring = Wiring(unique_prefix(), names, ("lan",), hosts)
        self.shared: dict[str, SharedAddress] = {}
        self.macs: dict[str, str] = {}

    def build(self) -> None:
        self.wiring.build()
        for name in self.wiring.machines:
            with self.inside(name):
                self.macs[name] = mac_text(hardware_address("eth0"))

    @contextlib.contextmanager
    def inside(self, name: str) -> Iterator[None]:
        with inside(self.wiring.namespace(name)):
            yield

    def up(self, delivery: Delivery, rules: Rules = ()) -> None:
        """Put the address on every node; each owns a third of the buckets."""
        settings = Settings("farm", ("eth0",), VIPS, rules, 7, delivery)
        for number, name in enumerate(NODES):
            with self.inside(name):
                self.shared[name] = SharedAddress(settings, self.folder / f"{name}.json")
                self.shared[name].up(third(number))

    def down(self) -> None:
        for name, shared in self.shared.items():
            with self.inside(name):
                shared.down()
        self.shared.clear()

    def ip(self, name: str, *words: str) -> str:
        return order("ip", "-n", self.wiring.namespace(name), *words)

    def switch(self, *words: str) -> str:
        return order("bridge", "-n", self.wiring.namespace("sw"), *words)

    @staticmethod
    def await_words(words: str, told: Callable[[], str]) -> None:
        """Wait until a command prints these words."""
        deadline = time.monotonic() + 30
        while words not in (text := told()):
            assert time.monotonic() < deadline, f"no {words!r}: {text}"
            time.sleep(0.02)


def third(number: int, of: int = 3) -> BucketTable:
    return BucketTable(1, (bytes(b % of == number for b in range(BUCKETS)),))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    try:
        made.build()
        yield made
    finally:
        with contextlib.suppress(SystemUnsuitable):
            made.down()
        made.wiring.remove()


class Ear:
    """Frames that reach the client."""

    def __init__(self, lab: Lab) -> None:
        with lab.inside(CLIENT):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.socket.bind(("eth0", 3))
        self.lab = lab

    def claims(
        self, address: IPAddress, count: int = 0, seconds: float = 0.3, to: bytes = b""
    ) -> list[tuple[str, str]]:
        """Return (Ethernet source, MAC told) of what claims `address`: `count`, and what follows.

        `to`: only what is told to this station.
        """
        found: list[tuple[str, str]] = []
        patience = time.monotonic() + 30
        deadline = time.monotonic() + seconds
        while True:
            wanted = len(found) < count
            left = (patience if wanted else deadline) - time.monotonic()
            assert left > 0 or not wanted, f"{found} claim {address}: {count} were expected"
            if left <= 0:
                return sorted(found)
            if not select.select([self.socket], [], [], left)[0]:
                continue
            frame = self.socket.recv(2_000)
            claim = parse_claim(frame)
            if claim and claim.address == str(address) and frame.startswith(to):
                found.append((mac_text(frame[6:12]), claim.mac))
                deadline = time.monotonic() + seconds

    def ask(
        self, address: IPAddress, count: int = 0, asker: str = "198.18.0.14"
    ) -> list[tuple[str, str]]:
        """Ask as somebody; return who tells the asker: `count`, and who else does.

        What is announced to everybody meanwhile, perhaps late, is no answer. If nobody is expected
        to answer, nobody may say anything.
        """
        if not count:
            self.claims(address, seconds=0.05)  # What was said before.
        mac = bytes.fromhex(self.lab.macs[CLIENT].replace(":", ""))
        frame = question(address, mac)
        if address.version == 4:
            frame = frame[:28] + ip_address(asker).packed + frame[32:]
        else:
            ends = ip_address("2001:db8::e").packed + frame[38:54]
            body = frame[54:56] + bytes(2) + frame[58:]
            whole = ends + struct.pack("!II", len(body), ICMPV6) + body
            body = body[:2] + checksum(whole).to_bytes(2, "big") + body[4:]
            frame = frame[:22] + ends + body
        self.socket.send(frame)
        return self.claims(address, count, to=mac if count else b"")


@pytest.fixture
def ear(lab: Lab) -> Iterator[Ear]:
    made = Ear(lab)
    yield made
    made.socket.close()


def test_whether_an_address_is_there_is_seen_for_each_family(lab: Lab) -> None:
    lab.up(Delivery.INVISIBLE)
    for address in VIPS:
        with lab.inside("a"):
            assert is_local(address)
            assert lab.shared["a"].is_whole()
            lab.ip("a", "addr", "del", f"{address}/{address.max_prefixlen}", "dev", "lo")
            assert not is_local(address)
            assert not lab.shared["a"].is_whole()
        lab.ip("a", "addr", "add", f"{address}/{address.max_prefixlen}", "dev", "lo")


def plug_second(lab: Lab) -> None:
    """Give the first node another adapter on the same network."""
    switch = lab.wiring.namespace("sw")
    port = ("link", "add", "second", "type", "veth")
    order("ip", "-n", switch, *port, "peer", "name", "eth1", "netns", lab.wiring.namespace("a"))
    order("ip", "-n", switch, "link", "set", "second", "master", "br0", "up")
    lab.ip("a", "link", "set", "eth1", "up")


@pytest.mark.parametrize("own", ["198.18.0.77/24", "198.19.0.77/24"], ids=["same", "other"])
@pytest.mark.parametrize("late", [False, True], ids=["before", "late"])
def test_a_second_adapter_on_the_same_network_says_nothing(
    lab: Lab, ear: Ear, own: str, late: bool
) -> None:
    """Its kernel would answer with its own MAC: one node would get all, past its filter."""
    if late:
        lab.up(Delivery.INVISIBLE)
    plug_second(lab)
    lab.ip("a", "addr", "add", own, "dev", "eth1")
    if not late:
        lab.up(Delivery.INVISIBLE)
    lab.await_words("state forwarding", lambda: lab.switch("link", "show", "dev", "second"))
    shared = mac_text(virtual_mac(Delivery.INVISIBLE, VIP4))
    assert ear.ask(VIP4, len(NODES)) == sorted((lab.macs[name], shared) for name in NODES)


def test_an_adapter_without_an_address_asks_nobody_in_the_name_of_the_farm(
    lab: Lab, ear: Ear
) -> None:
    """The kernel takes any address of `lo` for a question there; who is asked learns the MAC."""
    plug_second(lab)
    lab.await_words("state forwarding", lambda: lab.switch("link", "show", "dev", "second"))
    client = lab.wiring.address(CLIENT, "lan")
    lab.ip("a", "route", "add", f"{client}/32", "dev", "eth1")
    lab.up(Delivery.INVISIBLE)
    shared = mac_text(virtual_mac(Delivery.INVISIBLE, VIP4))
    with lab.inside("a"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((str(VIP4), 0))
        sock.sendto(b"?", (client, 9))
    lab.await_words("REACHABLE", lambda: lab.ip("a", "neigh", "show", client, "dev", "eth1"))
    assert {mac for _, mac in ear.claims(VIP4)} == {shared}


@pytest.mark.parametrize("delivery", [Delivery.INVISIBLE, Delivery.MULTICAST])
@pytest.mark.parametrize("address", VIPS, ids=str)
def test_three_nodes_answer_with_the_shared_mac_each_from_its_own(
    lab: Lab, ear: Ear, delivery: Delivery, address: IPAddress
) -> None:
    lab.up(delivery)
    shared = mac_text(virtual_mac(delivery, address))
    assert ear.ask(address, len(NODES)) == sorted((lab.macs[name], shared) for name in NODES)
    lab.ip(CLIENT, "neigh", "flush", "dev", "eth0")
    assert shared not in order("bridge", "-n", lab.wiring.namespace("sw"), "fdb", "show")


def test_with_a_rule_for_arp_one_node_answers_each_asker_with_its_own_mac(
    lab: Lab, ear: Ear
) -> None:
    lab.up(Delivery.DIRECTED, WITH_ARP)
    who = set()
    for last in range(20, 30):
        (claim,) = ear.ask(VIP4, 1, f"198.18.0.{last}")
        assert claim[0] == claim[1]
        who.add(claim[1])
    assert len(who) > 1


def test_the_client_of_a_dead_node_is_told_by_a_survivor(lab: Lab, ear: Ear) -> None:
    lab.up(Delivery.DIRECTED, WITH_ARP)
    ((_, mac),) = ear.ask(VIP4, 1)
    dead = next(name for name in NODES if lab.macs[name] == mac)
    with lab.inside(dead):
        lab.shared.pop(dead).down()
    ear.claims(VIP4)
    survivors = [name for name in NODES if name != dead]
    for number, name in enumerate(survivors):
        lab.shared[name].adopt(third(number, of=2))
    # By the one that tells everybody, and then by the one that is this client's.
    told = ear.claims(VIP4, 1)
    assert {claimed for _, claimed in told} <= {lab.macs[name] for name in survivors}


def test_a_change_of_members_is_announced_and_corrects_a_wrong_cache(lab: Lab, ear: Ear) -> None:
    lab.up(Delivery.INVISIBLE)
    ear.claims(VIP4)
    wrong = (str(VIP4), "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "reachable")
    lab.ip(CLIENT, "neigh", "replace", *wrong)
    for name in NODES:
        lab.shared[name].adopt(NO_BUCKETS)
    shared = mac_text(virtual_mac(Delivery.INVISIBLE, VIP4))
    assert {mac for _, mac in ear.claims(VIP4, 1)} == {shared}
    deadline = time.monotonic() + 30
    while shared not in lab.ip(CLIENT, "neigh", "show", str(VIP4)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
        lab.shared["a"].announce()  # A cache ignores news of an entry that is a second young.


def test_an_interface_that_goes_down_and_comes_back_is_served_again(lab: Lab, ear: Ear) -> None:
    lab.up(Delivery.INVISIBLE)
    for name in NODES[1:]:
        with lab.inside(name):
            lab.shared.pop(name).down()
    lab.ip("a", "link", "set", "eth0", "down")
    assert ear.ask(VIP4) == []
    lab.ip("a", "link", "set", "eth0", "up")
    lab.await_words("state forwarding", lambda: lab.switch("link", "show", "dev", "a-0"))
    shared = mac_text(virtual_mac(Delivery.INVISIBLE, VIP4))
    assert set(ear.ask(VIP4, 1)) == {(lab.macs["a"], shared)}


def test_an_interface_that_is_made_anew_is_found_within_seconds(lab: Lab, ear: Ear) -> None:
    lab.up(Delivery.INVISIBLE)
    for name in NODES[1:]:
        with lab.inside(name):
            lab.shared.pop(name).down()
    lab.ip("a", "link", "del", "eth0")
    switch = lab.wiring.namespace("sw")
    peer = ("peer", "name", "eth0", "netns", lab.wiring.namespace("a"))
    order("ip", "-n", switch, "link", "add", "a-0", "type", "veth", *peer)
    order("ip", "-n", switch, "link", "set", "a-0", "master", "br0", "up")
    lab.ip("a", "link", "set", "eth0", "up")
    deadline = time.monotonic() + 30
    while not ear.ask(VIP4):
        assert time.monotonic() < deadline, "nobody answers for the address"


def test_nothing_is_left_on_a_node_that_gave_the_address_up(lab: Lab, ear: Ear) -> None:
    def seen(name: str) -> list[str]:
        with lab.inside(name):
            folder = Path("/proc/sys/net/ipv4/conf")
            keys = (f"{of}/arp_{what}" for of in ("eth0", "all") for what in ("ignore", "announce"))
            parameters = [(folder / key).read_text() for key in keys]
        shown = lab.ip(name, "addr", "show", "dev", "lo") + lab.ip(name, "maddr", "show")
        macs = order("bridge", "-n", lab.wiring.namespace(name), "fdb", "show")
        return [*parameters, shown, macs]

    for name in NODES:  # Its own address comes by itself, and with it a group.
        lab.await_words(
            "inet6 fe80",
            lambda name=name: lab.ip(name, "addr", "show", "dev", "eth0", "-tentative"),  # type: ignore[misc]
        )
    before = {name: seen(name) for name in NODES}
    lab.up(Delivery.MULTICAST)
    assert all(seen(name) != before[name] for name in NODES)
    lab.down()
    assert {name: seen(name) for name in NODES} == before
    assert ear.ask(VIP4) == []


def test_the_kernel_alone_stays_silent(lab: Lab, ear: Ear) -> None:
    lab.up(Delivery.INVISIBLE)
    for name in NODES:
        responder = lab.shared[name]._responder
        assert responder
        responder.close()
    for address in VIPS:
        assert ear.ask(address) == []


def test_an_interface_that_is_missing_is_named_and_nothing_stays(lab: Lab) -> None:
    settings = Settings("farm", ("eth0", "eth7"), VIPS, (), 7)
    with lab.inside("a"):
        with pytest.raises(SystemUnsuitable, match="eth7"):
            SharedAddress(settings, lab.folder / "ledger").up(NO_BUCKETS)
        with pytest.raises(SystemUnsuitable, match="eth7"):
            Responder(settings).open()
    assert str(VIP4) not in lab.ip("a", "addr")


def test_behind_a_load_balancer_nothing_is_touched(lab: Lab, ear: Ear) -> None:
    lab.up(Delivery.NONE)
    assert str(VIP4) not in lab.ip("a", "addr")
    assert ear.ask(VIP4) == []


@pytest.mark.parametrize("delivery", [Delivery.INVISIBLE, Delivery.DIRECTED])
def test_a_stranger_that_has_the_address_is_told_and_members_are_none(
    lab: Lab, delivery: Delivery
) -> None:
    lab.up(delivery)
    members = frozenset(lab.macs[name] for name in NODES)
    with lab.inside("a"):
        assert lab.shared["a"].strangers(members) == ()
    lab.ip(CLIENT, "addr", "add", f"{VIP4}/24", "dev", "eth0")
    with lab.inside("a"):
        assert lab.shared["a"].strangers(members) == (f"{VIP4}={lab.macs[CLIENT]}",)
