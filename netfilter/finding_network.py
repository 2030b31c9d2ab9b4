"""How much the network floods, how large frames may be, and how long they take."""

from mirrorfarm.limits import CHECK_SIZE_MAX, MILLISECOND_NS
from mirrorfarm.netfilter.finding import Check, Level, Verdict, apiece
from mirrorfarm.netfilter.pairs import between_in_words, not_reached
from mirrorfarm.netfilter.preflight import PROBES, Kind

_COUNTED = (Kind.VIRTUAL, Kind.BROADCAST, Kind.OWN)


def milliseconds(nanoseconds: int) -> str:
    """Return a time as a person reads it."""
    return f"{nanoseconds / MILLISECOND_NS:.3g} ms"


def floods(check: Check, segment: int) -> list[Verdict]:
    """Return whether frames come more than once, and whether they go where they need not."""
    return [*_copies(check, segment), *_overheard(check, segment)]


def _copies(check: Check, segment: int) -> list[Verdict]:
    nodes = tuple(check.places(segment))
    frames = copies = 0
    doubled = []
    for a in nodes:
        for b in nodes:
            rows = [r for kind in _COUNTED for r in check.rows(b, a, segment, kind) if a != b]
            frames += sum(row.frames for row in rows)
            copies += sum(row.copies for row in rows)
            if any(row.copies > row.frames for row in rows):
                doubled.append((a, b))
    if not frames:
        return []
    if not doubled:
        return [
            Verdict(Level.OK, "flood", f"{check.name(segment)}: every frame arrived exactly once")
        ]
    return [
        Verdict(
            Level.WARNING,
            "flood",
            f"{check.name(segment)}: {copies / frames:.2g} copies of each frame arrived on average",
            f"frames arrive more than once from {between_in_words(doubled, nodes)}: a loop in the "
            "network, or a bond or mirrored port that repeats them",
            "look for a second path between the switches without spanning tree, a bond of mode "
            "broadcast, or a mirror port",
        )
    ]


def _overheard(check: Check, segment: int) -> list[Verdict]:
    """Return whether frames to one node's own MAC are seen by others."""
    nodes = tuple(check.places(segment))
    seen, possible = [], 0
    for a in nodes:
        for b in nodes:
            others = [c for c in nodes if c not in {a, b}] if a != b else []
            for c in others:
                possible += 1
                target = check.nodes.index(b)
                if check.frames(c, a, segment, Kind.WIDE_OWN, target) == PROBES:
                    seen.append((b, c))
    if not possible:
        what = f"{check.name(segment)}: whether frames to one node reach others as well"
        return [Verdict(Level.UNTESTED, "flood", what, "it takes three nodes to see that")]
    if not seen:
        what = f"{check.name(segment)}: frames to the MAC of one node are not seen by others"
        return [Verdict(Level.OK, "flood", what)]
    victims = check.who(b for b, _ in seen)
    return [
        Verdict(
            Level.WARNING,
            "flood",
            f"{check.name(segment)}: frames to the own MAC of {victims} reach "
            f"{check.who(c for _, c in seen)} as well",
            "the network floods them as a hub does (learning is off, a MAC table is full, or a "
            "port is mirrored): every node carries the traffic of all",
            "Linux bridge: `bridge link set dev PORT learning on`, ageing time not 0; switch: look "
            "at its MAC table and for mirror ports",
        )
    ]


def sizes(check: Check, segment: int) -> list[Verdict]:
    """Return whether frames as large as the interfaces allow pass."""
    mtus = {node: place.mtu for node, place in check.places(segment).items()}
    found = _different_mtus(check, segment, mtus)
    short: dict[tuple[str, str], int] = {}
    for a, sent in mtus.items():
        for b, taken in mtus.items():
            largest = _largest(check, segment, a, b) if a != b else 0
            allowed = min(sent, taken, CHECK_SIZE_MAX)
            if a != b and largest < allowed and _meet(check, segment, a, b):
                short[a, b] = largest
    if short:
        low = min(short.values())
        told = f"at most {low} bytes" if low else "no frame of any size that was tried"
        found.append(
            Verdict(
                Level.PROBLEM,
                "size",
                f"{check.name(segment)}: large frames: {not_reached(short, tuple(mtus))} "
                f"({told} pass)",
                "the network between them carries less than the interfaces send",
                "give the switch ports, bridges and tunnels between them the MTU of the "
                "interfaces, or the interfaces of all nodes the MTU that passes",
            )
        )
    if not found:
        what = (
            f"{check.name(segment)}: frames of the MTU {min(mtus.values())} of every node reach "
            f"{check.whole(segment)}"
        )
        found.append(Verdict(Level.OK, "size", what))
    return found


