"""Other programs change what a farm relies on: interfaces, kernel parameters, rules of nftables."""

import queue
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.actors.effects import ApplyTable, RenewLease
from mirrorfarm.actors.events import CablesOut, FilterFailed, VipIsDown, VipIsUp
from mirrorfarm.actors.farm_filter.door import FarmDoor
from mirrorfarm.actors.timers import boot_clock_ns
from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.lab.network import batch, inside, order, unique_prefix
from mirrorfarm.limits import BUCKETS, SECOND_NS
from mirrorfarm.modules.settings import Farm, FarmAddress, Module
from mirrorfarm.netfilter.bpf_system import attached

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]
ADDRESS = "198.18.0.100"
OWN = "198.18.0.11/24"
OPEN, CLOSED = (bytes((state,)) * BUCKETS for state in (1, 0))
COPY = "(nft list table inet mirrorfarm_web; nft list table netdev mirrorfarm_web) > {0}"
LOAD = (
    "(echo delete table inet mirrorfarm_web; echo delete table netdev mirrorfarm_web; cat {0}) | "
    "nft -f -"
)
PARAMETERS = (
    "net.ipv4.conf.v0.arp_ignore",
    "net.ipv4.conf.all.arp_ignore",
    "net.ipv4.conf.all.arp_announce",
)
TRACKING = (
    "net.netfilter.nf_conntrack_tcp_loose",
    "net.netfilter.nf_conntrack_tcp_be_liberal",
)


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"{unique_prefix()}-a"
    try:
        batch([f"netns add {name}"])
        lines = ["link set lo up", "link add v0 type veth peer name v1", "link set v1 up"]
        batch([*lines, "link set v0 up", f"addr add {OWN} dev v0"], name)
        with inside(name):
            yield name
    finally:
        order("ip", "netns", "del", name)


class Bench:
    """A door that has its filter and its address."""

    def __init__(self, kind: str, folder: Path) -> None:
        farm = Farm(addresses=(FarmAddress(ADDRESS),))
        module = Module("web", 1, ("n1", "n2"), "farm", farm=farm)
        self.told, self.inbox = queue.SimpleQueue[Any](), queue.SimpleQueue[Any]()
        self.door = FarmDoor(module, kind, folder / "ledger", self.told.put)
        self.door.add(1, self.inbox.put)
        assert self.inbox.get(timeout=60) == VipIsUp(1)
        self.apply(OPEN)
        assert self.renewed()

    def apply(self, group: bytes) -> None:
        self.door.apply(ApplyTable(1, (group,)), self.inbox.put)

    def renewed(self) -> bool:
        """Return whether the filter takes its lease, which does not run out by itself."""
        while not self.inbox.empty():
            assert isinstance(self.inbox.get(), FilterFailed)
        self.door.renew(RenewLease(boot_clock_ns() + 120 * SECOND_NS), self.inbox.put)
        return self.inbox.empty()

    def end(self) -> None:
        self.door.remove(2, self.inbox.put)
        until(lambda: not self.inbox.empty() and self.inbox.get() == VipIsDown(2), "the end")
        self.door.close()


def until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.02)


def is_at(kind: str, interface: str) -> bool:
    """Return whether the filter, and what receives the shared MAC, is at an interface."""
    if "5a:fe:c6:12:00:64" not in order("bridge", "fdb", "show", "dev", interface):
        return False
    if kind == "nft":
        try:
            return f'"{interface}"' in order("nft", "list", "table", "netdev", "mirrorfarm_web")
        except SystemUnsuitable:
            return False  # There is no such table at the moment.
    programs = attached(socket.if_nametoindex(interface))
    for program in programs:
        program.close()
    return len(programs) == 1


def values(*names: str) -> list[str]:
    return order("sysctl", "-n", *names).split()


RENAMED = ["link set v0 down", "link set v0 name w0", "link set w0 up"]
BRIDGED = [
    "link add w0 type bridge",
    "link set w0 up",
    "link set v0 master w0",
    f"addr del {OWN} dev v0",
    f"addr add {OWN} dev w0",
]


