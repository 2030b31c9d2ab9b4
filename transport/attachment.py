"""How a process attaches to the bus of its node: modules, replicas, the command line."""

import contextlib
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import zmq

from mirrorfarm.errors import FrameInvalid
from mirrorfarm.limits import MILLISECOND_NS, QUEUE_MESSAGES_MAX
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.codec import decode, encode
from mirrorfarm.transport.link.core import Sequencer
from mirrorfarm.transport.messages import ANY_MESSAGE, Frame
from mirrorfarm.transport.sockets import boot_ns, bound_queues

OnReceive = Callable[[Frame, str], None]  # What came, and by which network.

# While the agent is away (it starts, or is started again) a message waits for it this long.
HOLD_NS: Final = 500 * MILLISECOND_NS
LINGER_MS: Final = 200  # Last words of a process that ends.

COUNTS: Final = (
    "sent",
    "received",
    "expired",  # The agent was away for longer than HOLD_NS.
    "queue_full",
    "too_large",
    "bad_frame",
    "foreign",  # For another node or process.
    "handler_failed",
    "loop_failed",
)


@dataclass(frozen=True, slots=True)
class AttachmentSettings:
    """Where to attach, and as whom. `process` is `module`, `module.replica` or `cli-…`."""

    socket: Path
    cluster: str
    node: str
    process: str
    incarnation: int

    @property
    def module(self) -> str:
        """The module whose actors this process runs."""
        return self.process.partition(".")[0]


class Attachment:
    """One process on the bus of its node; it stays attached when the agent starts again."""

    def __init__(self, settings: AttachmentSettings, on_receive: OnReceive) -> None:
        """Attach; `on_receive` is called on the attachment's thread and should be quick."""
        self._settings = settings
        self._on_receive = on_receive
        self._sequencer = Sequencer(settings.cluster, settings.node, settings.incarnation)
        self._counts = dict.fromkeys(COUNTS, 0)
        self._lock = threading.Lock()  # Of the sequencer, the socket and what is held.
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._held: deque[tuple[int, list[bytes]]] = deque()  # Boot clock of expiry, parts.
        self._closing = self._closed = False
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
        self._dealer = self._context.socket(zmq.DEALER)
        self._dealer.routing_id = settings.process.encode()
        bound_queues(self._dealer)
        self._dealer.linger = LINGER_MS
        self._dealer.immediate = True
        self._dealer.reconnect_ivl = 20
        self._dealer.reconnect_ivl_max = 200
        self._dealer.connect(f"ipc://{settings.socket}")
        self._thread = threading.Thread(target=self._run, name="attachment", daemon=True)
        self._thread.start()

    def send(self, to: Address, source_actor: str, message: ANY_MESSAGE, network: str = "") -> int:
        """Send as `source_actor` of this process; it may be lost. Empty `network`: all.

        On the caller's thread, so that none has to be woken; it never waits for the agent.
        Return the number of the frame.
        """
        with self._lock:
            frame = self._sequencer.stamp(
                self._settings.module, source_actor, to, message, time.time_ns()
            )
            if self._closed or len(self._held) >= QUEUE_MESSAGES_MAX:
                self._counts["queue_full"] += 1
                return frame.sequence
            try:
                parts = [network.encode(), encode(frame)]
            except FrameInvalid:  # Perhaps made of what a peer said: nobody may end for it.
                self._counts["too_large"] += 1
                return frame.sequence
            first = not self._held
            self._held.append((boot_ns() + HOLD_NS, parts))
            if first:
                self._send_held()
            if self._has_news() or (first and self._held):  # The thread watches when they expire.
                self._ring()
        return frame.sequence

    def counters(self) -> dict[str, int]:
        """Return how often what happened since the start."""
        return dict(self._counts)

    def close(self) -> None:
        """Detach. What was sent before still leaves, if the agent takes it at once."""
        self._closing = True
        with self._lock:
            self._ring()
        if self._thread is not threading.current_thread():
            self._thread.join()

    # --- the loop --------------------------------------------------------------------------

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        poll.register(int(self._dealer.getsockopt(zmq.FD)), select.POLLIN)
        while not self._closing:
            try:
                for parts in self._receive():
                    self._take(parts)
                poll.poll(self._patience_ms())
            except Exception:  # Nothing that arrives may end the attachment.
                self._counts["loop_failed"] += 1
                time.sleep(0.01)  # A fault that stays must not eat the processor.
        with self._lock:
            self._send_held()
            self._closed = True
            os.close(self._bell)
            self._dealer.close()
        self._context.term()

    def _patience_ms(self) -> int | None:
        """Return when the oldest held message expires, from now; None: nothing is held."""
        with self._lock:
            if not self._held:
                return None
            return max(1, (self._held[0][0] - boot_ns()) // MILLISECOND_NS + 1)

    def _send_held(self) -> None:
        """Send what can be sent, and drop what waited for too long. Under the lock."""
        now = boot_ns()
        while self._held:
            expires_ns, parts = self._held[0]
            try:
                self._dealer.send_multipart(parts, zmq.NOBLOCK)
            except zmq.Again:
                if now < expires_ns:
                    return
                self._counts["expired"] += 1
            else:
                self._counts["sent"] += 1
            self._held.popleft()

    def _has_news(self) -> bool:
        """Return whether the thread could do something. Under the lock.

        The descriptor tells each piece of news once, and whatever is done with the socket may
        take that away: this is asked after everything else.
        """
        events = int(self._dealer.getsockopt(zmq.EVENTS))
        return bool(events & zmq.POLLIN or (self._held and events & zmq.POLLOUT))

    def _ring(self) -> None:
        """Wake the thread. Under the lock."""
        if not self._closed:
            os.eventfd_write(self._bell, 1)

    def _receive(self) -> list[list[bytes]]:
        """Return all that came, and send what could not be sent before."""
        messages: list[list[bytes]] = []
        with self._lock:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._bell)
            self._send_held()
            with contextlib.suppress(zmq.Again):
                while len(messages) < QUEUE_MESSAGES_MAX:
                    messages.append(self._dealer.recv_multipart(zmq.NOBLOCK))
            if self._has_news():
                self._ring()
        return messages

    def _take(self, parts: list[bytes]) -> None:
        """Take what the agent handed on: frames, each after the name of its network."""
        if len(parts) % 2:
            self._counts["bad_frame"] += 1
            return
        for network, data in zip(parts[::2], parts[1::2], strict=True):
            self._take_frame(network, data)

    def _take_frame(self, network: bytes, data: bytes) -> None:
        try:
            frame = decode(data)
            way = network.decode("ascii")
        except (FrameInvalid, ValueError):
            self._counts["bad_frame"] += 1
            return
        to = frame.to
        if self._settings.node not in to.nodes or to.process != self._settings.process:
            self._counts["foreign"] += 1
            return
        with self._lock:
            self._sequencer.observe(frame.clock, time.time_ns())
        try:
            self._on_receive(frame, way)
            self._counts["received"] += 1
        except Exception:  # The receiver's fault: the attachment goes on.
            self._counts["handler_failed"] += 1
