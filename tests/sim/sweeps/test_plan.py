"""Batches: their size, and how the seed that kills workers is found."""

from mirrorfarm.sim.sweeps.plan import Batch, Finished, Plan
from mirrorfarm.sim.sweeps.result import SeedResult
from mirrorfarm.sim.sweeps.work import Work
from tests.sim.sweeps.stand_in import quick


def plan_of(count: int) -> Plan[SeedResult]:
    return Plan(iter(range(count)), Work(quick, "mirror", "b1", 0).lost)


def played(batch: Batch, seconds: float = 1.0) -> Finished[SeedResult]:
    results = (SeedResult(seed, "", "", "ok", wall_seconds=seconds) for seed in batch.seeds)
    return Finished(batch, tuple(results))


def test_batches_grow_to_about_two_seconds_and_every_seed_comes_once() -> None:
    plan = plan_of(1_000)
    seeds: list[int] = []
    sizes = []
    while (batch := plan.next(0)) is not None:
        seeds += batch.seeds
        sizes.append(len(batch.seeds))
        assert len(plan.finished(played(batch, 0.1))) == len(batch.seeds)
    assert seeds == list(range(1_000))
    assert (sizes[0], sizes[1], sizes[10]) == (1, 20, 20)


def test_batches_shrink_when_runs_get_slower() -> None:
    plan = plan_of(10_000)
    batch = plan.next(0)
    sizes: list[int] = []
    for _ in range(20):
        assert batch is not None
        plan.finished(played(batch, 0.01 if len(sizes) < 3 else 1.0))
        sizes.append(len(batch.seeds))
        batch = plan.next(0)
    assert sizes[2] >= 190
    assert sizes[-1] == 2


def test_what_was_under_way_when_a_worker_died_is_played_again_one_after_the_other() -> None:
    plan = plan_of(4)
    batches = [plan.next(0), plan.next(1), plan.next(2)]
    for batch in batches:
        assert batch is not None
        assert plan.finished(Finished(batch, None, "killed")) == ()
    again: list[int] = []
    while (batch := plan.next(0)) is not None and batch.alone:
        assert plan.next(1) is None  # Nothing beside it.
        again += batch.seeds
        plan.finished(played(batch))
    assert sorted(again) == [0, 1, 2]
    assert batch == Batch((3,))


def test_the_seed_that_kills_is_found_by_halves_and_told() -> None:
    plan = plan_of(65)
    first = plan.next(0)
    assert first is not None
    plan.finished(played(first, 0.001))
    kept, lost, tries = [], [], 0
    while (batch := plan.next(0)) is not None:
        tries += 1
        deadly = 23 in batch.seeds
        done = plan.finished(Finished(batch, None, "killed") if deadly else played(batch, 0.001))
        kept += [result.seed for result in done]
        lost += [result for result in done if result.failed]
    assert sorted(kept) == list(range(1, 65))
    assert [result.seed for result in lost] == [23]
    assert (lost[0].outcome, lost[0].invariant) == ("error", "WorkerDied")
    assert "killed" in lost[0].message
    assert tries < 20
