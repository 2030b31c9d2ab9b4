"""The secondary's worker behind a real target: whatever goes wrong there is told."""

import contextlib
import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from mirrorfarm.actors.replicator import frames, inventory, questions
from mirrorfarm.actors.replicator.applier import Applier
from mirrorfarm.actors.replicator.asking import Asker
from mirrorfarm.actors.replicator.follower import Follower
from mirrorfarm.actors.replicator.operations import ROOT, Fsync, Introduce, Rmdir, Unlink, encode
from mirrorfarm.actors.replicator.quarantine import Quarantine
from mirrorfarm.actors.replicator.source import Source
from mirrorfarm.actors.replicator.target import Target
from mirrorfarm.actors.replicator.wire import Link, StreamKeys


def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class Listener:
    def __init__(self) -> None:
        self.broken: list[str] = []
        self.answers: list[bytes] = []
        self.asker: Asker | None = None

    def session_up(self) -> None:
        """Polled for."""

    acknowledged = session_up

    def session_broken(self, reason: str) -> None:
        self.broken.append(reason)

    def answered(self, question: int, record: bytes, payload: bytes) -> None:
        self.answers.append(record)
        if self.asker is not None:
            self.asker.answered(question, record)


class Case:
    """A target of one directory."""

    def __init__(self, root: Path) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            endpoint = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        self.link = Link(self.context, endpoint, StreamKeys(), 1_000_000_000)
        self.failures: list[tuple[int, str]] = []
        self.applier = Applier([bytes(root)])
        self.follower = Follower(
            self.applier, lambda *_: None, lambda *what: self.failures.append(what)
        )
        self.target = Target(self.link, self.follower)
        self.applier.lives = self.target.lives
        self.sources: list[Source] = []

    def session(self, sid: int) -> tuple[Source, Listener]:
        self.target.accept(1, sid)
        listener = Listener()
        source = Source(self.link, (1, sid, 100 + sid), listener)
        source.start()
        self.sources.append(source)
        until(lambda: source.up)
        return source, listener

    def close(self) -> None:
        for source in self.sources:
            source.close()
        self.target.close()
        self.applier.close()
        self.context.destroy(0)


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    with contextlib.closing(Case(tmp_path)) as one:
        yield one


def ask(source: Source, question: Any) -> None:
    source.send(frames.COPY, msgspec.msgpack.encode(question))


@pytest.mark.parametrize(
    "question",
    [
        questions.List(1, 1, ROOT),
        questions.Hashes(1, 1, []),
        questions.Attributes(1, 1, ROOT),
    ],
)
def test_a_question_of_a_directory_that_is_not_replicated_here_ends_the_session(
    case: Case, question: Any
) -> None:
    source, listener = case.session(1)
    ask(source, question)
    until(lambda: listener.broken)
    assert "no directory 1 (ESTALE)" in listener.broken[0]
    until(lambda: [error for error, _ in case.failures] == [errno.ESTALE])
    source, listener = case.session(2)
    ask(source, questions.List(1, 0, ROOT))
    until(lambda: listener.answers)


@pytest.mark.parametrize("place", ["flusher", "backing", "sync_all"])
def test_a_fault_of_our_own_is_told_with_its_text(
    case: Case, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_rules(*_: Any) -> None:
        raise KeyError("never")

    source, listener = case.session(1)
    with monkeypatch.context() as patch:
        patch.setattr(case.applier, place, break_rules)
        if place == "flusher":
            source.send(frames.OP, encode(Fsync(0, ROOT, True)), flags=frames.WITH_ANSWER)
        else:
            ask(source, questions.List(1, 0, ROOT) if place == "backing" else questions.Flush(1))
        until(lambda: listener.broken)
        assert "KeyError('never') (EIO)" in listener.broken[0]
        until(lambda: case.failures == [(errno.EIO, "KeyError('never')")])
    source, listener = case.session(2)
    ask(source, questions.Flush(1))
    until(lambda: listener.answers)


def slowed(work: Callable[..., Any]) -> Callable[..., Any]:
    def slow(*arguments: Any, **more: Any) -> Any:
        time.sleep(0.01)
        return work(*arguments, **more)

    return slow


def test_a_slow_disk_is_waited_for(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that has to seek for each of some hundred files: no answer takes a second."""
    names = [b"file%03d" % number for number in range(200)]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(name)
    (tmp_path / "large").write_bytes(bytes(range(250)) * 65_536)
    source, listener = case.session(1)
    listener.asker = asker = Asker(source)
    items, want = [], []
    folder = inventory.open_directory(os.fsencode(tmp_path))
    for number, name in enumerate([*names, b"large"]):
        source.send(frames.OP, encode(Introduce(0, 1_000 + number, ROOT, name, 0o100644)))
        file = os.open(name, os.O_RDONLY, dir_fd=folder)
        zones = -(-os.fstat(file).st_size // 65_536)
        items.append(questions.HashItem(1_000 + number, 0, zones))
        content = inventory.Zones(file)
        want.append([inventory.digest(content.read(zone)) for zone in range(zones)])
        os.close(file)
    os.close(folder)
    monkeypatch.setattr(inventory, "digest", slowed(inventory.digest))
    monkeypatch.setattr(inventory, "entry", slowed(inventory.entry))
    assert sorted(asker.list_directory(0, ROOT)[1]) == [*names, b"large"]
    assert asker.digests(0, items) == want
    assert not listener.broken


def test_one_order_that_takes_long_ends_no_copy(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two seconds for all that lies in a directory which the primary has no more."""
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    for number in range(200):
        (tree / ("deep" if number % 2 else "") / f"file{number}").touch()
    source, listener = case.session(1)
    source.patient = True
    monkeypatch.setattr(os, "unlink", slowed(os.unlink))
    done = source.send(frames.OP, encode(Rmdir(0, ROOT, b"tree")))
    until(lambda: listener.broken or source.is_safe(done), 60)
    assert not listener.broken
    assert not tree.exists()


def test_a_large_file_that_is_set_aside_ends_no_copy(
    case: Case, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: Any
) -> None:
    content = bytes(range(250)) * 52_429  # Of 200 zones.
    (tmp_path / "large").write_bytes(content)
    folder = tmp_path_factory.mktemp("aside")
    case.follower.aside = Quarantine(folder)
    source, listener = case.session(1)
    source.patient = True
    monkeypatch.setattr(os, "pread", slowed(os.pread))
    done = source.send(frames.OP, encode(Unlink(0, ROOT, b"large")))
    until(lambda: listener.broken or source.is_safe(done), 60)
    assert not listener.broken
    assert (folder / "0/large").read_bytes() == content
    case.follower.aside.close()


def test_a_disk_that_hangs_in_the_midst_of_an_order_is_not_waited_for(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = threading.Event()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").touch()
    source, listener = case.session(1)
    source.patient = True
    monkeypatch.setattr(os, "unlink", lambda *_, **__: hangs.wait(60))
    source.send(frames.OP, encode(Rmdir(0, ROOT, b"tree")))
    until(lambda: listener.broken, 60)
    hangs.set()
    assert "silent" in listener.broken[0] or "later" in listener.broken[0]
