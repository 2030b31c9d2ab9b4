"""Put virtual addresses on interfaces and take them off, by netlink.

An alias of IPv4 shares its subnet with the interface's address and is therefore secondary:
the node's own connections keep their source. An alias of IPv6 is added as deprecated for the
same purpose, and without duplicate detection, so that it is usable at once; the probe has
already asked. `one_side` leaves out the deprecation; with IPv4 it adds routes (`sources.py`),
because making it the first address would mean to remove the other and break its connections.

Where a virtual address is the first of its subnet after all (the node has none there, or got its
own later), the kernel would remove all others of that subnet with it: those of other modules, and
the node's own. `promote_secondaries` is set for its interface before it is added, for the guard
too may remove it, and stays set: other addresses may depend on it.
"""

import contextlib
import errno
import ipaddress
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from mirrorfarm.actors.guard.process import Addresses as NodeAddresses
from mirrorfarm.actors.vip import routes
from mirrorfarm.actors.vip.sources import Route, covering, preferring
from mirrorfarm.actors.vip.subnets import Configured, Link, Target, locate
from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.modules.settings import VirtualAddress
from mirrorfarm.netfilter.neighbours import IPAddress

_NO_DUPLICATE_DETECTION = 0x02  # IFA_F_NODAD
_FOR_EVER = 0xFFFFFFFF
_SCOPE_HOST = 254
_SECONDARY = 0x01  # IFA_F_SECONDARY: not the first of its subnet, which is the source.
_OURS = 0x4D  # IFA_PROTO of virtual addresses, also of other modules (since Linux 5.18).
_NEW_ROUTE, _GET_ROUTE = 24, 26  # RTM_*
_DESTINATION, _LOCAL = 1, 2  # RTA_DST, RTN_LOCAL
_THE_ENTRY = 0x2000  # RTM_F_FIB_MATCH: tell the route as it is in the table.

_header = struct.Struct("=IHHII")
_route = struct.Struct("=BBBBBBBBI")

T = TypeVar("T")


class Addresses:
    """The virtual addresses of one module, seen through one netlink socket, kept open.

    To be used by one thread. Methods raise OSError if the kernel refuses.
    """

    def __init__(self, vips: tuple[VirtualAddress, ...]) -> None:
        self._vips = vips
        self._texts = tuple(str(ipaddress.ip_address(vip.addr)) for vip in vips)
        self._socket: Any = None
        # By address, the routes that make it a source: those to remove when others change.
        self._made: dict[str, frozenset[Route]] = {}

    def close(self) -> None:
        """Close the socket; the next use opens one."""
        sock, self._socket = self._socket, None
        if sock is not None:
            with contextlib.suppress(OSError):  # One that failed says so once more.
                sock.close()

    def links(self) -> tuple[Link, ...]:
        """Return the interfaces."""
        found = []
        for entry in self._ask(lambda route: list(route.get_links())):
            mac = entry.get_attr("IFLA_ADDRESS") or ""
            raw = bytes.fromhex(mac.replace(":", "")) if mac.count(":") == 5 else b""
            found.append(Link(entry["index"], entry.get_attr("IFLA_IFNAME"), raw))
        return tuple(found)

    def configured(self) -> tuple[Configured, ...]:
        """Return every address of every interface: none is left out, or OSError is raised.

        Asked as the guard does: pyroute2 does not tell that others changed something meanwhile.
        """
        with contextlib.closing(NodeAddresses()) as node:
            return tuple(
                Configured(index, ipaddress.ip_address(packed), prefix)
                for _, prefix, index, packed in node.present()
            )

    def locate(self) -> tuple[tuple[Target, ...], tuple[str, ...]]:
        """Return where the addresses go, and the faults of those that can go nowhere."""
        links, configured = self.links(), self.configured()
        places = [locate(vip, links, configured, self._texts) for vip in self._vips]
        targets = tuple(place for place in places if isinstance(place, Target))
        return targets, tuple(place for place in places if isinstance(place, str))

    def add(self, target: Target, *, unused: bool = False) -> None:
        """Put one address on its interface; nothing if it is there.

        `unused`: the kernel never takes it, if it is of IPv4, for what the node itself sends.
        """
        request: dict[str, Any] = {
            "index": target.link.index,
            "address": str(target.address),
            "prefixlen": target.prefix,
            "proto": _OURS,
        }
        if target.address.version == 4 and unused:
            request["scope"] = _SCOPE_HOST
        if target.address.version == 6:
            request["flags"] = _NO_DUPLICATE_DETECTION
            if not target.main:
                request.update(preferred_lft=0, valid_lft=_FOR_EVER)
        keep_others(target.link.index, target.address.version)
        self._change("add", request, errno.EEXIST)

    def is_in_front(self, target: Target) -> bool:
        """Return whether an alias is the source of the node's own connections, against its word.

        So it is after the address of the interface went and came back, or another one came.
        """
        if target.main or target.address.version != 4:
            return False
        subnet = ipaddress.IPv4Network((target.address.packed, target.prefix), strict=False)
        first, behind = False, False
        where = {"family": socket.AF_INET, "index": target.link.index}
        for entry in self._ask(lambda route: list(route.get_addr(**where))):
            text, ours = entry.get_attr("IFA_LOCAL"), entry.get_attr("IFA_PROTO") == _OURS
            secondary = bool(entry["flags"] & _SECONDARY)
            if entry["prefixlen"] == target.prefix and ipaddress.IPv4Address(text) in subnet:
                first |= ours and not secondary and text == str(target.address)
                behind |= secondary and not ours
        return first and behind

    def step_back(self, target: Target) -> None:
        """Let another address of its subnet be the source: the kernel takes the one that stays."""
        request = {"index": target.link.index, "address": str(target.address)}
        keep_others(target.link.index, target.address.version)
        self._change("delete", {**request, "prefixlen": target.prefix}, errno.EADDRNOTAVAIL)
        self.add(target)

    def prefer(self, target: Target) -> tuple[str, ...]:
        """Make an address that was added the source of the node's own connections: `one_side`.

        Called again it follows routes that others have changed meanwhile. Return, in words, what
        could not be: the address serves its clients all the same.
        """
        if not target.main or target.address.version != 4:
            return ()
        own = f"{target.address}: not the source of the node's own connections"
        try:
            there = self.routes()
        except OSError as error:
            return (f"{own}: routes cannot be listed: {error}",)
        text = str(target.address)
        wanted = covering(there, target.link.index, text)
        gone = self._made.get(text, frozenset()).difference(wanted)
        keys = {route.key for route in gone}
        left = tuple(route for route in there if route.key not in keys)
        new = preferring(left, target.link.index, text)
        self._made[text] = frozenset(wanted)
        faults = []
        # First what leads where no route leads any more: a new one may take its place.
        changes = [(self._remove_route, route) for route in gone]
        for change, route in (*changes, *[(self._add_route, route) for route in new]):
            try:
                change(route)
            except OSError as error:
                self._made[text] |= gone & {route}
                way = f"via {route.gateway} " if route.gateway else ""
                where = f"{route.destination} {way}on {target.link.name}"
                faults.append(f"{own} to {where}: {error}")
        return tuple(faults)

    def routes(self) -> tuple[Route, ...]:
        """Return the IPv4 routes of the main table."""
        return routes.listed()

    def _add_route(self, route: Route) -> None:
        routes.add(route)

    def _remove_route(self, route: Route) -> None:
        routes.remove(route)

    def present(self) -> tuple[Configured, ...]:
        """Return which of the module's addresses are on this node, on whatever interface."""
        return tuple(entry for entry in self.configured() if str(entry.address) in self._texts)

    def remove(self, interface: str = "") -> None:
        """Take every address of the module off every interface of this node, or off that one.

        OSError: one may be left.
        """
        index = socket.if_nametoindex(interface) if interface else 0
        for entry in self.present():
            if index not in {0, entry.index}:
                continue
            request = {
                "index": entry.index,
                "address": str(entry.address),
                "prefixlen": entry.prefix,
            }
            keep_others(entry.index, entry.address.version)
            self._change("delete", request, errno.EADDRNOTAVAIL)
        if interface:  # Elsewhere it may stay.
            return
        left = [text for text in self._texts if is_local(ipaddress.ip_address(text))]
        if left:
            raise OSError(errno.EADDRINUSE, f"{', '.join(left)}: still an address of this node")

    def _change(self, verb: str, request: dict[str, Any], harmless: int) -> None:
        """Add or delete; `harmless` is the error that says it was done before."""
        try:
            self._ask(lambda route: route.addr(verb, **request))
        except OSError as error:
            if error.errno != harmless:
                raise

    def _ask(self, question: Callable[[Any], T]) -> T:
        """Ask the kernel; a socket that failed is not used again."""
        fresh = self._socket is None
        if self._socket is None:
            self._socket = IPRoute()
        try:
            return question(self._socket)
        except NetlinkError as error:
            raise OSError(error.code, str(error.args[-1])) from error
        except OSError:
            self.close()
            if fresh:
                raise
        return self._ask(question)  # It may have failed long ago.


