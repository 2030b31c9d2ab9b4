"""A secondary's disk that does not tell: nothing is held to be gone or removed for that."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mirrorfarm.actors.replicator import frames, libc, operations, questions
from mirrorfarm.actors.replicator.applier import Applier
from mirrorfarm.actors.replicator.follower import Follower
from mirrorfarm.actors.replicator.operations import (
    ROOT,
    SET_MODE,
    Create,
    Fsync,
    Introduce,
    Link,
    Rename,
    Rmdir,
    SetAttr,
    Unlink,
    Write,
)
from mirrorfarm.actors.replicator.quarantine import Quarantine
from mirrorfarm.actors.replicator.target import Target
from mirrorfarm.actors.replicator.wire import Link as Connection
from mirrorfarm.actors.replicator.wire import StreamKeys
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.oserrors import located, told
from tests.actors.replicator.quarantined import DIRECTORY, FILE, Copied
from tests.actors.replicator.test_stream import Later, Paper


class Case:
    """A secondary in the middle of a copy, which knows one file in a directory, under two names."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "folder").mkdir()
        (root / "folder/file").write_text("content")
        os.link(root / "folder/file", root / "second")
        self.reports: list[str] = []
        self.applier = Applier([bytes(root)])
        self.follower = Follower(
            self.applier, lambda *_: None, lambda *_: None, self.reports.append
        )
        self.backing = self.applier.backing(0)
        self.begin()

    def begin(self, aside: Quarantine | None = None) -> None:
        self.follower.aside = aside
        self.follower.begin(1, 1)
        self.apply(Introduce(0, 5, ROOT, b"folder", DIRECTORY))
        self.apply(Introduce(0, 6, 5, b"file", FILE))

    def apply(self, operation: operations.ANY_OPERATION, payload: bytes = b"") -> None:
        self.follower.apply(operations.encode(operation), payload)

    def ask(self, question: questions.ANY_QUESTION) -> Any:
        answer = self.follower.copy(msgspec.msgpack.encode(question), b"")
        return answer() if callable(answer) else answer

    def close_inodes(self) -> None:
        """As when too many are open: each is opened again by its name."""
        for number in (5, 6):
            self.backing._close(self.backing.get(number))


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    made = Case(tmp_path)
    yield made
    made.applier.close()


def fails(error: int, works: Callable[..., Any], times: int = 1_000, at: bytes = b"") -> Any:
    """Fail some times, if a file has this name, as the system call does."""
    left = [times]

    def failing(*arguments: Any, **more: Any) -> Any:
        if left[0] and (not at or arguments[0] == at):
            left[0] -= 1
            named = arguments[0] if arguments and not isinstance(arguments[0], int) else None
            raise OSError(error, os.strerror(error), named)
        return works(*arguments, **more)

    return failing


WORK: dict[str, tuple[Any, str, bytes, Callable[[Case], Any], str]] = {
    "write": (os, "pwrite", b"", lambda case: case.apply(Write(0, 6, 0, 3), b"new"), "folder/file"),
    "chmod": (os, "chmod", b"", lambda case: case.apply(SetAttr(0, 6, SET_MODE)), "folder/file"),
    "open": (
        os,
        "open",
        b"file",
        lambda case: case.apply(Write(0, 6, 0, 3), b"new"),
        "folder/file",
    ),
    "above": (os, "open", b"folder", lambda case: case.apply(Write(0, 6, 0, 3), b"new"), "folder"),
    "introduce": (
        os,
        "open",
        b"second",
        lambda case: case.apply(Introduce(0, 6, ROOT, b"second", FILE)),
        "second",
    ),
    "create": (
        os,
        "open",
        b"new",
        lambda case: case.apply(Create(0, 7, 5, b"new", FILE, 0, 0, 0)),
        "folder/new",
    ),
    "link": (os, "link", b"", lambda case: case.apply(Link(0, 6, 5, b"new")), ""),
    "unlink": (
        os,
        "unlink",
        b"file",
        lambda case: case.apply(Unlink(0, 5, b"file")),
        "folder/file",
    ),
    "rmdir": (os, "rmdir", b"folder", lambda case: case.apply(Rmdir(0, ROOT, b"folder")), "folder"),
    "pinned": (
        os,
        "open",
        b"file",
        lambda case: case.apply(Unlink(0, 5, b"file")),
        "folder/file",
    ),
    "rename": (
        libc,
        "rename",
        b"",
        lambda case: case.apply(Rename(0, 5, b"file", 5, b"new")),
        "folder",
    ),
    "list": (os, "listdir", b"", lambda case: case.ask(questions.List(1, 0, 5)), "folder"),
    "stat": (os, "stat", b"file", lambda case: case.ask(questions.List(1, 0, 5)), "folder/file"),
    "xattrs": (os, "listxattr", b"", lambda case: case.ask(questions.List(1, 0, 5)), "folder"),
    "owner": (
        os,
        "open",
        b"file",
        lambda case: case.ask(questions.List(1, 0, ROOT)),
        "folder/file",
    ),
    "hash": (
        os,
        "pread",
        b"",
        lambda case: case.ask(questions.Hashes(1, 0, [questions.HashItem(6, 0, 1)])),
        "folder/file",
    ),
    "names": (
        os,
        "listxattr",
        b"",
        lambda case: case.ask(questions.Attributes(1, 0, 6)),
        "folder/file",
    ),
}


