"""Traces for the tests: what the cores of simulated clusters do, recorded as production does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.sim import farm_sweep, swarm, sweep
from mirrorfarm.sim.trap import untrapped
from mirrorfarm.trace.registry import CORES
from mirrorfarm.transport.trace import TraceWriter
from mirrorfarm.transport.trace_ring import Origin

ORIGIN = Origin("0.1", "0123456789abcdef", "n1", "web", 7, "boot-id")
Handle = Callable[[Any, Any, int], list[Any]]


@contextmanager
def every_handle(around: Callable[[Handle, Any, Any, int], list[Any]]) -> Iterator[None]:
    """Have `around` called in the place of every core's `handle`, with that as its first word."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in CORES.values():

            def handle(core: Any, event: Any, now: int, real: Handle = kind.handle) -> list[Any]:
                return around(real, core, event, now)

            patch.setattr(kind, "handle", handle)
        yield


class Recorder:
    """Records every core by a name of its own: its class, and which of them it is."""

    def __init__(self, folder: Path, **how: Any) -> None:
        self.writer = TraceWriter(folder, ORIGIN, **how)
        self._names: dict[int, tuple[str, Any]] = {}

    def step(self, real: Handle, core: Any, event: Any, now: int) -> list[Any]:
        name, _ = self._names.get(id(core), ("", None))
        if not name:
            name = f"{type(core).__name__}{len(self._names)}"
            self._names[id(core)] = (name, core)  # Kept: its id is not used again.
            with untrapped():
                self.writer.watch(name, core, lambda _: None)
        effects = real(core, event, now)
        while len(self.writer._queue) > 4_000:  # A simulation is faster than any node.
            pass
        with untrapped():
            self.writer.step(name, now, event, effects)
        return effects


def record_simulations(folder: Path, mirrors: int = 2, farms: int = 1, **how: Any) -> Path:
    """Record some simulated clusters under faults into `folder`."""
    recorder = Recorder(folder, **how)
    with every_handle(recorder.step):
        honest = (seed for seed in count() if not swarm.dense(seed).buggify)
        for seed in islice(honest, mirrors):  # What plays tricks does not come again.
            sweep.play(seed)
        for seed in range(farms):
            farm_sweep.play(seed)
    recorder.writer.close()
    assert recorder.writer.counters()["dropped"] == 0
    return folder
