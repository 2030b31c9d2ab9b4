"""List the routes of IPv4 of this node, add some, remove some, and hear when any changes.

By netlink itself: what a route has beside its way (metrics such as the MTU, the realm) is handed
on as the kernel told it, also what no library knows by name.
"""

import contextlib
import errno
import ipaddress
import socket
import struct

from mirrorfarm.actors.guard import process
from mirrorfarm.actors.guard.process import JOIN, NETLINK_LEVEL, Netlink, attribute, attributes
from mirrorfarm.actors.vip.sources import Route

MAIN_TABLE = 254

# linux/netlink.h, linux/rtnetlink.h
_STRICT = 12  # NETLINK_GET_STRICT_CHK
# Groups that are told: of interfaces, of addresses and of routes of IPv4.
_GROUPS = (1, 5, 7)
_NEW, _DELETE, _GET = 24, 25, 26
_CREATE, _EXCLUSIVE = 0x400, 0x200
_DST, _OIF, _GATEWAY, _PRIORITY, _PREFSRC, _METRICS, _FLOW, _TABLE = 1, 4, 5, 6, 7, 8, 11, 15
_VIA, _ENCAP, _MULTIPATH = 18, 22, 9
_MORE_THAN_A_GATEWAY = (_VIA, _ENCAP, _MULTIPATH)
_COPIED = (_METRICS, _FLOW)
_STATIC = 4  # RTPROT_*: not the kernel's own, nor of a daemon that would remove it.
_UNICAST = 1
_ONLINK = 4  # RTNH_F_ONLINK: the gateway is on the link, although no subnet says so.

_route = struct.Struct("=BBBBBBBBI")
_word = struct.Struct("=I")


def listed() -> tuple[Route, ...]:
    """Return the routes of the main table, in the kernel's order; OSError: not all are known."""
    with contextlib.closing(Netlink()) as netlink:
        with contextlib.suppress(OSError):  # Since Linux 4.20; else it tells all tables.
            netlink.socket.setsockopt(NETLINK_LEVEL, _STRICT, 1)
        body = _route.pack(socket.AF_INET, 0, 0, 0, MAIN_TABLE, 0, 0, 0, 0)
        return tuple(_read(one) for one in netlink.listed(_GET, body) if _is_main(one))


def add(route: Route) -> None:
    """Add a route to the main table; nothing if it is there. OSError: the kernel refuses."""
    _change(_NEW, _CREATE | _EXCLUSIVE, route, errno.EEXIST)


def remove(route: Route) -> None:
    """Remove a route of the main table; nothing if it is gone. OSError: the kernel refuses."""
    _change(_DELETE, 0, route, errno.ESRCH, errno.ENODEV)


class News:
    """Tells whether interfaces, addresses or routes have changed; the first answer is yes."""

    def __init__(self) -> None:
        self._news: process.News | None = None

    def heard(self) -> bool:
        """Return whether anything may have changed since the last call; OSError: not known."""
        if self._news is not None:
            return self._news.hear()
        news = process.News()
        try:
            news.watch(JOIN, _GROUPS)
        except OSError:
            news.close()
            raise
        self._news = news
        return True

    def close(self) -> None:
        """Close the socket; the next use opens one."""
        news, self._news = self._news, None
        if news is not None:
            news.close()


def _change(kind: int, flags: int, route: Route, *harmless: int) -> None:
    destination = route.destination
    flags_of_way = _ONLINK if route.onlink else 0
    body = _route.pack(
        *(socket.AF_INET, destination.prefixlen, 0, route.tos),
        *(MAIN_TABLE, _STATIC, route.scope, _UNICAST, flags_of_way),
    )
    body += attribute(_DST, destination.network_address.packed)
    body += attribute(_OIF, _word.pack(route.index))
    if route.gateway:
        body += attribute(_GATEWAY, socket.inet_aton(route.gateway))
    if route.source:
        body += attribute(_PREFSRC, socket.inet_aton(route.source))
    if route.metric:
        body += attribute(_PRIORITY, _word.pack(route.metric))
    try:
        with contextlib.closing(Netlink()) as netlink:
            netlink.change(kind, flags, body + route.rest)
    except OSError as error:
        if error.errno not in harmless:
            raise


def _is_main(body: bytes) -> bool:
    table: int = _route.unpack_from(body)[4]
    entry = attributes(body, _route.size).get(_TABLE)
    return (_word.unpack(entry)[0] if entry else table) == MAIN_TABLE


def _read(body: bytes) -> Route:
    _, length, _, tos, _, _, scope, kind, flags = _route.unpack_from(body)
    entry = attributes(body, _route.size)
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
        b"".join(attribute(name, entry[name]) for name in _COPIED if name in entry),
    )
