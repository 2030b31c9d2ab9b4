"""Where a hub waits for news: its sockets and descriptors, each with who reads it.

What costs a node with many peers is the waking, and each look at all its sockets. So heartbeats
of a farm are gathered: after some came in, peers wait a moment. And dealers are looked at only
when their descriptors ring, or something was sent by one: the descriptor of a ZeroMQ socket
tells each piece of news once, and whatever is done with the socket may take that away.
"""

import select
import time
from collections.abc import Callable
from typing import Any, Final

import zmq

from mirrorfarm.limits import MILLISECOND_NS, SMALL_FARM_NODES_MAX
from mirrorfarm.transport.sockets import Socket

REST_MS: Final = 25
REST_PEERS_MIN: Final = SMALL_FARM_NODES_MAX

Reader = Callable[[], None]


class Waiting:
    """Sources of news. To be used by one thread."""

    def __init__(self) -> None:
        self._readers: dict[Any, Reader] = {}
        self._all = zmq.Poller()
        self._near = zmq.Poller()  # What is not a peer's.
        self._dealers = zmq.Poller()
        self._bells = select.epoll()
        self._all.register(self._bells.fileno(), zmq.POLLIN)
        self._touched = False  # Dealers must be looked at, whether they ring or not.
        self._rest_until_ns = 0

    def watch(self, source: Any, reader: Reader, *, near: bool = False) -> None:
        """Let `reader` read what comes from a socket or descriptor; `near`: it never rests."""
        self._readers[source] = reader
        self._all.register(source, zmq.POLLIN)
        if near:
            self._near.register(source, zmq.POLLIN)

    def watch_dealer(self, dealer: Socket, reader: Reader) -> None:
        """Let `reader` read what comes by a dealer, on which little does."""
        self._readers[dealer] = reader
        self._dealers.register(dealer, zmq.POLLIN)
        self._bells.register(int(dealer.getsockopt(zmq.FD)), select.EPOLLIN)
        self._touched = True

    def forget_dealer(self, dealer: Socket) -> None:
        """Watch a dealer no more; to be called before it is closed."""
        del self._readers[dealer]
        self._dealers.unregister(dealer)
        self._bells.unregister(int(dealer.getsockopt(zmq.FD)))

    def touch_dealers(self) -> None:
        """Hear that something was done with a dealer."""
        self._touched = True

    def rest(self) -> None:
        """Let peers wait for REST_MS from now."""
        self._rest_until_ns = _now_ns() + REST_MS * MILLISECOND_NS

    def wait(self, timeout_ms: int | None) -> list[Reader]:
        """Wait for news, for ever if None; return whose readers have something to read."""
        while (left_ns := self._rest_until_ns - _now_ns()) > 0:
            news = self._near.poll(left_ns // MILLISECOND_NS + 1)
            if news:
                return [self._readers[source] for source, _ in news]
        found = self._look_at_dealers() if self._touched else []
        for source, _ in self._all.poll(0 if found else timeout_ms):
            if source == self._bells.fileno():
                found += self._look_at_dealers()
            else:
                found.append(self._readers[source])
        return found

    def close(self) -> None:
        """Give the descriptor back."""
        self._bells.close()

    def _look_at_dealers(self) -> list[Reader]:
        news = self._dealers.poll(0)
        self._touched = bool(news)  # A reader may leave some of it for the next time.
        return [self._readers[dealer] for dealer, _ in news]


def _now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
