"""Directories whose disk is mounted when somebody comes by (`x-systemd.automount`)."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mirrorfarm.actors.replicator.fuse import mount
from mirrorfarm.actors.replicator.fuse.filesystem import FileSystem
from mirrorfarm.actors.replicator.journal import LocalJournal
from mirrorfarm.actors.replicator.whereabouts import Whereabouts
from mirrorfarm.modules.settings import Module, Replicated, Replication
from mirrorfarm.modules.suitability import unsuitable
from mirrorfarm.paths import Paths

pytestmark = pytest.mark.live
WORK = Path(__file__).with_name("automount.py")


@contextmanager
def automounted(path: Path, *words: str) -> Iterator[None]:
    path.mkdir()
    command = [sys.executable, str(WORK), str(path), *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            while any(one.point == os.fsencode(path) for one in mount.mounts()):
                subprocess.run(["umount", "-l", path], check=True)
            process.stdin.close()


def test_a_disk_that_nobody_came_by_yet_is_no_reason_to_refuse_its_directory(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    module = Module("app", 1, ("n1", "n2"), replication=Replication((Replicated(str(data)),)))
    with automounted(data):
        assert unsuitable(module, [], paths=Paths(tmp_path / "node")) == []


def test_a_disk_that_cannot_be_mounted_is_told(tmp_path: Path) -> None:
    data = tmp_path / "data"
    module = Module("app", 1, ("n1", "n2"), replication=Replication((Replicated(str(data)),)))
    with automounted(data, "fails"):
        [fault] = unsuitable(module, [], paths=Paths(tmp_path / "node"))
        assert f"{data} waits for a disk that autofs cannot mount; mount it" in fault


def test_a_disk_is_mounted_before_its_directory_is_mounted_over(tmp_path: Path) -> None:
    data, told = tmp_path / "data", list[str]()
    places = Whereabouts(tmp_path / "disks", Replication((Replicated(str(data)),)), told.append)
    with automounted(data):
        system = FileSystem(data, 0, LocalJournal())
        with places.required():
            system.mount()
        (data / "written").write_text("on the disk")
        system.unmount()
        assert (data / "written").read_text() == "on the disk"
        kinds = [one.kind for one in mount.mounts() if one.point == os.fsencode(data)]
        assert kinds == [b"autofs", b"tmpfs"]


def test_nothing_is_mounted_over_a_directory_whose_disk_cannot_be_mounted(tmp_path: Path) -> None:
    data, told = tmp_path / "data", list[str]()
    places = Whereabouts(tmp_path / "disks", Replication((Replicated(str(data)),)), told.append)
    with automounted(data, "fails"):
        with pytest.raises(OSError, match=str(data)), places.required():
            FileSystem(data, 0, LocalJournal()).mount()
        kinds = [one.kind for one in mount.mounts() if one.point == os.fsencode(data)]
        assert kinds == [b"autofs"]
