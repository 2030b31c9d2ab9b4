"""What a farm says of itself: who is in, who is not and why, and what is awaited."""

from collections.abc import Sequence

from mirrorfarm.actors.events import FarmNode, FarmPicture
from mirrorfarm.actors.farm_filter import table
from mirrorfarm.actors.farm_filter.admission import coordinator, refusal, seconds
from mirrorfarm.actors.farm_filter.bitmaps import owned
from mirrorfarm.actors.farm_filter.hearing import difference, hears, is_handed_on
from mirrorfarm.actors.farm_filter.state import Peer, State
from mirrorfarm.actors.farm_filter.views import quiet_at


def picture(s: State, now: int) -> FarmPicture:
    """Return the farm as this node sees it."""
    view = s.view
    reason, would_change = explanation(s, now)
    soft = table.drained_by_others(s)
    left = _size(table.draining(s)) if view else 0
    return FarmPicture(
        view=view.number if view else 0,
        open=view is not None,
        settled=view is not None and s.bid is None and s.opened == table.own(s, view),
        reason=reason,
        would_change=would_change,
        bid=s.bid.number if s.bid else 0,
        coordinator=coordinator(s),
        nodes=tuple([_node(s, name, left, now) for name in s.settings.nodes]),
        soft=tuple([(a & b).bit_count() for a, b in zip(s.opened, soft, strict=True)]),
        draining=left,
        connections=s.counted,
        members=view.members if view else (),
        owners=view.owners if view else (),
    )


def _size(bitmaps: Sequence[int]) -> int:
    return sum([bits.bit_count() for bits in bitmaps])


def _node(s: State, name: str, left: int, now: int) -> FarmNode:
    """Return what is known of one node; `left`: in how many buckets this one still drains."""
    view = s.view
    member = view is not None and name in view.members
    if view is not None and member:
        index = view.members.index(name)
        weights = tuple([row[index] for row in view.weights])
        buckets = tuple([owned(owners, index).bit_count() for owners in view.owners])
    else:
        weights = buckets = (0,) * s.groups
    if name == s.settings.node:
        return FarmNode(name, member, s.reason, s.wish, tuple(s.powers), weights, buckets, left, ())
    peer = s.peers[name]
    beat = peer.beat
    drains = s.drains.get(name, ()) if member else ()
    silent_ns = s.t.silent_ns
    return FarmNode(
        name,
        member,
        why_not(s, peer, now),
        beat.wish if beat else "",
        beat.powers if beat else (),
        weights,
        buckets,
        _size(drains),
        tuple(
            [
                (network, "init" if not at else "up" if now - at < silent_ns else "down")
                for network, at in peer.networks.items()
            ]
        ),
    )


def why_not(s: State, peer: Peer, now: int) -> str:
    """Return why a node is not in, or what is special about a member; or ""."""
    beat = peer.beat
    if beat is None:
        return "it was never heard"
    if peer.silent:
        return "it is silent on every network of the farm"
    if beat.wish == "away":
        return "its module does not take part"
    other = difference(s, peer)
    if other:
        return f"refused: {other}"
    if s.view is not None and peer.name in s.view.members:
        return "it drains: no new clients" if beat.wish == "drain" else ""
    if not peer.mutual_ns:
        return f"it does not hear {s.settings.node}"
    members = s.view.members if s.view else ()
    for name in members:
        if name != s.settings.node and name in s.peers:
            if not hears(s, peer.name, name):
                return f"it does not hear {name}"
            if not hears(s, name, peer.name):
                return f"{name} does not hear it"
    return refusal(s, peer, now) or "it is being taken in"


def explanation(s: State, now: int) -> tuple[str, str]:
    """Return why this node answers nobody, and what would change that."""
    if s.view is not None:
        return "", ""
    if s.wish == "away":
        return "the module does not take part in the farm here", "it is started"
    reason, would_change = _awaited(s, now)
    # What is awaited is only what follows: it fails again when it is taken in.
    return (f"{reason}; before: {s.failed}" if s.failed else reason), would_change


def _awaited(s: State, now: int) -> tuple[str, str]:
    """Return what a node that takes part waits for, and what would change that."""
    if now < s.mute_ns:
        return (
            "the filter of an earlier process may still answer clients",
            f"its lease is over in {seconds(s.mute_ns - now)}",
        )
    for peer in s.peers.values():
        beat = peer.beat
        if peer.silent or beat is None or not (beat.view or beat.bid):
            continue
        other = difference(s, peer)
        if other:
            return f"refused: {other}", "both have the same configuration"
        if not peer.mutual_ns and peer.name != coordinator(s):
            return (
                f"{peer.name} answers clients and does not hear this node",
                f"{peer.name} hears this node on a network of the farm",
            )
    if now < s.alone_ns and s.hears_few:
        return (
            "this node lost most of its farm: it may be the one that is cut off",
            f"another node is heard, or {seconds(s.alone_ns - now)} pass",
        )
    if not is_handed_on(s, now):
        return "the agent of this node hands nothing on", "it does, or is started again"
    leader = coordinator(s)
    if leader != s.settings.node:
        return f"{leader} has to take this node in", f"{leader} proposes a view with it"
    if s.bid is not None and now < quiet_at(s, s.bid):
        return "nodes that are not heard may still answer clients", "their leases are over"
    return "the nodes of the farm agree on who answers whom", "they have agreed"
