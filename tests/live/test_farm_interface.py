"""A farm's interface is removed and made anew, as when the network of a node is restarted."""

import queue
import socket
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.actors.effects import ApplyTable, RenewLease
from mirrorfarm.actors.events import FilterFailed, ResourceChanged, VipIsDown, VipIsUp
from mirrorfarm.actors.farm_filter.door import FarmDoor
from mirrorfarm.actors.timers import boot_clock_ns
from mirrorfarm.actors.vip.addresses import is_local
from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.lab.network import batch, inside, order, unique_prefix
from mirrorfarm.limits import BUCKETS, SECOND_NS
from mirrorfarm.modules.settings import Farm, FarmAddress, Module
from mirrorfarm.netfilter.bpf_system import TCX_IN, attached

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]
ADDRESS = "198.18.0.100"
LEASE_NS = 120 * SECOND_NS  # It does not run out: that would look as if something were lost.


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"{unique_prefix()}-a"
    try:
        batch([f"netns add {name}"])
        batch(["link set lo up"], name)
        make_interface(name)
        with inside(name):
            yield name
    finally:
        order("ip", "netns", "del", name)


def make_interface(namespace: str) -> None:
    lines = ["link add v0 type veth peer name v1", "link set v1 up", "link set v0 up"]
    batch([*lines, "addr add 198.18.0.11/24 dev v0"], namespace)


def until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.02)


@pytest.mark.parametrize("kind", ["bpf", "nft"])
def test_filter_and_addresses_are_raised_at_an_interface_that_was_made_anew(
    namespace: str, kind: str, tmp_path: Path
) -> None:
    module = Module("web", 1, ("n1", "n2"), "farm", farm=Farm(addresses=(FarmAddress(ADDRESS),)))
    told, inbox = queue.SimpleQueue[Any](), queue.SimpleQueue[Any]()
    door = FarmDoor(module, kind, tmp_path / "ledger", told.put)
    try:
        door.add(1, inbox.put)
        assert inbox.get(timeout=60) == VipIsUp(1)
        door.apply(ApplyTable(1, (bytes((1,)) * BUCKETS,)), inbox.put)
        assert is_there(kind)
        batch(["link del v0"], namespace)
        make_interface(namespace)
        until(lambda: is_there(kind), "the filter at the new interface")
        door.renew(RenewLease(boot_clock_ns() + LEASE_NS), inbox.put)
        assert inbox.empty(), "it takes its lease"
        while not told.empty():
            assert not isinstance(told.get(), ResourceChanged)
    finally:
        door.remove(2, inbox.put)
        until(lambda: not inbox.empty(), "the addresses to be given up")
        door.close()


@pytest.mark.parametrize(
    ("kind", "removal"),
    [
        ("nft", ("nft", "flush", "ruleset")),
        ("nfqueue", ("nft", "flush", "ruleset")),
        ("nfqueue", ("iptables", "-t", "mangle", "-F")),
        ("bpf", ()),
        ("bpf", ("ip", "addr", "del", f"{ADDRESS}/32", "dev", "lo")),
    ],
)
def test_what_another_program_removes_is_put_there_again(
    namespace: str, kind: str, removal: tuple[str, ...], tmp_path: Path
) -> None:
    """A restart of the node's firewall flushes everything; a node without a filter is no use."""
    module = Module("web", 1, ("n1", "n2"), "farm", farm=Farm(addresses=(FarmAddress(ADDRESS),)))
    inbox = queue.SimpleQueue[Any]()
    door = FarmDoor(module, kind, tmp_path / "ledger", queue.SimpleQueue[Any]().put)

    def renewed() -> bool:
        while not inbox.empty():
            assert isinstance(inbox.get(), FilterFailed)
        door.renew(RenewLease(boot_clock_ns() + LEASE_NS), inbox.put)
        return inbox.empty()

    try:
        door.add(1, inbox.put)
        assert inbox.get(timeout=60) == VipIsUp(1)
        door.apply(ApplyTable(1, (bytes((1,)) * BUCKETS,)), inbox.put)
        assert renewed()
        before = listed(kind)
        with door._using:  # Nothing is put there again before it was seen to be gone.
            if removal:
                order(*removal)
            else:
                for program in attached(socket.if_nametoindex("v0")):
                    program.detach(socket.if_nametoindex("v0"), TCX_IN)
                    program.close()
            assert listed(kind) != before
        until(lambda: not renewed(), "the node to be told")
        until(lambda: listed(kind) == before and renewed(), "what was removed to be there again")
    finally:
        door.remove(2, inbox.put)
        until(
            lambda: not inbox.empty() and inbox.get() == VipIsDown(2),
            "the addresses to be given up",
        )
        door.close()


def listed(kind: str) -> list[str]:
    """Return what there is of filter and address, without what changes."""
    if kind == "bpf":
        return ["v0"] * is_there(kind) + [ADDRESS] * is_local(ip_address(ADDRESS))
    tables = order("nft", "list", "tables").splitlines()
    mangle = order("iptables", "-t", "mangle", "-S").splitlines()
    return sorted(line for line in (*tables, *mangle) if "mirrorfarm" in line)


def test_relaying_on_two_networks_is_refused_in_words(namespace: str, tmp_path: Path) -> None:
    """Nodes know one hardware address of each other: on the other network it is nobody's."""
    lines = ["link add w0 type veth peer name w1", "link set w1 up", "link set w0 up"]
    batch([*lines, "addr add 198.19.0.11/24 dev w0"], namespace)
    addresses = (FarmAddress(ADDRESS), FarmAddress("198.19.0.100"))
    farm = Farm(addresses=addresses, delivery="vmac_directed")
    door = FarmDoor(Module("web", 1, ("n1", "n2"), "farm", farm=farm), "bpf", tmp_path / "l", print)
    inbox = queue.SimpleQueue[Any]()
    try:
        door.add(1, inbox.put)
        (failure,) = inbox.get(timeout=60).failures
        assert "v0, w0 have different ones; use another type" in failure
        assert not is_there("bpf")
    finally:
        door.close()


def is_there(kind: str) -> bool:
    """Return whether the filter is at the interface."""
    if kind == "nft":
        try:
            return '"v0"' in order("nft", "list", "table", "netdev", "mirrorfarm_web")
        except SystemUnsuitable:
            return False  # There is no such table at the moment.
    programs = attached(socket.if_nametoindex("v0"))
    for program in programs:
        program.close()
    return len(programs) == 1
