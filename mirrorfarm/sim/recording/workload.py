"""The operations of the simulated application, as a history wants them: writes, and also reads.

An application that starts reads what was written last, and whoever serves at the end reads all:
without that a history would not tell what was lost. Reading changes nothing, so the recorder
does it for the application.
"""

import contextlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from mirrorfarm.sim.monitors import seen

READ_AT_START: Final = 64  # Extents, of those that were written last.
EXTENTS_MAX: Final = 1_000_000  # Of one module: as many numbers further are those of the next.


class Read(seen.Seen, frozen=True):
    """The application read what an extent holds."""

    write: int  # 0: nothing was ever written there.
    extent: int


class Refused(seen.Seen, frozen=True):
    """The application was told that a write failed, and it never began: it did not happen."""

    write: int
    extent: int


class Workload:
    """What one application did; of a farm, whose clients write nothing, as it was seen."""

    def __init__(self, nodes: Mapping[str, Any], first: int = 0) -> None:
        """`nodes`: what the module has on each; `first`: the number of its first extent, told."""
        self._nodes, self._first = nodes, first
        self._extents: dict[int, None] = {}  # Asked for by a write, the last one last.
        self._begun: dict[int, bool] = {}  # Writes without an answer: whether they are on a disk.

    def told(self, node: str, observation: seen.Seen) -> list[seen.Seen]:
        """Return what is to be recorded of an observation."""
        return [self._numbered(one) for one in self._told(node, observation)]

    def _numbered(self, observation: Any) -> Any:
        """Return an observation with the extent as the history of all modules numbers it."""
        if not self._first or not hasattr(observation, "extent"):
            return observation
        return msgspec.structs.replace(observation, extent=observation.extent + self._first)

    def _told(self, node: str, observation: seen.Seen) -> list[seen.Seen]:
        match observation:
            case seen.Invoked(write, extent):
                self._extents.pop(extent, None)
                self._extents[extent] = None
                self._begun[write] = False
            case seen.Wrote(_, write) if write in self._begun:
                self._begun[write] = True
            case seen.Told(write):
                self._begun.pop(write, None)
            case seen.Failed(write, extent):
                if not self._begun.pop(write, True):
                    return [Refused(write, extent)]
            case seen.AppRuns(_, True):
                return [observation, *self._read(node, list(self._extents)[-READ_AT_START:])]
            case _:
                pass
        return [observation]

    def at_the_end(self) -> list[tuple[str, Read]]:
        """Return what is read when the run is over, and where."""
        return [
            (name, self._numbered(read))
            for name, node in self._nodes.items()
            if getattr(node, "application", False)
            for read in self._read(name, list(self._extents))
        ]

    def _read(self, node: str, extents: list[int]) -> list[Read]:
        disk = getattr(self._nodes[node], "disk", None)
        found: list[Read] = []
        if disk is None:
            return found
        for extent in extents:
            with contextlib.suppress(OSError):  # It rotted: a read that fails tells nothing.
                found.append(Read(disk.read(extent), extent))
        return found
