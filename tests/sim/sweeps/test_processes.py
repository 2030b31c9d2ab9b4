"""Sweeps on processes of this machine: interrupted, resumed, with workers that are killed."""

import multiprocessing
import signal
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.errors import Refused, UsageInvalid
from mirrorfarm.sim.sweeps import engines, processes
from mirrorfarm.sim.sweeps.drive import drive
from mirrorfarm.sim.sweeps.engines import GROUP, Wanted, load_engine
from mirrorfarm.sim.sweeps.plan import Batch, Plan
from mirrorfarm.sim.sweeps.processes import Processes
from mirrorfarm.sim.sweeps.result import SeedResult
from mirrorfarm.sim.sweeps.results import read_results
from mirrorfarm.sim.sweeps.work import Work
from tests.sim.sweeps.stand_in import HEAVY, deadly, endless, foreign, killed_once, quick, slow
from tests.sim.sweeps.watching import order_of, play_all


def no_child_is_left() -> bool:
    return not multiprocessing.active_children()


def test_a_sweep_that_was_stopped_plays_only_what_is_missing(tmp_path: Path) -> None:
    order = order_of(tmp_path, 60)
    first = play_all(order, slow, stop_after=5)
    assert 5 <= len(first.kept_seeds) < 60
    second = play_all(order, slow)
    assert second.missing == 60 - len(first.kept_seeds)
    assert sorted(first.kept_seeds + second.kept_seeds) == list(range(60))
    third = play_all(order, slow)
    assert (third.missing, third.kept_seeds) == (0, [])
    assert no_child_is_left()


def test_a_killed_worker_costs_a_retry_and_loses_nothing(tmp_path: Path) -> None:
    order = order_of(tmp_path, 40, options=str(tmp_path / "killed"))
    memory = play_all(order, killed_once)
    assert sorted(memory.kept_seeds) == list(range(40))
    assert any(HEAVY in finished.batch.seeds for finished in memory.deaths)
    assert not [r for r in read_results([order.file]) if r.outcome == "error"]
    assert no_child_is_left()


def test_a_seed_that_always_kills_its_worker_is_the_only_one_lost(tmp_path: Path) -> None:
    memory = play_all(order_of(tmp_path, 30), deadly)
    results = list(read_results([tmp_path / "r.jsonl"]))
    assert [result.seed for result in results] == list(range(30))
    assert [(r.seed, r.invariant) for r in results if r.outcome == "error"] == [
        (HEAVY, "WorkerDied")
    ]
    assert len(memory.deaths) >= 2


def test_processes_are_replaced_before_what_they_keep_adds_up() -> None:
    work = Work(quick, "mirror", "b", 0)
    engine = Processes(work, Wanted(1), batches_per_process=2)
    plan = Plan(iter(range(1_500)), work.lost)
    pools = set[object]()  # Not their numbers: a pool may get that of one that is gone.

    def never() -> bool:
        pools.add(engine._pool)
        return False

    seeds = [r.seed for results in drive(engine, plan, never, print) for r in results]
    engine.close()
    assert seeds == list(range(1_500))
    assert len(pools - {None}) == 2


def test_of_several_that_are_finished_the_first_in_line_comes_first() -> None:
    engine = Processes(Work(quick, "mirror", "b", 0), Wanted(1))
    batches = [Batch((seed,)) for seed in range(20)]
    for batch in batches:
        done: Future[tuple[SeedResult, ...]] = Future()
        done.set_result(())
        engine._under_way[done] = batch
    assert [finished.batch for finished in engine.wait(0)] == batches
    assert not engine.busy()


def test_interrupted_at_any_moment_it_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when a worker has a batch, and nobody has noted yet that it does."""

    class Interrupted(ProcessPoolExecutor):
        def submit(self, *work: Any) -> Future[Any]:  # type: ignore[override]
            future = super().submit(*work)
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            return future

    monkeypatch.setattr(processes, "ProcessPoolExecutor", Interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        engine = Processes(Work(endless, "mirror", "b", 0), Wanted(1))
        with closing(engine), pytest.raises(KeyboardInterrupt):
            engine.submit(Batch((HEAVY,)))
    finally:
        signal.signal(signal.SIGINT, before)
    assert no_child_is_left()


def test_a_worker_of_another_build_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="install the same version"):
        play_all(order_of(tmp_path, 4), foreign)
    assert not read_results([tmp_path / "r.jsonl"])
    assert no_child_is_left()


def test_another_package_can_add_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("ray", "mirrorfarm.sim.sweeps.processes:Processes", GROUP)
    monkeypatch.setattr(engines, "entry_points", lambda group: [point] if group == GROUP else [])
    assert load_engine("ray") is Processes


def test_an_unknown_engine_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UsageInvalid, match=f"known are dask, processes.*{GROUP}"):
        load_engine("ray")
