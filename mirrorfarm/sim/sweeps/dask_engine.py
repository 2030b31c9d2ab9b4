"""The engine for many machines: a Dask cluster, or two workers of this machine to try it.

Dask moves functions and results with pickle: use schedulers of your own only.
"""

import logging
from typing import Any

from mirrorfarm.errors import NodeUnreachable, SystemUnsuitable
from mirrorfarm.extras import installing
from mirrorfarm.sim.sweeps.engines import Wanted
from mirrorfarm.sim.sweeps.plan import Batch, Finished
from mirrorfarm.sim.sweeps.processes import deaf_to_interrupts
from mirrorfarm.sim.sweeps.result import SeedResult
from mirrorfarm.sim.sweeps.work import Work

try:
    import dask
    import distributed
except ImportError as error:
    raise SystemUnsuitable(
        f"--engine dask: Dask is not installed ({error}); run {installing('dask')}, or use "
        "--engine processes"
    ) from error

IN_LINE = 2  # Batches per thread of a worker: the next one is there when one ends.
CONNECT_SECONDS = 30


class Dask:
    """A client of a scheduler: of one that runs, or of a cluster on this machine."""

    def __init__(self, work: Work, wanted: Wanted) -> None:
        """Connect. Raises NodeUnreachable if the scheduler does not answer."""
        self._work = work
        self._cluster: Any = None
        self._under_way: dict[Any, Batch] = {}
        with deaf_to_interrupts():  # A death is ours to handle: none is forgiven in silence.
            if not wanted.address:
                with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
                    self._cluster = distributed.LocalCluster(
                        n_workers=wanted.workers,
                        threads_per_worker=1,
                        processes=True,
                        dashboard_address="127.0.0.1:0",
                        silence_logs=logging.CRITICAL,
                    )
            try:
                self._client = distributed.Client(
                    self._cluster or wanted.address, timeout=CONNECT_SECONDS
                )
            except (OSError, ValueError) as error:
                raise NodeUnreachable(
                    f"--scheduler {wanted.address}: no Dask scheduler answers there ({error})"
                ) from error
        self._threads = self._count_threads()

    def free(self) -> int:
        """Return how many more batches it can be given."""
        return IN_LINE * self._threads - len(self._under_way)

    def busy(self) -> int:
        """Return how many batches are under way."""
        return len(self._under_way)

    def submit(self, batch: Batch) -> None:
        """Send a batch to the scheduler."""
        self._under_way[self._client.submit(self._work, batch.seeds, pure=False)] = batch

    def wait(self, seconds: float) -> list[Finished[SeedResult]]:
        """Return what is finished. Raises NodeUnreachable when the scheduler is gone."""
        try:
            done, _ = distributed.wait(
                list(self._under_way), timeout=seconds, return_when="FIRST_COMPLETED"
            )
        except TimeoutError:
            self._threads = self._count_threads()
            return []
        return [self._finished(future) for future in done]

    def _finished(self, future: Any) -> Finished[SeedResult]:
        batch = self._under_way.pop(future)
        try:
            return Finished(batch, future.result())
        except distributed.KilledWorker as error:
            return Finished(batch, None, f"Dask lost it at {error.last_worker.address}")
        except (OSError, distributed.client.FuturesCancelledError) as error:
            raise NodeUnreachable(f"the Dask scheduler is gone: {error}") from error

    def close(self) -> None:
        """End the workers of the own cluster; let go of a foreign one."""
        self._client.cancel(list(self._under_way))
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()

    def _count_threads(self) -> int:
        threads: int = sum(self._client.nthreads().values())
        return max(1, threads)
