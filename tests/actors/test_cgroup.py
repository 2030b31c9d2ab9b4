import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from mirrorfarm.actors import cgroup as cgroups
from mirrorfarm.actors.cgroup import Cgroup, Hierarchy, mounted, scope_of, unmounted

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="control groups need root")

Process = subprocess.Popen[bytes]

DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(60)
    os._exit(0)
time.sleep(60)
"""


def eventually(condition: Callable[[], object], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return bool(condition())


def first(kind: Callable[[int], Iterator[Hierarchy]], version: int) -> Hierarchy:
    hierarchy = next(kind(version), None)
    if hierarchy is None:
        pytest.skip(f"no control groups of version {version} here")
    return hierarchy


@pytest.fixture(params=["2", "1", "2 unmounted", "1 unmounted"])
def cgroup(request: pytest.FixtureRequest) -> Iterator[Cgroup]:
    version, _, hidden = request.param.partition(" ")
    hierarchy = first(unmounted if hidden else mounted, int(version))
    group = Cgroup(f"test-{uuid.uuid4().hex[:12]}", hierarchy)
    group.create()
    yield group
    assert group.kill() == []
    group.remove()


@contextmanager
def running(cgroup: Cgroup, *words: str, stdio: int | None = None) -> Iterator[Process]:
    """A process of the group; whatever fails, it is not waited for in vain."""
    with subprocess.Popen(
        words, stdin=stdio, stdout=stdio, bufsize=0, preexec_fn=cgroup.add_self
    ) as process:
        try:
            yield process
        finally:
            cgroup.kill()


def daemon(cgroup: Cgroup) -> AbstractContextManager[Process]:
    return running(cgroup, sys.executable, "-S", "-c", DAEMON)


def test_daemon_that_left_its_session_is_still_counted_and_killed(cgroup: Cgroup) -> None:
    with daemon(cgroup) as parent:
        assert eventually(lambda: len(cgroup.processes()) == 2)
        assert parent.pid in cgroup.processes()
        assert cgroup.kill() == []
        assert parent.wait() == -signal.SIGKILL
    assert cgroup.processes() == []


def test_frozen_processes_are_killed_too_and_the_group_is_usable_again(cgroup: Cgroup) -> None:
    with daemon(cgroup):
        assert eventually(lambda: len(cgroup.processes()) == 2)
        cgroup.freeze()
        assert cgroup.kill() == []
    child = subprocess.Popen(["/bin/true"], preexec_fn=cgroup.add_self)
    assert child.wait(timeout=20) == 0


def test_frozen_process_answers_only_after_it_is_thawed(cgroup: Cgroup) -> None:
    with running(cgroup, "/bin/cat", stdio=subprocess.PIPE) as echo:
        assert echo.stdin is not None
        assert echo.stdout is not None
        echo.stdin.write(b"one")
        assert echo.stdout.read(3) == b"one"
        cgroup.freeze()
        echo.stdin.write(b"two")
        assert select.select([echo.stdout], [], [], 0.2)[0] == []
        cgroup.thaw()
        assert echo.stdout.read(3) == b"two"


def test_created_again_the_group_shows_the_processes_of_its_earlier_owner(cgroup: Cgroup) -> None:
    with daemon(cgroup) as parent:
        again = Cgroup(cgroup.scope, Hierarchy(cgroup.path.parent.parent, cgroup._version))
        again.create()
        assert parent.pid in again.processes()
        assert again.kill() == []


def test_removed_group_is_gone_and_removing_twice_is_harmless(cgroup: Cgroup) -> None:
    cgroup.remove()
    assert not cgroup.path.exists()
    cgroup.remove()


def test_a_mount_with_any_name_hides_no_control_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user may mount something (fusermount) where the name is of no known encoding."""
    top = tmp_path / "c group"
    top.mkdir()
    (top / "cgroup.procs").touch()
    lines = tmp_path / "mountinfo"
    lines.write_bytes(
        b"36 25 0:31 / /home/user/\xff\xfe\xe2\x80\xa8\x0c rw - fuse.sshfs sshfs rw\n"
        + f"37 25 0:32 / {tmp_path}/c\\040group rw - cgroup2 cgroup2 rw\n".encode()
    )
    monkeypatch.setattr(cgroups, "MOUNTS", lines)
    assert list(mounted(2)) == [Hierarchy(top, 2)]


def test_scopes_differ_by_root_node_and_module() -> None:
    scopes = {
        scope_of(Path(root), node, module)
        for root in ("/", "/tmp/a")
        for node in ("node1", "node2")
        for module in ("db", "web")
    }
    assert len(scopes) == 8
    assert all("/" not in scope for scope in scopes)
