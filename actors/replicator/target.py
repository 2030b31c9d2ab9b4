"""The receiving end of the stream: applies what one session sends, in order, once.

One thread receives and applies; flushes run in a small pool, so that one does not hold up the
stream. Nothing of a session other than the accepted one is ever applied (S10), and nothing is
acknowledged behind a modification that the disk refused (R11).
"""

import errno
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol

import zmq

from mirrorfarm.actors.replicator import frames, subject
from mirrorfarm.actors.replicator.wire import Link, StreamWire, Wire
from mirrorfarm.errors import FrameInvalid
from mirrorfarm.limits import UNFLUSHED_MAX
from mirrorfarm.oserrors import located

_BATCH = 32
_FLUSHERS = 4
_FLUSHED_KEPT = 1_000  # Of the flushes that were done: a source may ask again.
_NUMBERED: Final = frozenset((frames.OP, frames.COPY))
Flush = Callable[[], None]
Answer = tuple[int, bytes, bytes]  # Number of the question, record, payload.
Stream = tuple[int, int, int]  # term, sid, nonce


class TargetWorker(Protocol):
    """What carries frames out on the disk; called by one thread, except for the flushes."""

    def begin(self, term: int, sid: int) -> None:
        """A session begins: nothing that an earlier one said counts any more."""

    def apply(self, record: bytes, payload: bytes) -> Flush | None:
        """Carry out a modification; of an Fsync return what flushes. OSError, FrameInvalid."""

    def copy(self, record: bytes, payload: bytes) -> Answer | Callable[[], Answer] | None:
        """Carry out an order of the copy, or answer a question, perhaps by a slow function."""

    def copied(self, answer: Answer) -> None:
        """The slow function's answer is about to be sent."""

    def failed(self, error: int, text: str) -> None:
        """The disk refused something: this copy cannot be trusted."""


