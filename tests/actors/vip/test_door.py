"""What is said of an address that the kernel does not let go."""

import queue
from collections.abc import Iterator
from typing import Any

import pytest

from mirrorfarm.actors.events import ResourceChanged, VipIsDown
from mirrorfarm.actors.vip import door
from mirrorfarm.modules.settings import VirtualAddress


class Kernel:
    """In place of the addresses of a node."""

    def __init__(self, *_: Any) -> None:
        self.refusals = 0

    def present(self) -> tuple[Any, ...]:
        return ()

    def remove(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise OSError(105, "No buffer space available")

    def close(self) -> None:
        return


@pytest.fixture
def told() -> "queue.SimpleQueue[Any]":
    return queue.SimpleQueue()


@pytest.fixture
def vip(monkeypatch: pytest.MonkeyPatch, told: "queue.SimpleQueue[Any]") -> Iterator[door.VipDoor]:
    monkeypatch.setattr(door, "Addresses", Kernel)
    monkeypatch.setattr(door, "_RETRY_S", 0.01)
    made = door.VipDoor((VirtualAddress("192.0.2.9"),), True, told.put)
    yield made
    made.close()


def test_an_address_that_stays_is_said_once_and_that_it_went(
    vip: door.VipDoor, told: "queue.SimpleQueue[Any]"
) -> None:
    addresses: Any = vip._addresses
    addresses.refusals = 5
    vip.remove(7, told.put)
    first, second, third = (told.get(timeout=10) for _ in range(3))
    assert isinstance(first, ResourceChanged)
    assert (first.resource, first.value, first.action) == ("vip.removal", "down", "noaction")
    assert "No buffer space available" in first.reason
    assert second == ResourceChanged("vip.removal", "up")
    assert third == VipIsDown(7)
    vip.remove(8, told.put)
    assert told.get(timeout=10) == VipIsDown(8)
