"""What a sweep came to: the same for every order of results, and right at the edges."""

from dataclasses import replace

from mirrorfarm.sim.coverage.counts import SEEDS_ENOUGH
from mirrorfarm.sim.sweeps.summary import (
    CLASSES_MAX,
    MORE,
    Summary,
    histogram,
    percentiles,
    summarize,
)
from tests.sim.sweeps.stand_in import quick


def summary_of(count: int) -> Summary:
    return summarize((quick("mirror", seed) for seed in range(count)), count, "mirror", "b")


def test_failures_are_told_by_class_with_the_shortest_as_the_example() -> None:
    summary = summary_of(100)
    assert (summary.seeds, summary.failed) == (100, 10)
    first, second = summary.sorted_classes()
    assert (first.name, first.count, second.name, second.count) == ("L4", 5, "S3", 5)
    assert first.seeds == [13, 33, 53, 73, 93]
    assert first.example.steps == min(quick("", seed).steps for seed in first.seeds)
    assert summary.worst is not None
    assert summary.worst.failed


def test_faults_failovers_and_states_are_counted() -> None:
    summary = summary_of(1_000)
    assert summary.faults == {"crash": 1_500}
    assert summary.seeds_with_fault == {"crash": 1_000}
    assert len(summary.failover_ns) == 1_000
    assert summary.growth[-1] == (1_000, 6)
    assert len(summary.growth) == 200
    told = summary.as_object()
    assert told["failover_ms"] == {"p50": 20.0, "p90": 30.0, "p99": 30.0, "max": 30.0}
    assert told["outcomes"] == {"no-convergence": 50, "ok": 900, "violation": 50}


def test_what_runs_came_by_adds_up_and_counts_as_missed_when_there_were_enough() -> None:
    summary = summary_of(10)
    assert summary.coverage.cells == {"mirror leading Tick": 20}
    assert summary.as_object()["coverage"]["sometimes"]["a restart kept the role"] == 10
    assert summary.missed == []
    summary.seeds = SEEDS_ENOUGH
    assert "R4 a compare-and-swap conflicted" in summary.missed
    assert "a restart kept the role" not in summary.missed


def test_without_a_failure_the_worst_run_has_the_longest_failover() -> None:
    results = [quick("mirror", seed) for seed in (0, 1, 2, 4)]
    assert summarize(results, 4, "mirror", "b").worst == quick("mirror", 2)


def test_a_run_that_broke_off_is_not_played_again() -> None:
    broken = replace(quick("mirror", 0), outcome="error", steps=1)
    summary = summarize([quick("mirror", 1), broken], 2, "mirror", "b")
    assert summary.failed == 1
    assert summary.worst == quick("mirror", 1)


def test_endless_classes_take_bounded_room() -> None:
    failed = quick("mirror", 3)
    count = CLASSES_MAX + 50
    results = (replace(failed, signature=f"state {number}") for number in range(count))
    summary = summarize(results, count, "mirror", "b")
    assert len(summary.classes) == CLASSES_MAX + 1
    rest = summary.sorted_classes()[0]
    assert (rest.count, rest.name, rest.signature) == (50, MORE[1], "")
    told = summary.as_object()["classes"]
    assert [one["count"] for one in told if one["invariant"] == "S3"] == [1] * CLASSES_MAX
    assert (told[0]["outcome"], told[0]["count"]) == ("various", 50)


def test_an_empty_sweep_comes_to_nothing() -> None:
    summary = summary_of(0)
    assert (summary.failed, summary.worst, summary.growth) == (0, None, [])
    assert summary.as_object()["failover_ms"] == {}


def test_percentiles_are_of_the_nearest_rank() -> None:
    assert percentiles(range(1, 101)) == {50: 50, 90: 90, 99: 99, 100: 100}
    assert percentiles([7]) == {50: 7, 90: 7, 99: 7, 100: 7}


def test_an_edge_belongs_to_the_bin_that_it_begins() -> None:
    assert histogram([0, 9, 10, 99, 100, 10**15], (0, 10, 100)) == [2, 2, 2]
