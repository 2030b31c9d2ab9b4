"""What a worker makes of runs that fail or do not end."""

import signal
import threading

import pytest

from mirrorfarm.sim.sweeps.run import build_id
from mirrorfarm.sim.sweeps.work import RunSeed, Work
from tests.sim.sweeps.stand_in import HEAVY, deaf, endless, quick, raising


def test_an_exception_is_the_result_of_its_seed_alone() -> None:
    before, failed, after = Work(raising, "mirror", "b", 0)((HEAVY - 1, HEAVY, HEAVY + 1))
    assert (before.outcome, after.outcome) == ("ok", "ok")
    assert (failed.seed, failed.outcome, failed.invariant) == (HEAVY, "error", "AssertionError")
    assert failed.message.endswith("raising: AssertionError: seven")
    assert "stand_in.py:" in failed.signature


@pytest.mark.parametrize("run", [endless, deaf])
def test_a_run_that_does_not_end_is_given_up(run: RunSeed) -> None:
    build_id()  # To read all sources takes longer than a run here, once.
    signal.setitimer(signal.ITIMER_REAL, 100)
    failed, after = Work(run, "mirror", "b", 0.5)((HEAVY, HEAVY + 1))
    seconds, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    assert (failed.invariant, failed.signature) == ("TookTooLong", "took too long")
    assert "no end after 0.5 s" in failed.message
    assert not after.failed
    assert 90 < seconds < 101, "the alarm of who called, none of a run that would kill"


def test_outside_a_main_thread_there_is_no_limit() -> None:
    found: list[bool] = []
    work = Work(quick, "mirror", "b", 0.05)
    thread = threading.Thread(target=lambda: found.append(work((1,))[0].failed))
    thread.start()
    thread.join()
    assert found == [False]
