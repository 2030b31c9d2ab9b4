"""The default engine: processes of this machine."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import wait as wait_for_end
from typing import Generic

from mirrorfarm.sim.sweeps.engines import Wanted
from mirrorfarm.sim.sweeps.plan import Batch, Finished, ResultT

# Then all processes are replaced, so that nothing that they lose or keep adds up. The pool's own
# `max_tasks_per_child` does that too, but hangs for ever in Python 3.11 (gh-115634).
BATCHES_PER_PROCESS = 200
END_SECONDS = 5.0

DIED = "killed, crashed, or out of memory"


class Processes(Generic[ResultT]):
    """A pool of spawned processes; a new pool when one of them died."""

    def __init__(
        self,
        work: Callable[[tuple[int, ...]], tuple[ResultT, ...]],
        wanted: Wanted,
        batches_per_process: int = BATCHES_PER_PROCESS,
    ) -> None:
        self._work = work
        self._workers = wanted.workers
        self._batches_max = batches_per_process * wanted.workers
        self._pool: ProcessPoolExecutor | None = None
        self._submitted = 0  # To this pool.
        self._under_way: dict[Future[tuple[ResultT, ...]], Batch] = {}
        self._submitting = False  # Stays so when that was interrupted: a worker may have it.

    def free(self) -> int:
        """Return how many more batches it can be given; one waits so that no worker does."""
        if self._submitted >= self._batches_max:
            if self._under_way:
                return 0
            self._end_pool()
        return self._workers + 1 - len(self._under_way)

    def busy(self) -> int:
        """Return how many batches are under way."""
        return len(self._under_way)

    def submit(self, batch: Batch) -> None:
        """Put a batch in line."""
        self._submitting = True
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=end_with_parent,
            )
        self._submitted += 1
        with deaf_to_interrupts():
            try:
                future = self._pool.submit(self._work, batch.seeds)
            except BrokenProcessPool as error:  # It died meanwhile: so did this batch.
                future = Future()
                future.set_exception(error)
        self._under_way[future] = batch
        self._submitting = False

    def wait(self, seconds: float) -> list[Finished[ResultT]]:
        """Return what is finished; of several, first what was put in line first."""
        done, _ = wait(self._under_way, seconds, FIRST_COMPLETED)
        if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
            # All that is under way fails with it; some had results before.
            done, _ = wait(self._under_way)
            self._end_pool()
        return [self._finished(future) for future in tuple(self._under_way) if future in done]

    def _finished(self, future: Future[tuple[ResultT, ...]]) -> Finished[ResultT]:
        batch = self._under_way.pop(future)
        if isinstance(future.exception(), BrokenProcessPool):
            return Finished(batch, None, DIED)
        return Finished(batch, future.result())

    def close(self) -> None:
        """End every process at once."""
        busy = self._under_way or self._submitting
        children = multiprocessing.active_children() if busy else []
        for child in children:
            child.terminate()
        self._end_pool()
        for child in children:
            child.join(END_SECONDS)
            child.kill()

    def _end_pool(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._pool, self._submitted = None, 0


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Have processes and threads that begin here never see Ctrl-C: it is the parent's business.

    A process inherits the mask of signals from the thread that starts it. A signal that arrives
    meanwhile is delivered to this thread afterwards.
    """
    resource_tracker.ensure_running()  # Or the first process starts it, which ends the mask.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """Let this worker end when the process that started it does, even by SIGKILL."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait_for_end([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()
