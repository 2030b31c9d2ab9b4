"""The sending end of one session's stream.

Frames are numbered, sent at once by the thread that has one, and kept until the target says
that they are applied; after a short cut all that the target lacks is sent again. Lateness is a
state of the *connection*: one deadline ends the session, never an operation by itself.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

import zmq

from mirrorfarm.actors.replicator import frames, subject
from mirrorfarm.actors.replicator.condition import Condition
from mirrorfarm.actors.replicator.wire import Link, StreamWire, Wire
from mirrorfarm.errors import FrameInvalid
from mirrorfarm.limits import UNACKED_BYTES_MAX, UNACKED_FRAMES_MAX, Nanoseconds

_BATCH = 64


class SourceListener(Protocol):
    """Who hears of a stream's fate; called by the stream's thread without locks held."""

    def session_up(self) -> None:
        """The target answered in this session."""

    def acknowledged(self) -> None:
        """`acked` or `undurable` changed, or room was made."""

    def session_broken(self, reason: str) -> None:
        """The stream is over; said once, and never after `close`."""

    def answered(self, question: int, record: bytes, payload: bytes) -> None:
        """The target answered a question of the copy."""


def _connected(link: Link) -> Wire:
    wire = Wire(link, zmq.DEALER)
    try:
        wire.connect()
    except zmq.ZMQError:
        wire.close()
        raise
    return wire


class Unacked(NamedTuple):
    """A frame that the target has not applied yet, as far as is known."""

    seq: int
    kind: int
    flags: int
    record: bytes
    payload: bytes
    sent_ns: Nanoseconds


class Source:
    """One stream `(term, sid)` to the peer's target."""

    def __init__(
        self,
        link: Link,
        stream: tuple[int, int, int],
        listener: SourceListener,
        clock: Callable[[], Nanoseconds] = time.monotonic_ns,
        wire: StreamWire | None = None,
    ) -> None:
        """`stream`: term, sid, and a nonce that no other stream ever had.

        With a `wire` of another kind than a socket, `start` is not called: whoever has it calls
        `look` when that is due and `take` with what came in.
        """
        self.term, self.sid, _ = stream
        self.acked = 0
        self.undurable: dict[int, Nanoseconds] = {}  # Flushes awaited: frame -> sending time.
        self.up = False
        self.broken = ""
        self.patient = False  # While a copy runs only progress counts, not the age of a frame.
        self.invalid = 0
        self._stream = stream
        self._timeout_ns = link.timeout_ns
        self._subject = subject.packed(link.subject)
        self._listener = listener
        self._clock = clock
        self._seq = 0
        self._unacked: deque[Unacked] = deque()
        self._unacked_bytes = 0
        self._lock = threading.RLock()  # Entered itself: a Condition's own entry is slow.
        self._changed = Condition(self._lock)
        self._hello = 0
        self._hello_floor = 0  # Answers to earlier greetings say nothing about what was resent.
        self._resent_ns = 0
        self._heard_ns = self._progress_ns = self._tick_ns = clock()
        self._ended = False
        self._hello_ns = self._judge_ns = 0  # When the next greeting and the next look are due.
        self._owner = wire is None
        self._wire = wire if wire is not None else _connected(link)
        self._thread = threading.Thread(
            target=self._run, name=f"source {self.term}.{self.sid}", daemon=True
        )

    def start(self) -> None:
        """Begin to greet the target."""
        self._thread.start()

    # --- sending ---------------------------------------------------------------------------

    def send(self, kind: int, record: bytes, payload: bytes = b"", flags: int = 0) -> int:
        """Number and send one frame; return its number, 0 if the stream is broken."""
        with self._lock:
            if self.broken or self._ended:
                return 0
            self._seq = seq = self._seq + 1
            now = self._clock()
            if not self._unacked:
                self._progress_ns = now
            self._unacked.append(Unacked(seq, kind, flags, record, payload, now))
            self._unacked_bytes += len(record) + len(payload)
            if flags & frames.WITH_ANSWER:
                self.undurable[seq] = now
            if self.up:
                self._put(seq, kind, flags, record, payload)
            return seq

    def _put(self, seq: int, kind: int, flags: int, record: bytes, payload: bytes) -> None:
        header = frames.pack(kind, self._stream, seq, flags)
        self._wire.send([header, record, payload] if payload else [header, record])

    @property
    def last(self) -> int:
        """Number of the last frame."""
        return self._seq

    @property
    def full(self) -> bool:
        """Whether so much is under way that new modifications must wait."""
        return self._unacked_bytes > UNACKED_BYTES_MAX or len(self._unacked) > UNACKED_FRAMES_MAX

    def is_safe(self, seq: int) -> bool:
        """Whether frame `seq` and all before it are applied, and flushed if that was asked."""
        return self.acked >= seq and seq not in self.undurable

    def wait_room(self, bytes_max: int) -> bool:
        """Wait until less than `bytes_max` is under way; False: the stream is broken."""
        with self._lock:
            self._changed.wait_for(
                lambda: self._unacked_bytes <= bytes_max or self.broken or self._ended
            )
            return not (self.broken or self._ended)

    def drained(self, timeout_ns: Nanoseconds) -> bool:
        """Wait until all is applied and flushed; False: it was not in time, or broke."""
        with self._lock:
            self._changed.wait_for(
                lambda: self.broken or not (self._unacked or self.undurable),
                timeout_ns / 1e9,
            )
            return not self.broken and not (self._unacked or self.undurable)

    def reached(self, seq: int, timeout_ns: Nanoseconds) -> bool:
        """Wait until frame `seq` and all before it are applied and flushed; False: not so."""

        def done() -> bool:
            return self.acked >= seq and not any(number <= seq for number in self.undurable)

        with self._lock:
            self._changed.wait_for(lambda: self.broken or self._ended or done(), timeout_ns / 1e9)
            return not self.broken and done()

    # --- the stream's thread ---------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self.over:
                self.take(self._wire.receive(_BATCH, self.look()))
        except Exception as fault:  # Of our own. Without its thread a stream is over.
            self._break(f"the stream failed: {fault!r}")
        self._wire.close()
        if self.broken and not self._ended:
            self._listener.session_broken(self.broken)

    @property
    def over(self) -> bool:
        """Whether the stream was closed, or broke."""
        return self._ended or bool(self.broken)

    def look(self) -> Nanoseconds:
        """Greet when it is due; return after how long to call again if nothing comes in."""
        now = self._clock()
        self._forgive(now)
        if now >= self._hello_ns:
            self._greet()
            self._hello_ns = now + self._timeout_ns // 4
        # With nothing under way there is no lateness to look for between two greetings.
        awaited = self._unacked or self.undurable or not self.up
        return min(self._hello_ns - now, self._timeout_ns // (8 if awaited else 4))

    def take(self, messages: list[list[bytes]]) -> None:
        """Hear what came in; nothing: what was waited for has not come."""
        if messages:
            came_ns = self._clock()
            for parts in messages:
                self._hear(parts, came_ns)
        now = self._tick_ns
        if not messages or now >= self._judge_ns:
            self._judge_ns = now + self._timeout_ns // 4
            self._judge(self._clock())

    def _forgive(self, now: Nanoseconds) -> None:
        """After an own stall all counts anew: what came meanwhile is not read yet."""
        if now - self._tick_ns > self._timeout_ns // 2:
            self._heard_ns = self._progress_ns = now
            self._tick_ns = now
            with self._lock:
                renewed = [frame._replace(sent_ns=now) for frame in self._unacked]
                self._unacked = deque(renewed)
                self.undurable = dict.fromkeys(self.undurable, now)
        self._tick_ns = now

    def _greet(self) -> None:
        with self._lock:
            self._hello += 1
            header = frames.pack(frames.HELLO, self._stream, self._seq if self.up else 0)
            numbers = frames.pack_numbers([self._hello, self.acked])
            self._wire.send([header, numbers, self._subject])

    def _judge(self, now: Nanoseconds) -> None:
        limit = self._timeout_ns if self.up else 2 * self._timeout_ns
        if now - self._heard_ns > limit:
            self._break(f"the peer's replica is silent for {limit // 1_000_000} ms")
            return
        if not self.up:
            return
        with self._lock:
            late = self._unacked[0].sent_ns if self._unacked else now
            if self.undurable:
                late = min(late, next(iter(self.undurable.values())))
        if self.patient:
            late = max(late, self._progress_ns)
        if now - late > self._timeout_ns:
            self._break(f"acknowledgements are later than {self._timeout_ns // 1_000_000} ms")

    def _break(self, reason: str) -> None:
        with self._lock:
            self.broken = self.broken or reason
            self._changed.notify_all()

    def _hear(self, parts: list[bytes], came_ns: Nanoseconds) -> None:
        try:
            header, record, payload = frames.unpack(parts)
            if header[2:5] != self._stream:
                raise FrameInvalid("frame of another stream")
            self._heard_ns = came_ns
            self._handle(header, record, payload)
        except FrameInvalid:
            self.invalid += 1

    def _handle(self, header: frames.Header, record: bytes, payload: bytes) -> None:
        match header.kind:
            case frames.ACK:
                self._applied(header.seq)
            case frames.DURABLE:
                with self._lock:
                    for seq in frames.unpack_numbers(record):
                        self.undurable.pop(seq, None)
                    self._progress_ns = self._heard_ns
                    self._changed.notify_all()
            case frames.ANSWER:
                self._progress_ns = self._heard_ns
                self._listener.answered(header.seq, record, payload)
                return
            case frames.WELCOME:
                self._welcomed(header.seq, record)
            case frames.FAULT:
                text = record.decode("utf-8", "replace")
                self._break(f"the peer could not apply a modification: {text}")
            case frames.REFUSED:
                self._break(f"the peer refused the stream: {record.decode('utf-8', 'replace')}")
            case _:
                raise FrameInvalid(f"frame of kind {header.kind} from a target")
        self._listener.acknowledged()

    def _applied(self, seq: int) -> None:
        with self._lock:
            if seq > self._seq:
                raise FrameInvalid("acknowledgement of the future")
            unacked = self._unacked
            while unacked and unacked[0].seq <= seq:
                self.acked, _, _, record, payload, _ = unacked.popleft()
                self._unacked_bytes -= len(record) + len(payload)
                self._progress_ns = self._heard_ns
            self._changed.notify_all()

    def _welcomed(self, applied: int, record: bytes) -> None:
        number, sent = (*frames.unpack_numbers(record), 0, 0)[:2]
        if applied < self.acked:
            self._break("the peer's replica was restarted and forgot what it acknowledged")
            return
        self._applied(applied)
        now = self._clock()
        with self._lock:
            self._ask_flushed(now)
            if not self.up:
                self.up = True
                self._resend(now)
            elif number == frames.GAP:
                if now - self._resent_ns > self._timeout_ns // 8:
                    self._resend(now)
                return
            elif number > self._hello_floor and applied < sent:
                # The pipe is ordered: what was sent before the greeting and is not applied
                # when it is answered got lost with a connection.
                self._resend(now)
                return
            else:
                return
        self._listener.session_up()

    def _ask_flushed(self, now: Nanoseconds) -> None:
        """Ask again for flushes that were done while nobody could hear of it."""
        for seq, sent_ns in self.undurable.items():
            if seq <= self.acked and now - sent_ns > self._timeout_ns // 8:
                header = frames.pack(frames.OP, self._stream, seq, frames.WITH_ANSWER)
                self._wire.send([header, b""])

    def _resend(self, now: Nanoseconds) -> None:
        self._resent_ns = now
        self._hello_floor = self._hello
        for seq, kind, flags, record, payload, _ in self._unacked:
            self._put(seq, kind, flags, record, payload)

    def give_up(self, reason: str) -> None:
        """End the session as broken, from any thread."""
        self._break(reason)
        self._wire.ring()

    # --- the end ---------------------------------------------------------------------------

    def close(self) -> None:
        """End the stream; nothing is told any more. Idempotent; may be called by any thread."""
        with self._lock:
            self._ended = True
            self._changed.notify_all()
        self._wire.ring()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(2)
        elif self._owner and self._thread.ident is None:
            self._wire.close()  # It was never started.
