"""What is on the disk is handed over, also when the request fails half way."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.actors.replicator import inventory, libc
from mirrorfarm.actors.replicator.fuse import protocol
from mirrorfarm.actors.replicator.fuse.attributes import Attributes
from mirrorfarm.actors.replicator.fuse.files import Files
from mirrorfarm.actors.replicator.fuse.listing import Listing
from mirrorfarm.actors.replicator.fuse.names import Names
from mirrorfarm.actors.replicator.fuse.protocol import Deferred, Request
from mirrorfarm.actors.replicator.fuse.volume import Handle, Volume
from mirrorfarm.actors.replicator.journal import LocalJournal
from mirrorfarm.actors.replicator.operations import (
    CHANGE_OPERATION,
    NAMESPACE_OPERATION,
    ROOT,
    SET_MTIME,
    SET_SIZE,
    Link,
    SetAttr,
    Write,
)

KILL_SETUID = protocol.WRITE_KILL_SUIDGID
EXCLUSIVE = protocol.CREATE_IN.pack(os.O_RDWR | os.O_EXCL, 0o600, 0, 0)
FLAGS = os.O_PATH | os.O_DIRECTORY


class Heard(LocalJournal):
    """Remembers what it was handed."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.failures: list[int] = []
        self.failed: list[str] = []

    def local_failed(self, error: int, text: str) -> None:
        self.failures.append(error)
        self.failed.append(text)

    def write(self, operation: Write, data: memoryview) -> int:
        self.told.append(operation)
        return len(self.told)

    def change(self, operation: CHANGE_OPERATION) -> int:
        self.told.append(operation)
        return len(self.told)

    def namespace(
        self,
        operation: NAMESPACE_OPERATION,
        touched: tuple[int, ...],
        several: tuple[int, ...] = (),
    ) -> int:
        self.told.append(operation)
        return len(self.told)


class Case:
    """A volume with one file, known and open."""

    def __init__(self, root: Path) -> None:
        self.path = root / "file"
        self.path.write_text("content")
        self.path.chmod(0o4755)
        self.journal = Heard()
        root_fd = os.open(root, FLAGS)
        self.volume = Volume(
            root_fd,
            0,
            self.journal,
            read_only=False,
            writeback=True,
            each=False,
            about_to_wait=lambda: None,
        )
        self.names = Names(self.volume)
        self.files = Files(self.volume, self.names)
        self.attributes = Attributes(self.volume)
        self.listing = Listing(self.volume)
        self.node, _ = self.volume.entry(self.volume.nodes.root, b"file", self.path.stat())
        self.handle = self.volume.add_handle(Handle(os.open(self.path, os.O_RDWR), self.node, True))
        folder = Handle(inventory.open_root(root_fd), self.volume.nodes.root)
        self.folder = self.volume.add_handle(folder)
        with self.volume.nodes.use(self.node.number):
            """Have its own descriptor open, too."""
        self.number, self.root = protocol.LONG.pack(self.node.number), protocol.LONG.pack(ROOT)

    # --- requests --------------------------------------------------------------------------

    def writing(self, data: bytes, flags: int = 0) -> Request:
        body = protocol.WRITE_IN.pack(self.handle, 0, len(data), flags)
        return self.request(body.ljust(40, b"\0") + data)

    def flushing(self, flags: int) -> Request:
        return self.request(protocol.FSYNC_IN.pack(self.handle, flags))

    def flushing_removed(self) -> Request:
        self.node.names = ()  # As known; whether it has others, the disk is asked.
        return self.flushing(0)

    def opening(self, flags: int) -> Request:
        return self.request(protocol.OPEN_IN.pack(flags, 0))

    def listed(self) -> Request:
        return self.request(protocol.READ_IN.pack(self.folder, 0, 4_096), ROOT)

    def naming(self, size: int) -> Request:
        return self.request(bytes(size) + b"user.x\0")

    def above(self, head: bytes, *names: bytes) -> Request:
        """Ask for something in the directory; `head` is what comes before the names."""
        return self.request(head + b"".join(name + b"\0" for name in names), ROOT)

    def request(self, body: bytes, node: int = 0) -> Request:
        request = Request()
        header = (40 + len(body), 0, 1, node or self.node.number, 0, 0, 0, 0, 0)
        protocol.IN_HEADER.pack_into(request.buffer, 0, *header)
        request.buffer[40 : 40 + len(body)] = body
        request.parse()
        return request


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    made = Case(tmp_path)
    yield made
    made.volume.close()


