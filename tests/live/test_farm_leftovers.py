"""A farm's process is killed while its module is UP; the next one has another configuration."""

import fcntl
import os
import queue
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.actors.effects import ApplyTable, RenewLease
from mirrorfarm.actors.events import VipIsDown, VipIsUp
from mirrorfarm.actors.farm_filter.door import FarmDoor
from mirrorfarm.actors.timers import boot_clock_ns
from mirrorfarm.lab.network import batch, inside, order, unique_prefix
from mirrorfarm.limits import BUCKETS, SECOND_NS
from mirrorfarm.modules.settings import Farm, FarmAddress, Module
from mirrorfarm.netfilter.bpf_program import FarmProgram, detach_all
from mirrorfarm.netfilter.bpf_system import TCX_IN, TCX_OUT, attached

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]
KINDS = ("bpf", "nft", "nfqueue")
OLD, NEW = ("198.18.0.100", "2001:db8::100"), ("198.18.0.101", "2001:db8::101")
PARAMETERS = (
    "net.ipv4.conf.v0.arp_ignore",
    "net.ipv4.conf.v0.arp_announce",
    "net.ipv4.conf.all.arp_ignore",
    "net.ipv4.conf.all.arp_announce",
    "net.netfilter.nf_conntrack_tcp_loose",
    "net.netfilter.nf_conntrack_tcp_be_liberal",
)
PROCESS = """
import sys, time
from pathlib import Path
from tests.live.test_farm_leftovers import OLD, opened
door = opened(Path(sys.argv[1]), sys.argv[2], OLD)
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"{unique_prefix()}-a"
    try:
        batch([f"netns add {name}"])
        lines = ["link add v0 type veth peer name v1", "link set v1 up", "link set v0 up"]
        own = ["addr add 198.18.0.11/24 dev v0", "addr add 2001:db8::b/64 dev v0 nodad"]
        batch(["link set lo up", *lines, *own], name)
        with inside(name):
            yield name
    finally:
        order("ip", "netns", "del", name)


def door_of(folder: Path, kind: str, addresses: tuple[str, ...]) -> FarmDoor:
    farm = Farm(addresses=tuple(FarmAddress(address) for address in addresses))
    module = Module("web", 1, ("n1", "n2"), "farm", farm=farm)
    return FarmDoor(module, kind, folder / "ledger", queue.SimpleQueue[Any]().put)


def opened(folder: Path, kind: str, addresses: tuple[str, ...]) -> FarmDoor:
    """Return a door that has its filter and addresses."""
    door, inbox = door_of(folder, kind, addresses), queue.SimpleQueue[Any]()
    door.add(1, inbox.put)
    assert inbox.get(timeout=60) == VipIsUp(1)
    return door


def removed(door: FarmDoor) -> None:
    """Do what a module's process begins with, and what a stop ends with."""
    inbox = queue.SimpleQueue[Any]()
    door.remove(2, inbox.put)
    assert inbox.get(timeout=60) == VipIsDown(2)


def kill_one(folder: Path, kind: str) -> None:
    """Have a process open filter and addresses, and kill it."""
    words = [sys.executable, "-c", PROCESS, str(folder), kind]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
        finally:
            process.kill()


def there() -> dict[str, list[str]]:
    """Return what a farm puts into the kernel, by what it is."""
    programs = []
    for hook in (TCX_IN, TCX_OUT):
        for program in attached(socket.if_nametoindex("v0"), hook):
            programs.append(program.identity()[1])
            program.close()
    rules = [order(f"{words}-save", "-t", "mangle") for words in ("iptables", "ip6tables")]
    return {
        "addresses": [one for one in (*OLD, *NEW) if f"{one}/" in order("ip", "addr")],
        "programs": programs,
        "tables": [one for one in order("nft", "list", "tables").splitlines() if "farm" in one],
        "rules": [line for text in rules for line in text.splitlines() if "NFQUEUE" in line],
        "parameters": order("sysctl", "-n", *PARAMETERS).split(),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_killed_and_then_stopped_nothing_is_left(namespace: str, kind: str, tmp_path: Path) -> None:
    nothing = there()
    kill_one(tmp_path, kind)
    left = there()
    assert left["addresses"] == list(OLD)
    assert left["parameters"] != nothing["parameters"]
    new = door_of(tmp_path, kind, OLD)
    try:
        removed(new)
        assert there() == nothing
        assert not (tmp_path / "web.farm.json").exists()
    finally:
        new.close()


@pytest.mark.parametrize(("old", "new"), [("bpf", "nft"), ("nft", "bpf"), ("nfqueue", "bpf")])
def test_killed_and_started_with_another_filter_and_address_it_has_only_these(
    namespace: str, old: str, new: str, tmp_path: Path
) -> None:
    nothing = there()
    with_new = opened(tmp_path / "other", new, NEW)
    wanted = there()
    removed(with_new)
    with_new.close()
    assert there() == nothing
    kill_one(tmp_path, old)
    # A module that starts by itself opens after the removal; an order may come without one.
    door = opened(tmp_path, new, NEW)
    inbox = queue.SimpleQueue[Any]()
    try:
        assert there() == wanted
        door.apply(ApplyTable(1, (bytes((1,)) * BUCKETS,)), inbox.put)
        door.renew(RenewLease(boot_clock_ns() + 120 * SECOND_NS), inbox.put)
        assert inbox.empty(), "it works"
        removed(door)
        assert there() == nothing
    finally:
        door.close()


def test_of_rules_that_another_program_removed_in_part_nothing_is_left(
    namespace: str, tmp_path: Path
) -> None:
    nothing = there()
    door = opened(tmp_path, "nfqueue", OLD)
    try:
        order("iptables", "-t", "mangle", "-F", "PREROUTING")
        removed(door)
        assert there() == nothing
    finally:
        door.close()


@pytest.mark.skipif(shutil.which("iptables-legacy") is None, reason="it has no lock otherwise")
def test_rules_that_stay_because_of_a_lock_are_removed_by_the_next_process(
    namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("iptables", "ip6tables"):
        for action in ("-save", "-restore"):
            where = shutil.which(f"{name}-legacy{action}")
            assert where is not None
            (tmp_path / f"{name}{action}").symlink_to(where)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "lock"))
    nothing = there()
    door, new = opened(tmp_path, "nfqueue", OLD), door_of(tmp_path, "nfqueue", OLD)
    try:
        with open(tmp_path / "lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            removed(door)
        assert there()["rules"]
        new.close()
        new = door_of(tmp_path, "nfqueue", OLD)
        removed(new)
        assert there() == nothing
    finally:
        door.close()
        new.close()


def test_a_program_that_is_attached_as_by_older_kernels_is_found(namespace: str) -> None:
    left, other = FarmProgram.load("mf_left"), FarmProgram.load("mf_other")
    for program in (left, other):
        assert program.attach("v0", old=True) == "clsact"
    detach_all("mf_left")
    assert not any(place.is_there() for place in left.places)
    assert other.is_attached()
    detach_all("mf_other")
    assert "clsact" not in order("tc", "qdisc", "show", "dev", "v0"), "it was theirs"
    for program in (left, other):
        program.close()
