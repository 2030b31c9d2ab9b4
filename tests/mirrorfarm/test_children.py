"""Children live on: started again when they end, found again by the next agent."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.children import Children
from mirrorfarm.errors import ConfigInvalid
from mirrorfarm.process import lock_holder


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return condition()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a program that holds its lock and sleeps."""
    (tmp_path / "sleeper_of_test.py").write_text(
        "import sys, time\nfrom pathlib import Path\nfrom mirrorfarm.process import hold_lock\n"
        "kept = hold_lock(Path(sys.argv[1]))\ntime.sleep(60)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    return tmp_path


@pytest.fixture
def children(folder: Path) -> Iterator[Children]:
    made = Children(lambda text: None)
    made.start()
    yield made
    made.close()


def wanted(children: Children, folder: Path) -> Path:
    lock = folder / "sleeper.lock"
    children.want("sleeper", ("sleeper_of_test", str(lock)), lock)
    assert wait_for(lambda: lock_holder(lock) > 0)
    return lock


def test_a_child_that_is_killed_is_started_again(children: Children, folder: Path) -> None:
    lock = wanted(children, folder)
    first = lock_holder(lock)
    os.kill(first, signal.SIGKILL)
    assert wait_for(lambda: lock_holder(lock) not in {0, first})


def test_children_have_the_root_of_an_agent_that_was_given_a_relative_one(
    children: Children, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "root_of_test.py").write_text(
        "import sys, time\nfrom pathlib import Path\nfrom mirrorfarm.paths import Paths\n"
        "Path(sys.argv[1]).write_text(f'{Paths.from_environment().root}\\n')\ntime.sleep(60)\n"
    )
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MIRRORFARM_ROOT", "node")
    found = folder / "found"
    children.want("teller", ("root_of_test", str(found)), folder / "teller.lock")
    assert wait_for(lambda: found.exists() and found.read_text().endswith("\n"))
    assert found.read_text() == f"{folder}/node\n"


def test_an_unwanted_child_ends_and_stays_ended(children: Children, folder: Path) -> None:
    lock = wanted(children, folder)
    assert wait_for(lambda: 0 < children.age_seconds("sleeper") < 60)
    children.unwant("sleeper")
    assert wait_for(lambda: lock_holder(lock) == 0)
    assert children.pids() == {}
    assert children.age_seconds("sleeper") == 0


def test_a_new_agent_finds_the_child_of_its_predecessor(children: Children, folder: Path) -> None:
    lock = wanted(children, folder)
    pid = lock_holder(lock)
    said: list[str] = []
    other = Children(said.append)
    other.start()
    try:
        other.want("sleeper", ("sleeper_of_test", str(lock)), lock)
        assert wait_for(lambda: other.pids() == {"sleeper": pid})
        assert any("runs already" in text for text in said)
    finally:
        other._ends = True  # Without ending the child, which is not its own.
        other._rouse()


def test_children_end_beside_each_other_and_replicators_after_their_modules(folder: Path) -> None:
    """Each may take nearly as long to stop as the machine gives all of them."""
    (folder / "slow_of_test.py").write_text(
        "import signal, sys, threading, time\nfrom pathlib import Path\n"
        "from mirrorfarm.process import hold_lock\n"
        "ends = threading.Event()\n"
        "signal.signal(signal.SIGTERM, lambda *_: ends.set())\n"
        "kept = hold_lock(Path(sys.argv[1]))\nends.wait()\n"
        "begin = time.monotonic()\ntime.sleep(1)\n"
        "Path(sys.argv[1]).with_suffix('.times').write_text(f'{begin} {time.monotonic()}')\n"
    )
    children = Children(lambda text: None)
    children.start()
    names = ("one.replica", "one", "two.replica", "two")
    locks = {name: folder / f"{name}.lock" for name in names}
    for name, lock in locks.items():
        children.want(name, ("slow_of_test", str(lock)), lock)
    assert wait_for(lambda: all(lock_holder(lock) for lock in locks.values()))
    children.close()
    times = {
        name: tuple(map(float, lock.with_suffix(".times").read_text().split()))
        for name, lock in locks.items()
    }
    assert max(times["one"][0], times["two"][0]) < min(times["one"][1], times["two"][1])
    modules_end = max(times["one"][1], times["two"][1])
    assert min(times["one.replica"][0], times["two.replica"][0]) >= modules_end


def test_children_end_also_when_no_thread_is_to_be_had(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever stops a node on which processes multiply leaves all its modules running."""
    children = Children(lambda text: None)
    children.start()
    lock = wanted(children, folder)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    try:
        with monkeypatch.context() as scarcity:
            scarcity.setattr(threading.Thread, "start", refuse)
            children.close()
        assert wait_for(lambda: lock_holder(lock) == 0)
    finally:
        children.close()


def test_why_a_child_does_not_come_to_run_is_kept(folder: Path, children: Children) -> None:
    (folder / "failing_of_test.py").write_text(
        "import sys\nfrom pathlib import Path\nfrom mirrorfarm.process import run_child\n"
        "from mirrorfarm.errors import ConfigInvalid\n"
        "def body():\n    raise ConfigInvalid(('u.xml:3: no such thing',))\n"
        "sys.exit(run_child(Path(sys.argv[1]), 'failing', body))\n"
    )
    lock = folder / "failing.lock"
    children.want("failing", ("failing_of_test", str(lock)), lock)
    assert children.trouble("failing") is None, "one end may be anything"
    assert wait_for(lambda: children.trouble("failing") is not None)
    trouble = children.trouble("failing")
    assert trouble is not None
    assert trouble.failures >= 2
    assert f"ended with code {ConfigInvalid.exit_code} soon after each of" in str(trouble)
    assert "u.xml:3: no such thing" in str(trouble)
    children.unwant("failing")
    assert children.trouble("failing") is None


def test_a_child_that_says_nothing_is_told_by_its_signal(folder: Path, children: Children) -> None:
    (folder / "killed_of_test.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    lock = folder / "killed.lock"
    children.want("killed", ("killed_of_test", str(lock)), lock)
    assert wait_for(lambda: children.trouble("killed") is not None)
    assert "was killed by signal 9" in str(children.trouble("killed"))


def scarce(real: Callable[..., Any], number: int, times: int) -> tuple[Any, list[int]]:
    """Return a function that fails so many times first, and its failures to come."""
    left = [number] * times

    def call(*words: Any, **more: Any) -> Any:
        if left:
            error = left.pop()
            raise OSError(error, os.strerror(error))
        return real(*words, **more)

    return call, left


@pytest.mark.parametrize(
    ("what", "number"),
    [
        ((subprocess, "Popen"), errno.EAGAIN),
        ((os, "pidfd_open"), errno.EMFILE),
        ((Path, "unlink"), errno.EROFS),
    ],
    ids=["no process", "no descriptor", "no disk"],
)
def test_a_child_that_cannot_be_started_now_is_started_later(
    children: Children,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: tuple[Any, str],
    number: int,
) -> None:
    lock = wanted(children, folder)
    first = lock_holder(lock)
    refusing, left = scarce(getattr(*what), number, times=2)
    monkeypatch.setattr(*what, refusing)
    os.kill(first, signal.SIGKILL)
    assert wait_for(lambda: not left)
    assert wait_for(lambda: "cannot be started" in str(children.trouble("sleeper")))
    assert os.strerror(number) in str(children.trouble("sleeper"))
    assert wait_for(lambda: lock_holder(lock) not in {0, first})
    assert children.pids() == {"sleeper": lock_holder(lock)}


def test_a_failed_start_delays_no_other_child(
    children: Children, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", scarce(subprocess.Popen, errno.ENOMEM, times=1)[0])
    locks = [folder / "one.lock", folder / "two.lock"]
    for lock in locks:
        children.want(lock.stem, ("sleeper_of_test", str(lock)), lock)
    assert wait_for(lambda: all(lock_holder(lock) for lock in locks))


def test_children_are_watched_also_when_nothing_can_be_told(folder: Path) -> None:
    def broken(_: str) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    children = Children(broken)
    children.start()
    try:
        lock = wanted(children, folder)
        first = lock_holder(lock)
        os.kill(first, signal.SIGKILL)
        assert wait_for(lambda: lock_holder(lock) not in {0, first})
    finally:
        children.close()


def test_children_are_watched_on_after_any_failure(
    children: Children, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Children, "_ended", scarce(Children._ended, errno.EBADF, times=1)[0])
    lock = wanted(children, folder)
    first = lock_holder(lock)
    os.kill(first, signal.SIGKILL)
    assert wait_for(lambda: lock_holder(lock) not in {0, first})
