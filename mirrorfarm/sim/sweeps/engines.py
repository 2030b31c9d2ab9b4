"""Engines: what plays batches at the same time, on this machine or on many.

Another package adds one by an entry point of the group `mirrorfarm.sweep_engines`, whose name
is what `--engine` takes and whose object is an `EngineFactory`.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Protocol

from mirrorfarm.errors import UsageInvalid
from mirrorfarm.sim.sweeps.plan import Batch, Finished, ResultT
from mirrorfarm.sim.sweeps.result import SeedResult
from mirrorfarm.sim.sweeps.work import Work

GROUP = "mirrorfarm.sweep_engines"
# Imported when used: Dask takes a second and may not be there.
BUILT_IN = {
    "processes": "mirrorfarm.sim.sweeps.processes:Processes",
    "dask": "mirrorfarm.sim.sweeps.dask_engine:Dask",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asked of an engine."""

    workers: int
    address: str = ""  # Of a scheduler that runs already; "": the engine starts its own workers.


class Engine(Protocol[ResultT]):
    """Plays batches. Used by one thread; no method may wait, except `wait` and `close`."""

    def free(self) -> int:
        """Return how many more batches it can be given now."""

    def busy(self) -> int:
        """Return how many batches are under way."""

    def submit(self, batch: Batch) -> None:
        """Begin a batch, or put it in line."""

    def wait(self, seconds: float) -> list[Finished[ResultT]]:
        """Return what is finished; wait for it, at most so long, if nothing is.

        Every batch comes back once: with results, or without if its worker died.
        """

    def close(self) -> None:
        """End the workers, at once: what is under way is of no interest."""


EngineFactory = Callable[[Work, Wanted], Engine[SeedResult]]


def load_engine(name: str) -> EngineFactory:
    """Return the engine of a name. Raises UsageInvalid if there is none."""
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        found: EngineFactory = getattr(importlib.import_module(module), attribute)
        return found
    others = {point.name: point for point in entry_points(group=GROUP)}
    if name not in others:
        known = ", ".join(sorted({*BUILT_IN, *others}))
        raise UsageInvalid(
            f"--engine {name}: there is no such engine; known are {known}. Another package can "
            f"add one by an entry point of the group {GROUP}"
        )
    loaded: EngineFactory = others[name].load()
    return loaded
