"""What the journal does with a modification that it cannot send, and what a copy tells it."""

import errno
import os
import threading
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from mirrorfarm.actors.replicator import inventory
from mirrorfarm.actors.replicator.asking import Asker, SessionLost
from mirrorfarm.actors.replicator.carrier import Carrier
from mirrorfarm.actors.replicator.changes import Change
from mirrorfarm.actors.replicator.contents import Contents
from mirrorfarm.actors.replicator.operations import ROOT, Introduce, Unlink, Write
from mirrorfarm.actors.replicator.questions import HashItem
from mirrorfarm.actors.replicator.source import Source
from mirrorfarm.limits import ZONE_BYTES
from tests.actors.replicator.streams import Stream


class LostPlaces:
    """A disk that does not tell where anything is."""

    lock: AbstractContextManager[object] = nullcontext()

    def introductions(self, _: int) -> tuple[Introduce, ...] | None:
        raise OSError(errno.EMFILE, "Too many open files")


class Leads:
    """A carrier in a session."""

    def __init__(self) -> None:
        self.carrier = Carrier(held=lambda: None, lost=lambda _error, _where: None)
        self.stream = Stream()
        self.source = cast(Source, self.stream)
        self.carrier.open(self.source)
        self.carrier.attach(0, LostPlaces())


class Ended(Asker):
    """What asks in a session that ended just after the last answer."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.end()

    def digests(self, directory: int, items: list[HashItem]) -> list[list[bytes]]:
        del directory
        return [[inventory.digest(inventory.ZEROS)] * item.count for item in items]


def test_what_cannot_be_sent_is_marked_and_ends_the_session() -> None:
    leads = Leads()
    ticket = leads.carrier.write(Write(0, 77, 65_536, 4), memoryview(b"data"))
    assert list(leads.carrier.marks.current.nodes[0, 77].marked()) == [1]
    assert "Too many open files" in leads.stream.reason
    answers: list[int] = []
    leads.carrier.gate.set("both")
    leads.carrier.when_safe(ticket, answers.append)
    assert not answers, "the secondary does not have it"
    leads.carrier.close(leads.source)
    leads.carrier.gate.set("self")
    assert answers == [0]


def test_names_that_cannot_be_sent_are_marked_too() -> None:
    leads = Leads()
    leads.carrier.namespace(Unlink(0, 5, b"gone"), (77,))
    assert leads.carrier.marks.current.nodes[0, 5].names
    assert leads.stream.reason


@pytest.mark.parametrize("became", ["pipe", "symbolic link", "socket", "directory", "nothing"])
def test_a_file_that_became_something_else_is_not_waited_for(tmp_path: Path, became: str) -> None:
    leads = Leads()
    (tmp_path / "file").write_text("content")
    fd = inventory.open_directory(os.fsencode(tmp_path))
    entry = inventory.entry(fd, b"file")
    assert entry is not None
    (tmp_path / "file").rename(tmp_path / "moved")
    match became:
        case "pipe":
            os.mkfifo(tmp_path / "file")
        case "symbolic link":
            (tmp_path / "file").symlink_to("moved")
        case "socket":
            os.mknod(tmp_path / "file", 0o140644)
        case "directory":
            (tmp_path / "file").mkdir()
        case _:
            pass
    introduce = Introduce(0, entry.inode, ROOT, b"file", entry.mode)
    leads.carrier.introduce(leads.source, [introduce])
    contents = Contents(leads.carrier, Asker(leads.source))

    def copy() -> None:
        contents.copy(0, fd, [(entry, None, Change(whole=True))], {entry.inode})

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive(), "it waits for a writer of the pipe"
    assert contents.files_done == 1
    os.close(fd)


@pytest.mark.parametrize("created", [True, False])
def test_a_file_is_not_read_to_its_end_for_a_session_that_is_over(
    tmp_path: Path, created: bool
) -> None:
    leads = Leads()
    (tmp_path / "file").write_bytes(bytes(1_000_000))
    fd = inventory.open_directory(os.fsencode(tmp_path))
    entry = inventory.entry(fd, b"file")
    assert entry is not None
    contents = Contents(leads.carrier, Ended(leads.source))
    batch = [(entry, HashItem(entry.inode, 0, 15))]
    work = (
        partial(contents._send_file, entry=entry)
        if created
        else partial(contents._compare, batch=batch)
    )
    with pytest.raises(SessionLost):
        work(0, fd)
    os.close(fd)
    assert contents.bytes_done <= ZONE_BYTES
