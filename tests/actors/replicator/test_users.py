"""Who has something open below a directory."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mirrorfarm.actors.replicator.users import User, end, users

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="looks into other processes")


@contextmanager
def sleeper(**options: object) -> Iterator[int]:
    process = subprocess.Popen(["sleep", "7655"], **options)  # type: ignore[call-overload]
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def test_an_open_file_and_a_working_directory_are_found(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    beside = tmp_path.with_name(tmp_path.name + "-beside")
    beside.mkdir()
    with (
        file.open() as handle,
        sleeper(stdin=handle) as reader,
        sleeper(cwd=tmp_path) as standing,
        sleeper(cwd=beside),
    ):
        found = users(os.fsencode(tmp_path), "no-such-scope")
    assert [user.pid for user in found] == sorted([reader, standing]), "not those of this process"
    assert str(found[0]) == f"{found[0].pid} (sleep 7655)"
    assert not found[0].own


def test_a_stranger_is_never_ended(tmp_path: Path) -> None:
    with sleeper(cwd=tmp_path) as pid:
        end(User(pid, "sleep", own=True), "no-such-scope")
        (found,) = users(os.fsencode(tmp_path), "")
        assert found.pid == pid


MAPPER = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
libc = __import__("ctypes").CDLL(None)
libc.mmap.restype = __import__("ctypes").c_void_p
assert libc.mmap(None, 4096, 1, 1, fd, 0) > 0
os.close(fd)
print("mapped", flush=True)
sys.stdin.read()
"""


def test_a_mapped_file_is_found(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 4096)
    with subprocess.Popen(
        [sys.executable, "-c", MAPPER, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert [user.pid for user in users(os.fsencode(tmp_path), "")] == [process.pid]
        process.kill()
