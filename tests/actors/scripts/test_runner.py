import errno
import itertools
import os
import queue
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.actors.cgroup import Cgroup
from mirrorfarm.actors.effects import EndScript, KillScripts, StartScript
from mirrorfarm.actors.events import ApplicationGone, ScriptEnded
from mirrorfarm.actors.scripts import output
from mirrorfarm.actors.scripts.core import MISSING
from mirrorfarm.actors.scripts.runner import ScriptRunner
from mirrorfarm.descriptors import FORMER
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import Module
from mirrorfarm.paths import Paths

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="control groups need root")

CAP = 100_000
SETTINGS = Module(
    name="db",
    id=1,
    nodes=("node1", "node2"),
    has_scripts=True,
    script_log_bytes_max=CAP,
    variables=(("SERVICES", "a; touch b"),),
)


def eventually(condition: Callable[[], object], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return bool(condition())


@dataclass
class Bench:
    paths: Paths
    cgroup: Cgroup
    inbox: "queue.Queue[Any]" = field(default_factory=queue.Queue)
    logged: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bin = self.paths.module_etc("db") / "bin"
        self.bin.mkdir(parents=True)
        self.runner = ScriptRunner(
            SETTINGS,
            "n1",
            self.paths,
            self.cgroup,
            lambda level, text: self.logged.append((level, text)),
        )

    def write(self, text: str, name: str = "start_prim") -> Path:
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def start(self, *arguments: str, name: str = "start_prim", seconds: float = 20) -> None:
        limit = int(seconds * SECOND_NS)
        self.runner.start(StartScript(1, name, arguments, limit), self.inbox.put)

    def news(self) -> Any:
        return self.inbox.get(timeout=20)

    @property
    def logs(self) -> list[Path]:
        written = threading.Event()
        self.runner._writer.do(written.set)
        assert written.wait(20)
        return sorted((self.paths.module_log("db") / "scripts").iterdir())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    tmp_path.chmod(0o755)
    cgroup = Cgroup(f"test-{uuid.uuid4().hex[:12]}")
    cgroup.create()
    made = Bench(Paths(tmp_path), cgroup)
    yield made
    assert cgroup.kill() == []
    assert eventually(lambda: not made.runner._running)
    made.runner.close()
    cgroup.remove()


def test_script_gets_its_arguments_and_a_fixed_environment(bench: Bench) -> None:
    bench.write('#!/bin/sh\necho "$# $1,$2"; pwd; umask; env | sort; cat; ulimit -n >/dev/null\n')
    bench.start("force; rm", "$HOME")
    assert bench.news() == ScriptEnded(1, "start_prim", 0)
    (log,) = bench.logs
    assert eventually(lambda: "SERVICES=a; touch b" in log.read_text())
    lines = log.read_text().splitlines()
    assert lines[1] == "2 force; rm,$HOME"
    assert lines[2] == str(bench.bin)
    assert lines[3] == "0077"
    assert f"SAFEUSERBIN={bench.bin}" in lines
    assert "MIRRORFARM_NODE=n1" in lines
    assert "HOME" not in {line.partition("=")[0] for line in lines}
    assert bench.logged[0][0] == "S"
    assert log.name in bench.logged[0][1]


def test_script_that_hangs_is_ended_at_its_time_limit(bench: Bench) -> None:
    bench.write("#!/bin/sh\nsleep 60\n")
    bench.start(seconds=0.2)
    assert bench.news() == ScriptEnded(1, "start_prim", -15, timed_out=True)
    assert eventually(lambda: bench.cgroup.processes() == [])


def test_a_time_limit_longer_than_the_kernel_waits_is_kept(bench: Bench) -> None:
    bench.write("#!/bin/sh\nexec sleep 60\n", name="stop_prim")
    bench.start(name="stop_prim", seconds=30 * 24 * 3_600)
    bench.write("#!/bin/sh\nexit 3\n")
    bench.start()
    assert bench.news() == ScriptEnded(1, "start_prim", 3)
    bench.runner.end(EndScript(1, "stop_prim"))
    assert bench.news() == ScriptEnded(1, "stop_prim", -15)


def test_script_that_ignores_sigterm_is_killed(bench: Bench, monkeypatch: Any) -> None:
    monkeypatch.setattr("mirrorfarm.actors.scripts.runner.TERM_NS", 100 * MILLISECOND_NS)
    bench.write("#!/bin/sh\ntrap '' TERM\necho ready > ready\nwhile :; do sleep 60; done\n")
    bench.start()
    assert eventually((bench.bin / "ready").exists)
    bench.runner.end(EndScript(1, "start_prim"))
    assert bench.news() == ScriptEnded(1, "start_prim", -9)


def test_ended_script_leaves_the_daemons_of_the_application_alone(bench: Bench) -> None:
    bench.write("#!/bin/sh\nsetsid sh -c 'touch daemon; sleep 60; :' &\nsleep 60\n")
    bench.start()
    assert eventually((bench.bin / "daemon").exists)
    assert eventually(lambda: len(bench.cgroup.processes()) == 4)
    bench.runner.end(EndScript(1, "start_prim"))
    assert bench.news() == ScriptEnded(1, "start_prim", -15)
    assert eventually(lambda: len(bench.cgroup.processes()) == 2)


def test_daemon_that_left_its_session_goes_with_the_application(bench: Bench) -> None:
    bench.write("#!/bin/sh\nsetsid sh -c 'sleep 60; :' &\n")
    bench.start()
    assert bench.news() == ScriptEnded(1, "start_prim", 0)
    assert eventually(lambda: len(bench.cgroup.processes()) == 2)
    bench.runner.kill(KillScripts(7), bench.inbox.put)
    assert bench.news() == ApplicationGone(7)
    assert bench.cgroup.processes() == []


def test_endless_printing_fills_no_disk_and_hangs_nothing(bench: Bench) -> None:
    bench.write("#!/bin/sh\nyes 2>&1 | head -c 100000000\n")
    bench.start()
    assert bench.news() == ScriptEnded(1, "start_prim", 0)
    (log,) = bench.logs
    assert log.stat().st_size < CAP + 200
    assert "truncated" in log.read_text()


def test_daemon_may_print_long_after_its_script_ended(bench: Bench) -> None:
    bench.write(
        "#!/bin/sh\n"
        "(while [ ! -e go ]; do sleep 0.02; done; yes | head -c 3000000; echo end > end) &\n"
    )
    bench.start()
    assert bench.news() == ScriptEnded(1, "start_prim", 0)
    (bench.bin / "go").touch()
    assert eventually((bench.bin / "end").exists)


def test_outputs_are_closed_when_their_last_writer_is_gone(bench: Bench) -> None:
    bench.write("#!/bin/sh\necho hello\n")
    for _ in range(3):
        bench.start()
        assert bench.news().code == 0
    assert eventually(lambda: not bench.runner._outputs)


def test_exit_code_is_reported(bench: Bench) -> None:
    bench.write("#!/bin/sh\nexit 255\n")
    bench.start()
    assert bench.news() == ScriptEnded(1, "start_prim", 255)


def test_missing_script_is_reported_as_such(bench: Bench) -> None:
    bench.start()
    assert bench.news() == ScriptEnded(1, "start_prim", 0, failure=MISSING)


def test_script_without_execute_permission_is_a_failure(bench: Bench) -> None:
    bench.write("#!/bin/sh\n").chmod(0o600)
    bench.start()
    assert "chmod u+x" in bench.news().failure


def test_script_without_first_line_is_a_failure_that_names_the_cure(bench: Bench) -> None:
    bench.write("echo hello\n")
    bench.start()
    assert "#!/bin/sh" in bench.news().failure


def test_script_with_an_interpreter_that_does_not_exist_is_a_failure(bench: Bench) -> None:
    bench.write("#!/no/such/shell\n")
    bench.start()
    assert "interpreter" in bench.news().failure
    assert eventually(lambda: not bench.runner._outputs)


def test_script_that_is_being_written_or_may_not_be_run_is_told_with_what_to_do(
    bench: Bench,
) -> None:
    script = bench.write("#!/bin/sh\nexit 0\n")
    with script.open("a"):
        bench.start()
        assert "Text file busy: it is being written" in bench.news().failure
    script.write_text(f"#!{bench.bin / 'README'}\n")
    bench.write("no program\n", "README").chmod(0o644)
    bench.start()
    assert "Permission denied: its file system is mounted noexec, or" in bench.news().failure


def test_script_runs_at_normal_priority_without_foreign_descriptors(bench: Bench) -> None:
    # No pipe in the script: as long as it has not closed the ends, they are in the list as well.
    bench.write("#!/bin/sh\nls -m /proc/$$/fd; cat /proc/$$/oom_score_adj; nice\n")
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    bench.start()
    assert bench.news().code == 0
    os.close(reader)
    os.close(writer)
    (log,) = bench.logs
    assert eventually(lambda: log.read_text().splitlines()[-1] == "0")
    # 10 is where a shell keeps the script that it reads.
    assert log.read_text().splitlines()[1:] == ["0, 1, 10, 2", "0", "0"]


def test_script_and_what_it_starts_hear_signals_that_the_agent_was_told_to_ignore(
    bench: Bench,
) -> None:
    """As after `nohup mirrorfarm agent &`: a shell could not even trap them."""
    ignored = (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)
    former = [signal.signal(number, signal.SIG_IGN) for number in ignored]
    bench.write("#!/bin/sh\ngrep ^SigIgn: /proc/self/status >ignored\n")
    try:
        bench.start()
        assert bench.news() == ScriptEnded(1, "start_prim", 0)
    finally:
        for number, action in zip(ignored, former, strict=True):
            signal.signal(number, action)
    # 32 and 33 are the C library's own: it lets nobody set them, and some services ignore 32.
    settable = sum(1 << number - 1 for number in signal.valid_signals())
    assert int((bench.bin / "ignored").read_text().split()[1], 16) & settable == 0


@pytest.mark.parametrize("name", ["pipe2", "pidfd_open"])
def test_script_for_which_no_descriptor_is_left_is_a_failure(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def refuse(*_: Any) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    bench.write("#!/bin/sh\nsleep 60\n")
    with monkeypatch.context() as scarce:
        scarce.setattr(os, name, refuse)
        bench.start()
    news = bench.news()
    assert (news.run, news.name) == (1, "start_prim")
    assert news.failure.endswith(": Too many open files: allow more open files (`ulimit -n`)")
    assert eventually(lambda: not bench.runner._outputs)
    assert eventually(lambda: bench.cgroup.processes() == []), "what cannot be awaited is ended"
    bench.write("#!/bin/sh\n")
    bench.start()
    assert bench.news() == ScriptEnded(1, "start_prim", 0)


def test_script_whose_control_group_was_removed_is_a_failure_that_names_the_cure(
    bench: Bench,
) -> None:
    bench.write("#!/bin/sh\n")
    bench.cgroup.path.rmdir()
    bench.start()
    news = bench.news()
    assert f"{bench.cgroup.path}, was removed: `kill {os.getpid()}`" in news.failure
    bench.cgroup.create()
    bench.start()
    assert bench.news() == ScriptEnded(1, "start_prim", 0)


def test_application_is_not_taken_for_gone_where_nothing_can_be_asked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirrorfarm.actors.scripts.runner.KILL_AGAIN_S", 0.02)
    bench.write("#!/bin/sh\nsetsid sleep 60 &\n")
    bench.start()
    assert bench.news() == ScriptEnded(1, "start_prim", 0)

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as scarce:
        scarce.setattr(Path, "read_text", refuse)
        scarce.setattr(Path, "write_text", refuse)
        bench.runner.kill(KillScripts(7), bench.inbox.put)
        assert eventually(lambda: any("cannot be killed" in text for _, text in bench.logged))
        assert bench.inbox.empty()
    assert bench.news() == ApplicationGone(7)
    assert bench.cgroup.processes() == []


def test_script_may_open_as_many_files_as_before_the_limit_was_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: Bench
) -> None:
    monkeypatch.setenv(FORMER, "123")
    other = Bench(Paths(tmp_path / "other"), bench.cgroup)
    other.write("#!/bin/sh\nulimit -Sn > limit\n")
    other.start()
    assert other.news() == ScriptEnded(1, "start_prim", 0)
    assert (other.bin / "limit").read_text() == "123\n"
    other.runner.close()


@pytest.mark.parametrize("passing", [0, 1], ids=["opened", "written"])
def test_a_disk_of_the_logs_that_hangs_holds_up_no_script_and_no_order(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, passing: int
) -> None:
    """`passing`: how many writings succeed before; the first one is the header."""
    goes_on, real, calls = threading.Event(), output._write, itertools.count()

    def hang(file: int, data: bytes) -> None:
        if next(calls) >= passing:
            goes_on.wait(60)
        real(file, data)

    monkeypatch.setattr(output, "_write", hang)
    monkeypatch.setattr(output, "PATIENCE_NS", 50 * MILLISECOND_NS)
    monkeypatch.setattr(output, "WAITING_BYTES_MAX", 1_000)
    bench.write("#!/bin/sh\nyes | head -c 1000000\n")
    bench.write("#!/bin/sh\nsetsid sleep 60 &\nsleep 60\n", "start_sec")
    try:
        begun = threading.Thread(target=bench.start, daemon=True)
        begun.start()
        begun.join(10)
        assert not begun.is_alive(), "whoever starts a script waits for no disk"
        assert bench.inbox.get(timeout=10) == ScriptEnded(1, "start_prim", 0)
        bench.start(name="start_sec")
        assert "(no log: the disk of the logs hangs)" in bench.logged[-1][1]
        bench.runner.end(EndScript(1, "start_sec"))
        assert bench.inbox.get(timeout=10) == ScriptEnded(1, "start_sec", -15)
        bench.runner.kill(KillScripts(7), bench.inbox.put)
        assert bench.inbox.get(timeout=10) == ApplicationGone(7)
    finally:
        goes_on.set()
    assert eventually(lambda: bench.logs and "left out" in bench.logs[0].read_text())
    monkeypatch.undo()
    bench.write("#!/bin/sh\necho again\n")
    bench.start()
    assert bench.news() == ScriptEnded(1, "start_prim", 0)
    assert eventually(lambda: bench.logs[-1].read_text().endswith("\nagain\n"))


def test_a_log_that_cannot_be_opened_is_told(bench: Bench) -> None:
    bench.write("#!/bin/sh\necho hello\n")
    folder = bench.paths.module_log("db") / "scripts"
    folder.parent.mkdir(parents=True)
    folder.write_text("no folder")
    bench.start()
    assert bench.news() == ScriptEnded(1, "start_prim", 0)
    assert eventually(lambda: len(bench.logged) > 1)
    assert bench.logged[1][0] == "S"
    assert bench.logged[1][1].startswith(
        f"Script start_prim: what it prints is not kept: {folder}: "
    )
