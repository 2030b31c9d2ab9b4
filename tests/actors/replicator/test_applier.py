"""The secondary's disk does what it is told, beneath its root, and notices surprises."""

import errno
import os
import resource
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirrorfarm.actors.replicator.applier import Applier
from mirrorfarm.actors.replicator.operations import (
    RENAME_EXCHANGE,
    ROOT,
    SET_GID,
    SET_MODE,
    SET_MTIME,
    SET_SIZE,
    SET_UID,
    Create,
    Fallocate,
    Forget,
    Fsync,
    Introduce,
    Link,
    Rename,
    Rmdir,
    SetAttr,
    SetXattr,
    Unlink,
    Write,
)

FILE, DIRECTORY, LINK = 0o100640, 0o040750, 0o120777


class Target:
    """A directory, and what applies to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.incomplete: list[tuple[int, int]] = []
        self.applier = Applier(
            [bytes(root)], incomplete=lambda *what: self.incomplete.append(what), descriptors_max=4
        )
        self.apply = self.applier.apply

    def create(self, node: int, name: bytes, mode: int = FILE, parent: int = ROOT) -> None:
        uid, gid = os.geteuid(), os.getegid()
        target = b"/etc/passwd" if mode == LINK else b""
        self.apply(Create(0, node, parent, name, mode, uid, gid, 10**18, 0, target))


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    root = tmp_path / "root"
    root.mkdir()
    made = Target(root)
    yield made
    made.applier.close()


def test_a_created_file_has_content_mode_and_time(target: Target) -> None:
    target.create(5, b"file", 0o106755)
    target.apply(Write(0, 5, 3, 4, 2 * 10**18 + 1), b"data")
    status = (target.root / "file").stat()
    assert (target.root / "file").read_bytes() == b"\0\0\0data"
    assert status.st_mtime_ns == 2 * 10**18 + 1
    target.apply(SetAttr(0, 5, SET_MODE | SET_SIZE | SET_MTIME, mode=0o104711, size=2, mtime_ns=5))
    status = (target.root / "file").stat()
    assert (oct(status.st_mode), status.st_size, status.st_mtime_ns) == ("0o104711", 2, 5)


def test_an_owner_is_set_before_the_mode_so_that_setuid_stays(target: Target) -> None:
    target.create(5, b"file")
    valid = SET_MODE | SET_UID | SET_GID
    target.apply(SetAttr(0, 5, valid, 0o104755, os.geteuid(), os.getegid()))
    assert (target.root / "file").stat().st_mode == 0o104755


def test_identity_is_the_inode_whatever_its_names(target: Target) -> None:
    target.create(5, b"one")
    target.create(6, b"directory", DIRECTORY)
    target.apply(Link(0, 5, 6, b"two"))
    target.apply(Unlink(0, ROOT, b"one"))
    for number in range(20):  # More than descriptors are kept.
        target.create(100 + number, b"other%d" % number)
    target.apply(Rename(0, ROOT, b"directory", ROOT, b"moved"))
    target.apply(Write(0, 5, 0, 2), b"ok")
    assert (target.root / "moved/two").read_bytes() == b"ok"


def test_what_is_written_to_an_unlinked_file_goes_nowhere(target: Target) -> None:
    target.create(5, b"gone")
    target.apply(Unlink(0, ROOT, b"gone"))
    target.apply(Write(0, 5, 0, 2), b"no")
    target.apply(SetXattr(0, 5, b"user.a", b""))
    target.apply(Fsync(0, 5, True))
    assert list(target.root.iterdir()) == []


def test_a_rename_over_a_file_ends_that_file(target: Target) -> None:
    target.create(5, b"new")
    target.create(6, b"old")
    target.apply(Rename(0, ROOT, b"new", ROOT, b"old"))
    target.apply(Write(0, 6, 0, 3), b"old")
    target.apply(Write(0, 5, 0, 3), b"new")
    assert (target.root / "old").read_bytes() == b"new"


def test_exchanged_names_keep_their_inodes(target: Target) -> None:
    target.create(5, b"a")
    target.create(6, b"b")
    target.apply(Rename(0, ROOT, b"a", ROOT, b"b", RENAME_EXCHANGE))
    target.apply(Write(0, 5, 0, 1), b"5")
    target.apply(Write(0, 6, 0, 1), b"6")
    assert (target.root / "a").read_bytes() == b"6"
    assert (target.root / "b").read_bytes() == b"5"


@pytest.mark.parametrize("here", [b"a", b"b"])
def test_what_changes_places_with_what_is_not_here_yet_takes_its_place(
    target: Target, here: bytes
) -> None:
    target.applier.begin(lenient=True)
    target.create(5, here, DIRECTORY)
    target.create(6, b"below", FILE, 5)
    there = b"b" if here == b"a" else b"a"
    target.apply(Rename(0, ROOT, b"a", ROOT, b"b", RENAME_EXCHANGE))
    target.apply(Introduce(0, 7, ROOT, here, DIRECTORY))
    target.create(8, b"of the other", FILE, 7)
    target.create(9, b"more", FILE, 5)
    target.apply(Write(0, 6, 0, 4), b"data")
    ours = target.root / os.fsdecode(there)
    assert sorted(os.listdir(ours)) == ["below", "more"]
    assert (ours / "below").read_bytes() == b"data"
    assert os.listdir(target.root / os.fsdecode(here)) == ["of the other"]


def test_what_is_in_the_way_may_be_as_deep_as_it_likes(target: Target) -> None:
    fd = os.open(target.root, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(400):
        os.mkdir("d", dir_fd=fd)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.symlink("d", "link", dir_fd=fd)
        deeper = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    target.applier.begin(lenient=True)
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    try:
        target.apply(Rmdir(0, ROOT, b"d"))
    finally:
        sys.setrecursionlimit(usual)
    assert sorted(os.listdir(target.root)) == ["file", "link"]


def test_what_is_written_to_may_be_as_deep_as_it_likes(target: Target) -> None:
    above = ROOT
    for number in range(2, 402):
        target.create(number, b"d", DIRECTORY, above)
        above = number
    target.create(500, b"file", parent=above)
    for number in range(10):  # More than the descriptors that are kept.
        target.create(600 + number, b"other%d" % number)
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    try:
        target.apply(Write(0, 500, 0, 5), b"bytes")
    finally:
        sys.setrecursionlimit(usual)
    assert (target.root / ("d/" * 400) / "file").read_bytes() == b"bytes"


def test_nothing_changes_places_with_nothing(target: Target) -> None:
    target.applier.begin(lenient=True)
    target.apply(Rename(0, ROOT, b"a", ROOT, b"b", RENAME_EXCHANGE))
    assert not os.listdir(target.root)


def test_what_was_there_before_is_introduced(target: Target) -> None:
    (target.root / "directory").mkdir()
    (target.root / "directory/file").write_text("before")
    target.apply(Introduce(0, 5, ROOT, b"directory", DIRECTORY))
    target.apply(Introduce(0, 6, 5, b"file", FILE))
    target.apply(Write(0, 6, 0, 5), b"after")
    assert (target.root / "directory/file").read_text() == "aftere"
    assert target.incomplete == []


def test_nothing_is_meant_by_a_number_never_introduced_or_forgotten(target: Target) -> None:
    target.create(5, b"file")
    target.apply(Forget(0, 5))
    for number in (5, 77):
        with pytest.raises(OSError, match="never introduced"):
            target.apply(Write(0, number, 0, 1), b"x")
    with pytest.raises(OSError, match="no directory"):
        target.apply(Fsync(1, ROOT, True))


def test_a_symbolic_link_leads_nowhere(target: Target, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    (target.root / "way").symlink_to(outside)
    (target.root / "leaf").symlink_to(outside / "file")
    target.apply(Introduce(0, 5, ROOT, b"way", LINK))
    target.apply(Introduce(0, 6, ROOT, b"leaf", LINK))
    with pytest.raises(NotADirectoryError):
        target.create(7, b"file2", FILE, parent=5)
    for operation in (Write(0, 6, 0, 1), SetAttr(0, 6, SET_SIZE, size=0), Fallocate(0, 6, 0, 0, 1)):
        with pytest.raises(OSError, match=r"neither a file"):
            target.apply(operation, b"x" if isinstance(operation, Write) else b"")
    target.apply(SetAttr(0, 6, SET_MODE, mode=0o100000))
    target.apply(Unlink(0, ROOT, b"leaf"))
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert (outside / "file").read_text() == "precious"
    assert (outside / "file").stat().st_mode & 0o777


def test_devices_are_refused_unless_allowed(target: Target) -> None:
    with pytest.raises(PermissionError):
        target.apply(Create(0, 5, ROOT, b"null", 0o020666, 0, 0, 0, os.makedev(1, 3)))
    assert list(target.root.iterdir()) == []


def test_a_surprise_ends_the_session(target: Target) -> None:
    (target.root / "there").write_text("")
    with pytest.raises(FileExistsError):
        target.create(5, b"there")
    with pytest.raises(FileNotFoundError):
        target.apply(Unlink(0, ROOT, b"missing"))
    with pytest.raises(FileNotFoundError):
        target.apply(Introduce(0, 6, ROOT, b"missing", FILE))
    with pytest.raises(OSError, match="another kind"):
        target.apply(Introduce(0, 6, ROOT, b"there", DIRECTORY))


def test_creating_again_after_a_resumed_stream_is_harmless(target: Target) -> None:
    target.create(5, b"file")
    target.apply(Write(0, 5, 0, 4), b"kept")
    target.create(5, b"file")
    assert (target.root / "file").read_bytes() == b"kept"


def test_room_is_made_while_the_copy_runs(target: Target) -> None:
    target.applier.begin(lenient=True)
    (target.root / "name/below").mkdir(parents=True)
    target.create(5, b"name")
    assert (target.root / "name").is_file()
    (target.root / "leftover/below").mkdir(parents=True)
    target.apply(Rmdir(0, ROOT, b"leftover"))
    target.apply(Unlink(0, ROOT, b"missing"))
    (target.root / "in the way").mkdir()
    (target.root / "in the way/file").write_text("")
    target.apply(Rename(0, ROOT, b"name", ROOT, b"in the way"))
    assert [path.name for path in target.root.iterdir()] == ["in the way"]
    assert target.incomplete == []


def test_what_is_missing_while_the_copy_runs_is_made_up_and_told(target: Target) -> None:
    target.applier.begin(lenient=True)
    (target.root / "wrong kind").write_text("")
    target.apply(Introduce(0, 5, ROOT, b"wrong kind", DIRECTORY))
    target.apply(Introduce(0, 6, 5, b"file", FILE))
    target.apply(Introduce(0, 7, 5, b"pipe", 0o010600))
    target.apply(Write(0, 6, 0, 1), b"x")
    target.apply(SetAttr(0, 7, SET_MODE, mode=0o010644))
    target.apply(Rename(0, ROOT, b"missing", 5, b"file"))
    assert target.incomplete == [(0, 5), (0, 6), (0, 7), (0, ROOT), (0, 5)]
    assert stat.S_ISDIR((target.root / "wrong kind").stat().st_mode)
    assert [path.name for path in (target.root / "wrong kind").iterdir()] == ["pipe"]


def test_a_flush_may_run_in_another_thread_after_the_file_is_forgotten(target: Target) -> None:
    target.create(5, b"file")
    flush = target.applier.flusher(Fsync(0, 5, False))
    target.apply(Forget(0, 5))
    flush()
    target.applier.sync_all()


def test_a_directory_that_only_the_peer_has_is_refused(target: Target) -> None:
    for ask in (
        lambda: target.applier.backing(1),
        lambda: target.applier.backing(-1),
        lambda: target.applier.flusher(Fsync(1, ROOT, True)),
        lambda: target.apply(Fsync(1, ROOT, True)),
    ):
        with pytest.raises(OSError, match="no directory") as refused:
            ask()
        assert refused.value.errno == errno.ESTALE


def test_what_a_copy_has_not_brought_yet_is_made_up_with_all_its_names(target: Target) -> None:
    target.applier.begin(lenient=True)
    target.apply(Introduce(0, 5, ROOT, b"way", LINK, b"there"))
    target.apply(Introduce(0, 6, ROOT, b"pipe", stat.S_IFIFO | 0o644))
    target.apply(Link(0, 5, ROOT, b"second way"))
    target.apply(Link(0, 6, ROOT, b"second pipe"))
    assert (target.root / "second way").readlink() == Path("there")
    assert (target.root / "way").lstat().st_nlink == 2
    assert (target.root / "second pipe").is_fifo()


@pytest.mark.parametrize("directories", [1, 4])
def test_there_may_be_more_files_than_a_process_may_open(tmp_path: Path, directories: int) -> None:
    roots = [tmp_path / str(number) for number in range(directories)]
    for root in roots:
        root.mkdir()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = len(os.listdir("/proc/self/fd")) + 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, before[1]))
    try:
        applier = Applier([bytes(root) for root in roots])
        for directory in range(directories):
            for node in range(2, 302):
                name, owner = b"file%d" % node, (os.geteuid(), os.getegid())
                applier.apply(Create(directory, node, ROOT, name, FILE, *owner, 0))
                applier.apply(Write(directory, node, 0, 4), b"data")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        applier.close()
    assert [len(list(root.iterdir())) for root in roots] == [300] * directories