def fails(number: int) -> Any:
    def failing(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return failing


# What of the system fails, and what a request asks then.
PLACES: dict[str, tuple[Any, str, Callable[[Case], Any]]] = {
    "write": (os, "pwrite", lambda case: case.files.write(case.writing(b"other"))),
    "fsync": (os, "fsync", lambda case: case.files.fsync(case.flushing(0))),
    "fdatasync": (os, "fdatasync", lambda case: case.files.fsync(case.flushing(1))),
    "open": (os, "open", lambda case: case.files.open(case.opening(os.O_RDWR))),
    "create": (os, "open", lambda case: case.files.create(case.above(EXCLUSIVE, b"new"))),
    "mkdir": (os, "mkdir", lambda case: case.names.mkdir(case.above(bytes(8), b"new"))),
    "mknod": (os, "mknod", lambda case: case.names.mknod(case.above(bytes(16), b"new"))),
    "symlink": (os, "symlink", lambda case: case.names.symlink(case.above(b"", b"new", b"file"))),
    "link": (os, "link", lambda case: case.names.link(case.above(case.number, b"new"))),
    "unlink": (os, "unlink", lambda case: case.names.unlink(case.above(b"", b"file"))),
    "rmdir": (os, "rmdir", lambda case: case.names.rmdir(case.above(b"", b"file"))),
    "rename": (
        libc,
        "rename",
        lambda case: case.names.rename(case.above(case.root, b"file", b"new")),
    ),
    "setxattr": (os, "setxattr", lambda case: case.attributes.setxattr(case.naming(8))),
    "removexattr": (os, "removexattr", lambda case: case.attributes.removexattr(case.naming(0))),
    "setuid": (os, "chmod", lambda case: case.files.write(case.writing(b"other", KILL_SETUID))),
}

# The same of what is only asked, also before and after something is changed.
QUESTIONS: dict[str, tuple[Any, str, Callable[[Case], Any]]] = {
    "lookup": (os, "stat", lambda case: case.names.lookup(case.above(b"", b"file"))),
    "getattr": (os, "fstat", lambda case: case.attributes.getattr(case.request(bytes(16)))),
    "readlink": (os, "readlink", lambda case: case.names.readlink(case.request(b""))),
    "getxattr": (os, "getxattr", lambda case: case.attributes.getxattr(case.naming(8))),
    "listxattr": (os, "listxattr", lambda case: case.attributes.listxattr(case.request(bytes(8)))),
    "statfs": (os, "statvfs", lambda case: case.attributes.statfs(case.request(b""))),
    "opendir": (os, "open", lambda case: case.listing.opendir(case.above(b""))),
    "readdir": (libc, "directory_entries", lambda case: case.listing.readdir(case.listed())),
    "readdirplus": (os, "stat", lambda case: case.listing.readdirplus(case.listed())),
    "open to read": (os, "open", lambda case: case.files.open(case.opening(os.O_RDONLY))),
    "written": (os, "fstat", lambda case: case.files.write(case.writing(b"other"))),
    "capable": (
        os,
        "getxattr",
        lambda case: case.files.write(case.writing(b"other", protocol.WRITE_CACHE)),
    ),
    "flushed": (os, "fstat", lambda case: case.files.fsync(case.flushing_removed())),
    "victim": (os, "stat", lambda case: case.names.unlink(case.above(b"", b"file"))),
    "made": (os, "stat", lambda case: case.names.mkdir(case.above(bytes(8), b"new"))),
    "inherited": (os, "getxattr", lambda case: case.names.mkdir(case.above(bytes(8), b"new"))),
}


def refuse(case: Case, monkeypatch: pytest.MonkeyPatch, place: str, error: int) -> None:
    """Have the disk refuse one call; whoever asked is told so."""
    where, call, work = (PLACES | QUESTIONS)[place]
    with monkeypatch.context() as patched:
        patched.setattr(where, call, fails(error))
        with pytest.raises(OSError, match=os.strerror(error)):
            work(case)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("error", [errno.EIO, errno.EUCLEAN, errno.EROFS])
def test_a_failed_disk_is_believed_at_once(
    case: Case, monkeypatch: pytest.MonkeyPatch, place: str, error: int
) -> None:
    """EROFS: a file system that met damage lets nobody write any more."""
    refuse(case, monkeypatch, place, error)
    assert case.journal.failures == [error]
    of_the_file = place in ("write", "fsync", "fdatasync", "open", "setxattr", "removexattr")
    path = case.path if of_the_file or place == "setuid" else case.path.parent
    assert case.journal.failed == [f"{path}: {os.strerror(error)}"]


@pytest.mark.parametrize("place", [place for place in PLACES if "sync" not in place])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EEXIST, errno.EPERM])
def test_what_a_sound_disk_refuses_is_no_failure(
    case: Case, monkeypatch: pytest.MonkeyPatch, place: str, error: int
) -> None:
    refuse(case, monkeypatch, place, error)
    assert case.journal.failures == []


