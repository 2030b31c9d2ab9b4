"""A sweep on a real Dask cluster of two workers on this machine."""

from pathlib import Path

import pytest

from mirrorfarm.errors import NodeUnreachable
from mirrorfarm.sim.sweeps.engines import Wanted
from mirrorfarm.sim.sweeps.results import read_results
from mirrorfarm.sim.sweeps.work import Work
from tests.sim.sweeps.stand_in import HEAVY, killed_once, quick, slow
from tests.sim.sweeps.watching import order_of, play_all

pytest.importorskip("distributed", reason="Dask is not installed: pip install -e '.[dask]'")


def test_two_workers_play_what_one_process_plays(tmp_path: Path) -> None:
    order = order_of(tmp_path, 80, engine="dask")
    first = play_all(order, slow, stop_after=20)
    second = play_all(order, slow)
    assert second.missing == 80 - len(first.kept_seeds) > 0
    assert list(read_results([order.file])) == [slow("mirror", seed) for seed in range(80)]


def test_a_lost_worker_of_dask_costs_a_retry(tmp_path: Path) -> None:
    order = order_of(tmp_path, 12, engine="dask", options=str(tmp_path / "killed"))
    memory = play_all(order, killed_once)
    assert sorted(memory.kept_seeds) == list(range(12))
    assert any(HEAVY in finished.batch.seeds for finished in memory.deaths)
    assert not [r for r in read_results([order.file]) if r.outcome == "error"]


def test_a_cluster_that_runs_is_used_and_left_running(tmp_path: Path) -> None:
    from distributed import LocalCluster  # noqa: PLC0415

    with LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0"
    ) as cluster:
        wanted = Wanted(1, cluster.scheduler_address)
        memory = play_all(order_of(tmp_path, 6, engine="dask", wanted=wanted), quick)
        assert sorted(memory.kept_seeds) == list(range(6))
        assert len(cluster.scheduler_info["workers"]) == 1


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from mirrorfarm.sim.sweeps import dask_engine  # noqa: PLC0415

    monkeypatch.setattr(dask_engine, "CONNECT_SECONDS", 1)
    work = Work(quick, "mirror", "b", 0)
    with pytest.raises(
        NodeUnreachable, match=r"--scheduler tcp://127\.0\.0\.1:9: no Dask scheduler"
    ):
        dask_engine.Dask(work, Wanted(1, "tcp://127.0.0.1:9"))
