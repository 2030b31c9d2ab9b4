"""Whether frames for the virtual MACs reach every node, and if not, which switch would do so."""

from mirrorfarm.netfilter.delivery import Delivery
from mirrorfarm.netfilter.finding import Check, Level, Verdict
from mirrorfarm.netfilter.pairs import Pair, between, between_in_words, not_reached
from mirrorfarm.netfilter.preflight import PROBES, Kind

Pairs = list[Pair]

APART_CURE = (
    "check the cable, the switch port and its VLAN, and that the address is configured on the "
    "right interface of each node (userconfig.xml: <interface name=…>)"
)
BROADCAST_CURE = "raise or remove the limit for broadcasts (storm control) on the port of the node"
OWN_CURE = (
    "look for port security, a filter for MACs, or two machines with the same MAC; `bridge fdb "
    "show` or the switch's MAC table tells where the switch believes the node to be"
)
UNFLOODED_WHY = (
    "the switch does not flood frames to a unicast MAC that it has not learned; broadcasts and "
    "frames to the node's own MAC arrive"
)
UNFLOODED_CURE = (
    "Linux bridge: `bridge link set dev PORT flood on` for the port of the node. Switch: end the "
    "blocking of unknown unicast (UUFB, `switchport block unicast`), storm control of unknown "
    "unicast and port security on that port. VMware: Promiscuous mode and Forged transmits of the "
    "port group. Hyper-V: MAC address spoofing. Clouds cannot do it. Where it cannot be had: "
    '<virtual_interface type="multicast">, or type="vmac_directed", which needs no flooding'
)
LEARNED_WHY = (
    "the switch believes that the virtual MAC is behind this node: something sends frames with "
    "it as their source"
)
LEARNED_CURE = (
    "remove the virtual MAC from the interface of the machine that sends from it (a cloned "
    "interface, another product, a macvlan), then clear the switch's MAC table"
)
SNOOPING_WHY = (
    "the switch forwards frames to a group MAC only to ports where a member asked for it (IGMP "
    "snooping with a querier, or flooding of multicast off), and nobody can ask for this MAC"
)
SNOOPING_CURE = (
    "Linux bridge: `bridge link set dev PORT mcast_router 2` for the port of every node, or `ip "
    "link set BRIDGE type bridge mcast_snooping 0`, and `bridge link set dev PORT mcast_flood on`. "
    "Switch: a static multicast entry for this MAC on the ports of all nodes, or no IGMP snooping "
    'in this VLAN. Or use <virtual_interface type="vmac_invisible">'
)
CARD_WHY = (
    "the frames arrive only while the interface receives everything: its card or driver does "
    "not take a second MAC"
)
CARD_CURE = "`ip link set INTERFACE promisc on` on the node, at each boot"


def delivery(check: Check, segment: int) -> list[Verdict]:
    """Return whether the nodes meet at all, and whether the virtual MACs reach every node."""
    nodes = tuple(check.places(segment))
    pairs = check.pairs(segment)
    broadcast = {p for p in pairs if _frames(check, p, segment, Kind.BROADCAST, 0)}
    own = {p for p in pairs if _frames(check, p, segment, Kind.OWN, check.nodes.index(p[1]))}
    together = check.together(segment)
    apart = [p for p in pairs if p not in together]
    found = _wrong_interface(check, segment, apart)
    if apart and not found:
        found.append(
            Verdict(
                Level.PROBLEM,
                "network",
                f"{check.name(segment)}: {not_reached(apart, nodes)}",
                "not even broadcasts arrive: they are not on the same network segment, or the "
                "client network is cut there",
                APART_CURE,
            )
        )
    found += _controls(check, segment, together, broadcast, own)
    if not found:
        what = f"{check.name(segment)}: {check.who(nodes)} are on one network"
        found.append(Verdict(Level.OK, "network", what))
    for address, mac in _virtual_macs(check, segment).items():
        found += _virtual(check, segment, address, mac, together)
    return found


def matrix(check: Check, segment: int, address: int) -> dict[str, dict[str, int]]:
    """Return how many of the frames to a virtual MAC came from each sender to each receiver."""
    nodes = tuple(check.places(segment))
    return {
        a: {b: _frames(check, (a, b), segment, Kind.VIRTUAL, address) for b in nodes if b != a}
        for a in nodes
    }


def incomplete(check: Check, segment: int, address: int) -> list[tuple[int, str, str]]:
    """Return how many frames to a virtual MAC came, from and to whom, where some are missing."""
    nodes = tuple(check.places(segment))
    counts = matrix(check, segment, address)
    by_count: dict[int, Pairs] = {}
    for a, b in check.pairs(segment):
        by_count.setdefault(counts[a][b], []).append((a, b))
    return [
        (count, *words)
        for count in sorted(by_count)
        if count < PROBES
        for words in between(by_count[count], nodes)
    ]


