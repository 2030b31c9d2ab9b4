"""What comes of many runs, in numbers."""

import dataclasses

from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import Module
from mirrorfarm.sim.fork.measure import Result, Takeover
from mirrorfarm.sim.fork.recording import Recording
from mirrorfarm.sim.fork.runs import Variant
from mirrorfarm.sim.fork.settings import Settings
from mirrorfarm.sim.fork.unserved import Says
from mirrorfarm.sim.fork.whatif import (
    AFTER_NS,
    Summary,
    compare,
    horizon_ns,
    spread,
)


def test_a_spread_is_of_what_there_is() -> None:
    assert spread([]) == {"min": None, "median": None, "p99": None, "max": None}
    assert spread([7]) == {"min": 7, "median": 7, "p99": 7, "max": 7}
    assert spread(list(range(101))) == {"min": 0, "median": 50, "p99": 99, "max": 100}
    assert spread([*range(99), 1_000])["p99"] == 98, "99 of 100 are no greater"


def test_a_summary_counts_runs_and_lists_takeovers() -> None:
    results = [
        Result(
            0, [Takeover("n2", 30, needless=True), Takeover("n1", 10, needless=False)], "n1", 40
        ),
        Result(1, [Takeover("n2", 20, needless=False)], "n2", 20, 5, ["S1"]),
        Result(2, [], "n1", 0, 7),
    ]
    told = Summary(Variant("x", Settings({"heart.pulse": 1})), results).plain()
    assert told == {
        "variant": "x",
        "settings": {"heart.pulse": 1},
        "changes": [],
        "runs": 3,
        "took_over": 2,
        "needless": 1,
        "at_end": {"n1": 2, "n2": 1},
        "unserved": [],
        "failover_ns": {"min": 10, "median": 20, "p99": 30, "max": 30},
        "without_primary_ns": {"min": 0, "median": 20, "p99": 40, "max": 40},
        "write_stall_ns": {"min": 5, "median": 5, "p99": 7, "max": 7},
        "violations": {"S1": 1},
    }


def test_runs_in_which_nobody_served_are_grouped_by_what_the_nodes_said() -> None:
    old, asks = (
        (Says("n2", "WAIT", "NotReady", "waiting", "old data", "n1 comes", "start it"),),
        (Says("n2", "WAIT", "Transient", "asking", "", "", ""),),
    )
    results = [Result(number, unserved=said) for number, said in enumerate([asks, old, (), old])]
    summary = Summary(Variant(), [*results, Result(4, at_end="n1")])
    assert summary.unserved == [(old, 2), ((), 1), (asks, 1)]
    assert summary.plain()["unserved"][0] == {
        "runs": 2,
        "nodes": [
            {
                "node": "n2",
                "state": "WAIT",
                "status": "NotReady",
                "phase": "waiting",
                "reason": "old data",
                "would_change": "n1 comes",
                "command": "start it",
            }
        ],
    }


def test_it_is_played_until_the_longest_silence_is_over(before: Recording) -> None:
    usual = horizon_ns(before, [Variant()])
    rest = before.end_ns - before.at_ns
    assert (
        usual == rest + before.module.timing.detection_ns + before.module.timing.lease_ns + AFTER_NS
    )
    longer = horizon_ns(
        before, [Variant(), Variant("", Settings({"heart.detection": 40 * SECOND_NS}))]
    )
    assert longer == rest + 90 * SECOND_NS + AFTER_NS


def test_a_farm_is_played_until_its_own_silence_is_over(before: Recording) -> None:
    module = Module("web", 1, ("n1", "n2"), "farm")
    farm = dataclasses.replace(before, module=module, end_ns=before.at_ns)
    assert horizon_ns(farm, [Variant()]) == 1_050 * MILLISECOND_NS + AFTER_NS
    longer = Variant("", Settings({"farm.silence": 2 * SECOND_NS}))
    assert horizon_ns(farm, [Variant(), longer]) == 4_250 * MILLISECOND_NS + AFTER_NS


def test_all_variants_see_the_same_seeds(before: Recording) -> None:
    told: list[tuple[int, int]] = []
    slow = Variant("slow", Settings({"heart.detection": 3 * SECOND_NS}))
    found = compare(
        before,
        [Variant(), slow],
        range(2),
        25 * SECOND_NS,
        tell=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [[one.seed for one in each.results] for each in found] == [[0, 1], [0, 1]]
    assert found[1].failover_ns[0] > found[0].failover_ns[-1]
