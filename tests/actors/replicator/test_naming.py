"""Directories that change, move or go while a copy is at them."""

import errno
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import cast

import pytest

from mirrorfarm.actors.replicator import inventory
from mirrorfarm.actors.replicator.asking import Asker
from mirrorfarm.actors.replicator.carrier import Carrier
from mirrorfarm.actors.replicator.changes import Change
from mirrorfarm.actors.replicator.exclusions import Exclusions
from mirrorfarm.actors.replicator.naming import Names, Place, Right
from mirrorfarm.actors.replicator.operations import ROOT, SET_MODE, Introduce, Rename, SetAttr
from mirrorfarm.actors.replicator.questions import Entry
from mirrorfarm.actors.replicator.resync import Copy
from mirrorfarm.actors.replicator.source import Source
from tests.actors.replicator.streams import Stream


class NoPlaces:
    """A disk on which nothing has a name any more."""

    lock: AbstractContextManager[object] = nullcontext()

    def introductions(self, _: int) -> tuple[Introduce, ...] | None:
        return None


class Near(Asker):
    """Asks a target that has next to nothing, and does something meanwhile."""

    def __init__(self, source: Source, carrier: Carrier) -> None:
        super().__init__(source)
        self.carrier = carrier
        self.entries: dict[bytes, Entry] = {}

    def list_directory(self, directory: int, node: int) -> tuple[Entry, dict[bytes, Entry]]:
        if not self.carrier.knows(directory, node):
            raise OSError(errno.ESTALE, "the target would take that for a failed disk")
        self.carrier.change(SetAttr(directory, node, SET_MODE, 0o40700))
        return Entry(b".", 1, 0o40755, 0, 0, 2, 0, 0, 0, b""), self.entries


class Copying:
    """A copy of one directory."""

    def __init__(self, root: Path, stream: Stream | None = None) -> None:
        self.root = inventory.open_directory(os.fsencode(root))
        source = cast(Source, stream or Stream())
        self.carrier = Carrier(held=lambda: None, lost=lambda _error, _where: None)
        self.carrier.open(source)
        self.carrier.attach(0, NoPlaces())
        self.asker = Near(source, self.carrier)
        self.names = Names(self.carrier, self.asker, [self.root], [Exclusions()])

    def place(self, name: bytes, node: int, *only: int) -> Place:
        step = Introduce(0, node, ROOT, name, 0o40755)
        return Place(0, (step,), False, frozenset(only))


@pytest.fixture
def copying(tmp_path: Path) -> Iterator[Copying]:
    one = Copying(tmp_path)
    yield one
    os.close(one.root)


def test_a_directory_whose_attributes_change_all_the_time_gets_its_names(
    copying: Copying, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("content")
    right = copying.names.put_right(Place(0, (), True), copying.root)
    assert right.created == {(tmp_path / "file").stat().st_ino}


def test_a_directory_that_went_before_the_target_heard_of_it_is_not_asked_for(
    copying: Copying, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    place = copying.place(b"folder", folder.stat().st_ino)
    fd = copying.names.open(place)
    folder.rmdir()
    assert copying.names.put_right(place, fd) == Right()
    os.close(fd)


def test_a_way_that_cannot_be_read_is_not_held_to_have_moved(
    copying: Copying, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "folder").mkdir()
    place = copying.place(b"folder", (tmp_path / "folder").stat().st_ino)
    with monkeypatch.context() as patched:
        patched.setattr(inventory, "number_below", fails)
        with pytest.raises(OSError, match="Input/output"):
            copying.names.introduce(place, copying.root, [])
    (tmp_path / "folder").rmdir()
    copying.names.introduce(place, copying.root, [])


def test_what_came_into_a_whole_directory_that_moves_is_looked_for_again(
    copying: Copying,
) -> None:
    moves = copying.carrier.moves
    copy = Copy(copying.carrier, copying.asker, [copying.root], None, [Exclusions()])
    moves.copied((0, 5))
    assert copy._walk([copying.place(b"moved away", 5)]), "all of it travels in the stream"
    assert not copy._walk([copying.place(b"moved away", 5, 6)]), "6 is not whole"


def test_what_takes_the_name_of_what_the_copy_made_is_not_held_to_be_empty(
    copying: Copying, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made").write_text("new")
    (tmp_path / "old").write_text("old")
    old, made = ((tmp_path / name).stat().st_ino for name in ("old", "made"))
    copy = Copy(copying.carrier, copying.asker, [copying.root], None, [Exclusions()])
    there = Entry(b"old", 99, 0o100644, 0, 0, 1, 3, 0, 0, b"")
    copying.asker.entries = {b"old": there}
    entries = copy._names.entries
    copied: list[tuple[dict[bytes, Entry | None], set[int]]] = []

    def move_and_list(place: Place, fd: int) -> list[tuple[bytes, int, bool]]:
        (tmp_path / "old").rename(tmp_path / "made")
        copying.carrier.namespace(Rename(0, ROOT, b"old", ROOT, b"made"), (old, made))
        return entries(place, fd)

    def note(
        _directory: int,
        _fd: int,
        files: list[tuple[Entry, Entry | None, Change]],
        created: set[int],
    ) -> None:
        copied.append(({entry.name: there for entry, there, _ in files}, created))

    monkeypatch.setattr(copy._names, "entries", move_and_list)
    monkeypatch.setattr(copy.contents, "copy", note)
    monkeypatch.setattr(copy.contents, "attributes", lambda *_: 0)
    copy._visit(Place(0, (), True), copying.root)
    assert copied == [({b"made": None}, {made})], "and what is there is another one's"
    assert old != made


class Slow(Stream):
    """Takes what was sent only when somebody waits for that."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = self.most = 0

    @property
    def acked(self) -> int:
        return self.taken

    def take(self, _seconds: float) -> None:
        self.most = max(self.most, self.count - self.taken)
        self.taken = self.count


@pytest.mark.parametrize("there", [False, True])
def test_names_are_brought_no_faster_than_the_target_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, there: bool
) -> None:
    """Else the modifications of the application would wait behind all of a directory."""
    for number in range(1_000):
        (tmp_path / f"file{number}").touch()
    stream = Slow()
    copying = Copying(tmp_path, stream)
    monkeypatch.setattr(copying.asker, "wait", stream.take)
    place = Place(0, (), True)
    names = inventory.names(copying.root)
    entries = [one for one in (inventory.entry(copying.root, name) for name in names) if one]
    if there:
        copying.names.introduce(place, copying.root, entries)
    else:
        empty: tuple[None, dict[bytes, Entry]] = (None, {})
        monkeypatch.setattr(copying.asker, "list_directory", lambda *_: empty)
        assert len(copying.names.put_right(place, copying.root).created) == 1_000
    assert stream.count >= 1_000
    assert 0 < stream.most < 800
    os.close(copying.root)
