"""What a simulated data plane needs of its machine."""

from collections.abc import Callable
from typing import Any

from mirrorfarm.actors.replicator.operations import ROOT, Introduce
from mirrorfarm.sim.storage import Extents


def introduction(node: int) -> Introduce:
    """Return what tells a target of one of the files."""
    return Introduce(0, node, ROOT, b"%d" % node, 0o100644)


class NoLock:
    """The lock of the names, which never change here."""

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, *_: object) -> None:
        """Do nothing."""


class Places:
    """Implements `journal.Places`: every file lies in the root."""

    lock = NoLock()

    def introductions(self, node: int) -> tuple[Introduce, ...] | None:
        """Return what leads to a file."""
        return (introduction(node),)


class Surroundings:
    """What a plane needs of its machine; the simulation implements it."""

    node: str
    peer: str
    disk: Extents
    timeout_ns: int
    received_suffices: bool
    clock: Callable[[], int]  # The machine's monotonic clock.

    def tell(self, event: Any) -> None:
        """Give an event to the replicator's core."""
        raise NotImplementedError

    def after(self, delay_ns: int, call: Callable[[], None]) -> None:
        """Call something on the plane's process, unless that has ended."""
        raise NotImplementedError

    def disk_ns(self) -> int:
        """Return how long the disk takes for its next flush."""
        raise NotImplementedError

    def flush_ns(self) -> int:
        """Return how long the disk takes for what the peer wants flushed."""
        raise NotImplementedError

    def nonce(self) -> int:
        """Return a number that no other stream has."""
        raise NotImplementedError

    def dial(self, inbox: Callable[[list[list[bytes]]], None]) -> Any:
        """Connect to the peer's target."""
        raise NotImplementedError

    def listen(self, inbox: Callable[[list[list[bytes]]], None]) -> Any:
        """Wait for the peer's source."""
        raise NotImplementedError

    def wrote(self, extent: int, write: int, term: int, sid: int) -> None:
        """Hear that a write is in this node's memory; sid 0: by its own application."""

    def kept(self, extent: int, write: int) -> None:
        """Hear that what an extent held was set aside before a copy replaced it."""

    def exits(self) -> None:
        """End the process."""
