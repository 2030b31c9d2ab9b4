import errno
import os
import queue
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.actors.cgroup import Cgroup
from mirrorfarm.actors.checker import processes
from mirrorfarm.actors.checker.processes import ProcessWatcher
from mirrorfarm.actors.effects import Watch
from mirrorfarm.actors.events import ProcessesSeen, ProcessGone
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.modules.settings import Module, Process

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="control groups need root")


@dataclass
class Bench:
    cgroup: Cgroup
    folder: Path
    name: str = field(default_factory=lambda: f"app{uuid.uuid4().hex[:10]}")
    inbox: "queue.Queue[Any]" = field(default_factory=queue.Queue)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.program = self.folder / self.name
        shutil.copy("/bin/sleep", self.program)
        entries = (
            Process(name=self.name),
            Process(argregex=f"{self.name} 61$", atleast=2),
            Process(nameregex="^python"),
        )
        settings = Module(name="db", id=1, nodes=("node1", "node2"), processes=entries)
        self.watcher = ProcessWatcher(
            settings, self.cgroup, self.inbox.put, lambda _, text: self.logged.append(text)
        )

    def application(self, seconds: int = 60) -> subprocess.Popen[bytes]:
        application = subprocess.Popen([str(self.program), str(seconds)])
        # `Popen` returns a moment before the kernel gives the process its new name.
        words = f"{self.program}\0{seconds}\0"
        deadline = time.monotonic() + 10
        while Path(f"/proc/{application.pid}/cmdline").read_text() != words:
            assert time.monotonic() < deadline, "the application does not start"
            time.sleep(0.001)
        self.cgroup.add(application.pid)
        self.started.append(application)
        return application

    def news(self) -> Any:
        return self.inbox.get(timeout=20)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    cgroup = Cgroup(f"test-{uuid.uuid4().hex[:12]}")
    cgroup.create()
    made = Bench(cgroup, tmp_path)
    yield made
    made.watcher.close()
    assert cgroup.kill() == []
    for application in made.started:
        application.wait()
    cgroup.remove()


def test_first_count_is_told_also_when_it_is_none(bench: Bench) -> None:
    bench.watcher.watch(Watch((0, 1), 4))
    assert bench.news() == ProcessesSeen(0, 0, 4)
    assert bench.news() == ProcessesSeen(1, 0, 4)


def test_end_of_a_process_is_told_with_the_count_that_is_left(bench: Bench) -> None:
    first, second = bench.application(), bench.application()
    bench.watcher.watch(Watch((0,), 1))
    assert bench.news() == ProcessesSeen(0, 2, 1)
    first.kill()
    assert bench.news() == ProcessGone(0, 1, 1)
    second.kill()
    killed = time.monotonic_ns()
    assert bench.news() == ProcessGone(0, 0, 1)
    # Far below the pace of any polling: the end was an event.
    assert time.monotonic_ns() - killed < 5 * SECOND_NS


def test_newcomer_is_found_while_processes_are_missing(bench: Bench) -> None:
    bench.watcher.watch(Watch((0,), 1))
    assert bench.news() == ProcessesSeen(0, 0, 1)
    bench.application()
    assert bench.news() == ProcessesSeen(0, 1, 1)


def test_process_is_known_by_its_command_line(bench: Bench) -> None:
    for seconds in (61, 610, 61):
        bench.application(seconds)
    bench.watcher.watch(Watch((1,), 1))
    assert bench.news() == ProcessesSeen(1, 2, 1)


def test_what_follows_a_long_class_path_counts(bench: Bench) -> None:
    words = [f"{'library.jar:' * 10_000} {bench.name}", "61"]
    application = subprocess.Popen(words, executable=bench.program)
    bench.started.append(application)
    bench.cgroup.add(application.pid)
    bench.watcher.watch(Watch((1,), 1))
    assert bench.news() == ProcessesSeen(1, 1, 1)


def test_process_whose_first_thread_ended_runs_on(bench: Bench) -> None:
    program = (
        "import ctypes, threading; c = ctypes.CDLL(None); name = b'{}'; c.prctl(15, name, 0, 0, 0);"
        "threading.Thread(target=threading.Event().wait).start(); c.pthread_exit(None)"
    )
    application = subprocess.Popen([sys.executable, "-c", program.format(bench.name)])
    bench.started.append(application)
    bench.cgroup.add(application.pid)
    stat = Path(f"/proc/{application.pid}/stat")
    deadline = time.monotonic() + 20
    while f"({bench.name}) Z" not in stat.read_text():
        assert time.monotonic() < deadline, "its first thread does not end"
        time.sleep(0.01)
    bench.watcher.watch(Watch((0,), 1))
    assert bench.news() == ProcessesSeen(0, 1, 1)
    application.kill()
    assert bench.news() == ProcessGone(0, 0, 1)


def test_one_process_may_count_for_several_entries(bench: Bench) -> None:
    application = bench.application(61)
    bench.watcher.watch(Watch((0, 1), 1))
    assert bench.news() == ProcessesSeen(0, 1, 1)
    assert bench.news() == ProcessesSeen(1, 1, 1)
    application.send_signal(signal.SIGKILL)
    assert {bench.news(), bench.news()} == {ProcessGone(0, 0, 1), ProcessGone(1, 0, 1)}


