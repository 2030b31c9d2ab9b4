"""How each socket of the bus is set up: CURVE everywhere, everything bounded, the dead found."""

import contextlib
import os
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import zmq

from mirrorfarm.limits import FRAME_BYTES_MAX, QUEUE_MESSAGES_MAX
from mirrorfarm.transport.keys import Keys

Socket: TypeAlias = zmq.Socket[bytes]
Context: TypeAlias = zmq.Context[Socket]

ZAP_ENDPOINT: Final = "inproc://zeromq.zap.01"
ZAP_DOMAIN: Final = b"bus"


@dataclass(frozen=True, slots=True)
class Bind:
    """An own address: `tcp://address:port` on `network`."""

    network: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class Link:
    """An address of a peer or witness, reached by `network`."""

    peer: str
    network: str
    endpoint: str


class Outbox:
    """A bounded queue from any thread to one that polls; `fd` is readable when it has news."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._items: deque[Any] = deque()
        self._closed = False

    def put(self, item: Any) -> bool:
        """Append `item` and wake the reader; return False, doing nothing, if it is full."""
        if len(self._items) >= QUEUE_MESSAGES_MAX or self._closed:
            return False
        self._items.append(item)
        self.wake()
        return True

    def wake(self) -> None:
        """Make the reader's poll return."""
        if not self._closed:
            os.eventfd_write(self.fd, 1)

    def take(self) -> list[Any]:
        """Return all items; called by the reader alone."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        return [self._items.popleft() for _ in range(len(self._items))]

    def close(self) -> None:
        """Give the descriptor back; later items are refused. The caller excludes `put`."""
        if not self._closed:
            self._closed = True
            os.close(self.fd)


def peer_dealer(context: Context, keys: Keys, link: Link) -> Socket:
    """Return a socket that connects to a peer or witness, whoever else answers there."""
    dealer = context.socket(zmq.DEALER)
    _secure(dealer, keys, link.endpoint)
    dealer.curve_serverkey = keys.peers[link.peer].encode()
    dealer.immediate = True  # Nothing queues up for a peer that is cut off.
    # One end asks, for both: the other ends what it was asked on and no more. Heartbeats of
    # modules pass here all the time, and what is not acknowledged within `tcp_maxrt` ends a
    # connection sooner; this is for those that carry nothing.
    dealer.heartbeat_ivl = 3_000
    dealer.heartbeat_timeout = 9_000
    dealer.heartbeat_ttl = 9_000
    dealer.reconnect_ivl = 50
    dealer.reconnect_ivl_max = 500
    dealer.connect_timeout = 500
    dealer.connect(link.endpoint)
    return dealer


def bound_router(context: Context, keys: Keys, bind: Bind) -> Socket | None:
    """Return a socket that peers connect to; None if this machine lacks the address now."""
    router = context.socket(zmq.ROUTER)
    _secure(router, keys, bind.endpoint)
    router.curve_server = True
    router.zap_domain = ZAP_DOMAIN
    router.router_mandatory = True
    router.backlog = 64
    try:
        router.bind(bind.endpoint)
    except zmq.ZMQError:
        router.close(0)
        return None
    return router


def key_keeper(context: Context) -> Socket:
    """Return the socket on which libzmq asks about the key of each connection."""
    keeper = context.socket(zmq.REP)
    keeper.linger = 0
    keeper.bind(ZAP_ENDPOINT)
    return keeper


def answer_key(keeper: Socket, names: Mapping[bytes, bytes]) -> bool:
    """Tell libzmq whose key it asks about (ZeroMQ RFC 27); return False if nobody's."""
    try:
        parts = keeper.recv_multipart(zmq.NOBLOCK)
    except zmq.Again:
        return True
    name = None
    if len(parts) == 7 and parts[2] == ZAP_DOMAIN and parts[5] == b"CURVE":
        name = names.get(parts[6])
    request = parts[1] if len(parts) > 1 else b""
    if name is None:
        keeper.send_multipart([b"1.0", request, b"400", b"unknown key", b"", b""])
    else:
        keeper.send_multipart([b"1.0", request, b"200", b"OK", name, b""])
    return name is not None


def try_send(socket: Socket, parts: list[bytes]) -> int:
    """Send at once or not at all; return 0 or an errno."""
    try:
        if len(parts) == 1:
            socket.send(parts[0], zmq.NOBLOCK)
        else:
            socket.send_multipart(parts, zmq.NOBLOCK)
    except zmq.ZMQError as cause:
        return cause.errno or -1
    return 0


def endpoint(address: str, port: int) -> str:
    """Return how ZeroMQ writes a TCP address."""
    return f"tcp://[{address}]:{port}" if ":" in address else f"tcp://{address}:{port}"


def boot_ns() -> int:
    """Return the boot clock, in nanoseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def bound_queues(socket: Socket) -> None:
    """Set what every socket has: bounds, and no waiting for anybody at the end."""
    socket.linger = 0
    socket.sndhwm = QUEUE_MESSAGES_MAX
    socket.rcvhwm = QUEUE_MESSAGES_MAX
    socket.maxmsgsize = FRAME_BYTES_MAX


def _secure(socket: Socket, keys: Keys, where: str) -> None:
    """Set what every tcp socket has: CURVE, bounds, and the end of dead connections."""
    bound_queues(socket)
    socket.curve_secretkey = keys.secret.encode()
    socket.curve_publickey = keys.public.encode()
    socket.handshake_ivl = 1_000
    socket.tcp_maxrt = 1_000
    socket.tos = 0xC0  # CS6, network control: before bulk data in the queues of switches.
    socket.ipv6 = "[" in where
