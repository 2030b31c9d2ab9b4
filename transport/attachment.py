"""How a process attaches to the bus of its node: modules, replicas, the command line."""

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
from mirrorfarm.transport.messages import ANY_MESSAGE
from mirrorfarm.transport.sockets import Outbox, bound_queues

OnReceive = Callable[[str, Address, ANY_MESSAGE, str], None]  # actor, source, message, network

# While the agent is away (it starts, or is started again) a message waits for it this long.
HOLD_NS: Final = 500 * MILLISECOND_NS
LINGER_MS: Final = 200  # Last words of a process that ends.

COUNTS: Final = (
    "sent",
    "received",
    "expired",  # The agent was away for longer than HOLD_NS.
    "queue_full",
    "bad_frame",
    "foreign",  # For another node or process.
    "handler_failed",
    "loop_failed",
)


@dataclass(frozen=True, slots=True)
class AttachmentSettings:
    """Where to attach, and as whom. `process` is `module`, `module.replica` or `cli-number`."""

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
        self._lock = threading.Lock()  # Of the sequencer, and of closing.
        self._outbox = Outbox()
        self._held: deque[tuple[int, list[bytes]]] = deque()  # Boot clock of expiry, parts.
        self._closing = False
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

    def send(self, to: Address, source_actor: str, message: ANY_MESSAGE, network: str = "") -> None:
        """Send as `source_actor` of this process; it may be lost. Empty `network`: all."""
        with self._lock:
            frame = self._sequencer.stamp(
                self._settings.module, source_actor, to, message, time.time_ns()
            )
            if not self._outbox.put([network.encode(), encode(frame)]):
                self._counts["queue_full"] += 1

    def counters(self) -> dict[str, int]:
        """Return how often what happened since the start."""
        return dict(self._counts)

    def close(self) -> None:
        """Detach. What was sent before still leaves, if the agent takes it at once."""
        self._closing = True
        with self._lock:
            self._outbox.wake()
        if self._thread is not threading.current_thread():
            self._thread.join()

    # --- the loop --------------------------------------------------------------------------

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._outbox.fd, zmq.POLLIN)
        while not self._closing:
            try:
                # A full or absent agent makes POLLOUT wait; without news there is no need to.
                poller.register(self._dealer, zmq.POLLIN | (zmq.POLLOUT if self._held else 0))
                poller.poll(self._patience_ms())
                self._send_held()
                self._receive()
            except Exception:  # Nothing that arrives may end the attachment.
                self._counts["loop_failed"] += 1
                time.sleep(0.01)  # A fault that stays must not eat the processor.
        self._send_held()
        with self._lock:
            self._outbox.close()
        self._dealer.close()
        self._context.term()

    def _patience_ms(self) -> int | None:
        """Return when the oldest held message expires, from now; None: nothing is held."""
        if not self._held:
            return None
        left_ns = self._held[0][0] - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return max(1, left_ns // MILLISECOND_NS + 1)

    def _send_held(self) -> None:
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        for parts in self._outbox.take():
            if len(self._held) >= QUEUE_MESSAGES_MAX:
                self._counts["queue_full"] += 1
            else:
                self._held.append((now + HOLD_NS, parts))
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

    def _receive(self) -> None:
        for _ in range(QUEUE_MESSAGES_MAX):
            try:
                parts = self._dealer.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._take(parts)

    def _take(self, parts: list[bytes]) -> None:
        try:
            network, data = parts
            frame = decode(data)
            way = network.decode("ascii")
        except (FrameInvalid, ValueError):
            self._counts["bad_frame"] += 1
            return
        to = frame.to
        if to.node != self._settings.node or to.process != self._settings.process:
            self._counts["foreign"] += 1
            return
        with self._lock:
            self._sequencer.observe(frame.clock, time.time_ns())
        try:
            self._on_receive(to.actor, frame.source, frame.message, way)
            self._counts["received"] += 1
        except Exception:  # The receiver's fault: the attachment goes on.
            self._counts["handler_failed"] += 1
