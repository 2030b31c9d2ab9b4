"""What a worker does with a batch: play its seeds, whatever one of them raises."""

import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from mirrorfarm.sim.monitors.asserted import place_in_code
from mirrorfarm.sim.sweeps.result import MESSAGE_CHARACTERS_MAX, SeedResult

RunSeed = Callable[[str, int], SeedResult]

AGAIN_SECONDS = 1.0  # What is raised where Python lets nothing out (a finalizer) is raised again.


class TookTooLong(Exception):
    """A run did not end in time: perhaps it never would."""


@dataclass(frozen=True, slots=True)
class Work:
    """The pure function that an engine maps over batches; it travels to other processes."""

    run: RunSeed
    options: str
    build: str
    seconds_max: float  # For one seed; 0: as long as it takes.

    def __call__(self, seeds: tuple[int, ...]) -> tuple[SeedResult, ...]:
        """Play the seeds of a batch."""
        return tuple(self._play(seed) for seed in seeds)

    def lost(self, seed: int, why: str) -> SeedResult:
        """Return the result of a seed whose worker died twice."""
        return SeedResult(
            seed,
            self.options,
            self.build,
            "error",
            invariant="WorkerDied",
            signature=why,
            message=f"its worker died twice, the second time with nothing beside it: {why}",
        )

    def _play(self, seed: int) -> SeedResult:
        begin = time.perf_counter()
        try:
            with at_most(self.seconds_max):
                return self.run(self.options, seed)
        except Exception as error:  # Whatever it is, it is this seed's result.
            seconds = time.perf_counter() - begin
            return failed_run(self.options, self.build, seed, error, seconds)


def failed_run(
    options: str, build: str, seed: int, error: Exception, wall_seconds: float
) -> SeedResult:
    """Return the result of a run that raised; where it did is its signature."""
    where = place_in_code(traceback.extract_tb(error.__traceback__)[-1])
    if isinstance(error, TookTooLong):  # Where it was just then is chance.
        where = "took too long"
    return SeedResult(
        seed,
        options,
        build,
        "error",
        invariant=type(error).__name__,
        signature=where,
        wall_seconds=wall_seconds,
        message=f"{where}: {type(error).__name__}: {error}"[:MESSAGE_CHARACTERS_MAX],
    )


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise TookTooLong in the block after so many seconds.

    Only a main thread can be interrupted: elsewhere (a worker of Dask) there is no limit. An alarm
    that was set before stands still meanwhile.
    """
    if not seconds or threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(signum: int, frame: FrameType | None) -> None:
        raise TookTooLong(f"no end after {seconds:g} s of this machine's time")

    before = signal.signal(signal.SIGALRM, end)
    alarm = signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *alarm)
