"""A message that does not end must not take all memory: the connection that brings it is ended.

ZMQ_MAXMSGSIZE bounds each part of a message, and nothing bounds how many there are: libzmq keeps
them, invisible to us, until the last one came. Who does that has a valid key and is broken, or
taken over by somebody. What tells is the memory of this process, and how much each connection
received since there was little of it.
"""

import contextlib
import ctypes
import os
import resource
import socket
import struct
from pathlib import Path
from typing import Final

BYTES_MAX = 256 * 1_048_576  # Above what was there before; what waits in order needs far less.
CALM = 8  # So many times less is no reason to suspect anybody.
TRIMS = 10  # Looks after an end at which what libzmq freed is given back to the system.
_TCP_INFO_BYTES: Final = 136
_RECEIVED: Final = struct.Struct("=Q")  # tcp_info.tcpi_bytes_received, of Linux since 4.1
_RECEIVED_AT: Final = 128


class Hoard:
    """Looks at memory and connections. To be used by one thread."""

    def __init__(self) -> None:
        self._floor = 0  # 0: not known yet.
        self._trims = 0
        self._before: dict[str, int] = {}  # What each connection had received in calm times.

    def look(self) -> bool:
        """Return whether a connection was ended; to be called about once a second."""
        if self._trims:
            self._trims -= 1
            _trim()
        now = resident_bytes()
        self._floor = min(self._floor or now, now)
        above = now - self._floor
        if above < BYTES_MAX // CALM:
            self._before = {name: received for name, (_, received) in connections().items()}
        if above < BYTES_MAX:
            return False
        # What stays, whoever keeps it, is no reason to end another connection each second.
        self._floor, self._trims = now - BYTES_MAX // 2, TRIMS
        return self._end_greediest()

    def _end_greediest(self) -> bool:
        found = connections()
        gained = {name: got - self._before.get(name, 0) for name, (_, got) in found.items()}
        name = max(gained, key=lambda one: gained[one], default="")
        if gained.get(name, 0) <= 0:  # Nobody brought it. And sockets that listen bring nothing.
            return False
        return _end(found[name][0], name)


def _trim() -> None:
    with contextlib.suppress(OSError, AttributeError):  # Not every C library has it.
        ctypes.CDLL(None).malloc_trim(0)


def resident_bytes() -> int:
    """Return how much memory this process has in use."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def connections() -> dict[str, tuple[int, int]]:
    """Return descriptor and bytes received of each TCP connection of this process, by its name."""
    found = {}
    for word in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # Closed meanwhile, or no connection.
            name = os.readlink(f"/proc/self/fd/{word}")
            if name.startswith("socket:"):
                with contextlib.closing(_copy(int(word))) as sock:
                    if sock.family in {socket.AF_INET, socket.AF_INET6}:
                        found[name] = (int(word), _received(sock))
    return found


def _copy(descriptor: int) -> socket.socket:
    """Return the socket of a descriptor by another descriptor, which is the caller's to close."""
    copy = os.dup(descriptor)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise


def _received(sock: socket.socket) -> int:
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    return int(_RECEIVED.unpack_from(info, _RECEIVED_AT)[0])


def _end(descriptor: int, name: str) -> bool:
    """End a connection: libzmq drops what it has of it, and whoever was there may come again."""
    with contextlib.suppress(OSError):
        if os.readlink(f"/proc/self/fd/{descriptor}") == name:
            with contextlib.closing(_copy(descriptor)) as sock:
                sock.shutdown(socket.SHUT_RDWR)
                return True
    return False