@pytest.mark.parametrize("place", WORK)
@pytest.mark.parametrize("error", [errno.EIO, errno.EUCLEAN])
def test_a_disk_that_fails_once_is_told_with_path_and_cure(
    case: Case, monkeypatch: pytest.MonkeyPatch, place: str, error: int
) -> None:
    where, call, at, work, path = WORK[place]
    case.close_inodes()
    with monkeypatch.context() as patched:
        patched.setattr(where, call, fails(error, getattr(where, call), 1, at))
        with pytest.raises(OSError, match=os.strerror(error)) as refused:
            work(case)
    assert refused.value.errno == error
    if path:
        assert case.reports == [told(OSError(error, os.strerror(error), case.root / path))]
    assert (case.root / "folder/file").read_text() == "content"


@pytest.mark.parametrize("call", ["fsync", "fdatasync"])
def test_a_file_that_cannot_be_flushed_is_named(
    case: Case, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    record = operations.encode(Fsync(0, 6, call == "fdatasync"))
    flush = case.follower.apply(record, b"")
    assert flush is not None
    monkeypatch.setattr(os, call, fails(errno.EIO, os.fsync))
    with pytest.raises(OSError, match="Input/output error") as refused:
        flush()
    assert located(refused.value) == f"{case.root}/folder/file: Input/output error"


def test_what_the_peer_and_this_node_are_told_has_the_path(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    told_here: list[tuple[int, str]] = []
    case.follower._failed = lambda *fault: told_here.append(fault)
    link = Connection(None, "", StreamKeys(), SECOND_NS)  # type: ignore[arg-type]
    paper = Paper()
    target = Target(link, case.follower, wire=paper, flushers=Later())
    target.accept(1, 1)
    hello = frames.pack(frames.HELLO, (1, 1, 5), 0)
    target.take([[b"peer", hello, frames.pack_numbers([1, 0]), b"[]"]])
    case.apply(Introduce(0, 5, ROOT, b"folder", DIRECTORY))
    case.apply(Introduce(0, 6, 5, b"file", FILE))
    monkeypatch.setattr(os, "pwrite", fails(errno.EIO, os.pwrite))
    record = operations.encode(Write(0, 6, 0, 3))
    target.take([[b"peer", frames.pack(frames.OP, (1, 1, 5), 1), record, b"new"]])
    text = f"{case.root}/folder/file: Input/output error"
    assert told_here == [(errno.EIO, text)]
    assert f"{text} (EIO)".encode() in paper.sent[-1]


def test_what_moved_or_went_is_no_failed_disk(case: Case) -> None:
    case.close_inodes()
    (case.root / "folder").rename(case.root / "elsewhere")
    with pytest.raises(OSError, match="is not where it was"):
        case.apply(Write(0, 6, 0, 3), b"new")
    answer = case.ask(questions.List(1, 0, ROOT))
    assert b"elsewhere" in answer[1]
    assert case.reports == []


def test_a_full_disk_is_no_failed_one(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", fails(errno.ENOSPC, os.pwrite))
        with pytest.raises(OSError, match="No space left"):
            case.apply(Write(0, 6, 0, 3), b"new")
    assert case.reports == [], "nor is it told as one"


def test_what_cannot_be_looked_at_is_not_kept_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what an earlier file of that name was is lost."""
    copied = Copied(tmp_path)
    (copied.folder / "0").mkdir()
    (copied.folder / "0/letter").write_text("kept before")
    (copied.root / "letter").write_text("dear Alice")
    copied.introduce(7, b"letter")
    kept = copied.folder / "0/letter"
    with monkeypatch.context() as patched:
        for call in ("stat", "lstat"):
            works = getattr(os, call)

            def failing(path: Any, *more: Any, works: Any = works, **others: Any) -> Any:
                if path in (kept, str(kept)):
                    raise OSError(errno.EIO, "Input/output error", str(kept))
                return works(path, *more, **others)

            patched.setattr(os, call, failing)
        with pytest.raises(OSError, match="Input/output"):
            copied.write(7, b"BOB", 5)
    assert kept.read_text() == "kept before"
    assert (copied.root / "letter").read_text() == "dear Alice"


@pytest.mark.parametrize("call", ["write", "pwrite", "fdatasync", "fsync", "ftruncate"])
def test_a_failed_disk_of_what_is_kept_is_not_taken_for_that_of_the_data(
    case: Case, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    folder = tmp_path_factory.mktemp("aside")
    with contextlib.closing(Quarantine(folder)) as aside, monkeypatch.context() as patched:
        case.begin(aside)
        patched.setattr(os, call, fails(errno.EIO, getattr(os, call)))
        with pytest.raises(OSError, match="Input/output"):
            case.apply(Write(0, 6, 0, 3), b"new")
    assert len(case.reports) == 1
    assert case.reports[0].startswith(f"{folder}/")