@pytest.mark.parametrize("place", QUESTIONS)
@pytest.mark.parametrize("error", [errno.EIO, errno.EUCLEAN, errno.EBADMSG])
def test_a_disk_that_does_not_tell_has_failed(
    case: Case, monkeypatch: pytest.MonkeyPatch, place: str, error: int
) -> None:
    refuse(case, monkeypatch, place, error)
    assert case.journal.failures == [error]


@pytest.mark.parametrize("place", [place for place in QUESTIONS if place != "inherited"])
@pytest.mark.parametrize(
    "error", [errno.EACCES, errno.ENAMETOOLONG, errno.ELOOP, errno.EDQUOT, errno.EMFILE]
)
def test_what_a_sound_disk_does_not_tell_is_no_failure(
    case: Case, monkeypatch: pytest.MonkeyPatch, place: str, error: int
) -> None:
    refuse(case, monkeypatch, place, error)
    assert case.journal.failures == []


def test_what_is_not_there_is_no_failure(case: Case) -> None:
    assert case.names.lookup(case.above(b"", b"none")) == case.names._nowhere
    case.path.unlink()
    case.volume.nodes._close(case.node)
    with pytest.raises(OSError, match="without a known name"):
        case.files.open(case.opening(os.O_RDONLY))
    assert case.journal.failures == []


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR])
@pytest.mark.parametrize("error", [errno.EIO, errno.EUCLEAN, errno.EMFILE])
def test_an_inode_whose_descriptor_was_closed_fails_as_the_disk_does(
    case: Case, monkeypatch: pytest.MonkeyPatch, flags: int, error: int
) -> None:
    case.volume.nodes._close(case.node)
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", fails(error))
        with pytest.raises(OSError, match=os.strerror(error)):
            case.files.open(case.opening(flags))
    assert case.journal.failures == [error] * (error != errno.EMFILE)


@pytest.mark.parametrize("cached", [False, True])
def test_a_write_that_failed_half_way_is_believed_once(
    case: Case, monkeypatch: pytest.MonkeyPatch, *, cached: bool
) -> None:
    def half(fd: int, data: memoryview, offset: int, write: Any = os.pwrite) -> int:
        if offset:
            raise OSError(errno.EIO, "Input/output error")
        return int(write(fd, data[:4_096], offset))

    monkeypatch.setattr(os, "pwrite", half)
    case.volume.writeback, case.volume.each = False, True
    request = case.writing(bytes(8_192), protocol.WRITE_CACHE if cached else 0)
    if cached:
        with pytest.raises(OSError, match="Input/output"):
            case.files.write(request)
    else:
        case.files.write(request)
    assert case.journal.failures == [errno.EIO]


def test_an_attribute_that_is_not_there_is_no_failure(case: Case) -> None:
    replace, size = protocol.XATTR_IN.pack(0, 2), bytes(8)
    for work, body in (
        (case.attributes.setxattr, replace),
        (case.attributes.removexattr, b""),
        (case.attributes.getxattr, size),
    ):
        with pytest.raises(OSError, match="No data available"):
            work(case.request(body + b"user.none\0"))
    assert case.journal.failures == []


