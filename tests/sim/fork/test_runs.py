"""Runs in several processes: the same results in the same order, whatever happens to processes."""

from collections import deque
from collections.abc import Callable

import pytest

from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.fork import runs as module
from mirrorfarm.sim.fork.recording import Recording
from mirrorfarm.sim.fork.runs import Run, Runs, Variant, play_all
from mirrorfarm.sim.fork.settings import Settings
from mirrorfarm.sim.sweeps.engines import Wanted
from mirrorfarm.sim.sweeps.plan import Batch, Finished

SLOW = Variant("slow", Settings({"heart.detection": 3 * SECOND_NS}))


@pytest.fixture(name="runs", scope="module")
def fixture_runs(before: Recording) -> Runs:
    """Six runs, in each of which the other node takes over."""
    return Runs(before, (Variant(), SLOW), (0, 1, 2), 16 * SECOND_NS, keep_faults=True)


class Stand:
    """An engine in this process, two batches of which are under way; some of them die."""

    def __init__(self, work: Callable[[tuple[int, ...]], tuple[Run, ...]], wanted: Wanted) -> None:
        self.work, self.line = work, deque[Batch]()
        self.dies = deque[int]()  # Numbers whose worker dies: each time it is here.

    def free(self) -> int:
        return 2 - len(self.line)

    def busy(self) -> int:
        return len(self.line)

    def submit(self, batch: Batch) -> None:
        self.line.append(batch)

    def wait(self, seconds: float) -> list[Finished[Run]]:
        batch = self.line.popleft()
        for number in batch.seeds:
            if number in self.dies:
                self.dies.remove(number)
                return [Finished(batch, None, "killed")]
        return [Finished(batch, self.work(batch.seeds))]

    def close(self) -> None:
        self.line.clear()


def with_deaths(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    def made(work: Callable[[tuple[int, ...]], tuple[Run, ...]], wanted: Wanted) -> Stand:
        assert wanted.workers == 2
        stand = Stand(work, wanted)
        stand.dies.extend(numbers)
        return stand

    monkeypatch.setattr(module, "Processes", made)


def test_real_processes_come_to_the_same_as_this_one(runs: Runs) -> None:
    told: list[int] = []
    alone = play_all(runs, 1, lambda done, total: told.append(done))
    assert [(one.seed, len(one.takeovers)) for one in alone] == 2 * [(0, 1), (1, 1), (2, 1)]
    assert told == [1, 2, 3, 4, 5, 6]
    assert play_all(runs, 2, alone_seconds=0) == alone


def test_what_is_over_soon_needs_no_other_process(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Processes", None)
    assert len(play_all(runs, 2, alone_seconds=60)) == len(runs) == 6


def test_a_process_that_dies_is_told_and_its_runs_are_played_again(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_deaths(monkeypatch, 2)
    died: list[tuple[int, ...]] = []
    found = play_all(runs, 2, died=lambda one: died.append(one.batch.seeds), alone_seconds=0)
    assert [2 in seeds for seeds in died] == [True]
    assert found == play_all(runs, 1)


def test_a_run_that_ends_its_process_twice_is_an_error_with_its_seed(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_deaths(monkeypatch, *[4] * 9)
    with pytest.raises(SystemUnsuitable, match=r"^seed 1 of 'slow' ended .*: killed\. Play"):
        play_all(runs, 2, alone_seconds=0)
