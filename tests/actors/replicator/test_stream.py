"""Source and target over a real socket, through a relay that can be cut."""

import contextlib
import errno
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from mirrorfarm.actors.replicator import frames
from mirrorfarm.actors.replicator.source import Source
from mirrorfarm.actors.replicator.target import Answer, Flush, Target
from mirrorfarm.actors.replicator.wire import Doorkeeper, Link, StreamKeys
from mirrorfarm.errors import FrameInvalid

TIMEOUT_NS = 1_000_000_000
SUBJECT = ("ledger", "/a", "/b")


def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class Relay:
    """Forwards connections; `cut` ends them all, and none is accepted until `mend`."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._whole = True
        self._ended = False
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended:
            ends = {a: b for pair in self._pairs for a, b in (pair, pair[::-1])}
            ready, _, _ = select.select([self._listener, *ends], [], [], 0.02)
            if not self._whole:
                self._drop()
                continue
            for one in ready:
                if one is self._listener:
                    here, _ = self._listener.accept()
                    there = socket.create_connection(("127.0.0.1", self._to))
                    self._pairs.append((here, there))
                    continue
                try:
                    data = one.recv(65_536)
                    if not data:
                        raise OSError
                    ends[one].sendall(data)
                except OSError:
                    self._drop()
                    break
        self._drop()
        self._listener.close()

    def _drop(self) -> None:
        for pair in self._pairs:
            for one in pair:
                one.close()
        self._pairs = []

    def cut(self) -> None:
        self._whole = False
        until(lambda: not self._pairs)

    def mend(self) -> None:
        self._whole = True

    def close(self) -> None:
        self._ended = True
        self._thread.join(5)


class Worker:
    def __init__(self) -> None:
        self.applied: list[bytes] = []
        self.failures: list[int] = []
        self.refuse = b""
        self.flush_gate = threading.Event()
        self.flush_gate.set()
        self.flush_fault = 0
        self.begun: list[tuple[int, int]] = []

    def begin(self, term: int, sid: int) -> None:
        self.begun.append((term, sid))

    def apply(self, record: bytes, payload: bytes) -> Flush | None:
        if record == self.refuse:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.applied.append(record + payload)

        fault = self.flush_fault

        def flush() -> None:
            self.flush_gate.wait(5)
            if fault:
                raise OSError(fault, "of a flush")

        return flush

    def copy(self, record: bytes, payload: bytes) -> Answer | Callable[[], Answer] | None:
        return 7, b"answer to " + record, payload

    def copied(self, answer: Answer) -> None:
        """Nothing is slow here."""

    def failed(self, error: int, text: str) -> None:
        self.failures.append(error)


class Listener:
    def __init__(self) -> None:
        self.up = threading.Event()
        self.broken: list[str] = []
        self.answers: list[bytes] = []

    def session_up(self) -> None:
        self.up.set()

    def acknowledged(self) -> None:
        """Polled for."""

    def session_broken(self, reason: str) -> None:
        self.broken.append(reason)

    def answered(self, question: int, record: bytes, payload: bytes) -> None:
        self.answers.append(record)


class Case:
    """A target behind a relay, and sources."""

    def __init__(self) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        self.keys = [zmq.curve_keypair() for _ in range(3)]
        self.doorkeeper = Doorkeeper(self.context, lambda key: key == self.keys[0][0])
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.worker = Worker()
        self.target = Target(
            Link(
                self.context,
                f"tcp://127.0.0.1:{self.port}",
                StreamKeys(*self.keys[1], self.keys[0][0]),
                TIMEOUT_NS,
                SUBJECT,
            ),
            self.worker,
        )
        self.relay = Relay(self.port)
        self.sources: list[Source] = []
        self.nonce = 0

    def source(
        self, term: int, sid: int, keys: int = 0, subject: tuple[str, ...] = SUBJECT
    ) -> tuple[Source, Listener]:
        self.nonce += 1
        listener = Listener()
        own = StreamKeys(*self.keys[keys], self.keys[1][0])
        endpoint = f"tcp://127.0.0.1:{self.relay.port}"
        link = Link(self.context, endpoint, own, TIMEOUT_NS, subject)
        source = Source(link, (term, sid, self.nonce), listener)
        source.start()
        self.sources.append(source)
        return source, listener

    def close(self) -> None:
        for source in self.sources:
            source.close()
        self.target.close()
        self.relay.close()
        self.doorkeeper.close()
        self.context.destroy(0)


@pytest.fixture
def case() -> Iterator[Case]:
    with contextlib.closing(Case()) as one:
        yield one


def test_what_is_sent_before_the_target_accepts_arrives_in_order(case: Case) -> None:
    source, listener = case.source(1, 1)
    sent = [source.send(frames.OP, b"%d" % n, b"x" * n) for n in range(300)]
    case.target.accept(1, 1)
    assert listener.up.wait(5)
    until(lambda: source.is_safe(sent[-1]))
    assert case.worker.applied == [b"%d" % n + b"x" * n for n in range(300)]


def test_a_cut_is_mended_without_a_loss_or_a_repetition(case: Case) -> None:
    case.target.accept(1, 1)
    source, listener = case.source(1, 1)
    number = 0
    for _ in range(3):
        for _ in range(100):
            number += 1
            source.send(frames.OP, b"%d" % number, bytes(20_000))
        case.relay.cut()
        for _ in range(100):
            number += 1
            source.send(frames.OP, b"%d" % number)
        case.relay.mend()
        until(lambda last=number: source.acked == last)  # type: ignore[misc]
    assert listener.broken == []
    assert [r.rstrip(b"\0") for r in case.worker.applied] == [
        b"%d" % n for n in range(1, number + 1)
    ]


def test_a_cut_that_lasts_breaks_the_session_once(case: Case) -> None:
    case.target.accept(1, 1)
    source, listener = case.source(1, 1)
    assert listener.up.wait(5)
    began = time.monotonic()
    case.relay.cut()
    until(lambda: listener.broken)
    assert time.monotonic() - began > 0.5, "as long as a network may take to come back"
    assert source.send(frames.OP, b"late") == 0
    assert len(listener.broken) == 1


def test_a_flush_holds_up_nothing_and_is_acknowledged_when_done(case: Case) -> None:
    case.target.accept(1, 1)
    source, _ = case.source(1, 1)
    case.worker.flush_gate.clear()
    flush = source.send(frames.OP, b"flush", flags=frames.WITH_ANSWER)
    behind = source.send(frames.OP, b"behind")
    until(lambda: source.acked >= behind)
    assert source.is_safe(behind)
    assert not source.is_safe(flush)
    case.worker.flush_gate.set()
    until(lambda: source.is_safe(flush))


def test_an_acknowledgement_that_is_late_breaks_the_session(case: Case) -> None:
    case.target.accept(1, 1)
    source, listener = case.source(1, 1)
    assert listener.up.wait(5)
    case.worker.flush_gate.clear()
    source.send(frames.OP, b"flush", flags=frames.WITH_ANSWER)
    until(lambda: listener.broken)
    case.worker.flush_gate.set()
    assert "late" in listener.broken[0]


def test_a_refusing_disk_ends_the_session_and_nothing_behind_is_acknowledged(case: Case) -> None:
    case.target.accept(1, 1)
    source, listener = case.source(1, 1)
    case.worker.refuse = b"bad"
    good = source.send(frames.OP, b"good")
    source.send(frames.OP, b"bad")
    source.send(frames.OP, b"behind")
    until(lambda: listener.broken)
    assert "ENOSPC" in listener.broken[0]
    until(lambda: case.worker.failures == [errno.ENOSPC])  # The stream is told first.
    assert case.worker.applied == [b"good"]
    assert source.acked <= good


@pytest.mark.parametrize(("fault", "believed"), [(errno.EIO, True), (errno.EBADF, False)])
def test_what_the_disk_lost_counts_also_when_the_session_is_over(
    case: Case, fault: int, believed: bool
) -> None:
    case.target.accept(1, 1)
    source, listener = case.source(1, 1)
    case.worker.flush_gate.clear()
    case.worker.flush_fault = fault
    source.send(frames.OP, b"flush", flags=frames.WITH_ANSWER)
    until(lambda: case.worker.applied)
    case.worker.flush_fault = 0
    case.target.accept(2, 1)
    until(lambda: listener.broken)
    later, next_listener = case.source(2, 1)
    assert next_listener.up.wait(5)
    case.worker.flush_gate.set()
    if believed:
        until(lambda: next_listener.broken)
    else:  # Its file was closed when the session ended.
        flush = later.send(frames.OP, b"flush", flags=frames.WITH_ANSWER)
        until(lambda: later.is_safe(flush))
    until(lambda: case.worker.failures == ([fault] if believed else []))


def test_frames_of_a_session_that_is_over_are_never_applied(case: Case) -> None:
    case.target.accept(1, 1)
    source, listener = case.source(1, 1)
    assert listener.up.wait(5)
    case.target.accept(2, 1)
    source.send(frames.OP, b"old")
    until(lambda: listener.broken)
    assert "refused" in listener.broken[0]
    assert case.worker.applied == []
    assert case.target.dropped > 0


def test_one_session_belongs_to_one_stream(case: Case) -> None:
    case.target.accept(1, 1)
    _, first = case.source(1, 1)
    assert first.up.wait(5)
    _, second = case.source(1, 1)
    until(lambda: second.broken)
    assert "another stream" in second.broken[0]
    assert first.broken == []


def test_a_target_that_forgot_is_noticed(case: Case) -> None:
    case.target.accept(1, 1)
    source, listener = case.source(1, 1)
    seq = source.send(frames.OP, b"x")
    until(lambda: source.is_safe(seq))
    case.target.accept(1, 1)
    until(lambda: listener.broken)
    assert "forgot" in listener.broken[0]


def test_a_stranger_is_not_let_in(case: Case) -> None:
    case.target.accept(1, 1)
    _, listener = case.source(1, 1, keys=2)
    until(lambda: listener.broken)
    assert not listener.up.is_set()
    assert case.doorkeeper.refused > 0


def test_questions_are_answered(case: Case) -> None:
    case.target.accept(1, 1)
    source, listener = case.source(1, 1)
    source.send(frames.COPY, b"question")
    until(lambda: listener.answers)
    assert listener.answers == [b"answer to question"]


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        (("web", "/a", "/b"), "meets the replica of ledger, not that of web"),
        (("ledger", "/b", "/a"), "is of /b, /a, the peer's of /a, /b"),
        (("ledger", "/a"), "is of /a, the peer's of /a, /b"),
        ((), "meets the replica of ledger, not that of nothing"),
    ],
)
@pytest.mark.parametrize("accepted", [(1, 1), (1, 2), (0, 0)])
def test_a_stream_of_something_else_is_refused_whatever_session_is_open(
    case: Case, subject: tuple[str, ...], reason: str, accepted: tuple[int, int]
) -> None:
    case.target.accept(*accepted)
    source, listener = case.source(1, 1, subject=subject)
    source.send(frames.OP, b"another's")
    until(lambda: listener.broken)
    assert reason in listener.broken[0]
    assert case.worker.applied == []


@pytest.mark.parametrize("told", [b"", b"{}", b"[1]", b'["a"', b"\xff"])
def test_a_stream_that_does_not_say_what_it_is_of_is_not_accepted(told: bytes) -> None:
    paper = Paper()
    link = Link(None, "", StreamKeys(), TIMEOUT_NS, SUBJECT)  # type: ignore[arg-type]
    target = Target(link, Worker(), wire=paper, flushers=Later())
    target.accept(1, 1)
    hello = frames.pack(frames.HELLO, (1, 1, 5), 0)
    target.take([[b"peer", hello, frames.pack_numbers([1, 0]), told]])
    assert paper.sent == []
    assert target.invalid == 1


class Paper:
    """A wire that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[list[bytes]] = []

    def send(self, parts: list[bytes]) -> None:
        self.sent.append(parts)

    def receive(self, count_max: int, wait_ns: int) -> list[list[bytes]]:
        return []

    def ring(self) -> None:
        """Nobody waits."""

    close = ring


