"""Where a recording is left: by a time, by an event."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from mirrorfarm.errors import TraceInvalid, UsageInvalid
from mirrorfarm.sim.fork.moment import find
from mirrorfarm.sim.fork.recording import read
from mirrorfarm.trace.merge import Merge

SECOND_NS = 10**9


@pytest.fixture(name="merge", scope="module")
def fixture_merge(takeover: Path) -> Merge:
    return Merge([takeover])


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def test_a_time_of_day_a_time_since_the_beginning_and_an_event(merge: Merge) -> None:
    begin = next(merge.steps()).at_ns
    assert find(merge, "+10s", "ledger").at_ns == begin + 10 * SECOND_NS
    assert find(merge, "08:00:12", "ledger").at_ns % (60 * SECOND_NS) == 12 * SECOND_NS
    assert find(merge, "2027-01-15 08:00:12.5", "ledger").at_ns % (60 * SECOND_NS) == 12_500_000_000
    silent = find(merge, "n2 silent", "ledger")
    step = next(one.step for one in merge.steps() if one.number == silent.number)
    assert (step.node, type(step.event).__name__) == ("n2", "WatchDue")


def test_in_service_is_when_both_nodes_are(merge: Merge, takeover: Path) -> None:
    moment = find(merge, "service", "ledger")
    states = read([takeover], "service").processes
    assert 0 < moment.number < merge.total
    for node, role in (("n1", "PRIM"), ("n2", "SECOND")):
        about = states[node, "ledger"].states["module"].restored().state.announced
        assert (about.role, about.status) == (role, "Ready")


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ("+100h", "not within"),
        ("+0.0s", "not within"),
        ("+soon", "not a duration"),
        ("07:00", "not within"),
        ("25:61", "no such time"),
        ("2031-02-30 08:00", "no such time"),
        ("n1 sings", "neither a time nor an event"),
        ("n1 Heartbeat", "events may be meant"),
        ("", "may be meant"),
    ],
)
def test_what_is_no_moment_of_the_recording_is_refused(merge: Merge, wanted: str, why: str) -> None:
    with pytest.raises(UsageInvalid, match=f"--at.*({why})"):
        find(merge, wanted, "ledger")


def test_the_service_of_another_module_is_not_meant(merge: Merge) -> None:
    with pytest.raises(UsageInvalid, match="the nodes were never all in service"):
        find(merge, "service", "other")


def test_times_that_no_clock_shows_are_refused(
    merge: Merge, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed = next(merge.steps())
    late = replace(placed, at_ns=1 << 63)
    monkeypatch.setattr(merge, "steps", lambda: iter([placed, late]))
    with pytest.raises(TraceInvalid, match=r"a step of .* after the year 2262: the header"):
        find(merge, "service", "ledger")
