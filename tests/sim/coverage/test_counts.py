"""Counts of runs add up, and what no run came by is named."""

from mirrorfarm.actors import sites
from mirrorfarm.sim.coverage.counts import Coverage
from mirrorfarm.sim.coverage.machines import FARM, FILTER, MIRROR
from mirrorfarm.sim.coverage.properties import FARM_SOMETIMES, MIRROR_SOMETIMES


def of_two_runs() -> Coverage:
    coverage = Coverage()
    for _ in range(2):
        coverage.add(
            {"mirror leading Tick": 3, "mirror waiting Command forcestop": 1},
            {"crash leading": 1, "cut down": 2},
            {"a restart kept the role": 1},
            {sites.NAMES[0]: 4},
        )
    return coverage


def test_cells_are_hit_never_hit_or_impossible() -> None:
    coverage = of_two_runs()
    assert coverage.machines() == [MIRROR]
    assert coverage.count(MIRROR, "leading", "Tick") == 6
    never = coverage.never(MIRROR)
    assert ("leading", "Tick") not in never
    assert ("taking", "Tick") in never
    assert ("taking", "Started") not in never, "it cannot be"
    assert not MIRROR.unplayed
    whole = len(MIRROR.states) * len(MIRROR.events)
    assert coverage.hit(MIRROR) + len(never) + coverage.impossible(MIRROR) == whole


def test_what_never_happened_is_named_for_the_machines_that_ran() -> None:
    coverage = of_two_runs()
    missed = coverage.missed()
    assert "a restart kept the role" not in missed
    assert f"trick {sites.NAMES[0]}" not in missed
    assert f"trick {sites.NAMES[1]}" in missed
    assert set(FARM_SOMETIMES).isdisjoint(missed)
    coverage.add({"farm up FarmTick": 1, "filter member FarmBeat": 1}, {}, {}, {})
    assert coverage.machines() == [MIRROR, FARM, FILTER]
    assert set(FARM_SOMETIMES) <= set(coverage.missed())
    assert "R15 a register of the past is not used" not in coverage.missed(), "by scenario alone"
    assert ("up", "CablesOut") not in coverage.never(FARM), "no run gives it"
    assert coverage.expected() == (*MIRROR_SOMETIMES, *FARM_SOMETIMES)


def test_faults_are_a_table_by_state() -> None:
    states, kinds = of_two_runs().fault_table()
    assert states == ["leading", "down"]
    assert kinds["cut"] == {"down": 4}


def test_programs_get_all_of_it() -> None:
    told = of_two_runs().as_object()
    mirror = told["machines"]["mirror"]
    assert mirror["cells"]["Tick"] == {"leading": 6}
    assert "taking Tick" in mirror["never"]
    assert told["fault_states"] == {"crash leading": 2, "cut down": 4}
    assert told["tricks"] == {sites.NAMES[0]: 8}


def test_without_runs_nothing_is_expected() -> None:
    assert Coverage().missed() == []
    assert Coverage().words() == []