class Flushers(Protocol):
    """What runs flushes beside the stream."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Any:
        """Call `function` soon, not on this thread."""

    def shutdown(self, wait: bool) -> None:
        """Take no more."""


def _words(fault: OSError) -> str:
    return str(fault) if fault.filename is None else located(fault)


def _bound(link: Link) -> Wire:
    wire = Wire(link, zmq.ROUTER)
    try:
        wire.bind()
    except zmq.ZMQError:
        wire.close()
        raise
    return wire


class Target:
    """The listening socket and the one session that it accepts."""

    def __init__(
        self,
        link: Link,
        worker: TargetWorker,
        *,
        received_suffices: bool = False,
        wire: StreamWire | None = None,
        flushers: Flushers | None = None,
    ) -> None:
        """`received_suffices`: flushes are acknowledged before they are done (async=second).

        With a `wire` of another kind than a socket, whoever has it calls `take` with what came in.
        """
        self.session = (0, 0)
        self.applied = 0
        self.dropped = 0
        self.invalid = 0
        self._worker = worker
        self._received_suffices = received_suffices
        self._owed = threading.Semaphore(UNFLUSHED_MAX)  # Flushes confirmed but not done.
        self._stream: Stream = (0, 0, 0)  # The session, and the nonce of whoever greeted in it.
        self._failed = False
        self._gap_told = False
        self._identity = b""
        self._lived_ns = 0
        self._flushed: dict[int, bool] = {}  # Frame -> whether its flush is done.
        self._lock = threading.RLock()  # Held while a frame is applied: `accept` waits for it.
        self._flushers = flushers or ThreadPoolExecutor(_FLUSHERS, "flusher")
        self._ended = False
        self._timeout_ns = link.timeout_ns
        self._subject, self._subject_packed = link.subject, subject.packed(link.subject)
        self._wire = wire if wire is not None else _bound(link)
        self._thread = threading.Thread(target=self._run, name="target", daemon=True)
        if wire is None:
            self._thread.start()

    def accept(self, term: int, sid: int) -> None:
        """From now on only frames of this session are applied; sid 0: none at all."""
        with self._lock:
            self.session = (term, sid) if sid else (0, 0)
            self.applied, self._stream = 0, (*self.session, 0)
            self._failed = self._gap_told = False
            self._flushed = {}
            if sid:
                self._worker.begin(term, sid)

    def lives(self) -> None:
        """Tell the source that one frame takes long to apply, and goes on; by whoever applies it.

        No flush is confirmed, but a source that copies takes it for progress.
        """
        now = time.monotonic_ns()
        if now - self._lived_ns > self._timeout_ns // 8:
            self._lived_ns = now
            self._say(frames.DURABLE, 0)

    def close(self) -> None:
        """Apply nothing more, and free the port."""
        self.accept(0, 0)
        self._ended = True
        self._wire.ring()
        if self._thread.is_alive():
            self._thread.join(5)
        self._flushers.shutdown(wait=False)

    # --- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ended:
            self.take(self._wire.receive(_BATCH, self._timeout_ns // 4))
        self._wire.close()

    def take(self, messages: list[list[bytes]]) -> None:
        """Hear what came in, and acknowledge what was applied of it."""
        session, applied = self.session, self.applied
        for identity, *parts in messages:
            self._hear(identity, parts)
        with self._lock:
            if self.applied and (self.applied != applied or self.session != session):
                self._say(frames.ACK, self.applied)

    def _hear(self, identity: bytes, parts: list[bytes]) -> None:
        try:
            header, record, payload = frames.unpack(parts)
            with self._lock:
                self._handle(identity, header, record, payload)
        except FrameInvalid:
            self.invalid += 1

    def _handle(
        self, identity: bytes, header: frames.Header, record: bytes, payload: bytes
    ) -> None:
        if header.kind == frames.HELLO:
            current = (header.term, header.sid) == self.session and header.sid > 0
            reason = self._foreign(payload)
            if reason:
                self._refuse(identity, header, reason)
            else:
                self._greeted(identity, header, record, current)
            return
        if header[2:5] != self._stream or not header.sid or self._failed:
            self.dropped += 1
            return
        if header.kind not in _NUMBERED:
            raise FrameInvalid(f"frame of kind {header.kind} from a source")
        if header.seq <= self.applied:
            self.dropped += 1
            if header.flags & frames.WITH_ANSWER and self._flushed.get(header.seq):
                self._say(frames.DURABLE, 0, frames.pack_numbers([header.seq]))
        elif header.seq > self.applied + 1:
            self.dropped += 1
            self._tell_gap()
        else:
            self._apply(header, record, payload)

    def _foreign(self, told: bytes) -> str:
        """Why a stream is not of what this target serves; empty: it is."""
        return "" if told == self._subject_packed else subject.difference(self._subject, told)

    def _greeted(
        self, identity: bytes, header: frames.Header, record: bytes, current: bool
    ) -> None:
        numbers = frames.unpack_numbers(record)
        if not current:
            # A session not accepted *yet* just gets no answer; one that is over gets a no.
            if (header.term, header.sid) < self.session:
                self._refuse(identity, header, f"session {self.session} was accepted since")
            return
        if self._stream[2] not in {0, header.nonce}:
            self._refuse(identity, header, "the session belongs to another stream")
            return
        if len(numbers) != 2 or header.nonce == 0:
            raise FrameInvalid("greeting")
        self._stream, self._identity = (*self.session, header.nonce), identity
        if len(self._flushed) > 2 * _FLUSHED_KEPT:
            for seq in [n for n in self._flushed if self._flushed[n]][:-_FLUSHED_KEPT]:
                del self._flushed[seq]
        self._say(frames.WELCOME, self.applied, frames.pack_numbers([numbers[0], header.seq]))

    def _tell_gap(self) -> None:
        if not self._gap_told:
            self._gap_told = True
            self._say(frames.WELCOME, self.applied, frames.pack_numbers([frames.GAP, 0]))

    def _apply(self, header: frames.Header, record: bytes, payload: bytes) -> None:
        try:
            if header.kind == frames.COPY:
                self._copy(record, payload)
            else:
                flush = self._worker.apply(record, payload)
                if header.flags & frames.WITH_ANSWER:
                    self._flush_later(header.seq, flush)
        except OSError as fault:
            self._fail(fault.errno or errno.EIO, _words(fault))
            return
        except FrameInvalid as fault:
            self.invalid += 1
            self._fail(errno.EPROTO, str(fault))
            return
        self.applied = header.seq
        self._gap_told = False

    def _copy(self, record: bytes, payload: bytes) -> None:
        answer = self._worker.copy(record, payload)
        if isinstance(answer, tuple):
            self._say(frames.ANSWER, *answer)
        elif answer is not None:
            self._submit(self._answer_later, self._stream, answer)

    def _answer_later(self, stream: Stream, slow: Callable[[], Answer]) -> None:
        try:
            answer = slow()
        except OSError as fault:
            self._flush_failed(stream, fault)
            return
        with self._lock:
            if self._stream == stream and not self._failed:
                self._worker.copied(answer)
                self._say(frames.ANSWER, *answer)

    def _submit(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            self._flushers.submit(function, *arguments)
        except RuntimeError as fault:  # No thread can be started: as if the disk did not flush.
            raise OSError(errno.EAGAIN, str(fault)) from fault

    def _flush_later(self, seq: int, flush: Flush | None) -> None:
        self._flushed[seq] = False
        if flush is None:
            self._flush_done(seq)
            return
        # A disk that does not keep up is waited for, as if reception did not suffice.
        early = self._received_suffices and self._owed.acquire(blocking=False)
        if early:
            self._flush_done(seq)
        self._submit(self._flush, self._stream, self._flushed, seq, flush, early)

    def _flush(
        self, stream: Stream, flushed: dict[int, bool], seq: int, flush: Flush, early: bool
    ) -> None:
        try:
            flush()
        except OSError as fault:
            self._flush_failed(stream, fault)
            return
        finally:
            if early:
                self._owed.release()
        # Without the lock: whoever applies a frame must not hold up an acknowledgement. What is
        # said is of this stream, also when another is accepted at this very moment.
        identity = self._identity
        if self._stream == stream and not early:
            flushed[seq] = True
            header = frames.pack(frames.DURABLE, stream, 0)
            self._wire.send([identity, header, frames.pack_numbers([seq])])

    def _flush_done(self, seq: int) -> None:
        self._flushed[seq] = True
        self._say(frames.DURABLE, 0, frames.pack_numbers([seq]))

    def _flush_failed(self, stream: Stream, fault: OSError) -> None:
        """Believe it also if the session has ended since: a disk tells a loss only once."""
        with self._lock:
            closed = self._ended or fault.errno == errno.EBADF
            if self._stream == stream or not closed:
                self._fail(fault.errno or errno.EIO, _words(fault))

    def _fail(self, error: int, text: str) -> None:
        if self._failed:
            return
        self._failed = True
        reason = f"{text} ({errno.errorcode.get(error, os.strerror(error))})"
        self._say(frames.FAULT, self.applied + 1, reason.encode())
        self._worker.failed(error, text)

    # --- answering -------------------------------------------------------------------------

    def _say(self, kind: int, seq: int, record: bytes = b"", payload: bytes = b"") -> None:
        """Say something in the accepted session, which the lock keeps."""
        parts = [self._identity, frames.pack(kind, self._stream, seq), record]
        self._wire.send([*parts, payload] if payload else parts)

    def _refuse(self, identity: bytes, header: frames.Header, text: str) -> None:
        stream = (header.term, header.sid, header.nonce)
        answer = frames.pack(frames.REFUSED, stream, 0)
        self._wire.send([identity, answer, text.encode()])
