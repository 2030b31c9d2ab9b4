"""Whether the cables of interfaces are in, and have been for long enough to be believed."""

import fcntl
import socket
import struct
from dataclasses import dataclass, field
from typing import Final

from mirrorfarm.limits import SECOND_NS

OUT_NS: Final = SECOND_NS  # A cable that is out for less is none of our business.
IN_NS: Final = 2 * SECOND_NS  # So long may a switch, and what carries heartbeats, take to begin.
_FLAGS = 0x8913  # SIOCGIFFLAGS
_UP_RUNNING = 0x41
_REQUEST = struct.Struct("16sH14x")


def without_cable(interfaces: tuple[str, ...]) -> tuple[str, ...]:
    """Return the interfaces that are down, gone, or have no carrier."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return tuple(name for name in interfaces if not _runs(sock, name))


def _runs(sock: socket.socket, name: str) -> bool:
    try:
        answer = fcntl.ioctl(sock, _FLAGS, _REQUEST.pack(name.encode(), 0))
    except OSError:
        return False
    flags: int = _REQUEST.unpack(answer)[1]
    return flags & _UP_RUNNING == _UP_RUNNING


def number_of(interface: str) -> int:
    """Return the kernel's number of an interface: another one if it was made anew; 0: none."""
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return 0


@dataclass(slots=True)
class Steady:
    """Passes on a change only when it has lasted."""

    told: tuple[str, ...] = ()
    _seen: tuple[str, ...] = field(default=())
    _since_ns: int = 0

    def notice(self, out: tuple[str, ...], now: int) -> bool:
        """Take what is seen now; return whether `told`, what may be believed, has changed."""
        if out != self._seen:
            self._seen, self._since_ns = out, now
        wait_ns = OUT_NS if out else IN_NS
        if out == self.told or now - self._since_ns < wait_ns:
            return False
        self.told = out
        return True
