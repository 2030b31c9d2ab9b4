"""Actors of a process by name; a broken core ends the process."""

import subprocess
import sys

from mirrorfarm.actors.supervisor import BROKEN_EXIT_CODE, Supervisor
from tests.actors.test_shell import Echo, Notebook


def test_events_reach_the_actor_of_that_name_and_no_other() -> None:
    supervisor = Supervisor(lambda level, text: None)
    doors = Notebook()
    supervisor.start("one", Echo(), doors)
    supervisor.start("two", Echo(), doors)
    assert supervisor.tell("two", "hello")
    assert doors.next()[:3] == ("noted", "two", "hello")
    assert not supervisor.tell("three", "hello")
    supervisor.close()
    assert not supervisor.tell("two", "hello")


def test_a_broken_core_ends_the_whole_process_with_its_own_exit_code() -> None:
    program = (
        "from mirrorfarm.actors.supervisor import Supervisor\n"
        "Supervisor(lambda *words: print(*words, flush=True)).failed('module', AssertionError(7))\n"
        "print('still here', flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == BROKEN_EXIT_CODE
    assert "the actor module broke an invariant" in done.stdout
    assert "still here" not in done.stdout
