"""One socket of the replication stream, usable from many threads; and who may connect to it.

A ZeroMQ socket may be used by any thread as long as only one does at a time: a lock does that,
so a file system's thread sends without handing its frame to another thread first. Only the
owner's thread receives; it sleeps on the socket's descriptor, which reports *edges*: whoever
sends may swallow one, so every sender looks and rings the owner's bell.
"""

import contextlib
import os
import select
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import msgspec
import zmq
import zmq.utils.z85

from mirrorfarm.actors.replicator.subject import Subject
from mirrorfarm.limits import MILLISECOND_NS, STREAM_FRAME_BYTES_MAX, Nanoseconds

_COPY_FREE_BYTES = 65_536  # From here on the copy costs more than its avoidance.
_ZAP = "inproc://zeromq.zap.01"


class StreamKeys(msgspec.Struct, frozen=True):
    """CURVE keys of one end, as Z85 text; empty `secret`: no encryption (tests of speed only)."""

    public: bytes = b""
    secret: bytes = b""
    peer_public: bytes = b""


class Link(NamedTuple):
    """Where the other end is, or where to listen; and how long silence may last."""

    context: "zmq.Context[Any]"
    endpoint: str
    keys: StreamKeys
    timeout_ns: Nanoseconds
    subject: Subject = ()  # What is replicated; both ends must have the same.


class StreamWire(Protocol):
    """What one end of a stream needs of its connection."""

    def send(self, parts: list[bytes]) -> None:
        """Queue one message; never blocks. A vanished peer's message is dropped."""

    def receive(self, count_max: int, wait_ns: int) -> list[list[bytes]]:
        """Up to `count_max` messages; waits for the first one up to `wait_ns`."""

    def ring(self) -> None:
        """Wake whoever waits in `receive`."""

    def close(self) -> None:
        """Send and receive nothing more."""


class Wire:
    """A DEALER or ROUTER with a lock around it."""

    def __init__(self, link: Link, kind: int) -> None:
        self._link = link
        self._socket: zmq.Socket[Any] = link.context.socket(kind)
        self._lock = threading.Lock()
        try:
            self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        except OSError:
            self._socket.close(0)
            raise
        self._closed = False
        beat_ms = max(link.timeout_ns // (4 * MILLISECOND_NS), 20)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.SNDHWM, 0),  # Bounded by what is not yet acknowledged.
            (zmq.RCVHWM, 1_000),
            (zmq.MAXMSGSIZE, STREAM_FRAME_BYTES_MAX),
            (zmq.RECONNECT_IVL, 50),
            (zmq.RECONNECT_IVL_MAX, 500),
            (zmq.CONNECT_TIMEOUT, max(beat_ms * 2, 200)),
            (zmq.HANDSHAKE_IVL, max(beat_ms * 4, 1_000)),
            # The source asks, for both ends: the target ends what it was asked on and no more.
            (zmq.HEARTBEAT_IVL, beat_ms if kind == zmq.DEALER else 0),
            (zmq.HEARTBEAT_TIMEOUT, beat_ms * 3),
            (zmq.HEARTBEAT_TTL, beat_ms * 3),
            (zmq.TCP_KEEPALIVE, 1),
            (zmq.IPV6, 1),
            (zmq.IMMEDIATE, 0),
        ):
            self._socket.setsockopt(option, value)
        self._poll = select.poll()
        self._poll.register(self._socket.getsockopt(zmq.FD), select.POLLIN)
        self._poll.register(self._bell, select.POLLIN)

    def connect(self) -> None:
        """Connect, and again whenever the connection is lost."""
        keys = self._link.keys
        if keys.secret:
            self._socket.curve_publickey = keys.public
            self._socket.curve_secretkey = keys.secret
            self._socket.curve_serverkey = keys.peer_public
        self._socket.connect(self._link.endpoint)

    def bind(self) -> None:
        """Listen. zmq.ZMQError if the port is taken."""
        keys = self._link.keys
        if keys.secret:
            self._socket.setsockopt(zmq.ZAP_DOMAIN, b"replica")
            self._socket.curve_secretkey = keys.secret
            self._socket.curve_publickey = keys.public
            self._socket.curve_server = True
        self._socket.bind(self._link.endpoint)

    def send(self, parts: list[bytes]) -> None:
        """Queue one message; never blocks. A vanished peer's message is dropped."""
        free = len(parts[-1]) >= _COPY_FREE_BYTES
        with self._lock:
            if self._closed:
                return
            with contextlib.suppress(zmq.ZMQError):
                self._socket.send_multipart(parts, zmq.DONTWAIT, copy=not free)
            if int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                self._ring()

    def ring(self) -> None:
        """Wake the owner's thread."""
        with self._lock:
            if not self._closed:
                self._ring()

    def _ring(self) -> None:
        with contextlib.suppress(OSError):  # The counter is full: it wakes up anyway.
            os.eventfd_write(self._bell, 1)

    def receive(self, count_max: int, wait_ns: int) -> list[list[bytes]]:
        """Up to `count_max` messages; waits for the first one up to `wait_ns`. Owner only."""
        messages = self._take(count_max)
        if messages or wait_ns <= 0:
            return messages
        for descriptor, _ in self._poll.poll(max(wait_ns // MILLISECOND_NS, 1)):
            if descriptor == self._bell:
                with contextlib.suppress(OSError):
                    os.eventfd_read(self._bell)
        return self._take(count_max)

    def _take(self, count_max: int) -> list[list[bytes]]:
        messages: list[list[bytes]] = []
        with self._lock:
            if self._closed:
                return messages
            try:
                while len(messages) < count_max:
                    messages.append(self._socket.recv_multipart(zmq.DONTWAIT))
            except zmq.ZMQError:
                pass  # Again: that was all.
        return messages

    def close(self) -> None:
        """Close the socket; later calls do nothing. Owner only, or when its thread is gone."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._socket.close(0)
            os.close(self._bell)  # Under the lock: its number may be another file's at once.


class Doorkeeper:
    """Answers ZeroMQ's question whether a client's key may connect to sockets of `context`."""

    def __init__(self, context: "zmq.Context[Any]", allowed: Callable[[bytes], bool]) -> None:
        """`allowed` gets the client's public key as Z85 text."""
        self._allowed = allowed
        self.refused = 0
        self._socket: zmq.Socket[Any] = context.socket(zmq.REP)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(_ZAP)
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="doorkeeper", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._bell, zmq.POLLIN)
        with contextlib.suppress(zmq.ZMQError):  # The context has ended: so do we.
            while not any(source == self._bell for source, _ in poller.poll()):
                self._socket.send_multipart(self._judge(self._socket.recv_multipart()))
        self._socket.close(0)

    def _judge(self, request: list[bytes]) -> list[bytes]:
        number = request[1] if len(request) > 1 else b""
        yes = False
        # version, request, domain, address, identity, mechanism, key
        if len(request) == 7 and request[0] == b"1.0" and request[5] == b"CURVE":
            yes = len(request[6]) == 32 and self._allowed(zmq.utils.z85.encode(request[6]))
        self.refused += not yes
        answer = [b"200", b"OK"] if yes else [b"400", b"not one of us"]
        return [b"1.0", number, *answer, b"", b""]

    def close(self) -> None:
        """Stop answering. Call it once."""
        os.eventfd_write(self._bell, 1)
        self._thread.join(2)
        if not self._thread.is_alive():
            os.close(self._bell)
