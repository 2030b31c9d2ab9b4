"""What is on the disk is handed over, also when the request fails half way."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.actors.replicator import inventory, libc
from mirrorfarm.actors.replicator.fuse import protocol
from mirrorfarm.actors.replicator.fuse.attributes import Attributes
from mirrorfarm.actors.replicator.fuse.files import Files
from mirrorfarm.actors.replicator.fuse.names import Names
from mirrorfarm.actors.replicator.fuse.protocol import Request
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

FLAGS = os.O_PATH | os.O_DIRECTORY


class Heard(LocalJournal):
    """Remembers what it was handed."""

    def __init__(self) -> None:
        self.told: list[Any] = []

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
        self.node, _ = self.volume.entry(self.volume.nodes.root, b"file", self.path.stat())
        self.handle = self.volume.add_handle(Handle(os.open(self.path, os.O_RDWR), self.node, True))

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


def test_bytes_are_handed_over_although_the_setuid_bit_cannot_be_taken_away(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.path.chmod(0o4755)
    monkeypatch.setattr(os, "chmod", fails(errno.ENOSPC))
    body = protocol.WRITE_IN.pack(case.handle, 0, 5, protocol.WRITE_KILL_SUIDGID)
    with pytest.raises(OSError, match="No space left"):
        Files(case.volume, case.names).write(case.request(body.ljust(40, b"\0") + b"other"))
    assert case.path.read_text() == "othernt"
    assert [type(one) for one in case.journal.told] == [Write]


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
        with pytest.raises(OSError, match="Input/output"):
            inventory.target(folder, b"link")
    assert case.volume.introductions(node.number) is not None
    assert inventory.target(folder, b"file") == b"", "it became a file in between"
    os.close(folder)
