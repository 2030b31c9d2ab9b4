"""Acts on disks and clocks."""

import errno
from dataclasses import dataclass
from typing import Any

from mirrorfarm.sim.acts.act import FARM, MIRROR, OnModule, OnNode, argument, length, named
from mirrorfarm.sim.acts.kinds import DURATION, OFFSET, number, words
from mirrorfarm.sim.engine import RATE_MILLIONTHS
from mirrorfarm.sim.monitors.seen import RecordGone
from mirrorfarm.sim.storage import Latency


@named("disk_slow", MIRROR)
@dataclass(frozen=True)
class DiskSlow(OnModule):
    """A disk takes long, in the mean, for every writing."""

    by_ns: int = argument(DURATION, "the mean", key="by")
    for_ns: int = length()

    def do(self, world: Any) -> None:  # noqa: D102
        node = self.here(world)
        node.latency = node.flushes = Latency(self.by_ns)
        self.ends(world, self.for_ns, node.mend_disk)


@dataclass(frozen=True)
class _Refuses(OnModule):
    for_ns: int = length()

    def refuse(self, world: Any, error: int) -> None:
        """Have the disk answer with an error."""
        disk = self.here(world).disk
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


@named("disk_fills", MIRROR)
@dataclass(frozen=True)
class DiskFills(OnModule):
    """After so many more writes a disk is full, ENOSPC, and remains so: nothing is overwritten."""

    room: int = argument(number(0, 10_000), "how many still fit", key="room", default=0)
    for_ns: int = length("until there is room again; left out: there never is")

    def do(self, world: Any) -> None:  # noqa: D102
        disk = self.here(world).disk
        disk.room = self.room
        self.ends(world, self.for_ns, setattr, disk, "room", -1)


@named("short_write", MIRROR)
@dataclass(frozen=True)
class ShortWrite(OnModule):
    """The next write stops half way, ENOSPC: what it did is there, the rest is not."""

    def do(self, world: Any) -> None:  # noqa: D102
        self.here(world).disk.short = errno.ENOSPC


@named("bit_rot", MIRROR)
@dataclass(frozen=True)
class BitRot(OnModule):
    """A part of a file cannot be read any more, EIO, until it is written: its checksum is wrong."""

    extent: int = argument(number(0, 1_000_000), "which part", key="extent", default=1)

    def do(self, world: Any) -> None:  # noqa: D102
        self.here(world).disk.rotten.add(self.extent)


@named("flush_error", MIRROR)
@dataclass(frozen=True)
class FlushError(OnModule):
    """One flush fails; the next one would succeed, and lie."""

    def do(self, world: Any) -> None:  # noqa: D102
        self.here(world).disk.flush_error = errno.EIO


@named("record_fails", MIRROR, FARM)
@dataclass(frozen=True)
class RecordFails(OnModule):
    """The next writings of the durable record, or of a register kept there, fail: no space."""

    count: int = argument(number(1, 1_000), "how many", key="count", default=1)

    def do(self, world: Any) -> None:  # noqa: D102
        records = self.here(world).records
        records.failures, records.error = self.count, errno.ENOSPC


@named("record_crash", MIRROR)
@dataclass(frozen=True)
class RecordCrash(OnModule):
    """Power fails at the next writing of the record. The node starts again when that is over."""

    when: str = argument(words("before", "after"), "it is durable", key="when", default="before")
    for_ns: int = length("counted from now on; left out: it stays off")

    def do(self, world: Any) -> None:  # noqa: D102
        self.here(world).store_crashes = self.when
        self.comes_back(world, self.for_ns, self.node)


@named("record_rots", MIRROR)
@dataclass(frozen=True)
class RecordRots(OnModule):
    """No slot of the durable record can be read any more, until it is written again."""

    def do(self, world: Any) -> None:  # noqa: D102
        records = self.here(world).records
        if records.record is not None:
            records.record, records.damaged = None, "no slot of the record is whole"
            module = self.module_name(world)
            world.seen(self.node, RecordGone(module), module)


@named("clock_drift", MIRROR, FARM)
@dataclass(frozen=True)
class ClockDrift(OnNode):
    """The clocks of a machine are fast from now on, or slow, by so many millionths."""

    by: int = argument(number(-RATE_MILLIONTHS, RATE_MILLIONTHS), "millionths", key="by")

    def do(self, world: Any) -> None:  # noqa: D102
        now, by = world.now, self.by
        world.change_clocks(self.node, lambda clocks: clocks.drift(now, by))


@named("clock_step", MIRROR)
@dataclass(frozen=True)
class ClockStep(OnNode):
    """The time of day is set."""

    by_ns: int = argument(OFFSET, "forward, or back", key="by")

    def do(self, world: Any) -> None:  # noqa: D102
        world.hosts[self.node].clocks.step(self.by_ns)
