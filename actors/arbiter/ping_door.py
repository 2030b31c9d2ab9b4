"""Ask addresses for an ICMP echo (RFC 792, RFC 4443) without any other program."""

import os
import queue
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass

from mirrorfarm.actors.effects import PingProbe
from mirrorfarm.actors.events import PingAnswered
from mirrorfarm.actors.shell import Inbox
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS

PROBES_WAITING_MAX = 8
PACKET_BYTES_MAX = 2_048
TIMEOUT_NS_MAX = 5 * SECOND_NS
_TOKEN_BYTES = 16
_HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence


@dataclass(frozen=True, slots=True)
class _Kind:
    """ICMP of one address family."""

    family: int
    protocol: int
    request: int
    reply: int


_ICMP4 = _Kind(socket.AF_INET, socket.IPPROTO_ICMP, 8, 0)
_ICMP6 = _Kind(socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129)


class PingDoor:
    """Performs `PingProbe`, one after the other, on a thread of its own."""

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[PingProbe, Inbox] | None] = queue.Queue(PROBES_WAITING_MAX)
        self._thread: threading.Thread | None = None

    def probe(self, effect: PingProbe, inbox: Inbox) -> None:
        """Start a probe; PingAnswered follows. Too many at once, or no thread: nobody answered."""
        try:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="ping", daemon=True)
                thread.start()
                self._thread = thread
            self._queue.put_nowait((effect, inbox))
        except (queue.Full, RuntimeError):
            inbox(PingAnswered(effect.request))

    def close(self) -> None:
        """Finish what was ordered and end the thread."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout=2 * TIMEOUT_NS_MAX / SECOND_NS)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            effect, inbox = work
            try:
                answered = ping(effect.addresses, effect.timeout_ns)
            except OSError:
                answered = ()
            inbox(PingAnswered(effect.request, answered))


def ping(addresses: tuple[str, ...], timeout_ns: int) -> tuple[str, ...]:
    """Send one echo request to each address; return, in order, those that answered in time.

    `timeout_ns` is cut to TIMEOUT_NS_MAX. What cannot be reached, or asked for lack of a
    privilege, has not answered. Host names are not resolved.
    """
    deadline_ns = time.monotonic_ns() + min(timeout_ns, TIMEOUT_NS_MAX)
    token = os.urandom(_TOKEN_BYTES)
    open_sockets: dict[int, tuple[socket.socket, _Kind]] = {}
    waiting: dict[tuple[int, bytes], str] = {}  # family and packed address -> as it was given
    try:
        for number, address in enumerate(addresses):
            kind = _ICMP6 if ":" in address else _ICMP4
            try:
                packed = socket.inet_pton(kind.family, address)
                opened = _open(kind, open_sockets)
                opened.sendto(_request(kind, number, token), (address, 0))
            except OSError:
                continue
            waiting[kind.family, packed] = address
        answered = _collect(open_sockets, waiting, token, deadline_ns)
    finally:
        for opened, _ in open_sockets.values():
            opened.close()
    return tuple(address for address in addresses if address in answered)


def _open(kind: _Kind, open_sockets: dict[int, tuple[socket.socket, _Kind]]) -> socket.socket:
    """Return the socket of this family, opening it if it is the first one."""
    if kind.family in open_sockets:
        return open_sockets[kind.family][0]
    try:
        opened = socket.socket(kind.family, socket.SOCK_DGRAM, kind.protocol)
    except OSError:  # Not for this group: net.ipv4.ping_group_range.
        opened = socket.socket(kind.family, socket.SOCK_RAW, kind.protocol)
    opened.setblocking(False)
    open_sockets[kind.family] = opened, kind
    return opened


def _request(kind: _Kind, number: int, token: bytes) -> bytes:
    identifier = os.getpid() & 0xFFFF
    blank = _HEADER.pack(kind.request, 0, 0, identifier, number & 0xFFFF) + token
    if kind is _ICMP6:
        return blank  # The kernel computes a checksum that includes the addresses.
    checksum = _checksum(blank)
    return _HEADER.pack(kind.request, 0, checksum, identifier, number & 0xFFFF) + token


def _checksum(data: bytes) -> int:
    """Return the Internet checksum of an even number of bytes (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _collect(
    open_sockets: dict[int, tuple[socket.socket, _Kind]],
    waiting: dict[tuple[int, bytes], str],
    token: bytes,
    deadline_ns: int,
) -> set[str]:
    """Wait for the echoes until all are here or the time is over."""
    answered: set[str] = set()
    poller = select.poll()
    by_descriptor = {opened.fileno(): (opened, kind) for opened, kind in open_sockets.values()}
    for descriptor in by_descriptor:
        poller.register(descriptor, select.POLLIN)
    while waiting:
        left_ns = deadline_ns - time.monotonic_ns()
        if left_ns <= 0:
            break
        for descriptor, _ in poller.poll(-(-left_ns // MILLISECOND_NS)):
            opened, kind = by_descriptor[descriptor]
            try:
                data, source = opened.recvfrom(PACKET_BYTES_MAX)
            except OSError:  # An ICMP error that came for this socket: nobody answered.
                continue
            packed = socket.inet_pton(kind.family, source[0].partition("%")[0])
            if _is_reply(opened, kind, data, token) and (kind.family, packed) in waiting:
                answered.add(waiting.pop((kind.family, packed)))
    return answered


def _is_reply(opened: socket.socket, kind: _Kind, data: bytes, token: bytes) -> bool:
    if kind is _ICMP4 and opened.type == socket.SOCK_RAW:
        data = data[(data[0] & 0x0F) * 4 :]  # A raw socket gives the IP header as well.
    return (
        len(data) == _HEADER.size + _TOKEN_BYTES
        and data[0] == kind.reply
        and (data[_HEADER.size :] == token)
    )
