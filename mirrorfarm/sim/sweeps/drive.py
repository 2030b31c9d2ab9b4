"""The loop of a sweep: batches to the engine, results out as they come."""

from collections.abc import Callable, Iterator

from mirrorfarm.sim.sweeps.engines import Engine
from mirrorfarm.sim.sweeps.plan import Finished, Plan, ResultT

POLL_SECONDS = 0.2  # How late a wish to stop is seen.


def drive(
    engine: Engine[ResultT],
    plan: Plan[ResultT],
    stopped: Callable[[], bool],
    died: Callable[[Finished[ResultT]], None],
) -> Iterator[tuple[ResultT, ...]]:
    """Play a plan; yield the results of each batch, in the order in which they end.

    When `stopped` says so, nothing new begins, and what is under way is waited for. `died` is
    told of batches whose worker died; their seeds are played again.
    """
    while True:
        while not stopped() and engine.free() > 0:
            batch = plan.next(engine.busy())
            if batch is None:
                break
            engine.submit(batch)
        if not engine.busy():
            return
        for finished in engine.wait(POLL_SECONDS):
            if finished.results is None:
                died(finished)
            if results := plan.finished(finished):
                yield results
