"""List the routes of IPv4 of this node, add some, remove some, and hear when any changes.

By netlink itself: what a route has beside its way (metrics such as the MTU, the realm) is handed
on as the kernel told it, also what no library knows by name.
"""

import contextlib
import errno
import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Iterator

from mirrorfarm.actors.guard.process import (
    ACK,
    ATTRIBUTE,
    DONE,
    DUMP,
    ERROR,
    HEADER,
    INTERRUPTED,
    JOIN,
    LISTINGS_MAX,
    NETLINK_LEVEL,
    PACKET_BYTES_MAX,
    PACKETS_AT_ONCE_MAX,
    REQUEST,
)
from mirrorfarm.actors.vip.sources import Route

MAIN_TABLE = 254
_TIMEOUT_S = 1.0

# linux/netlink.h, linux/rtnetlink.h
_STRICT = 12  # NETLINK_GET_STRICT_CHK
# Groups that are told: of interfaces, of addresses and of routes of IPv4.
_LINKS, _ADDRESSES, _ROUTES = 1, 5, 7
_NEW, _DELETE, _GET = 24, 25, 26
_CREATE, _EXCLUSIVE = 0x400, 0x200
_DST, _OIF, _GATEWAY, _PRIORITY, _PREFSRC, _METRICS, _FLOW, _TABLE = 1, 4, 5, 6, 7, 8, 11, 15
_VIA, _ENCAP, _MULTIPATH = 18, 22, 9
_MORE_THAN_A_GATEWAY = (_VIA, _ENCAP, _MULTIPATH)
_COPIED = (_METRICS, _FLOW)
_STATIC = 4  # RTPROT_*: not the kernel's own, nor of a daemon that would remove it.
_UNICAST = 1
_ONLINK = 4  # RTNH_F_ONLINK: the gateway is on the link, although no subnet says so.
_KIND = 0x3FFF  # Of an attribute, without its flags.

_route = struct.Struct("=BBBBBBBBI")
_word = struct.Struct("=I")


def listed() -> tuple[Route, ...]:
    """Return the routes of the main table, in the kernel's order; OSError: not all are known."""
    for _ in range(LISTINGS_MAX):
        with contextlib.suppress(InterruptedError), _open() as sock:
            with contextlib.suppress(OSError):  # Since Linux 4.20; else it tells all tables.
                sock.setsockopt(NETLINK_LEVEL, _STRICT, 1)
            body = _route.pack(socket.AF_INET, 0, 0, 0, MAIN_TABLE, 0, 0, 0, 0)
            return tuple(_read(one) for one in _ask(sock, _GET, DUMP, body) if _is_main(one))
    raise InterruptedError(errno.EINTR, "routes changed whenever they were listed")


def add(route: Route) -> None:
    """Add a route to the main table; nothing if it is there. OSError: the kernel refuses."""
    _change(_NEW, _CREATE | _EXCLUSIVE, route, errno.EEXIST)


def remove(route: Route) -> None:
    """Remove a route of the main table; nothing if it is gone. OSError: the kernel refuses."""
    _change(_DELETE, 0, route, errno.ESRCH, errno.ENODEV)


class News:
    """Tells whether interfaces, addresses or routes have changed; the first answer is yes."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def heard(self) -> bool:
        """Return whether anything may have changed since the last call; OSError: not known."""
        if self._socket is None:
            self._socket = self._join()
            return True
        changed = False
        for _ in range(PACKETS_AT_ONCE_MAX):
            try:
                self._socket.recv(PACKET_BYTES_MAX)
            except BlockingIOError:
                break
            except OSError:  # More changed than there was room for.
                pass
            changed = True
        return changed

    def close(self) -> None:
        """Close the socket; the next use opens one."""
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()

    @staticmethod
    def _join() -> socket.socket:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        try:
            sock.setblocking(False)
            sock.bind((0, 0))  # Without a number of its own it is told nothing.
            for group in (_LINKS, _ADDRESSES, _ROUTES):
                sock.setsockopt(NETLINK_LEVEL, JOIN, group)
        except OSError:
            sock.close()
            raise
        return sock


def _open() -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    sock.settimeout(_TIMEOUT_S)
    return sock


def _change(kind: int, flags: int, route: Route, *harmless: int) -> None:
    destination = route.destination
    flags_of_way = _ONLINK if route.onlink else 0
    body = _route.pack(
        *(socket.AF_INET, destination.prefixlen, 0, route.tos),
        *(MAIN_TABLE, _STATIC, route.scope, _UNICAST, flags_of_way),
    )
    body += _packed(_DST, destination.network_address.packed)
    body += _packed(_OIF, _word.pack(route.index))
    if route.gateway:
        body += _packed(_GATEWAY, socket.inet_aton(route.gateway))
    if route.source:
        body += _packed(_PREFSRC, socket.inet_aton(route.source))
    if route.metric:
        body += _packed(_PRIORITY, _word.pack(route.metric))
    try:
        with _open() as sock:
            for _ in _ask(sock, kind, flags | ACK, body + route.rest):
                pass
    except OSError as error:
        if error.errno not in harmless:
            raise


def _ask(sock: socket.socket, kind: int, flags: int, body: bytes) -> Iterator[bytes]:
    """Send one request; yield the bodies of the answers. InterruptedError: some may be missing."""
    sock.send(HEADER.pack(HEADER.size + len(body), kind, flags | REQUEST, 1, 0) + body)
    whole = True
    while True:
        data, at = sock.recv(PACKET_BYTES_MAX), 0
        while at + HEADER.size <= len(data):
            size, answer, marks, _, _ = HEADER.unpack_from(data, at)
            content = data[at + HEADER.size : at + size]
            whole = whole and not marks & INTERRUPTED
            if answer in (DONE, ERROR):
                code = int.from_bytes(content[:4], sys.byteorder, signed=True) if content else 0
                if code < 0:
                    raise OSError(-code, os.strerror(-code))
                if not whole:
                    raise InterruptedError
                return
            yield content
            at += max(HEADER.size, (size + 3) & ~3)


def _is_main(body: bytes) -> bool:
    table: int = _route.unpack_from(body)[4]
    entry = _attributes(body).get(_TABLE)
    return (_word.unpack(entry)[0] if entry else table) == MAIN_TABLE


def _read(body: bytes) -> Route:
    _, length, _, tos, _, _, scope, kind, flags = _route.unpack_from(body)
    entry = _attributes(body)
    plain = kind == _UNICAST and not any(name in entry for name in _MORE_THAN_A_GATEWAY)
    return Route(
        ipaddress.IPv4Network((entry.get(_DST, bytes(4)), length)),
        _word.unpack(entry.get(_OIF, bytes(4)))[0] if plain else 0,
        socket.inet_ntoa(entry[_GATEWAY]) if _GATEWAY in entry else "",
        socket.inet_ntoa(entry[_PREFSRC]) if _PREFSRC in entry else "",
        _word.unpack(entry.get(_PRIORITY, bytes(4)))[0],
        bool(flags & _ONLINK),
        tos,
        scope,
        b"".join(_packed(name, entry[name]) for name in _COPIED if name in entry),
    )


def _attributes(body: bytes) -> dict[int, bytes]:
    found, at = {}, _route.size
    while at + ATTRIBUTE.size <= len(body):
        size, kind = ATTRIBUTE.unpack_from(body, at)
        found[kind & _KIND] = body[at + ATTRIBUTE.size : at + size]
        at += max(ATTRIBUTE.size, (size + 3) & ~3)
    return found


def _packed(kind: int, value: bytes) -> bytes:
    """Return an attribute, filled up to whole words."""
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)
