"""Who answers for the virtual addresses now, and whether announcements are heard."""

from collections.abc import Iterable
from typing import NamedTuple

from mirrorfarm.netfilter.delivery import Delivery
from mirrorfarm.netfilter.finding import Check, Level, Verdict, listed
from mirrorfarm.netfilter.pairs import not_reached

_STRANGER_CURE = (
    "find the machine by its MAC in the switch's MAC table and take the address off it, or give "
    "the farm another address; ARP or ND proxies of routers answer as well: switch them off"
)


class Owner(NamedTuple):
    """Somebody that answers for an address."""

    mac: str  # What it says.
    source: str  # What it sends from.


def owners(check: Check, segment: int) -> list[Verdict]:
    """Return who answers for each address of a segment."""
    found = []
    place = next(iter(check.places(segment).values()), None)
    for address in place.addresses if place is not None else ():
        found += _owners_of(check, segment, address)
    return found


def strangers(check: Check, address: int) -> list[Owner]:
    """Return who answers for an address and is not of this farm."""
    known = {p.mac: node for node in check.present for p in check.facts[node].places}
    shared = check.first.virtual_macs[address]
    found: dict[Owner, None] = {}
    for node in check.present:
        for claim in check.reports[node].claims:
            if claim.address == address and not (
                claim.source in known and claim.mac in {shared, *known}
            ):
                found[Owner(claim.mac, claim.source)] = None
    return list(found)


def _owners_of(check: Check, segment: int, address: int) -> list[Verdict]:
    text = check.first.addresses[address]
    foreign = strangers(check, address)
    if check.first.delivery == Delivery.NONE:
        told = listed(o.mac for o in foreign) if foreign else "nobody here"
        why = "the load balancer in front should be the one that has it"
        return [Verdict(Level.OK, "owner", f"{text}: {told} answers for it", why)]
    found = [_stranger(check, text, address, owner) for owner in foreign]
    found += _own_macs(check, segment, address)
    return found or _expected(check, segment, address)


def _stranger(check: Check, text: str, address: int, owner: Owner) -> Verdict:
    shared = check.first.virtual_macs[address]
    missing = [node for node in check.nodes if node not in check.present]
    perhaps = f", or this is {listed(missing)}, which takes no part in the check" if missing else ""
    level = Level.WARNING if missing else Level.PROBLEM
    if owner.mac == shared:
        told = f"{text}: {owner.source}, which is no node of this farm, answers with its MAC too"
        why = f"another farm has the same address{perhaps}"
        return Verdict(level, "owner", told, why, _STRANGER_CURE)
    sends = "" if owner.source == owner.mac else f" (sent from {owner.source})"
    if missing and not shared:  # Nodes answer with their own MACs.
        told = f"{text}: {owner.mac}{sends}, which is no node of this check, answers for it"
        why = f"a stranger owns the address{perhaps}"
        return Verdict(level, "owner", told, why, _STRANGER_CURE)
    told = f"{text}: a stranger owns the address: {owner.mac}{sends} answers for it"
    why = "neighbours that learn its MAC are not served by the farm"
    return Verdict(Level.PROBLEM, "owner", told, why, _STRANGER_CURE)


def _verb(names: Iterable[str]) -> str:
    return "answer" if len(tuple(names)) > 1 else "answers"


def _answers(check: Check, segment: int, address: int) -> dict[str, set[str]]:
    """Return which MACs each node answered with."""
    by_mac = {p.mac: node for node in check.present for p in check.facts[node].places}
    found: dict[str, set[str]] = {}
    for node in check.places(segment):
        for claim in check.reports[node].claims:
            if claim.address == address and claim.source in by_mac:
                found.setdefault(by_mac[claim.source], set()).add(claim.mac)
    return found


def _own_macs(check: Check, segment: int, address: int) -> list[Verdict]:
    """Return the nodes that answer with their own MAC where a virtual one is to be told."""
    shared = check.first.virtual_macs[address]
    text = check.first.addresses[address]
    if not shared:
        return []
    wrong = [n for n, macs in sorted(_answers(check, segment, address).items()) if macs != {shared}]
    if not wrong:
        return []
    return [
        Verdict(
            Level.PROBLEM,
            "owner",
            f"{text}: {check.who(wrong)} {_verb(wrong)} with its own MAC",
            "the address is on an interface of the node, by hand or by another product: that "
            "node alone would be sent the traffic",
            f"remove it there: `ip address del {text}/… dev INTERFACE`",
        )
    ]


