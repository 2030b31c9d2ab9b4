"""An order for a test, and a watcher that remembers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mirrorfarm.sim.sweeps.engines import Wanted
from mirrorfarm.sim.sweeps.plan import Finished
from mirrorfarm.sim.sweeps.result import SeedResult
from mirrorfarm.sim.sweeps.results import Appender, read_results
from mirrorfarm.sim.sweeps.sweep import Order, play
from mirrorfarm.sim.sweeps.work import RunSeed


class Memory:
    """A watcher."""

    def __init__(self, stop_after: int = 1 << 64) -> None:
        self.missing = -1
        self.deaths: list[Finished[SeedResult]] = []
        self.kept_seeds: list[int] = []
        self._stop_after = stop_after

    def began(self, appender: Appender, missing: int) -> None:
        self.missing = missing

    def kept(self, results: Sequence[SeedResult]) -> None:
        self.kept_seeds += [result.seed for result in results]

    def died(self, finished: Finished[SeedResult]) -> None:
        self.deaths.append(finished)

    def stopped(self) -> bool:
        return len(self.kept_seeds) >= self._stop_after


def order_of(folder: Path, count: int, **changes: Any) -> Order:
    named = {"options": "mirror", "wanted": Wanted(2), **changes}
    return Order(range(count), file=folder / "r.jsonl", folder=folder, **named)


def play_all(order: Order, run: RunSeed, stop_after: int = 1 << 64) -> Memory:
    """Play an order to its end; every seed that was kept is in the file, once."""
    memory = Memory(stop_after)
    play(order, memory, memory.stopped, run)
    assert len(set(memory.kept_seeds)) == len(memory.kept_seeds)
    assert set(memory.kept_seeds) <= read_results([order.file]).seeds()
    return memory
