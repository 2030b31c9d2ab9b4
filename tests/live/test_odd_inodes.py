"""What few directories hold, on two replicas: devices, attributes of links, very long paths."""

import contextlib
import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.live.replicas import lead_alone, replicas
from tests.live.test_replicator import assert_equal, join, leave

pytestmark = pytest.mark.live

BASE = "a" * 32
DEVICES = ((stat.S_IFCHR, os.makedev(1, 3)), (stat.S_IFCHR, 0), (stat.S_IFBLK, os.makedev(7, 0)))


def make_devices(folder: Path) -> None:
    folder.mkdir()
    for number, (kind, device) in enumerate(DEVICES):
        os.mknod(folder / f"device{number}", kind | 0o600, device)


def test_devices_stay_where_they_were_and_keep_nothing_from_being_replicated(
    tmp_path: Path,
) -> None:
    with replicas(tmp_path) as (one, two):
        make_devices(one.directory / "both")
        make_devices(two.directory / "both")
        make_devices(one.directory / "here")
        (one.directory / "both/file").write_text("content")
        lead_alone(one)
        join(one, two, term=1, sid=1, plan="full")
        with pytest.raises(PermissionError):
            (one.directory / "here/device0").rename(one.directory / "device0")
        with pytest.raises(OSError, match="cross-device"):
            os.link(one.directory / "here/device0", one.directory / "device0")
        (one.directory / "here/device0").chmod(0o640)
        (one.directory / "here/device1").unlink()
        (one.directory / "both/file").rename(one.directory / "here/device2")
        (one.directory / "both").rename(one.directory / "moved")
        for place in ("moved/device0", "moved/device1"):
            (one.directory / place).unlink()
        (one.directory / "moved/device2").unlink()
        (one.directory / "moved").rmdir()
        leave(one, two)
        assert not one.has_said("SessionBroken")
        assert stat.S_ISCHR((one.directory / "here/device0").stat().st_mode)
        assert not (two.directory / "here/device0").exists()
        (one.directory / "here/device0").unlink()
        assert_equal(one, two)


def test_attributes_of_symbolic_links_are_copied(tmp_path: Path) -> None:
    with replicas(tmp_path) as (one, two):
        for name in ("new", "plain", "changed"):
            (one.directory / name).symlink_to("somewhere")
        for name in ("plain", "changed"):
            (two.directory / name).symlink_to("somewhere")
            os.setxattr(two.directory / name, "trusted.old", b"old", follow_symlinks=False)
        for name in ("new", "changed"):
            os.setxattr(one.directory / name, "trusted.note", b"note", follow_symlinks=False)
        lead_alone(one)
        join(one, two, term=1, sid=1, plan="full")
        leave(one, two)
        assert_equal(one, two)


def deep(folder: Path, levels: int, name: str) -> int:
    """Make directories in each other; give a descriptor of the last one."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=fd)
        above, fd = fd, os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(above)
    return fd


def put(folder_fd: int, name: str, data: bytes) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=folder_fd)
    os.write(fd, data)
    os.close(fd)


@pytest.mark.parametrize(("levels", "name"), [(30, "n" * 240), (450, "n" * 20)])
def test_what_lies_deeper_than_a_path_reaches_is_replicated(
    tmp_path: Path, levels: int, name: str
) -> None:
    with replicas(tmp_path) as (one, two):
        below = deep(one.directory, levels, name)
        put(below, "before", b"made before it was replicated")
        os.close(below)
        lead_alone(one)
        join(one, two, term=1, sid=1, plan="full")
        below = deep(one.directory, levels, name)
        put(below, "later", b"made afterwards")
        os.close(below)
        two.wish("off", clean=True)
        one.heard("SessionBroken", term=1, sid=1)
        one.wish("lead", term=1, gate="frozen", sid=0)
        one.wish("lead", term=1, gate="self", map_base=BASE, map_new=True)
        below = deep(one.directory, levels, name)
        put(below, "alone", b"made alone")
        os.close(below)
        join(one, two, term=1, sid=2, plan="map", map_base=BASE)
        leave(one, two)
        below = deep(two.directory, levels, name)
        assert sorted(os.listdir(below)) == ["alone", "before", "later"]
        os.close(below)
        for replica in (one, two):
            subprocess.run(["rm", "-rf", replica.directory / name], check=True)


def test_a_file_that_is_nearly_all_holes_is_copied_as_what_it_holds(tmp_path: Path) -> None:
    terabyte, compared = 1 << 40, 20 << 30
    places = (0, 19 << 30, terabyte - 9)
    with replicas(tmp_path) as (one, two):
        here, there = one.directory / "huge", two.directory / "huge"
        with here.open("wb") as huge:
            huge.truncate(terabyte)
            for place in places:
                huge.seek(place)
                huge.write(b"something")
        lead_alone(one)
        join(one, two, term=1, sid=1, plan="full")  # It is made there,
        with there.open("rb") as huge:
            for place in places:
                huge.seek(place)
                assert huge.read(9) == b"something"
        os.truncate(here, compared)
        join(one, two, term=1, sid=2, plan="full")  # and compared.
        leave(one, two)
        assert there.stat().st_size == compared
        assert there.stat().st_blocks < 1_000