def _expected(check: Check, segment: int, address: int) -> list[Verdict]:
    """Return whether those nodes answer that should, when nobody else does."""
    text = check.first.addresses[address]
    answered = _answers(check, segment, address)
    places = check.places(segment)
    up = [node for node in check.up if node in places]
    said = f"{check.who(answered)} {_verb(answered)} for it"
    if not check.up:
        if answered:
            return [
                Verdict(Level.WARNING, "owner", f"{text}: {said}, though the module is stopped")
            ]
        what = f"{text}: nobody answers for it, as it should be while the module is stopped"
        return [Verdict(Level.OK, "owner", what)]
    if len(places) < 2:
        why = "a node does not hear its own answers, and no other asks"
        return [Verdict(Level.UNTESTED, "owner", f"{text}: whether the farm answers for it", why)]
    if check.first.delivery == Delivery.DIRECTED:
        # Who owns the bucket of the asker answers; the one that asks cannot hear itself.
        told = said if answered else "no node answered another one"
        return [Verdict(Level.OK, "owner", f"{text}: {told}; one node at a time does")]
    lacking = [n for n in up if n not in answered and check.roles.get(n) == "UP"]
    if lacking:
        why = "its responder does not run, or ARP and neighbour discovery are filtered on the way"
        cure = f"`mirrorfarm -H {','.join(lacking)} state` tells how the module is there"
        does = "do" if len(lacking) > 1 else "does"
        what = f"{text}: {check.who(lacking)} {does} not answer for it"
        return [Verdict(Level.WARNING, "owner", what, why, cure)]
    shared = check.first.virtual_macs[address]
    return [Verdict(Level.OK, "owner", f"{text}: {said}, with {shared}, and nobody else")]


def announcements(check: Check, segment: int) -> list[Verdict]:
    """Return whether gratuitous ARP and unsolicited advertisements are heard and obeyed."""
    if check.first.delivery == Delivery.NONE:
        return []
    places = check.places(segment)
    together = check.together(segment)
    numbers = next(iter(places.values())).addresses
    addresses = listed(check.first.addresses[n] for n in numbers)
    if check.unannounced:
        what = f"{check.name(segment)}: whether announcements of {addresses} arrive"
        return [Verdict(Level.UNTESTED, "announcement", what, check.unannounced)]
    found: list[Verdict] = []
    for number in numbers:
        lacking = [(a, b) for a, b in together if not _told(check, number, (places[a].mac, b))]
        if lacking:
            found.append(_unheard(check, tuple(places), number, lacking))
    if not found:
        what = (
            f"{check.name(segment)}: announcements of {addresses} by every node reach "
            f"{check.whole(segment)}"
        )
        found.append(Verdict(Level.OK, "announcement", what))
    return found + _learned(check, segment, numbers)


def _told(check: Check, number: int, pair: tuple[str, str]) -> bool:
    source, receiver = pair
    told = check.reports[receiver].told
    return any(one.address == number and one.source == source for one in told)


def _unheard(
    check: Check, nodes: tuple[str, ...], number: int, lacking: list[tuple[str, str]]
) -> Verdict:
    text = check.first.addresses[number]
    kind = "neighbour advertisements" if ":" in text else "gratuitous ARP"
    guard = "ND inspection, RA guard, MLD snooping" if ":" in text else "dynamic ARP inspection"
    return Verdict(
        Level.WARNING,
        "announcement",
        f"{text}: {kind}: {not_reached(lacking, nodes)}",
        f"the switch or a firewall drops them ({guard}); clients learn the address by asking "
        "alone, and keep what they know for minutes when it changes",
        f"allow {text} on the ports of the nodes",
    )


def _learned(check: Check, segment: int, numbers: tuple[int, ...]) -> list[Verdict]:
    """Return whether kernels change their neighbour entries by an announcement."""
    name = check.name(segment)
    if check.unplanted:
        what = f"{name}: whether a neighbour's entry is changed by an announcement"
        return [Verdict(Level.UNTESTED, "announcement", what, check.unplanted)]
    deaf, heard, obeyed = [], 0, 0
    for node, place in check.places(segment).items():
        others = {p.mac for n, p in check.places(segment).items() if n != node}
        for entry in check.reports[node].learned:
            if entry.address not in place.addresses or entry.address not in numbers:
                continue
            if not any(_told(check, entry.address, (mac, node)) for mac in others):
                continue  # Nothing came that could change it; that is told already.
            heard += 1
            shared = check.first.virtual_macs[entry.address]
            if entry.mac in ({shared} if shared else others):
                obeyed += 1
            else:
                deaf.append((node, check.first.addresses[entry.address]))
    if deaf:
        return [
            Verdict(
                Level.WARNING,
                "announcement",
                f"{name}: announcements change nothing on {check.who(n for n, _ in deaf)} "
                f"({listed(text for _, text in deaf)})",
                "kernel parameters drop_gratuitous_arp or drop_unsolicited_na, or a firewall there",
                "set them to 0; clients and routers that do the same go on with an old MAC until "
                "they ask again",
            )
        ]
    if not obeyed:
        what = f"{name}: whether a neighbour's entry is changed by an announcement"
        why = "no announcement arrived"
        if heard or not any(check.reports[node].learned for node in check.places(segment)):
            why = "the nodes have entries of their own for the addresses, which were left alone"
        return [Verdict(Level.UNTESTED, "announcement", what, why)]
    what = f"{name}: announcements change the neighbour entries of the other nodes"
    return [Verdict(Level.OK, "announcement", what)]