def test_nobody_watched_nothing_told(bench: Bench) -> None:
    application = bench.application()
    bench.watcher.watch(Watch((0,), 1))
    assert bench.news() == ProcessesSeen(0, 1, 1)
    bench.watcher.watch(Watch((), 2))
    bench.watcher.watch(Watch((1,), 3))
    assert bench.news() == ProcessesSeen(1, 0, 3)
    application.kill()
    application.wait()
    assert bench.inbox.empty()
    assert not bench.watcher._pidfds


def test_dead_process_that_nobody_waited_for_does_not_count(bench: Bench) -> None:
    application = bench.application()
    application.kill()
    os.waitid(os.P_PID, application.pid, os.WEXITED | os.WNOWAIT)
    bench.watcher.watch(Watch((0,), 1))
    assert bench.news() == ProcessesSeen(0, 0, 1)


def test_own_process_is_never_taken_for_the_application(bench: Bench) -> None:
    bench.watcher.watch(Watch((2,), 1))
    bench.news()
    assert os.getpid() not in bench.watcher._entries[2].pids


@pytest.mark.parametrize(
    ("words", "is_agent", "count"),
    [
        ((), False, 1),
        (("-m", "mirrorfarm.module_process"), False, 0),
        ((), True, 0),
    ],
    ids=["a service", "a process of mirrorfarm", "a child of the agent"],
)
def test_of_the_children_of_whoever_adopted_this_process_only_mirrorfarm_s_are_its_kin(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    is_agent: bool,
    count: int,
) -> None:
    """The agent was killed: services are children of the first process, too."""
    program = bench.folder / "mirrorfarm" / bench.name
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho begun\nkill -STOP $$\n")
    program.chmod(0o700)
    adopter = subprocess.Popen(
        ["/bin/sh", "-c", '"$@" & wait', "sh", str(program), *words],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert adopter.stdout is not None
        assert adopter.stdout.readline() == b"begun\n"
        monkeypatch.setattr(os, "getppid", lambda: adopter.pid)
        if is_agent:
            monkeypatch.setattr(processes, "_AGENT", adopter.pid)
        bench.watcher.watch(Watch((0,), 1))
        assert bench.news() == ProcessesSeen(0, count, 1)
    finally:
        os.killpg(adopter.pid, signal.SIGKILL)
        adopter.communicate()


def test_program_that_restarts_itself_by_exec_is_not_lost(bench: Bench) -> None:
    again = subprocess.Popen(["/bin/sh", "-c", f"sleep 0.2; exec {bench.program} 60"])
    bench.cgroup.add(again.pid)
    bench.started.append(again)
    bench.watcher.watch(Watch((0,), 1))
    counts = [bench.news()]
    if counts[0].count == 0:
        counts.append(bench.news())
    assert counts[-1] == ProcessesSeen(0, 1, 1)


def test_half_of_the_descriptors_at_most_are_for_processes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirrorfarm.actors.checker.processes.descriptor_limit", lambda: 4)
    monkeypatch.setattr("mirrorfarm.actors.checker.processes.POLL_NS_MAX", SECOND_NS // 20)
    few = Bench(bench.cgroup, bench.folder, bench.name, started=bench.started)
    try:
        applications = [few.application(61) for _ in range(4)]
        few.watcher.watch(Watch((1,), 1))
        assert few.news() == ProcessesSeen(1, 4, 1)
        assert len(few.watcher._pidfds) == 2
        for application in applications:  # Those that are not held are seen by the next look.
            application.kill()
            application.wait()
        last = few.news()
        while last.count:
            last = few.news()
    finally:
        few.watcher.close()


def starve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be opened below /proc and the control groups."""
    real = os.open

    def refuse(path: Any, *words: Any, **more: Any) -> int:
        if str(path).startswith(("/proc/", "/sys/")):
            raise OSError(errno.EMFILE, "Too many open files")
        return real(path, *words, **more)

    monkeypatch.setattr(os, "open", refuse)


def test_without_descriptors_nobody_is_taken_for_ended(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirrorfarm.actors.checker.processes.POLL_MISSING_NS", SECOND_NS // 50)
    application, other = bench.application(61), bench.application(61)
    with monkeypatch.context() as scarce:
        starve(scarce)
        bench.watcher.watch(Watch((1,), 1))
        deadline = time.monotonic() + 10
        while not bench.logged:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.2)  # It fails some more times.
        assert bench.inbox.empty()
    assert bench.news() == ProcessesSeen(1, 2, 1)
    (line,) = bench.logged
    assert "Too many open files" in line
    with monkeypatch.context() as scarce:
        starve(scarce)
        application.kill()
        while len(bench.logged) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert bench.inbox.empty()
    assert bench.news() == ProcessGone(1, 1, 1)
    other.kill()
    assert bench.news() == ProcessGone(1, 0, 1)