class Later:
    """Flushers that work when they are told to."""

    def __init__(self) -> None:
        self.works: list[Callable[[], None]] = []

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> None:
        self.works.append(lambda: function(*arguments))

    def shutdown(self, wait: bool) -> None:
        """Take no more."""


def test_what_is_flushed_late_is_said_in_the_name_of_its_own_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paper, later = Paper(), Later()
    link = Link(None, "", StreamKeys(), TIMEOUT_NS)  # type: ignore[arg-type]
    target = Target(link, Worker(), wire=paper, flushers=later)
    pack_numbers = frames.pack_numbers

    def begin(identity: bytes, *stream: int) -> None:
        target.accept(*stream[:2])
        hello = frames.pack(frames.HELLO, stream, 0)  # type: ignore[arg-type]
        target.take([[identity, hello, pack_numbers([1, 0]), b"[]"]])

    def send(identity: bytes, *stream: int) -> None:
        op = frames.pack(frames.OP, stream, 1, frames.WITH_ANSWER)  # type: ignore[arg-type]
        target.take([[identity, op, b"flush"]])

    def overtaken(numbers: list[int]) -> bytes:
        monkeypatch.undo()
        begin(b"new", 2, 1, 9)
        send(b"new", 2, 1, 9)
        return pack_numbers(numbers)

    begin(b"old", 1, 1, 5)
    send(b"old", 1, 1, 5)
    monkeypatch.setattr(frames, "pack_numbers", overtaken)  # Between the look and the word.
    later.works[0]()
    said = [(parts[0], frames.unpack(parts[1:])[0]) for parts in paper.sent]
    durable = [(to, header[2:5]) for to, header in said if header.kind == frames.DURABLE]
    assert durable == [(b"old", (1, 1, 5))]
    assert (b"new", (2, 1, 9)) in [(to, header[2:5]) for to, header in said]
    send(b"new", 2, 1, 9)  # It asks again: nothing of its own is flushed.
    assert len([one for one in paper.sent if frames.unpack(one[1:])[0].kind == frames.DURABLE]) == 1


def test_without_a_thread_to_flush_the_session_ends(case: Case, monkeypatch: Any) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    case.target.accept(1, 1)
    source, listener = case.source(1, 1)
    monkeypatch.setattr(case.target._flushers, "submit", refuse)
    source.send(frames.OP, b"flush", flags=frames.WITH_ANSWER)
    until(lambda: listener.broken)
    assert "can't start new thread" in listener.broken[0]


@given(st.lists(st.binary(max_size=80), max_size=5))
def test_garbage_is_invalid_and_nothing_else(parts: list[bytes]) -> None:
    with contextlib.suppress(FrameInvalid):
        header, _, _ = frames.unpack(parts)
        assert header.kind in frames.KINDS


@given(
    st.sampled_from(sorted(frames.KINDS)),
    st.tuples(*[st.integers(0, 2**64 - 1)] * 3),
    st.integers(0, 2**64 - 1),
    st.integers(0, 255),
)
def test_a_header_is_read_as_it_was_written(
    kind: int, stream: tuple[int, int, int], seq: int, flags: int
) -> None:
    header, record, payload = frames.unpack([frames.pack(kind, stream, seq, flags), b"r"])
    assert header == (kind, flags, *stream, seq)
    assert (record, payload) == (b"r", b"")
