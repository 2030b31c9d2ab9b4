"""Routes that make a virtual address the source of the node's own connections."""

import ipaddress

from mirrorfarm.actors.vip.sources import Route, preferring

VIP = "198.18.0.100"


def route(destination: str, index: int = 2, **changes: object) -> Route:
    return Route(ipaddress.IPv4Network(destination), index, **changes)  # type: ignore[arg-type]


def shown(routes: tuple[Route, ...]) -> list[str]:
    return [f"{r.destination} {r.gateway or 'link'} {r.source} {r.index}" for r in routes]


def test_the_subnet_and_the_way_out_are_covered_by_longer_routes() -> None:
    given = (
        route("0.0.0.0/0", gateway="198.18.0.254", metric=100),
        route("198.18.0.0/24", source="198.18.0.1"),
    )
    assert shown(preferring(given, 2, VIP)) == [
        f"0.0.0.0/1 198.18.0.254 {VIP} 2",
        f"128.0.0.0/1 198.18.0.254 {VIP} 2",
        f"198.18.0.0/25 link {VIP} 2",
        f"198.18.0.128/25 link {VIP} 2",
    ]


def test_other_interfaces_keep_their_traffic() -> None:
    given = (
        route("0.0.0.0/0", gateway="198.18.0.254", metric=100),
        route("0.0.0.0/0", index=3, gateway="198.19.0.254", metric=50),
        route("198.19.0.0/24", index=3),
        route("198.18.0.128/25", index=3),
        route("198.18.0.0/24"),
    )
    assert shown(preferring(given, 2, VIP)) == [f"198.18.0.0/25 link {VIP} 2"]


def test_again_is_the_same_and_single_addresses_are_left_alone() -> None:
    given = (route("198.18.0.0/24"), route("198.18.0.7/32", gateway="198.18.0.9"))
    added = preferring(given, 2, VIP)
    assert len(added) == 2
    assert preferring((*given, *added), 2, VIP) == ()
