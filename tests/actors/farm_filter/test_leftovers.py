"""What a farm's process left in the kernel, its successor removes before it does anything else."""

import json
import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mirrorfarm.actors.events import ResourceChanged, VipIsDown, VipIsUp
from mirrorfarm.actors.farm_filter import door, leftovers
from mirrorfarm.modules.settings import Farm, FarmAddress, Module, VirtualAddress
from mirrorfarm.netfilter.filter import BucketTable, Settings

OLD, NEW = "192.0.2.9", "192.0.2.10"
MODULE = Module("web", 1, ("n1", "n2"), "farm", farm=Farm(addresses=(FarmAddress(OLD),)))
CHANGED = msgspec.structs.replace(MODULE, farm=Farm(addresses=(FarmAddress(NEW),)))
NOTE = "web.farm.json"


@dataclass
class Kernel:
    """What was done, and what is refused."""

    calls: list[str] = field(default_factory=list)
    no_removal: int = 0  # Of an address that was left, how often.
    no_end: bool = False  # Of a filter that was left.
    at_open: Callable[[], None] = lambda: None

    # As a filter of this process, and its addresses.
    def open(self, settings: Settings) -> None:
        self.at_open()
        self.calls.append(f"open {settings.addresses[0]}")

    def apply(self, table: BucketTable) -> None:
        del table

    def is_whole(self) -> bool:
        return True

    def counters(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        self.calls.append("close")

    def up(self, table: BucketTable) -> None:
        del table
        self.calls.append("up")

    def down(self) -> None:
        self.calls.append("down")

    # What is left.
    def take_off(self, vips: tuple[VirtualAddress, ...], interface: str) -> None:
        if self.no_removal:
            self.no_removal -= 1
            raise OSError(105, "No buffer space available")
        self.calls.append(f"{' '.join(vip.addr for vip in vips)} off {interface}")

    def remove_left(self, kind: str, module: str) -> None:
        if self.no_end:
            raise OSError(16, "Device or resource busy")
        self.calls.append(f"no {kind} of {module}")


@dataclass
class Bench:
    kernel: Kernel
    folder: Path
    doors: list[door.FarmDoor] = field(default_factory=list)
    told: "queue.SimpleQueue[Any]" = field(default_factory=queue.SimpleQueue)
    inbox: "queue.SimpleQueue[Any]" = field(default_factory=queue.SimpleQueue)
    logged: list[str] = field(default_factory=list)

    @property
    def note(self) -> Path:
        return self.folder / NOTE

    def process(self, module: Module, kind: str) -> door.FarmDoor:
        """Return the door of a new process."""
        made = door.FarmDoor(
            module,
            kind,
            self.folder / "ledger",
            self.told.put,
            lambda _, text: self.logged.append(text),
        )
        self.doors.append(made)
        return made

    def left(self) -> None:
        """Have a process end that was UP."""
        first = self.process(MODULE, "bpf")
        first.add(1, self.inbox.put)
        assert self.heard() == VipIsUp(1)
        first.close()
        assert self.kernel.calls == [f"open {OLD}", "up"]
        self.kernel.calls.clear()

    def heard(self) -> Any:
        return self.inbox.get(timeout=10)

    def resources(self) -> list[tuple[str, str]]:
        found = []
        while not self.told.empty():
            event = self.told.get()
            if isinstance(event, ResourceChanged):
                found.append((event.value, event.reason))
        return found


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    kernel = Kernel()

    class Addresses:
        def __init__(self, vips: tuple[VirtualAddress, ...]) -> None:
            self._vips = vips

        def remove(self, interface: str) -> None:
            kernel.take_off(self._vips, interface)

        def close(self) -> None:
            pass

    monkeypatch.setattr(leftovers, "Addresses", Addresses)
    monkeypatch.setattr(leftovers, "remove_left", kernel.remove_left)
    monkeypatch.setattr(door, "make", lambda *_: kernel)
    monkeypatch.setattr(door, "SharedAddress", lambda *_: kernel)
    monkeypatch.setattr(door, "reset", lambda _: 0)
    monkeypatch.setattr(door, "_RETRY_S", 0.02)
    monkeypatch.setattr(door.FarmDoor, "_find_interfaces", lambda _: ("lo",))
    made = Bench(kernel, tmp_path)
    yield made
    for one in made.doors:
        one.close()


def test_what_is_about_to_be_made_is_noted_first_and_until_it_is_removed(bench: Bench) -> None:
    def is_noted() -> None:
        note = json.loads(bench.note.read_text())
        assert note == {"addresses": [OLD], "kind": "nft"}
        assert bench.note.stat().st_mode & 0o777 == 0o600
        bench.kernel.calls.append("is noted")

    bench.kernel.at_open = is_noted
    only = bench.process(MODULE, "nft")
    only.add(1, bench.inbox.put)
    assert bench.heard() == VipIsUp(1)
    assert bench.note.exists()
    only.remove(2, bench.inbox.put)
    assert bench.heard() == VipIsDown(2)
    assert bench.kernel.calls == ["is noted", f"open {OLD}", "up", "down", "close"]
    assert list(bench.folder.iterdir()) == []


@pytest.mark.parametrize("verb", ["remove", "add"])
def test_the_first_order_of_a_new_process_removes_what_is_noted(bench: Bench, verb: str) -> None:
    """Addresses first: without a filter this node would answer for all."""
    bench.left()
    new = bench.process(CHANGED, "nft")
    getattr(new, verb)(1, bench.inbox.put)
    assert bench.heard() == (VipIsDown(1) if verb == "remove" else VipIsUp(1))
    seen = [call for call in bench.kernel.calls if "off" in call or "no " in call]
    assert seen[0] == f"{OLD} off lo"
    assert seen[-1] == "no bpf of web"
    own = [f"open {NEW}", "up"] if verb == "add" else []
    assert bench.kernel.calls == [*seen, *own]
    assert bench.note.exists() == (verb == "add")
    assert bench.logged == []


def test_an_address_that_an_earlier_process_left_and_that_stays_is_told(bench: Bench) -> None:
    bench.left()
    bench.kernel.no_removal = 1_000_000
    new = bench.process(CHANGED, "nft")
    new.add(1, bench.inbox.put)
    words = "a virtual address stays on this node: [Errno 105] No buffer space available"
    assert bench.heard() == VipIsUp(1, (words,))
    assert bench.kernel.calls == [], "its filter stays as well, and none is opened beside it"
    new.remove(2, bench.inbox.put)
    bench.kernel.no_removal = 2
    assert bench.heard() == VipIsDown(2)
    assert bench.kernel.calls[-1] == "no bpf of web"
    assert bench.resources() == [("down", f"({words})"), ("up", "")]
    assert not bench.note.exists()


def test_a_filter_that_an_earlier_process_left_and_that_stays_lets_none_be_opened(
    bench: Bench,
) -> None:
    """It drops everything: the node would have a share, and answer nobody."""
    bench.left()
    bench.kernel.no_end = True
    new = bench.process(CHANGED, "nft")
    new.remove(1, bench.inbox.put)
    assert bench.heard() == VipIsDown(1), "it has no address any more: others may rely on that"
    new.add(2, bench.inbox.put)
    (failure,) = bench.heard().failures
    assert "what an earlier process left of the filter bpf stays: [Errno 16]" in failure
    assert f"open {NEW}" not in bench.kernel.calls
    bench.kernel.no_end = False
    new.add(3, bench.inbox.put)
    assert bench.heard() == VipIsUp(3)
    assert bench.kernel.calls[-3:] == ["no bpf of web", f"open {NEW}", "up"]


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b'{"addresses": ["192.0.2.9"], "kind": "bpf"',
        b'{"addresses": ["nonsense"], "kind": "bpf"}',
        b'{"addresses": ["192.0.2.9"], "kind": "ipvs"}',
    ],
)
@pytest.mark.parametrize("no_end", [False, True])
def test_a_damaged_note_keeps_no_module_from_starting(
    bench: Bench, damaged: bytes, no_end: bool
) -> None:
    bench.note.write_bytes(damaged)
    bench.kernel.no_end = no_end
    new = bench.process(CHANGED, "nft")
    new.remove(1, bench.inbox.put)
    assert bench.heard() == VipIsDown(1)
    assert f"{NEW} off lo" in bench.kernel.calls
    removed = [call for call in bench.kernel.calls if call.startswith("no ")]
    kinds = () if no_end else ("bpf", "nft", "nfqueue")
    assert removed == [f"no {kind} of web" for kind in kinds]
    (line,) = bench.logged
    assert NOTE in line
    new.add(2, bench.inbox.put)
    assert bench.heard() == VipIsUp(2)
    assert json.loads(bench.note.read_text())["addresses"] == [NEW]
