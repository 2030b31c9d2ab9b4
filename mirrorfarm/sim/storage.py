"""What a machine's disk holds: extents of files, durable records, and how both may fail.

An extent holds the number of the write that was last made to it, or 0. It is written to memory
first and reaches the platter by a flush, or by chance before the power fails.
"""

import errno
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.limits import MICROSECOND_NS
from mirrorfarm.sim.engine import Draws, exponential

FILES = 4  # Of the replicated directory; file `n` has the inode number FIRST_NODE + n.
FIRST_NODE = 2


@dataclass(slots=True)
class Extents:
    """The replicated directory of one node."""

    memory: dict[int, int] = field(default_factory=dict)  # Extent: number of the write.
    platter: dict[int, int] = field(default_factory=dict)
    # Extent: the numbers that memory held since the platter did, each with its `order`.
    dirty: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    kept: set[int] = field(default_factory=set)  # Set aside before a copy replaced it.
    map_file: bytes = b""  # The change map, from a clean end to the next beginning.
    scope: bool = False  # A copy of all that is replicated has ended here once.
    named: tuple[bytes, bool] = (b"", False)  # Both as the flushed directory has them.
    order: int = 0
    error: int = 0  # errno of every write, while it is not 0.
    flush_error: int = 0  # errno of the next flush; then flushes work again.
    lazy: bool = False  # Nothing reaches the platter but by a flush.
    room: int = -1  # So many more writes fit; -1: any number.
    short: int = 0  # errno of the next write, which stops half way.
    rotten: set[int] = field(default_factory=set)  # They cannot be read until they are written.

    def read(self, extent: int) -> int:
        """Return what an extent holds. OSError if it cannot be read."""
        if extent in self.rotten:
            raise OSError(errno.EIO, "the disk cannot read it any more")
        return self.memory.get(extent, 0)

    def write(self, extent: int, value: int) -> int:
        """Change an extent; return why the rest of the write was not done (errno), 0: all was.

        OSError if the disk refuses: then nothing has changed.
        """
        if self.error or not self.room:
            raise OSError(self.error or errno.ENOSPC, "the disk refuses")
        if self.room > 0:
            self.room -= 1
        self.rotten.discard(extent)
        self.order += 1
        self.dirty.setdefault(extent, []).append((self.order, value))
        if value:
            self.memory[extent] = value
        else:
            self.memory.pop(extent, None)
        short, self.short = self.short, 0
        return short

    def name(self, *, map_file: bytes | None = None, scope: bool = False) -> None:
        """Have files appear, or vanish, and flush their directory."""
        self.map_file = self.map_file if map_file is None else map_file
        self.scope = self.scope or scope
        self.flush_names()

    def flush_names(self) -> None:
        """Make names durable: without it a loss of power may bring the old ones back."""
        self.named = (self.map_file, self.scope)

    def flush(self, until: int) -> None:
        """Make durable what was written up to a moment (`order`). OSError if the disk refuses.

        What was written over since then was on its way to the platter already.
        """
        if self.flush_error:
            error, self.flush_error = self.flush_error, 0
            raise OSError(error, "the flush failed")
        if self.error == errno.EIO:
            raise OSError(self.error, "the disk refuses")
        for extent, writes in list(self.dirty.items()):
            if writes[-1][0] <= until:
                del self.dirty[extent]
                self._settle(extent, writes[-1][1])
            elif writes[0][0] <= until:
                self._settle(extent, [value for order, value in writes if order <= until][-1])
                self.dirty[extent] = [write for write in writes if write[0] > until]

    def power_fails(self, draws: Draws) -> None:
        """Forget what is not durable; some of it the kernel had written back already."""
        for extent, writes in self.dirty.items():
            if not self.lazy and draws.chance(500):
                self._settle(extent, writes[-1][1])
        self.dirty.clear()
        self.memory = dict(self.platter)
        if self.named != (self.map_file, self.scope) and (self.lazy or draws.chance(500)):
            self.map_file, self.scope = self.named
        self.named = (self.map_file, self.scope)

    def mend(self) -> None:
        """End what is wrong with it; what could not be read is what it was."""
        self.error, self.flush_error, self.room, self.short = 0, 0, -1, 0
        self.rotten.clear()

    def _settle(self, extent: int, value: int) -> None:
        if value:
            self.platter[extent] = value
        else:
            self.platter.pop(extent, None)

    @property
    def data(self) -> set[int]:
        """The numbers of all writes that are here and were not overwritten."""
        return set(self.memory.values())

    @property
    def volatile(self) -> set[int]:
        """Those that a loss of power may take away."""
        return {self.memory[extent] for extent in self.dirty if extent in self.memory}

    def of_file(self, node: int) -> Iterator[tuple[int, int]]:
        """Yield zone and content of every extent of a file, zones ascending. OSError: see read."""
        for zone in self.zones(node):
            yield zone, self.read(extent_of(node, zone))

    def zones(self, node: int) -> list[int]:
        """Return the zones of a file that hold anything, ascending."""
        own = (node - FIRST_NODE) % FILES
        return sorted(extent // FILES for extent in self.memory if extent % FILES == own)


def file_of(extent: int) -> int:
    """Return the inode number of the file that an extent belongs to."""
    return FIRST_NODE + extent % FILES


def zone_of(extent: int) -> int:
    """Return the zone of its file that an extent is."""
    return extent // FILES


def extent_of(node: int, zone: int) -> int:
    """Return the extent that is this zone of a file."""
    return zone * FILES + (node - FIRST_NODE)


@dataclass(slots=True)
class Latency:
    """How long a disk takes."""

    mean_ns: int = 1_000 * MICROSECOND_NS
    minimum_ns: int = 200 * MICROSECOND_NS

    def draw(self, draws: Draws) -> int:
        """Return one duration."""
        mean_ns = self.mean_ns
        drawn_ns = exponential(draws.word(), mean_ns)
        longest_ns = 20 * mean_ns
        return self.minimum_ns + (drawn_ns if drawn_ns < longest_ns else longest_ns)


class Refusal(NamedTuple):
    """Why a disk refuses a writing."""

    error: int  # Its errno.
    text: str


NO_SPACE: Final = Refusal(errno.ENOSPC, "no space")


@dataclass(slots=True)
class Records:
    """The durable records of one machine: written one after the other, each wholly or not."""

    latency: Latency
    record: NodeRecord | None = None
    registers: dict[str, Any] = field(default_factory=dict)  # By module, of an arbiter.
    damaged: str = ""  # Why the record cannot be read.
    free_ns: int = 0  # When the writer has done what was ordered.
    failures: int = 0  # So many of the next writings fail.
    error: int = errno.ENOSPC
    refusal: Refusal | None = None  # What becomes of every writing, while there is one.
    orders: deque[Callable[[], None]] = field(default_factory=deque)

    def order(self, now: int, draws: Draws, write: Callable[[], None]) -> int:
        """Take an order to write; return when it is to be `done`."""
        self.orders.append(write)
        self.free_ns = max(self.free_ns, now) + self.latency.draw(draws)
        return self.free_ns

    def done(self) -> None:
        """Carry out the oldest order: a clock that changes may have moved the moment of another."""
        self.orders.popleft()()

    def failure(self) -> Refusal | None:
        """Count one writing; return why it fails, None: it does not."""
        if self.refusal is None and self.failures:
            self.failures -= 1
            return Refusal(self.error, "no space")
        return self.refusal


def loaded(effect: fx.RegisterStore) -> ev.RegisterLoaded:
    """Return what the next process finds on the disk."""
    return ev.RegisterLoaded(
        effect.cluster,
        effect.module,
        effect.register,
        effect.counter,
        effect.lease_ns,
        effect.asker,
        effect.request,
    )
