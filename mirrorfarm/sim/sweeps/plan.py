"""What is played next: batches of about two seconds, and what a dead worker left behind.

A pure core. When a worker dies, nobody knows which of the seeds under way was to blame. All of
these batches are suspects: each is played again with nothing beside it, in halves when it kills
its worker again, down to the one seed that does.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, Protocol, TypeVar


class Timed(Protocol):
    """What came of one seed."""

    @property
    def wall_seconds(self) -> float:
        """How long it took."""


ResultT = TypeVar("ResultT", bound=Timed)
BATCH_SECONDS = 2.0
BATCH_SEEDS_MAX = 1_000
SMOOTHING = 0.3  # Weight of the newest batch in the estimate of the seconds per seed.


@dataclass(frozen=True, slots=True)
class Batch:
    """Seeds that one worker plays one after the other; `alone`: with nothing beside it."""

    seeds: tuple[int, ...]
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Finished(Generic[ResultT]):
    """A batch that an engine returns; without results its worker died, and `why` says how."""

    batch: Batch
    results: tuple[ResultT, ...] | None
    why: str = ""


@dataclass(slots=True)
class Plan(Generic[ResultT]):
    """The seeds still to be given out, and the suspects.

    `lost` makes the result of a seed whose worker died twice, and why; or it raises.
    """

    seeds: Iterator[int]
    lost: Callable[[int, str], ResultT]
    _seconds_per_seed: float = 0.0  # 0: nothing is known yet.
    _suspects: list[Batch] = field(default_factory=list)
    _one_is_alone: bool = False

    def next(self, busy: int) -> Batch | None:
        """Return the next batch, or None if there is nothing to do while `busy` are under way."""
        if busy and (self._one_is_alone or self._suspects):
            return None
        if self._suspects:
            self._one_is_alone = True
            return self._suspects.pop()
        seeds = tuple(islice(self.seeds, self._size()))
        return Batch(seeds) if seeds else None

    def finished(self, finished: Finished[ResultT]) -> tuple[ResultT, ...]:
        """Take note of a batch; return the results to be kept."""
        batch, results = finished.batch, finished.results
        if batch.alone:
            self._one_is_alone = False
        if results is None:
            return self._died(batch, finished.why)
        newest = sum(result.wall_seconds for result in results) / len(results)
        known = self._seconds_per_seed or newest
        self._seconds_per_seed = known + SMOOTHING * (newest - known)
        return results

    def _size(self) -> int:
        if not self._seconds_per_seed:
            return 1
        return max(1, min(BATCH_SEEDS_MAX, int(BATCH_SECONDS / self._seconds_per_seed)))

    def _died(self, batch: Batch, why: str) -> tuple[ResultT, ...]:
        """Have the seeds of a dead worker played again; give up the one that killed it twice."""
        if not batch.alone:
            self._suspects.append(Batch(batch.seeds, alone=True))
        elif len(batch.seeds) > 1:
            half = len(batch.seeds) // 2
            self._suspects += [Batch(batch.seeds[half:], True), Batch(batch.seeds[:half], True)]
        else:
            return (self.lost(batch.seeds[0], why),)
        return ()