def test_bytes_are_handed_over_although_the_setuid_bit_cannot_be_taken_away(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "chmod", fails(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        case.files.write(case.writing(b"other", KILL_SETUID))
    assert case.path.read_text() == "othernt"
    assert [type(one) for one in case.journal.told] == [Write]


def test_a_mapping_that_is_taken_in_part_fails_its_flush(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the mode `each`, too, the kernel writes mappings back, and believes a short answer."""
    write, calls = os.pwrite, []

    def half(fd: int, data: memoryview, offset: int) -> int:
        calls.append(offset)
        if len(calls) % 2 == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[:4_096], offset)

    monkeypatch.setattr(os, "pwrite", half)
    case.volume.writeback, case.volume.each = False, True
    with pytest.raises(OSError, match="No space left"):
        case.files.write(case.writing(bytes(8_192), protocol.WRITE_CACHE))
    short = case.files.write(case.writing(bytes(8_192)))
    assert isinstance(short, Deferred), "an application hears how much of its own write there is"
    assert short.body == protocol.WRITTEN.pack(4_096, 0)
    assert [one.length for one in case.journal.told] == [4_096, 4_096]


def test_what_there_was_room_for_is_handed_over(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(fd: int, _mode: int, _offset: int, length: int) -> None:
        os.ftruncate(fd, length // 2)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(libc, "fallocate", half)
    body = protocol.FALLOCATE_IN.pack(case.handle, 0, 8_192, 0)
    with pytest.raises(OSError, match="No space left"):
        Files(case.volume, case.names).fallocate(case.request(body))
    told = [(one.valid, one.size) for one in case.journal.told if isinstance(one, SetAttr)]
    assert told == [(SET_SIZE, 4_096)]


def test_a_new_size_is_handed_over_although_the_time_cannot_be_set(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libc, "set_times", fails(errno.ENOSPC))
    body = protocol.SETATTR_IN.pack(SET_SIZE | SET_MTIME, 0, 0, 3, *[0] * 12)
    with pytest.raises(OSError, match="No space left"):
        Attributes(case.volume).setattr(case.request(body))
    assert [one.size for one in case.journal.told] == [3]


def test_a_name_is_handed_over_although_it_cannot_be_read(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(case.volume, "status", fails(errno.EIO))
    body = protocol.LONG.pack(case.node.number) + b"other\0"
    with pytest.raises(OSError, match="Input/output"):
        case.names.link(case.request(body, ROOT))
    assert [type(one) for one in case.journal.told] == [Link]


def test_attributes_that_cannot_be_read_are_not_held_to_be_gone(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = inventory.open_directory(os.fsencode(case.path.parent))
    os.setxattr(case.path, "user.colour", b"blue")
    with monkeypatch.context() as patched:
        patched.setattr(os, "getxattr", fails(errno.EIO))
        with pytest.raises(OSError, match="Input/output"):
            inventory.entry(folder, b"file")
    with monkeypatch.context() as patched:
        patched.setattr(os, "getxattr", fails(errno.ENODATA))
        entry = inventory.entry(folder, b"file")
        assert entry is not None
        assert entry.extra == b"", "removed in between"
    os.close(folder)


def test_a_link_that_cannot_be_read_is_not_held_to_be_none(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = case.path.with_name("link")
    link.symlink_to("somewhere")
    node, _ = case.volume.entry(case.volume.nodes.root, b"link", link.lstat())
    folder = inventory.open_directory(os.fsencode(link.parent))
    with monkeypatch.context() as patched:
        patched.setattr(os, "readlink", fails(errno.EIO))
        with pytest.raises(OSError, match="Input/output"):
            case.volume.introductions(node.number)
        assert case.journal.failures == [errno.EIO]
        with pytest.raises(OSError, match="Input/output"):
            inventory.target(folder, b"link")
    assert case.volume.introductions(node.number) is not None
    assert inventory.target(folder, b"file") == b"", "it became a file in between"
    os.close(folder)
