"""A copy by the change map after names were moved about while the node was alone."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mirrorfarm.actors.replicator import libc
from mirrorfarm.actors.replicator.operations import RENAME_EXCHANGE
from tests.live.replicas import lead_alone, replicas, until
from tests.live.test_copied_attributes import DEFAULT_ACL, ONE_MORE_GROUP
from tests.live.test_replicator import assert_equal, join, leave

pytestmark = pytest.mark.live
# Copying it takes longer than it takes to notice on a busy machine that the copy has begun.
BIG_BYTES = 160_000_000


def fill(data: Path) -> None:
    """All files have the same size and time: only their content tells which one it is."""
    for folder in ("now", "next", "links", "emptied"):
        (data / folder / "below").mkdir(parents=True)
        (data / folder / "below/file").write_text(f"{folder:8}")
    for name in ("log", "log.1", "log.2"):
        (data / name).write_text(f"this is {name:5}")
    os.link(data / "log", data / "links/log")
    os.link(data / "log.1", data / "links/log.1")
    for folder, _, files in os.walk(data):
        for name in files:
            os.utime(os.path.join(folder, name), (1, 1))


def replace(data: Path) -> None:
    (data / "log.2").rename(data / "log.1")


def rotate(data: Path) -> None:
    (data / "log.1").rename(data / "log.2")
    (data / "log").rename(data / "log.1")


def exchange(data: Path, one: bytes = b"log", other: bytes = b"log.2") -> None:
    folder = os.open(data, os.O_RDONLY)
    libc.rename(folder, one, folder, other, RENAME_EXCHANGE)
    os.close(folder)


def exchange_folders(data: Path) -> None:
    exchange(data, b"now", b"next")


def swap_folders(data: Path) -> None:
    (data / "now").rename(data / "old")
    (data / "next").rename(data / "now")


def link_anew(data: Path) -> None:
    (data / "log.2").unlink()
    os.link(data / "links/log", data / "log.2")


def cut_a_link(data: Path) -> None:
    (data / "log").unlink()
    (data / "log").write_text("this is another")
    os.utime(data / "log", (1, 1))


def link_in_front(data: Path) -> None:
    os.link(data / "log.2", data / "in front of log.2")


def make_folder_anew(data: Path) -> None:
    (data / "held").mkdir()  # Or the number of the inode would be the same again.
    (data / "emptied").rename(data / "gone")
    (data / "held").rename(data / "emptied")
    shutil.rmtree(data / "gone")


@pytest.mark.parametrize(
    "change",
    [
        *(replace, rotate, exchange, exchange_folders, swap_folders),
        *(link_anew, link_in_front, cut_a_link, make_folder_anew),
    ],
)
def test_what_took_the_name_of_something_else_is_copied_by_the_map(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    base = "a" * 32
    with replicas(tmp_path) as (one, two):
        fill(one.directory)
        lead_alone(one)
        join(one, two, 1, 1, "full")
        two.wish("off", clean=True)
        one.wish("lead", term=1, gate="frozen")
        assert one.wish("lead", term=1, gate="self", map_base=base, map_new=True)["map_base"]
        change(one.directory)
        join(one, two, 1, 2, "map", map_base=base)
        leave(one, two)
        assert_equal(one, two)


@pytest.mark.parametrize("change", ["rename", "unlink one name"])
def test_what_moves_while_its_directory_is_copied_arrives_whole(
    tmp_path: Path, change: str
) -> None:
    with replicas(tmp_path, mode="each") as (one, two):
        here = one.directory
        (here / "big").write_bytes(os.urandom(BIG_BYTES))
        for number in range(30):  # Some of them come behind the big one.
            (here / f"{number}").write_text(f"waits for the big one: {number}")
            if change == "unlink one name":
                os.link(here / f"{number}", here / f"{number} too")
        lead_alone(one)
        two.wish("follow", term=1, sid=1)
        one.wish("lead", term=1, gate="self", sid=1, plan="full", peer="two")
        names = len(os.listdir(here))
        until(lambda: len(os.listdir(two.directory)) == names, "all names at the target")
        with two.stopped():  # The copy must not end before all of them have moved.
            assert not two.has_said("CopyComplete"), "too late"
            for number in range(30):
                if change == "rename":
                    (here / f"{number}").rename(here / f"{number} moved")
                else:
                    (here / f"{number}").unlink()
        two.heard("CopyComplete", term=1, sid=1)
        leave(one, two)
        assert_equal(one, two)


@pytest.mark.parametrize("name", ["first", "second"])
def test_a_link_that_was_cut_is_not_written_through_before_it_is_copied(
    tmp_path: Path, name: str
) -> None:
    base = "a" * 32
    with replicas(tmp_path) as (one, two):
        (one.directory / "first").write_text("old and shared")
        os.link(one.directory / "first", one.directory / "second")
        lead_alone(one)
        join(one, two, 1, 1, "full")
        two.wish("off", clean=True)
        one.wish("lead", term=1, gate="frozen")
        one.wish("lead", term=1, gate="self", map_base=base, map_new=True)
        (one.directory / name).unlink()
        (one.directory / name).write_text("one of its own")
        one.wish("lead", term=1, gate="self", sid=2, plan="map", peer="two", map_base=base)
        with (one.directory / name).open("a") as file:
            file.write(", changed before the copy comes to it")
        two.wish("follow", term=1, sid=2)
        two.heard("CopyComplete", term=1, sid=2)
        leave(one, two)
        assert_equal(one, two)


@pytest.mark.parametrize("change", ["folder made anew", "default ACL", "no default ACL"])
def test_what_is_made_before_the_copy_comes_to_it_is_not_made_of_what_was_there(
    tmp_path: Path, change: str
) -> None:
    base = "a" * 32
    with replicas(tmp_path) as (one, two):
        folder = one.directory / "folder"
        (folder / "below").mkdir(parents=True)
        (folder / "below/old").write_text("old")
        if change == "no default ACL":
            os.setxattr(folder, DEFAULT_ACL, ONE_MORE_GROUP)
        lead_alone(one)
        join(one, two, 1, 1, "full")
        two.wish("off", clean=True)
        one.wish("lead", term=1, gate="frozen")
        one.wish("lead", term=1, gate="self", map_base=base, map_new=True)
        if change == "default ACL":
            os.setxattr(folder, DEFAULT_ACL, ONE_MORE_GROUP)
        elif change == "no default ACL":
            os.removexattr(folder, DEFAULT_ACL)
        else:
            shutil.rmtree(folder)
        one.wish("lead", term=1, gate="self", sid=2, plan="map", peer="two", map_base=base)
        (folder / "deeper").mkdir(parents=True)
        (folder / "deeper/file").write_text("new")
        (folder / "deeper/link").symlink_to("file")
        os.mkfifo(folder / "deeper/pipe")
        two.wish("follow", term=1, sid=2)
        two.heard("CopyComplete", term=1, sid=2)
        leave(one, two)
        assert_equal(one, two)


def test_what_grows_before_the_copy_comes_to_it_has_no_old_content_in_between(
    tmp_path: Path,
) -> None:
    with replicas(tmp_path, mode="each") as (one, two):
        (one.directory / "big").write_bytes(os.urandom(BIG_BYTES))
        for number in range(30):  # Some of them come behind the big one.
            (one.directory / f"{number}").write_text("short")
            (two.directory / f"{number}").write_bytes(b"old and long" * 30_000)
        lead_alone(one)
        two.wish("follow", term=1, sid=1)
        one.wish("lead", term=1, gate="self", sid=1, plan="full", peer="two")
        until((two.directory / "big").exists, "the big file at the target")
        with two.stopped():  # The copy must not end before all of them have grown.
            assert not two.has_said("CopyComplete"), "too late"
            for number in range(30):
                os.truncate(one.directory / f"{number}", 200_000)
        two.heard("CopyComplete", term=1, sid=1)
        leave(one, two)
        assert_equal(one, two)