def virtual_addresses(check: Check, segment: int) -> tuple[int, ...]:
    """Return an address for each virtual MAC of a segment."""
    return tuple(_virtual_macs(check, segment))


def _frames(check: Check, pair: tuple[str, str], segment: int, kind: Kind, target: int) -> int:
    sender, receiver = pair
    return check.frames(receiver, sender, segment, kind, target)


def _virtual_macs(check: Check, segment: int) -> dict[int, str]:
    """Return the virtual MACs of a segment by an address that has them."""
    place = next(iter(check.places(segment).values()), None)
    return check.first.shared(place) if place is not None else {}


def _wrong_interface(check: Check, segment: int, apart: Pairs) -> list[Verdict]:
    """Return the nodes that the frames reach on another interface than the address belongs to."""
    found: dict[tuple[str, str, str], None] = {}
    for sender, receiver in apart:
        place = check.facts[receiver].place(segment)
        for row in check.rows(receiver, sender, segment, Kind.BROADCAST):
            if place is not None and row.interface != place.interface:
                found[receiver, place.interface, row.interface] = None
    return [
        Verdict(
            Level.PROBLEM,
            "network",
            f"{check.name(segment)}: on {node} the others are reached by {real}, not by {wrong}",
            f"the address is taken to belong to {wrong}, whose network the others are not on",
            f"name the interface in userconfig.xml (<interface name=…>), or correct the subnets "
            f"of {wrong} and {real} on {node}",
        )
        for node, wrong, real in found
    ]


def _controls(
    check: Check, segment: int, together: Pairs, broadcast: set[Pair], own: set[Pair]
) -> list[Verdict]:
    """Return what is wrong with broadcasts and with frames to the nodes' own MACs."""
    nodes = tuple(check.places(segment))
    found = []
    for which, words, cure in (
        (broadcast, "broadcasts", BROADCAST_CURE),
        (own, "frames to the node's own MAC", OWN_CURE),
    ):
        lacking = [pair for pair in together if pair not in which]
        if lacking:
            what = f"{check.name(segment)}: {words}: {not_reached(lacking, nodes)}"
            why = "other frames arrive there: something drops these (their ethertype is 0x88B5)"
            found.append(Verdict(Level.PROBLEM, "network", what, why, cure))
    return found


def _virtual(check: Check, segment: int, address: int, mac: str, together: Pairs) -> list[Verdict]:
    """Return whether one virtual MAC is delivered."""
    nodes = tuple(check.places(segment))
    counts = {p: _frames(check, p, segment, Kind.VIRTUAL, address) for p in together}
    wide = {p: _frames(check, p, segment, Kind.WIDE_VIRTUAL, address) for p in together}
    interfaces = check.name(segment).partition(" ")[0]
    name = f"{interfaces}: virtual MAC {mac} of {check.first.addresses[address]}"
    none = [pair for pair in together if not counts[pair]]
    deaf = [pair for pair in none if wide[pair]]
    lost = [pair for pair in none if not wide[pair]]
    some = [pair for pair in together if 0 < counts[pair] < PROBES]
    found = []
    if deaf:
        what = f"{name}: {not_reached(deaf, nodes)}"
        found.append(Verdict(Level.PROBLEM, "delivery", what, CARD_WHY, CARD_CURE))
    if lost:
        what = f"{name}: {not_reached(lost, nodes)}"
        why, cure = _cause(check, counts, lost)
        found.append(Verdict(Level.PROBLEM, "delivery", what, why, cure))
    if some:
        worst = min(some, key=lambda pair: counts[pair])
        what = f"{name}: of {PROBES} frames only {counts[worst]} came from {worst[0]} to {worst[1]}"
        why = f"frames are lost from {between_in_words(some, nodes)}"
        cure = "look for a limit of flooding (storm control), a full link, or a port with errors"
        found.append(Verdict(Level.WARNING, "delivery", what, why, cure))
    if not found and together:
        what = f"{name}: each of {PROBES} frames of every node reached {check.whole(segment)}"
        found.append(Verdict(Level.OK, "delivery", what))
    return found


def _cause(check: Check, counts: dict[tuple[str, str], int], lost: Pairs) -> tuple[str, str]:
    """Return why, and what to do, where a virtual MAC does not arrive."""
    if check.first.delivery == Delivery.MULTICAST:
        return SNOOPING_WHY, SNOOPING_CURE
    reached = {b for (_, b), count in counts.items() if count}
    if len(reached) == 1 and len({b for _, b in lost}) > 1:
        return f"only {min(reached)} receives them: {LEARNED_WHY}", LEARNED_CURE
    return UNFLOODED_WHY, UNFLOODED_CURE
