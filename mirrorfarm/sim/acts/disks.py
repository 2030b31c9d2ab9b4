"""Acts on disks and clocks."""

import errno
from dataclasses import dataclass
from typing import Any

from mirrorfarm.sim.acts.act import Act, argument, length, node_argument
from mirrorfarm.sim.acts.kinds import DURATION, OFFSET, number, words
from mirrorfarm.sim.acts.mirror import MIRROR
from mirrorfarm.sim.acts.processes import begin
from mirrorfarm.sim.storage import Latency


@MIRROR.named("disk_slow")
@dataclass(frozen=True)
class DiskSlow(Act):
    """A disk takes long, in the mean, for every writing."""

    node: str = node_argument()
    by_ns: int = argument(DURATION, "the mean", key="by")
    for_ns: int = length()

    def do(self, world: Any) -> None:  # noqa: D102
        node = world.nodes[self.node]
        node.latency = node.flushes = Latency(self.by_ns)
        if self.for_ns:
            world.after(self.for_ns, node.mend_disk)


@dataclass(frozen=True)
class _Refuses(Act):
    node: str = node_argument()
    for_ns: int = length()

    def refuse(self, world: Any, error: int) -> None:
        """Have the disk answer with an error."""
        disk = world.nodes[self.node].disk
        disk.error = error
        if self.for_ns:
            world.after(self.for_ns, lambda: setattr(disk, "error", 0))


@MIRROR.named("disk_error")
@dataclass(frozen=True)
class DiskError(_Refuses):
    """A disk refuses everything: EIO."""

    def do(self, world: Any) -> None:  # noqa: D102
        self.refuse(world, errno.EIO)


@MIRROR.named("disk_full")
@dataclass(frozen=True)
class DiskFull(_Refuses):
    """A disk is full: ENOSPC."""

    def do(self, world: Any) -> None:  # noqa: D102
        self.refuse(world, errno.ENOSPC)


@MIRROR.named("flush_error")
@dataclass(frozen=True)
class FlushError(Act):
    """One flush fails; the next one would succeed, and lie."""

    node: str = node_argument()

    def do(self, world: Any) -> None:  # noqa: D102
        world.nodes[self.node].disk.flush_error = errno.EIO


@MIRROR.named("record_fails")
@dataclass(frozen=True)
class RecordFails(Act):
    """The next writings of the durable record fail: no space."""

    node: str = node_argument()
    count: int = argument(number(1, 1_000), "how many", key="count", default=1)

    def do(self, world: Any) -> None:  # noqa: D102
        records = world.nodes[self.node].records
        records.failures, records.error = self.count, errno.ENOSPC


@MIRROR.named("record_crash")
@dataclass(frozen=True)
class RecordCrash(Act):
    """Power fails at the next writing of the record. The node starts again when that is over."""

    node: str = node_argument()
    when: str = argument(words("before", "after"), "it is durable", key="when", default="before")
    for_ns: int = length("counted from now on; left out: it stays off")

    def do(self, world: Any) -> None:  # noqa: D102
        world.nodes[self.node].store_crashes = self.when
        if self.for_ns:
            world.after(self.for_ns, begin, world, self.node)


@MIRROR.named("clock_step")
@dataclass(frozen=True)
class ClockStep(Act):
    """The time of day is set."""

    node: str = node_argument()
    by_ns: int = argument(OFFSET, "forward, or back", key="by")

    def do(self, world: Any) -> None:  # noqa: D102
        world.nodes[self.node].host.clocks.step(self.by_ns)
