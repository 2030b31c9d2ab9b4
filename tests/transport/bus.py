"""A little cluster on loopback for the tests of the bus: keys, ports, relays, hubs."""

import contextlib
import random
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import zmq

from mirrorfarm.transport.address import Address
from mirrorfarm.transport.keys import Keys
from mirrorfarm.transport.messages import ANY_MESSAGE, Frame

CLUSTER = "0123456789abcdef"


def make_keys(*names: str, cluster: str = CLUSTER) -> dict[str, Keys]:
    """Return fresh keys for a cluster of `names`."""
    pairs = {name: zmq.curve_keypair() for name in names}
    public = {name: pair[0].decode() for name, pair in pairs.items()}
    return {
        name: Keys(
            cluster,
            name,
            pair[1].decode(),
            public[name],
            {other: key for other, key in public.items() if other != name},
        )
        for name, pair in pairs.items()
    }


# Below those that the kernel gives to whoever connects, and to tests that run beside this one: a
# port that is free now must be so still when it is bound, and again after its owner was killed.
PORTS = range(10_000, 30_000)


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port that nobody listens at, nor has since it was asked for."""
    chance = random.SystemRandom()  # Others, with the same seed, ask at the same time.
    while True:
        port = chance.choice(PORTS)
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind((address, port))
            return port


def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait for `condition`; fail when it does not come about in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come about in time"
        time.sleep(0.005)


class Inbox:
    """Keeps what a handler of the hub or of an attachment is told."""

    def __init__(self) -> None:
        self.messages: list[tuple[Address, ANY_MESSAGE, str]] = []

    def __call__(self, frame: Frame, network: str) -> None:
        self.messages.append((frame.source, frame.message, network))


class Relay:
    """A network between two ports that can be cut and healed."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._wake, self._woken = socket.socketpair()
        self.cut = False
        self.stalled = False
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        self._wake.send(b"x")
        self._thread.join()

    def sever(self) -> None:
        """Close every connection and accept none until `cut` is False again."""
        self.cut = True
        self._wake.send(b"x")
        until(lambda: not self._pairs)

    def stall(self, stalled: bool) -> None:
        """Hold all bytes back without closing anything, or let them go on."""
        self.stalled = stalled
        self._wake.send(b"x")

    def _run(self) -> None:
        while not self._closing:
            network = [] if self.stalled else [self._listener, *self._pairs]
            ready, _, _ = select.select([self._woken, *network], [], [])
            for one in ready:
                if one is self._listener:
                    self._accept()
                elif one is self._woken:
                    one.recv(100)
                elif one in self._pairs:
                    self._pass(one)
            if self.cut:
                for one in list(self._pairs):
                    self._drop(one)
        for one in (*list(self._pairs), self._listener, self._wake, self._woken):
            one.close()

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        if self.cut:
            near.close()
            return
        try:
            far = socket.create_connection(("127.0.0.1", self._target), timeout=5)
        except OSError:
            near.close()
            return
        for one in (near, far):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pairs[near], self._pairs[far] = far, near

    def _pass(self, one: socket.socket) -> None:
        try:
            data = one.recv(65_536)
            if data:
                self._pairs[one].sendall(data)
                return
        except OSError:
            pass
        self._drop(one)

    def _drop(self, one: socket.socket) -> None:
        other = self._pairs.pop(one, None)
        if other is not None:
            self._pairs.pop(other, None)
            one.close()
            other.close()
