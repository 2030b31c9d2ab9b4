"""Somebody else unmounts a replicated directory, or mounts something over it, while it is used."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mirrorfarm.actors.replicator.fuse import mount
from mirrorfarm.actors.replicator.fuse.filesystem import FileSystem
from mirrorfarm.actors.replicator.journal import LocalJournal
from mirrorfarm.actors.replicator.mounts import Mounts
from mirrorfarm.actors.replicator.whereabouts import Whereabouts
from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.modules.settings import Replicated, Replication
from tests.live.replicas import Replica, lead_alone, replicas

pytestmark = pytest.mark.live


def mount_disk(path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], check=True)


def unmount(path: Path, *options: str) -> None:
    subprocess.run(["umount", *options, path], check=True)


def kinds(path: Path) -> list[bytes]:
    """Return what is mounted right there, the topmost last."""
    return [one.kind for one in mount.mounts() if one.point == os.fsencode(path)]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on a disk of its own; nothing stays mounted there."""
    path = tmp_path / "one/data"
    path.mkdir(parents=True)
    mount_disk(path)
    (path / "kept").write_text("on its disk")
    yield path
    while kinds(path):
        unmount(path, "-l")


@pytest.mark.parametrize("lazy", [False, True])
def test_who_ends_what_somebody_unmounted_leaves_the_disk_beneath_alone(
    disk: Path, lazy: bool
) -> None:
    system = FileSystem(disk, 0, LocalJournal())
    system.mount()
    unmount(disk, "-l")
    system.unmount(lazy=lazy)
    assert kinds(disk) == [b"tmpfs"]
    assert (disk / "kept").read_text() == "on its disk"


@pytest.mark.parametrize("used", [False, True])
def test_a_mount_of_ours_that_was_bound_over_itself_is_ended_as_a_whole(
    disk: Path, used: bool
) -> None:
    with ExitStack() as ends:
        system = FileSystem(disk, 0, LocalJournal())
        system.mount()
        subprocess.run(["mount", "--bind", disk, disk], check=True)
        if used:
            ends.callback(os.close, os.open(disk, os.O_RDONLY))
        system.unmount(lazy=used)
        assert kinds(disk) == [b"tmpfs"]


def test_what_somebody_mounted_over_it_stays_and_a_dead_mount_beneath(
    disk: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    system = FileSystem(disk, 0, LocalJournal(), report=told.append)
    system.mount()
    mount_disk(disk)
    (disk / "other").write_text("not replicated")
    with pytest.raises(OSError, match="something else is mounted over it"):
        system.unmount()
    system.unmount(lazy=True)
    assert len(told) == 1
    assert not system.mounted
    assert kinds(disk) == [b"tmpfs", mount.KIND, b"tmpfs"]
    assert (disk / "other").read_text() == "not replicated"

    places = Whereabouts(tmp_path / "disks", Replication((Replicated(str(disk)),)), told.append)
    with pytest.raises(SystemUnsuitable, match=f"{disk} was mounted over"), places.required():
        pass
    unmount(disk)
    with places.required():
        assert kinds(disk) == [b"tmpfs"]
        assert (disk / "kept").read_text() == "on its disk"


def test_another_file_system_inside_of_a_directory_is_told(disk: Path, tmp_path: Path) -> None:
    told: list[str] = []
    inside = disk / "inside"
    inside.mkdir()
    places = Whereabouts(tmp_path / "disks", Replication((Replicated(str(disk)),)), told.append)
    mount_disk(inside)
    try:
        with places.required():
            assert len(told) == 1
        mount_disk(disk)  # It is not inside of this one.
        with places.required():
            assert len(told) == 1
        unmount(disk)
    finally:
        unmount(inside)
    assert told[0].startswith(f"{inside} is another file system inside of {disk}: ")


def test_nothing_passes_for_written_back_where_somebody_mounted_something_over_it(
    disk: Path,
) -> None:
    system = FileSystem(disk, 0, LocalJournal())
    system.mount()
    ours = Mounts("", print)
    ours.systems.append(system)
    try:
        assert ours.flush() == ours.identities()
        mount_disk(disk)
        with pytest.raises(OSError, match="somebody took it away"):
            ours.flush()
        unmount(disk)
        assert ours.flush() == ours.identities()
    finally:
        ours.unmount(patient=False)


@pytest.mark.parametrize("role", ["lead", "follow"])
@pytest.mark.parametrize("what", ["unmount", "mount over", "mount above"])
def test_a_node_that_does_not_serve_its_directory_any_more_tells_it(
    tmp_path: Path, disk: Path, role: str, what: str
) -> None:
    with replicas(tmp_path) as (one, _):
        if role == "lead":
            lead_alone(one)
        else:
            one.wish("follow", term=1)
        meddle(one, what)
        try:
            told = one.heard("StorageFailed")
            assert told["text"].startswith(f"{disk} was unmounted, or mounted over, by somebody")
        finally:
            if what == "mount above":
                unmount(disk.parent)
        one.wish("off", clean=False, bare=True)
        assert (disk / "kept").exists() is (what != "mount over")


def meddle(one: Replica, what: str) -> None:
    if what == "unmount":
        unmount(one.directory, "-l")
    else:
        mount_disk(one.directory if what == "mount over" else one.directory.parent)


def test_what_was_aborted_may_be_unmounted_by_anybody(tmp_path: Path, disk: Path) -> None:
    with replicas(tmp_path) as (one, _):
        lead_alone(one)
        one.wish("off", clean=False)
        unmount(disk, "-l")
        one.wish("off", clean=False, bare=True)
        assert kinds(disk) == [b"tmpfs"]
        lead_alone(one, term=2)
        assert not one.has_said("StorageFailed")


def test_other_mounts_are_nobodys_loss(tmp_path: Path, disk: Path) -> None:
    beside = tmp_path / "beside"
    beside.mkdir()
    with replicas(tmp_path) as (one, _):
        lead_alone(one)
        for what in (beside, disk):
            subprocess.run(["mount", "--bind", disk, what], check=True)
            (disk / "written").write_text("replicated")
            unmount(what)
        one.wish("off", clean=True)
        assert not one.has_said("StorageFailed")
        assert kinds(disk) == [b"tmpfs"]