def _different_mtus(check: Check, segment: int, mtus: dict[str, int]) -> list[Verdict]:
    if len(set(mtus.values())) < 2:
        return []
    return [
        Verdict(
            Level.WARNING,
            "size",
            f"{check.name(segment)}: the nodes have different MTUs: {apiece(mtus, check.nodes)}",
            "a client's large packet reaches some nodes and is dropped before others",
            f"give the interfaces one MTU: `ip link set INTERFACE mtu {max(mtus.values())}` "
            "where it is smaller, if the switch carries it",
        )
    ]


def _largest(check: Check, segment: int, a: str, b: str) -> int:
    number = check.nodes.index(b)
    rows = check.rows(b, a, segment, Kind.SIZE)
    return max((row.size for row in rows if row.target == number), default=0)


def _meet(check: Check, segment: int, a: str, b: str) -> bool:
    return check.frames(b, a, segment, Kind.OWN, check.nodes.index(b)) > 0


def trips(check: Check, segment: int) -> list[Verdict]:
    """Return how long frames are under way between the nodes, against the farm's timing."""
    times: dict[tuple[str, str], int] = {}
    silent = []
    for a in check.places(segment):
        for trip in check.reports[a].trips:
            b = check.nodes[trip.target]
            if trip.segment != segment or b not in check.places(segment):
                continue
            if trip.times_ns:
                times[a, b] = trip.times_ns[len(trip.times_ns) // 2]
            elif _meet(check, segment, a, b) and _meet(check, segment, b, a):
                silent.append((a, b))
    found = []
    if silent:
        nodes = tuple(check.places(segment))
        what = f"{check.name(segment)}: no answer in time: {between_in_words(silent, nodes)}"
        why = "frames arrive both ways, but half a second is not enough for the way there and back"
        cure = "look at the load of the nodes, and for a slow link between them"
        found.append(Verdict(Level.WARNING, "time", what, why, cure))
    if times:
        found.append(_timing(check, check.name(segment), times))
    return found


def _timing(check: Check, name: str, times: dict[tuple[str, str], int]) -> Verdict:
    (a, b), longest = max(times.items(), key=lambda item: item[1])
    facts = check.first
    what = f"{name}: the longest round trip takes {milliseconds(longest)} ({a} to {b})"
    pulse = milliseconds(facts.pulse_ns)
    if longest >= facts.silent_ns:
        why = f"a node that is not heard for {milliseconds(facts.silent_ns)} counts as silent"
        cure = f"a larger pulse (<farm pulse=…>, now {pulse}), or a faster network"
        return Verdict(Level.PROBLEM, "time", what, why, cure)
    if longest > facts.pulse_ns // 2:
        why = f"that is more than half of the farm's pulse of {pulse}: views take long to agree"
        cure = "a larger pulse (<farm pulse=…>), or a faster network"
        return Verdict(Level.WARNING, "time", what, why, cure)
    return Verdict(Level.OK, "time", f"{what}; the farm's pulse is {pulse}")


def heartbeats(check: Check) -> list[Verdict]:
    """Return how the networks of the heartbeats are, by the nodes' pings."""
    silent: dict[str, list[tuple[str, str]]] = {}
    times: dict[str, dict[tuple[str, str], int]] = {}
    for a in check.present:
        for one in check.reports[a].pings:
            pair = a, check.nodes[one.target]
            if one.time_ns < 0:
                silent.setdefault(one.network, []).append(pair)
            else:
                times.setdefault(one.network, {})[pair] = one.time_ns
    found = []
    for network, pairs in sorted(silent.items()):
        asked = {b for _, b in (*pairs, *times.get(network, ()))}
        receivers = tuple(node for node in check.nodes if node in asked)
        found.append(
            Verdict(
                Level.WARNING,
                "heartbeat",
                f"lan {network}: {not_reached(pairs, check.present, receivers)} by ping",
                "heartbeats of the farm go there; it is cut, the node is off, or something "
                "drops ICMP only",
                f"check the addresses of lan {network} in cluster.xml, its cables and the "
                "firewalls; `mirrorfarm -H '*' state` tells which agents answer",
            )
        )
    found += [
        _timing(check, f"lan {name}, by ping", pairs) for name, pairs in sorted(times.items())
    ]
    return [v._replace(topic="heartbeat") for v in found]
