"""Checks of a network in which one thing after the other can be made wrong."""

import msgspec

from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.netfilter.finding import Check, Level, Verdict
from mirrorfarm.netfilter.preflight import (
    PROBES,
    Claimed,
    Facts,
    Kind,
    Learned,
    Ping,
    Place,
    Report,
    Seen,
    Trip,
)
from mirrorfarm.netfilter.verdicts import evaluate

Nodes = tuple[str, ...]
NODES = ("n1", "n2", "n3")
MANY = tuple(f"n{number}" for number in range(1, 17))
VIP, SHARED = "198.18.0.100", "5a:fe:c6:12:00:64"
STRANGER = "02:00:00:00:00:99"


def mac(node: str) -> str:
    return f"02:00:00:00:00:{int(node[1:]):02x}"


def facts(
    node: str, delivery: str = "vmac_invisible", mtu: int = 1500, nodes: Nodes = NODES
) -> Facts:
    return Facts(
        node=node,
        nodes=nodes,
        addresses=(VIP,),
        delivery=delivery,
        virtual_macs=("" if delivery == "vmac_directed" else SHARED,),
        rules="same",
        pulse_ns=100 * MILLISECOND_NS,
        silent_ns=400 * MILLISECOND_NS,
        places=(Place("eth0", mac(node), mtu, True, (0,), (f"198.18.0.{node[1:]}",)),),
        filter="bpf",
        filter_why="it works here",
    )


def report(node: str, mtu: int = 1500, nodes: Nodes = NODES) -> Report:
    """Return what a node reports of a good network, on which the module is stopped."""
    seen, trips, pings = [], [], []
    me = nodes.index(node)
    for sender, name in enumerate(nodes):
        if name == node:
            continue
        for kind, target, size, frames in (
            (Kind.VIRTUAL, 0, 0, PROBES),
            (Kind.BROADCAST, 0, 0, PROBES),
            (Kind.OWN, me, 0, PROBES),
            (Kind.SIZE, me, mtu, 2),
            (Kind.SIZE, me, 1280, 2),
            (Kind.WIDE_VIRTUAL, 0, 0, PROBES),
            (Kind.WIDE_OWN, me, 0, PROBES),
        ):
            seen.append(Seen("eth0", sender, 0, int(kind), target, size, frames, frames))
        trips.append(Trip(0, sender, (MILLISECOND_NS,) * PROBES))
        pings.append(Ping("default", sender, MILLISECOND_NS))
    told = tuple(Claimed("eth0", 0, SHARED, mac(name)) for name in nodes if name != node)
    learned = (Learned(0, SHARED),)
    return Report(tuple(seen), tuple(trips), tuple(pings), told=told, learned=learned)


def good(nodes: Nodes = NODES) -> Check:
    """Return a check of a good network, on which the module is stopped."""
    return Check(
        "web",
        nodes,
        {node: facts(node, nodes=nodes) for node in nodes},
        {node: report(node, nodes=nodes) for node in nodes},
        roles=dict.fromkeys(nodes, "STOP"),
    )


def running(nodes: Nodes = NODES) -> Check:
    """Return a good check of a farm that runs: every node answers for the address."""
    check = good(nodes)
    check.roles = dict.fromkeys(nodes, "UP")
    check.unplanted = "the module runs"
    for node in nodes:
        told = tuple(Claimed("eth0", 0, SHARED, mac(name)) for name in nodes if name != node)
        change(check, node, claims=told, learned=())
    return check


def change(check: Check, node: str, **changes: object) -> None:
    check.reports[node] = msgspec.structs.replace(check.reports[node], **changes)


def without(check: Check, receiver: str, *kinds: Kind, sender: str = "") -> None:
    """Let frames of these kinds not arrive."""
    seen = tuple(
        row
        for row in check.reports[receiver].seen
        if row.kind not in kinds or (sender and row.sender != check.nodes.index(sender))
    )
    change(check, receiver, seen=seen)


def fact(check: Check, node: str, **changes: object) -> None:
    check.facts[node] = msgspec.structs.replace(check.facts[node], **changes)


def bad(check: Check) -> list[Verdict]:
    return [v for v in evaluate(check) if v.level in {Level.WARNING, Level.PROBLEM}]


def only(check: Check, level: Level, topic: str) -> Verdict:
    """Return the one thing that is wrong."""
    (found,) = bad(check)
    assert (found.level, found.topic) == (level, topic), found
    return found
