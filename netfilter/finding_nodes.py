"""What is wrong on the nodes themselves: who is missing, configuration, kernel, filter."""

from mirrorfarm.netfilter.delivery import Delivery
from mirrorfarm.netfilter.finding import Check, Level, Verdict, apiece, merged
from mirrorfarm.netfilter.preflight import Facts


def nodes(check: Check) -> list[Verdict]:
    """Return who took no part, and what nodes have that only one may have, or none."""
    found = merged(((node, _missing(why)) for node, why in check.missing.items()), check.nodes)
    if not check.present:
        return found
    found += _different(check)
    faults = [(node, fault) for node in check.present for fault in _faults(check, node)]
    found += merged(faults, check.nodes)
    found += _same_macs(check)
    if not found:
        what = f"{check.who(check.present)} took part, with one configuration"
        found.append(Verdict(Level.OK, "nodes", what))
    return found


def _missing(why: str) -> Verdict:
    cure = "`mirrorfarm -H {hosts} state` and the journal of mirrorfarm there tell more"
    return Verdict(Level.PROBLEM, "nodes", "{nodes} took no part in the check", why, cure)


def _faults(check: Check, node: str) -> list[Verdict]:
    """Return what is wrong on one node that takes part."""
    facts = check.facts[node]
    found = [Verdict(Level.PROBLEM, "nodes", f"{{nodes}}: {fault}") for fault in facts.faults]
    found += [
        Verdict(
            Level.PROBLEM,
            "nodes",
            f"{{nodes}}: {place.interface} is down or has no carrier",
            "no client reaches the node there",
            f"check the cable, then `ip link set {place.interface} up` there",
        )
        for place in facts.places
        if not place.up
    ]
    return found + [
        Verdict(Level.WARNING, "nodes", f"{{nodes}}: {fault}", "so less was seen than should be")
        for fault in check.reports[node].faults
    ]


def _different(check: Check) -> list[Verdict]:
    rules = {node: check.facts[node].rules for node in check.present}
    if len(set(rules.values())) < 2:
        return []
    return [
        Verdict(
            Level.PROBLEM,
            "nodes",
            f"the nodes are configured differently: {apiece(rules, check.nodes)}",
            "addresses, rules, groups, delivery, MAC and seed must be equal everywhere",
            f"copy one userconfig.xml to all, then `mirrorfarm module config {check.module}`",
        )
    ]


def _same_macs(check: Check) -> list[Verdict]:
    by_mac: dict[str, list[str]] = {}
    for node in check.present:
        for mac in dict.fromkeys(place.mac for place in check.facts[node].places):
            by_mac.setdefault(mac, []).append(node)
    return [
        Verdict(
            Level.PROBLEM,
            "nodes",
            f"{check.who(names)} have the same MAC {mac}",
            "a switch sends what is for one of them to the other: usually a cloned machine",
            "give each machine its own MAC",
        )
        for mac, names in by_mac.items()
        if len(names) > 1
    ]


def parameters(check: Check) -> list[Verdict]:
    """Return the kernel parameters that a farm suffers from."""
    unsuitable = [
        (node, verdict)
        for node in check.present
        for place in check.facts[node].places
        for verdict in _of_interface(check, node, place.interface)
    ]
    found = merged(unsuitable, check.nodes)
    if not found:
        what = f"parameters of the kernel are suitable on {check.who(check.present)}"
        found.append(Verdict(Level.OK, "kernel", what))
    return found


def _of_interface(check: Check, node: str, interface: str) -> list[Verdict]:
    facts = check.facts[node]
    found = []
    if facts.delivery == Delivery.MULTICAST and _value(
        facts, interface, "drop_unicast_in_l2_multicast"
    ):
        name = _name(interface, "drop_unicast_in_l2_multicast")
        found.append(
            Verdict(
                Level.PROBLEM,
                "kernel",
                f"{{nodes}}: {name} is 1",
                "the kernel may drop what comes to the group MAC",
                f"`sysctl -w {name}=0` and the same of `all`, and in /etc/sysctl.d",
            )
        )
    if _value(facts, interface, "rp_filter") == 1 and facts.way_out not in {"", interface}:
        name = _name(interface, "rp_filter")
        found.append(
            Verdict(
                Level.WARNING,
                "kernel",
                f"{{nodes}}: {name} is 1 and the way to other networks is by {facts.way_out}",
                f"packets of clients behind routers that arrive on {interface} are dropped",
                f"`sysctl -w {name}=2` (and of `all`), or a route back by {interface}",
            )
        )
    return found + [
        Verdict(
            Level.WARNING,
            "kernel",
            f"{{nodes}}: {_name(interface, name, version)} is set",
            "the node itself does not learn of addresses that move",
            "needed only if the node is a client of other virtual addresses: set it to 0",
        )
        for name, version in (("drop_gratuitous_arp", 4), ("drop_unsolicited_na", 6))
        if _value(facts, interface, name, version)
    ]


def _name(interface: str, name: str, version: int = 4) -> str:
    """Return what `sysctl` calls a parameter: a dot in the name of an interface is a slash."""
    return f"net.ipv{version}.conf.{interface.replace('.', '/')}.{name}"


def _value(facts: Facts, interface: str, name: str, version: int = 4) -> int:
    """Return what counts of a parameter: of IPv4 the larger one of all interfaces' and its own."""
    places = ("all", interface) if version == 4 else (interface,)
    names = (f"net/ipv{version}/conf/{where}/{name}" for where in places)
    texts = (facts.parameters.get(full, "") for full in names)
    return max(int(text) if text.isdigit() else 0 for text in texts)


def filters(check: Check) -> list[Verdict]:
    """Return whether a filter works on every node, and whether all use the same."""
    cure = "without it the module does not start there; install or allow what is named"
    kinds = {node: check.modes.get(node) or check.facts[node].filter for node in check.present}
    chosen = {node: kind for node, kind in kinds.items() if kind}
    reasons = {node: check.facts[node].filter_why for node in kinds}
    found = merged(
        (
            (node, Verdict(Level.PROBLEM, "filter", f"{{nodes}}: no filter works: {why}", "", cure))
            for node, why in reasons.items()
            if node not in chosen
        ),
        check.nodes,
    )
    if len(set(chosen.values())) > 1:
        found.append(
            Verdict(
                Level.PROBLEM,
                "filter",
                f"the nodes would use different filters: {apiece(chosen, check.nodes)}",
                "they place clients differently, so a client would be answered twice or never: "
                "such a node is not taken into the farm; "
                + apiece({node: reasons[node] for node in chosen}, check.nodes),
                'name one that works everywhere: <farm filter="nft">',
            )
        )
    if not found:
        what = f"{check.who(chosen)} use {next(iter(chosen.values()))}"
        why = reasons[next(iter(chosen))] if len(set(reasons.values())) == 1 else ""
        found.append(Verdict(Level.OK, "filter", what, why))
    return found
