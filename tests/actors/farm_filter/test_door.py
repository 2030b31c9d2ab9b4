"""A farm's filter stays for as long as one of its addresses is on the node."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mirrorfarm.actors.effects import RenewLease
from mirrorfarm.actors.events import HardwareIs, ResourceChanged, VipIsDown, VipIsUp
from mirrorfarm.actors.farm_filter import door, places
from mirrorfarm.actors.vip.shared import SharedAddress
from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.modules.settings import Farm, FarmAddress, Module
from mirrorfarm.netfilter.filter import BucketTable, Settings

STAYS = "a virtual address stays on this node: [Errno 105] No buffer space available"
MODULE = Module("web", 1, ("n1", "n2"), "farm", farm=Farm(addresses=(FarmAddress("192.0.2.9"),)))


@dataclass
class Kernel:
    """What the door has done, and what the kernel refuses."""

    calls: list[str] = field(default_factory=list)
    no_up: bool = False
    no_down: int = 0  # How often.
    renewed: list[int] = field(default_factory=list)

    # As a filter.
    def open(self, settings: Settings) -> None:
        del settings
        self.calls.append("open")

    def apply(self, table: BucketTable) -> None:
        del table

    def renew(self, deadline_ns: int) -> bool:
        self.renewed.append(deadline_ns)
        return True

    def is_whole(self) -> bool:
        return True

    def counters(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        self.calls.append("close")

    # As the addresses.
    def up(self, table: BucketTable) -> None:
        del table
        self.calls.append("up")
        if self.no_up:
            raise SystemUnsuitable("it cannot be announced")

    def down(self) -> None:
        if self.no_down:
            self.no_down -= 1
            raise SystemUnsuitable(STAYS)
        self.calls.append("down")

    def announce(self) -> None:
        self.calls.append("announce")

    def adopt(self, table: BucketTable) -> None:
        del table


@dataclass
class Bench:
    kernel: Kernel
    door: door.FarmDoor
    told: "queue.SimpleQueue[Any]"
    inbox: "queue.SimpleQueue[Any]" = field(default_factory=queue.SimpleQueue)

    def resources(self) -> list[tuple[str, str]]:
        found = []
        while not self.told.empty():
            event = self.told.get()
            if isinstance(event, ResourceChanged):
                found.append((event.value, event.reason))
        return found


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    kernel, told = Kernel(), queue.SimpleQueue[Any]()
    monkeypatch.setattr(door, "make", lambda *_: kernel)
    monkeypatch.setattr(door, "SharedAddress", lambda *_: kernel)
    monkeypatch.setattr(door, "reset", lambda _: 0)
    monkeypatch.setattr(door, "_RETRY_S", 0.02)
    monkeypatch.setattr(door.FarmDoor, "_find_interfaces", lambda _: ("lo",))
    made = door.FarmDoor(MODULE, "bpf", tmp_path / "ledger", told.put)
    yield Bench(kernel, made, told)
    made.close()


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_filter_goes_after_the_addresses(bench: Bench) -> None:
    bench.door.add(1, bench.inbox.put)
    assert bench.inbox.get(timeout=10) == VipIsUp(1)
    bench.door.remove(2, bench.inbox.put)
    assert bench.inbox.get(timeout=10) == VipIsDown(2)
    assert bench.kernel.calls == ["open", "up", "down", "close"]
    assert bench.resources() == []


def test_an_address_that_stays_keeps_its_filter_which_drops(bench: Bench) -> None:
    bench.door.add(1, bench.inbox.put)
    assert bench.inbox.get(timeout=10) == VipIsUp(1)
    bench.kernel.no_down = 1_000_000
    bench.door.remove(2, bench.inbox.put)
    until(lambda: bench.kernel.no_down < 999_998)
    bench.door.renew(RenewLease(77), bench.inbox.put)
    assert bench.inbox.empty(), "it is not down"
    assert "close" not in bench.kernel.calls
    assert set(bench.kernel.renewed) == {0}, "its lease is over, and none is given"
    bench.kernel.no_down = 0
    assert bench.inbox.get(timeout=10) == VipIsDown(2)
    assert bench.kernel.calls == ["open", "up", "down", "close"]
    assert bench.resources() == [("down", f"({STAYS})"), ("up", "")]


def test_addresses_that_can_be_neither_taken_nor_removed_keep_the_filter(bench: Bench) -> None:
    bench.kernel.no_up, bench.kernel.no_down = True, 2
    bench.door.add(1, bench.inbox.put)
    up = bench.inbox.get(timeout=10)
    assert up == VipIsUp(1, ("filter bpf: it cannot be announced", STAYS))
    assert bench.kernel.calls == ["open", "up"]
    bench.door.remove(2, bench.inbox.put)
    assert bench.inbox.get(timeout=10) == VipIsDown(2)
    assert bench.kernel.calls == ["open", "up", "down", "close"]


def test_a_newer_order_begins_anew(bench: Bench) -> None:
    bench.door.add(1, bench.inbox.put)
    assert bench.inbox.get(timeout=10) == VipIsUp(1)
    bench.kernel.no_down = 1_000_000
    bench.door.remove(2, bench.inbox.put)
    until(lambda: bench.kernel.no_down < 999_998)
    bench.door.add(3, bench.inbox.put)
    assert bench.inbox.get(timeout=10) == VipIsUp(3, (STAYS,))
    bench.kernel.no_down = 0
    bench.door.add(4, bench.inbox.put)
    assert bench.inbox.get(timeout=10) == VipIsUp(4)
    assert bench.kernel.calls == ["open", "up", "down", "close", "open", "up"]
    time.sleep(0.1)
    assert bench.inbox.empty(), "nothing is said of an order that is void"
    bench.door.renew(RenewLease(77), bench.inbox.put)
    assert bench.kernel.renewed[-1] == 77


def test_a_hardware_address_that_was_not_known_at_first_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def late(_: door.FarmDoor) -> tuple[str, ...]:
        raise SystemUnsuitable("no network has this address yet")

    farm = Farm(addresses=(FarmAddress("192.0.2.9"),), delivery="vmac_directed")
    monkeypatch.setattr(door, "relaying_address", lambda _: b"\2\0\0\0\0\2")
    with monkeypatch.context() as early:
        early.setattr(door.FarmDoor, "_find_interfaces", late)
        module = msgspec.structs.replace(MODULE, farm=farm)
        made = door.FarmDoor(module, "bpf", tmp_path / "other", bench.told.put)
    try:
        assert made.mac == b""
        made.add(1, bench.inbox.put)
        assert bench.inbox.get(timeout=10) == VipIsUp(1)
        made.renew(RenewLease(77), bench.inbox.put)
        assert bench.inbox.get(timeout=10) == HardwareIs(b"\2\0\0\0\0\2")
        made.renew(RenewLease(78), bench.inbox.put)
        assert bench.inbox.empty(), "once"
    finally:
        made.close()


def test_a_hardware_address_that_changes_is_told_and_announced(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A bond takes the address of the adapter that works."""
    macs = [b"\2\0\0\0\0\2"]
    monkeypatch.setattr(door, "relaying_address", lambda _: macs[0])
    farm = Farm(addresses=(FarmAddress("192.0.2.9"),), delivery="vmac_directed")
    module = msgspec.structs.replace(MODULE, farm=farm)
    made = door.FarmDoor(module, "bpf", tmp_path / "other", bench.told.put)
    try:
        made.add(1, bench.inbox.put)
        assert bench.inbox.get(timeout=10) == VipIsUp(1)
        macs[0] = b"\2\0\0\0\0\3"
        until(lambda: made.mac == macs[0])
        until(lambda: bench.kernel.calls == ["open", "up", "announce"])
        made.renew(RenewLease(77), bench.inbox.put)
        assert bench.inbox.get(timeout=10) == HardwareIs(macs[0])
    finally:
        made.close()