@pytest.mark.parametrize("kind", ["bpf", "nft"])
@pytest.mark.parametrize("change", [RENAMED, BRIDGED], ids=["renamed", "bridged"])
def test_filter_and_address_follow_the_interface_that_the_network_belongs_to(
    namespace: str, kind: str, change: list[str], tmp_path: Path
) -> None:
    """The node had its clients, and answered none of them."""
    bench = Bench(kind, tmp_path)
    try:
        assert is_at(kind, "v0")
        batch(change, namespace)
        until(lambda: is_at(kind, "w0"), "the filter at the other interface")
        assert values("net.ipv4.conf.w0.arp_ignore") == ["1"]
        assert bench.renewed()
    finally:
        bench.end()
    folder = Path("/proc/sys/net/ipv4/conf")
    assert {(one / "arp_ignore").read_text() for one in folder.iterdir()} == {"0\n"}
    while not bench.told.empty():
        assert not isinstance(bench.told.get(), CablesOut)


@pytest.mark.parametrize("kind", ["bpf", "nft"])
def test_an_own_address_that_is_elsewhere_for_a_moment_moves_nothing(
    namespace: str, kind: str, tmp_path: Path
) -> None:
    bench = Bench(kind, tmp_path)
    try:
        batch(["link add w0 type veth peer name w1", "link set w1 up", "link set w0 up"], namespace)
        batch([f"addr del {OWN} dev v0", f"addr add {OWN} dev w0"], namespace)
        time.sleep(0.5)
        batch([f"addr del {OWN} dev w0", f"addr add {OWN} dev v0"], namespace)
        time.sleep(4)
        assert is_at(kind, "v0")
        assert bench.renewed(), "its clients noticed nothing"
    finally:
        bench.end()


@pytest.mark.parametrize("kind", ["bpf", "nft"])
def test_kernel_parameters_that_another_program_changes_are_set_again(
    namespace: str, kind: str, tmp_path: Path
) -> None:
    """As `sysctl --system` does: every node would answer for the address with its own MAC."""
    names = (*PARAMETERS, *TRACKING) if kind == "nft" else PARAMETERS
    before = values(*PARAMETERS)
    bench = Bench(kind, tmp_path)
    try:
        held = values(*names)
        words = [f"{name}={number}" for name, number in zip(names, "00010", strict=False)]
        order("sysctl", "-w", *words)
        assert values(*names) != held
        until(lambda: values(*names) == held, "the parameters")
        order("sysctl", "-w", f"{PARAMETERS[1]}=2")  # As good.
        time.sleep(1.5)
        assert values(PARAMETERS[1]) == ["2"]
        order("sysctl", "-w", f"{PARAMETERS[1]}=1")
        assert bench.renewed(), "the filter was not touched"
    finally:
        bench.end()
    assert values(*PARAMETERS) == before


@pytest.mark.parametrize("kind", ["nft", "nfqueue"])
@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("true", "nft flush table inet mirrorfarm_web"),
        ("true", "nft flush table netdev mirrorfarm_web"),
        (COPY, LOAD),
    ],
    ids=["emptied", "emptied-before-the-ip-layer", "of-a-copy"],
)
def test_rules_that_are_not_those_that_were_loaded_are_loaded_again(
    namespace: str, kind: str, first: str, then: str, tmp_path: Path
) -> None:
    """Without them a node takes everybody's clients; with old ones those that it had then."""
    bench = Bench(kind, tmp_path)
    copy = tmp_path / "copy"

    def rules() -> int:
        return order("nft", "list", "ruleset").count("goto")

    try:
        loaded = rules()
        order("sh", "-c", first.format(copy))
        bench.apply(CLOSED)
        with bench.door._using:  # Nothing is loaded again before it was seen.
            order("sh", "-c", then.format(copy))
        until(lambda: not bench.renewed(), "the node to be told")
        until(lambda: bench.renewed() and rules() == loaded, "the rules")
        if kind == "nft":
            assert "elements" not in order("nft", "list", "set", "inet", "mirrorfarm_web", "open_0")
    finally:
        bench.end()
