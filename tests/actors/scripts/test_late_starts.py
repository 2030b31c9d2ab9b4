"""The right to act ends between the decision to start a script and the start of its process."""

import os
import queue
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.actors.cgroup import Cgroup, mounted
from mirrorfarm.actors.effects import GuardOrder, KillScripts, StartScript
from mirrorfarm.actors.events import ApplicationGone, GuardActed, ScriptEnded
from mirrorfarm.actors.guard.client import GuardClient
from mirrorfarm.actors.scripts.runner import ScriptRunner
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import Module
from mirrorfarm.paths import Paths

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="control groups need root")

SETTINGS = Module("db", 1, ("n1", "n2"), "mirror", has_scripts=True, script_log=False)
FAR = 3_600 * SECOND_NS

MODULE = """
import queue, sys, time
from pathlib import Path
from mirrorfarm.actors.cgroup import Cgroup, Hierarchy
from mirrorfarm.actors.effects import GuardOrder, StartScript
from mirrorfarm.actors.guard.client import GuardClient
from mirrorfarm.actors.scripts.runner import ScriptRunner
from mirrorfarm.modules.settings import Module
from mirrorfarm.paths import Paths
scope, top, version, root, lease_ns = sys.argv[1:]
cgroup = Cgroup(scope, Hierarchy(Path(top), int(version)))
cgroup.create()
paths, inbox = Paths(Path(root)), queue.Queue()
guard = GuardClient("db", paths, cgroup, addresses=(), inbox=lambda event: None,
                    log=lambda *words: None)
settings = Module("db", 1, ("n1", "n2"), "mirror", has_scripts=True, script_log=False)
runner = ScriptRunner(settings, "n1", paths, cgroup, lambda *words: None, guard=guard)
guard.start()
guard.order(GuardOrder(time.clock_gettime_ns(time.CLOCK_BOOTTIME) + int(lease_ns)))
print(guard.pid, flush=True)
sys.stdin.readline()
runner.start(StartScript(1, "start_prim", (), 10**10), inbox.put)
print(inbox.get(), flush=True)
"""


def now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@dataclass
class Bench:
    paths: Paths
    cgroup: Cgroup
    hierarchy: Any
    news: "queue.Queue[Any]" = field(default_factory=queue.Queue)
    acted: "queue.Queue[Any]" = field(default_factory=queue.Queue)

    def __post_init__(self) -> None:
        self.bin = self.paths.module_etc("db") / "bin"
        self.bin.mkdir(parents=True)
        for name in ("start_prim", "stop_prim"):
            (self.bin / name).write_text(f"#!/bin/sh\ntouch {name}.ran\n")
            (self.bin / name).chmod(0o755)
        self.guard = GuardClient(
            "db",
            self.paths,
            self.cgroup,
            addresses=(),
            inbox=self.acted.put,
            log=lambda *words: None,
        )
        self.runner = ScriptRunner(
            SETTINGS, "n1", self.paths, self.cgroup, lambda *words: None, guard=self.guard
        )

    def start(self, name: str = "start_prim") -> Any:
        self.runner.start(StartScript(1, name, (), 10 * SECOND_NS), self.news.put)
        return self.news.get(timeout=20)

    def ran(self, name: str = "start_prim") -> bool:
        return (self.bin / f"{name}.ran").exists()


@pytest.fixture(params=[2, 1])
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    hierarchy = next(mounted(request.param), None)
    if hierarchy is None:
        pytest.skip(f"no control groups of version {request.param} here")
    tmp_path.chmod(0o755)
    cgroup = Cgroup(f"test-{uuid.uuid4().hex[:12]}", hierarchy)
    cgroup.create()
    made = Bench(Paths(tmp_path), cgroup, hierarchy)
    yield made
    assert cgroup.kill() == []
    made.runner.close()
    cgroup.remove()


@pytest.fixture
def guarded(bench: Bench) -> Iterator[Bench]:
    bench.guard.start()
    yield bench
    bench.guard.order(GuardOrder(0))
    bench.guard.close()


def ended(pid: int) -> bool:
    pidfd = os.pidfd_open(pid)
    try:
        return bool(select.select([pidfd], [], [], 20)[0])
    finally:
        os.close(pidfd)


def test_a_script_whose_module_stood_still_until_the_guard_had_acted_does_not_begin(
    bench: Bench,
) -> None:
    words = [bench.cgroup.scope, str(bench.hierarchy.top), str(bench.hierarchy.version)]
    application = subprocess.Popen(["/bin/sleep", "60"])
    bench.cgroup.add(application.pid)
    module = subprocess.Popen(
        [sys.executable, "-c", MODULE, *words, str(bench.paths.root), str(SECOND_NS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert module.stdin is not None
        assert module.stdout is not None
        guard = int(module.stdout.readline())
        module.send_signal(signal.SIGSTOP)
        assert application.wait(timeout=20) == -signal.SIGKILL, "the guard acted"
        module.stdin.write("\n")
        module.stdin.flush()
        module.send_signal(signal.SIGCONT)
        news = module.stdout.readline()
        assert not bench.ran(), news
        assert "the right to act is over" in news
    finally:
        module.kill()
        module.communicate()
        application.kill()
        application.wait()
    assert ended(guard)


def test_nothing_is_started_between_the_guard_and_the_kill_that_follows(guarded: Bench) -> None:
    guarded.guard.order(GuardOrder(1))
    assert guarded.acted.get(timeout=20) == GuardActed(1)
    assert "the right to act is over" in guarded.start().failure
    assert not guarded.ran()
    assert guarded.start("stop_prim") == ScriptEnded(1, "stop_prim", 0), "it serves nobody"
    guarded.runner.kill(KillScripts(7), guarded.news.put)
    assert guarded.news.get(timeout=20) == ApplicationGone(7)
    assert guarded.start() == ScriptEnded(1, "start_prim", 0)


@pytest.mark.parametrize("deadline", [0, FAR])
def test_a_new_order_to_the_guard_lets_scripts_start(guarded: Bench, deadline: int) -> None:
    guarded.guard.order(GuardOrder(1))
    assert guarded.acted.get(timeout=20) == GuardActed(1)
    guarded.guard.order(GuardOrder(deadline and now() + deadline))
    assert guarded.start() == ScriptEnded(1, "start_prim", 0)


def test_a_script_that_begins_late_by_itself_looks_once_it_can_be_killed(
    guarded: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process was made in time, but not in the group when the guard acted."""
    real: Callable[[], None] = guarded.cgroup.add_self

    def late() -> None:
        time.sleep(0.5)
        real()

    monkeypatch.setattr(guarded.cgroup, "add_self", late)
    guarded.guard.order(GuardOrder(now() + 200 * MILLISECOND_NS))
    assert "the right to act is over" in guarded.start().failure
    assert not guarded.ran()
