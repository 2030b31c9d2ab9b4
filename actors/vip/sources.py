"""Which routes make an IPv4 address the source of the node's own connections (`one_side`).

Each route of the interface is covered by two that are one bit longer, with the address as the
preferred source, and all else as it has it. The node's own address and routes stay untouched, so
their connections go on; and the kernel removes exactly the routes added here when the address
goes, whoever removes it: the module, the guard, or an administrator.
"""

import ipaddress
from dataclasses import dataclass, replace

LONGEST_SPLIT = 30  # A longer destination has no room for two halves.
_SCOPE_LINK = 253


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the main table."""

    destination: ipaddress.IPv4Network
    index: int  # Of the interface; 0: it leads elsewhere, or in a way that is not ours to copy.
    gateway: str = ""  # Empty: on the link.
    source: str = ""  # Preferred; empty: the kernel chooses.
    metric: int = 0
    onlink: bool = False  # The gateway is in no subnet of the interface.
    tos: int = 0  # It is for packets of this type of service alone; 0: for all that have no other.
    scope: int = _SCOPE_LINK
    rest: bytes = b""  # Metrics and the like, as the kernel tells and takes them.

    @property
    def key(self) -> tuple[ipaddress.IPv4Network, int, int]:
        """What no two routes have in common that were not appended on purpose."""
        return self.destination, self.tos, self.metric


def covering(routes: tuple[Route, ...], index: int, address: str) -> tuple[Route, ...]:
    """Return the routes by which what leaves by an interface comes from `address`.

    Those of them that are among `routes` count as added before.
    """
    best: dict[tuple[ipaddress.IPv4Network, int], Route] = {}
    for route in routes:
        known = best.get((route.destination, route.tos))
        if known is None or route.metric < known.metric:
            best[route.destination, route.tos] = route
    # A longer route counts before one that is for the packet's type of service.
    others = {route.destination for route in routes if route.source != address}
    elsewhere = {route.destination for route in best.values() if route.index != index}
    return tuple(
        replace(route, destination=half, source=address)
        for (destination, _), route in best.items()
        if route.source != address
        and destination not in elsewhere
        and destination.prefixlen <= LONGEST_SPLIT
        for half in destination.subnets()
        if half not in others
    )


def preferring(routes: tuple[Route, ...], index: int, address: str) -> tuple[Route, ...]:
    """Return the routes to add so that what leaves by an interface comes from `address`."""
    there = {route.key for route in routes}
    return tuple(one for one in covering(routes, index, address) if one.key not in there)