def is_local(address: IPAddress) -> bool:
    """Return whether an address is this node's, on whatever interface: the kernel's own route.

    Quicker than a list of all addresses, of which a node may have hundreds. A local route of a
    whole subnet, as transparent proxies have, says nothing about it.
    """
    packed = address.packed
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    body = _route.pack(family, address.max_prefixlen, 0, 0, 0, 0, 0, 0, _THE_ENTRY)
    body += struct.pack("=HH", 4 + len(packed), _DESTINATION) + packed
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(1.0)
        sock.send(_header.pack(_header.size + len(body), _GET_ROUTE, 1, 1, 0) + body)
        answer = sock.recv(4_096)
    if _header.unpack_from(answer)[1] != _NEW_ROUTE:
        return False  # There is no way to it at all.
    fields = _route.unpack_from(answer, _header.size)
    return bool(fields[7] == _LOCAL and fields[1] == address.max_prefixlen)


def keep_others(index: int, version: int) -> None:
    """Let other addresses of a subnet stay when its first one goes; IPv6 has no first one."""
    if version == 4:
        with contextlib.suppress(OSError):  # Without it an address can be taken all the same.
            name = socket.if_indextoname(index)
            path = Path(f"/proc/sys/net/ipv4/conf/{name}/promote_secondaries")
            if path.read_text(encoding="ascii").strip() != "1":
                path.write_text("1", encoding="ascii")


def interfaces_of(vips: tuple[VirtualAddress, ...]) -> tuple[str, ...]:
    """Return on whose networks the addresses are; raise SystemUnsuitable if one is on none."""
    addresses = Addresses(vips)
    try:
        targets, faults = addresses.locate()
    finally:
        addresses.close()
    if faults:
        raise SystemUnsuitable("; ".join(faults))
    return tuple(dict.fromkeys(target.link.name for target in targets))


def suitable(vips: tuple[VirtualAddress, ...]) -> list[str]:
    """Return, in words, why this node could not carry the addresses; empty: it could."""
    if not vips:
        return []
    addresses = Addresses(vips)
    try:
        return list(addresses.locate()[1])
    except OSError as error:
        return [f"virtual addresses: the kernel refused to list interfaces: {error}"]
    finally:
        addresses.close()
