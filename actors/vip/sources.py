"""Which routes make an IPv4 address the source of the node's own connections (`one_side`).

Each route of the interface is covered by two that are one bit longer, with the address as the
preferred source. The node's own address and routes stay untouched, so their connections go on;
and the kernel removes exactly the routes added here when the address goes, whoever removes it:
the module, the guard, or an administrator.
"""

import ipaddress
from dataclasses import dataclass, replace

LONGEST_SPLIT = 30  # A longer destination has no room for two halves.


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the main table."""

    destination: ipaddress.IPv4Network
    index: int  # Of the interface; 0: it leads elsewhere, or in a way that is not ours to copy.
    gateway: str = ""  # Empty: on the link.
    source: str = ""  # Preferred; empty: the kernel chooses.
    metric: int = 0
    onlink: bool = False  # The gateway is in no subnet of the interface.


def preferring(routes: tuple[Route, ...], index: int, address: str) -> tuple[Route, ...]:
    """Return the routes to add so that what leaves by an interface comes from `address`."""
    best: dict[ipaddress.IPv4Network, Route] = {}
    for route in routes:
        known = best.get(route.destination)
        if known is None or route.metric < known.metric:
            best[route.destination] = route
    wanted = []
    for destination, route in best.items():
        if route.index != index or address == route.source or destination.prefixlen > LONGEST_SPLIT:
            continue
        for half in destination.subnets():
            if half not in best:
                wanted.append(replace(route, destination=half, source=address, metric=0))
    return tuple(wanted)
