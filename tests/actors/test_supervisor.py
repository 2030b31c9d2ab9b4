"""Actors of a process by name; a broken core ends the process."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.actors.effects import ANY_EFFECT
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


def test_what_other_machines_send_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirrorfarm.actors.supervisor.QUEUE_MESSAGES_MAX", 3)
    told: list[str] = []
    supervisor = Supervisor(lambda level, text: told.append(text))
    held, begun = threading.Event(), threading.Event()

    class Slow(Echo):
        def handle(self, event: Any, now: int) -> list[ANY_EFFECT]:
            begun.set()
            held.wait(10)
            return super().handle(event, now)

    doors = Notebook()
    supervisor.start("one", Slow(), doors)
    supervisor.tell("one", "first")
    assert begun.wait(10)
    assert [supervisor.offer("one", number) for number in range(5)] == [True] * 3 + [False] * 2
    assert supervisor.tell("one", "from this machine")
    assert supervisor.dropped == 2
    assert told == [
        "one is slower than others send: 1 messages left out; see what else this machine does"
    ]
    held.set()
    steps = [doors.next() for _ in range(15)]
    noted = [step[2] for step in steps if step[0] == "noted"]
    assert noted == ["first", 0, 1, 2, "from this machine"]
    assert not supervisor.offer("two", "nobody is there")
    supervisor.close()


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


def test_a_broken_thread_of_a_door_ends_the_whole_process(tmp_path: Path) -> None:
    """As whoever waits for scripts: without it a module would wait for their end for ever."""
    program = (
        "import select, threading, time\n"
        "from types import SimpleNamespace\n"
        "from mirrorfarm.actors.doors import ModuleDoors\n"
        "from mirrorfarm.actors.scripts.runner import ScriptRunner\n"
        "from mirrorfarm.actors.supervisor import Supervisor\n"
        "from mirrorfarm.modules.settings import Module\n"
        "from mirrorfarm.paths import Paths\n"
        "from pathlib import Path\n"
        "trace = SimpleNamespace(close=lambda seconds: None)\n"
        "supervisor = Supervisor(lambda *words: print(*words, flush=True))\n"
        "doors = SimpleNamespace(trace=trace, supervisor=supervisor)\n"
        "threading.excepthook = lambda hook: ModuleDoors.thread_failed(doors, hook)\n"
        "module = Module('web', 1, ('n1', 'n2'), 'mirror')\n"
        f"paths = Paths(Path({str(tmp_path)!r}))\n"
        "runner = ScriptRunner(module, 'n1', paths, None, print)\n"
        "runner._resting[99_999] = 0\n"  # The kernel does not take a descriptor.
        "runner._rouse()\n"
        "time.sleep(20)\n"
        "print('still here', flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == BROKEN_EXIT_CODE, done.stderr
    assert "C the thread script-waiter failed and its module ends: OSError" in done.stdout
    assert "still here" not in done.stdout