def test_what_went_with_an_interface_is_raised_at_the_new_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.door.add(1, bench.inbox.put)
    assert bench.inbox.get(timeout=10) == VipIsUp(1)
    monkeypatch.setattr(places, "number_of", lambda _: 77)
    until(lambda: bench.kernel.calls[2:] == ["down", "close", "open", "up"])
    bench.door.renew(RenewLease(77), bench.inbox.put)
    assert bench.kernel.renewed[-1] == 77
    time.sleep(0.6)
    assert len(bench.kernel.calls) == 6, "once"
    assert bench.resources() == []


def test_a_new_interface_without_addresses_has_the_module_wait(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.door.add(1, bench.inbox.put)
    assert bench.inbox.get(timeout=10) == VipIsUp(1)
    bench.kernel.no_up = True
    monkeypatch.setattr(door, "_LOOK_S", 0.01)
    monkeypatch.setattr(places, "number_of", lambda _: 77)
    told: list[ResourceChanged] = []

    def is_told() -> bool:
        while not bench.told.empty():
            event = bench.told.get()
            told.extend([event] if isinstance(event, ResourceChanged) else [])
        return bool(told)

    until(is_told)
    words = "filter bpf: it cannot be announced"
    assert told == [ResourceChanged("farm.address", "down", "wait", words)]
    assert bench.kernel.calls[-1] == "close", "nothing is left without a filter"
    bench.kernel.no_up = False
    time.sleep(0.2)
    assert bench.kernel.calls[-1] == "close", "the module says when it is tried again"
    bench.door.add(2, bench.inbox.put)
    assert bench.inbox.get(timeout=10) == VipIsUp(2)
    assert bench.resources() == [("up", "")]


@pytest.mark.parametrize("verb", ["add", "remove"])
def test_what_breaks_on_a_thread_of_the_door_is_heard(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Nobody asks for the outcome of these orders: the farm would wait for it for ever."""
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", lambda hook: heard.put(hook.exc_value))
    fault = KeyError("IFLA_IFNAME")

    def break_rules(*_: Any) -> None:
        raise fault

    monkeypatch.setattr(bench.door, "_open", break_rules)
    monkeypatch.setattr(bench.door, "_close", break_rules)
    getattr(bench.door, verb)(1, bench.inbox.put)
    assert heard.get(timeout=10) is fault


def test_the_kernel_stays_silent_about_an_address_that_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    shared = SharedAddress(Settings("web", ("lo",), (), (), 7), tmp_path / "ledger")

    def refuse() -> None:
        raise OSError(105, "No buffer space available")

    monkeypatch.setattr(shared._sysctls, "release", lambda: done.append("release"))
    with monkeypatch.context() as stuck:
        stuck.setattr(shared._addresses, "remove", refuse)
        with pytest.raises(SystemUnsuitable, match="stays on this node"):
            shared.down()
        assert done == []
    monkeypatch.setattr(shared._addresses, "remove", lambda: done.append("remove"))
    shared.down()
    assert done == ["remove", "release"]
