"""Acts on disks and clocks."""

import errno
from dataclasses import dataclass
from typing import Any

from mirrorfarm.sim.acts.act import MIRROR, OnNode, argument, length, named
from mirrorfarm.sim.acts.kinds import DURATION, OFFSET, number, words
from mirrorfarm.sim.storage import Latency


@named("disk_slow", MIRROR)
@dataclass(frozen=True)
class DiskSlow(OnNode):
    """A disk takes long, in the mean, for every writing."""

    by_ns: int = argument(DURATION, "the mean", key="by")
    for_ns: int = length()

    def do(self, world: Any) -> None:  # noqa: D102
        node = world.nodes[self.node]
        node.latency = node.flushes = Latency(self.by_ns)
        self.ends(world, self.for_ns, node.mend_disk)


@dataclass(frozen=True)
class _Refuses(OnNode):
    for_ns: int = length()

    def refuse(self, world: Any, error: int) -> None:
        """Have the disk answer with an error."""
        disk = world.nodes[self.node].disk
        disk.error = error
        self.ends(world, self.for_ns, setattr, disk, "error", 0)


@named("disk_error", MIRROR)
@dataclass(frozen=True)
class DiskError(_Refuses):
    """A disk refuses everything: EIO."""

    def do(self, world: Any) -> None:  # noqa: D102
        self.refuse(world, errno.EIO)


@named("disk_full", MIRROR)
@dataclass(frozen=True)
class DiskFull(_Refuses):
    """A disk is full: ENOSPC."""

    def do(self, world: Any) -> None:  # noqa: D102
        self.refuse(world, errno.ENOSPC)


@named("flush_error", MIRROR)
@dataclass(frozen=True)
class FlushError(OnNode):
    """One flush fails; the next one would succeed, and lie."""

    def do(self, world: Any) -> None:  # noqa: D102
        world.nodes[self.node].disk.flush_error = errno.EIO


@named("record_fails", MIRROR)
@dataclass(frozen=True)
class RecordFails(OnNode):
    """The next writings of the durable record fail: no space."""

    count: int = argument(number(1, 1_000), "how many", key="count", default=1)

    def do(self, world: Any) -> None:  # noqa: D102
        records = world.nodes[self.node].records
        records.failures, records.error = self.count, errno.ENOSPC


@named("record_crash", MIRROR)
@dataclass(frozen=True)
class RecordCrash(OnNode):
    """Power fails at the next writing of the record. The node starts again when that is over."""

    when: str = argument(words("before", "after"), "it is durable", key="when", default="before")
    for_ns: int = length("counted from now on; left out: it stays off")

    def do(self, world: Any) -> None:  # noqa: D102
        world.nodes[self.node].store_crashes = self.when
        self.ends(world, self.for_ns, world.begin, self.node)


@named("clock_step", MIRROR)
@dataclass(frozen=True)
class ClockStep(OnNode):
    """The time of day is set."""

    by_ns: int = argument(OFFSET, "forward, or back", key="by")

    def do(self, world: Any) -> None:  # noqa: D102
        world.nodes[self.node].host.clocks.step(self.by_ns)
