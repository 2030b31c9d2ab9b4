"""Who is heard, who hears this node, and what strangers make it do."""

from collections.abc import Sequence
from operator import attrgetter

from mirrorfarm.actors.effects import Log, Send
from mirrorfarm.actors.farm_filter import table
from mirrorfarm.actors.farm_filter.bitmaps import pack_all, unpack_all
from mirrorfarm.actors.farm_filter.state import ACTOR, PATIENCE_DIVISOR, Peer, State
from mirrorfarm.limits import FARM_NODES_MAX
from mirrorfarm.transport.address import Address, to_all
from mirrorfarm.transport.messages import ANY_MESSAGE, FarmBeat

# A node that names an absurd number cannot use up all there are.
NUMBER_STEP_MAX = 1 << 32
# What of a heartbeat can call for a decision.
_GIST = attrgetter(
    *("incarnation", "wish", "mode", "seed", "rules", "powers"),
    *("view", "view_members", "bid", "bid_members", "floor", "draining", "mac"),
)


def send(s: State, name: str, message: ANY_MESSAGE) -> None:
    """Send to another node's filter, by all networks that work."""
    s.out.append(Send(Address(name, s.settings.module, ACTOR), message))


# --- what this node says -------------------------------------------------------------------


def pulse(s: State, now: int, only: Sequence[str] = ()) -> None:
    """Send a heartbeat to every node, or to some, on every network of the farm."""
    names = only or list(s.peers)
    if now < s.mute_ns or not names:
        return
    s.number += 1
    last_ns = s.sent[-1][2] if s.sent else 0
    s.sent.append((s.number, now, last_ns if only else now))
    s.told_ns = now
    beat = beat_of(s)
    to = to_all(names, s.settings.module, ACTOR)
    for network in s.settings.networks:
        s.out.append(Send(to, beat, network))
    if s.wish != "away" and (only or is_alone(s, now) or left_out(s, now)):
        send(s, s.settings.node, beat)


def is_alone(s: State, now: int) -> bool:
    """Return whether no member of the view was heard since about a pulse.

    Then only the own agent can tell that what this node says leaves it: it hands it back.
    """
    late_ns = now - s.t.pulse_ns * 5 // 4
    for name in s.view.members if s.view else ():
        if name in s.peers and s.peers[name].heard_ns > late_ns:
            return False
    return True


def is_handed_on(s: State, now: int) -> bool:
    """Return whether the own agent handed a heartbeat back not long ago."""
    return not s.peers or now - s.returned_ns < s.t.silent_ns


def returned(s: State, beat: FarmBeat, now: int) -> None:
    """Take a heartbeat of this node that its agent handed back.

    Late, or after a gap: the agent may have hung, and whoever is left out hears that only now.
    """
    if beat.incarnation == s.settings.incarnation:
        _, sent_ns, spread_ns = _sent(s, beat.number)
        gap_ns = now - s.returned_ns
        s.returned_ns = max(s.returned_ns, sent_ns)
        s.spread_ns = max(s.spread_ns, spread_ns)  # It hands on in order.
        if now - sent_ns > s.t.retry_ns or gap_ns > s.t.pulse_ns * 5 // 4 + s.t.retry_ns:
            _tell_anew(s, now)


def _tell_anew(s: State, now: int) -> None:
    for peer in s.peers.values():
        if peer.excluded_ns:
            peer.excluded_ns = now


def plan_pulse(s: State, now: int) -> None:
    """Note that every node got a heartbeat just now, and when the next one is due.

    The first node that is heard leads the rhythm, and the others beat when they hear it: what
    all of them say then comes in at once, and a large farm has to be woken far less often.
    """
    t = s.t
    s.beaten_ns = now
    if _leader(s) == s.settings.node:
        s.pulse_ns = max(s.pulse_ns + t.pulse_ns, now + t.pulse_ns // 2)
    else:
        s.pulse_ns = now + t.pulse_ns + t.pulse_ns // PATIENCE_DIVISOR


def left_out(s: State, now: int) -> list[str]:
    """Return the nodes that are being told that this one goes on without them."""
    return [
        peer.name
        for peer in s.peers.values()
        if peer.excluded_ns and now < peer.excluded_ns + s.announce_ns
    ]


def tell_left_out(s: State, now: int) -> None:
    """Say it more often than the pulse does: one that hears it has to give way in time."""
    if now - s.told_ns >= s.t.retry_ns:
        names = left_out(s, now)
        if names:
            pulse(s, now, names)


def _leader(s: State) -> str:
    """Return the first node that is heard; this one counts."""
    return next(
        name for name in s.settings.nodes if name == s.settings.node or not s.peers[name].silent
    )


def beat_of(s: State) -> FarmBeat:
    """Return what this node says of itself."""
    view, bid, settings = s.view, s.bid, s.settings
    heard = [
        0 if peer.silent or peer.beat is None else peer.beat.number for peer in s.peers.values()
    ]
    heard.insert(settings.index(settings.node), 0)  # The others are in the order of the farm.
    return FarmBeat(
        number=s.number,
        incarnation=settings.incarnation,
        wish=s.wish,
        mode=settings.mode,
        seed=settings.seed,
        rules=settings.rules,
        powers=tuple(s.powers),
        heard=tuple(heard),
        view=view.number if view else 0,
        view_members=settings.bits(view.members) if view else 0,
        bid=bid.number if bid else 0,
        bid_members=settings.bits(bid.members) if bid else 0,
        floor=s.floor,
        draining=pack_all(table.draining(s)) if view else (),
        connections=s.counted,
        mac=s.mac,
    )


# --- what is heard -------------------------------------------------------------------------


def hear(s: State, peer: Peer, beat: FarmBeat, network: str, now: int) -> bool:
    """Take a heartbeat, unless it repeats what was already heard.

    Return whether there is anything to look at: most say what the one before said.
    """
    if network in peer.networks:
        peer.networks[network] = now
    if not _is_new(peer, beat):
        return False
    before, was_mutual, returned, ears = peer.beat, peer.mutual_ns, peer.silent, peer.ears
    peer.beat, peer.heard_ns, peer.silent = beat, now, False
    peer.ears = _ears(peer, beat)
    same = before is not None and _GIST(beat) == _GIST(before) and peer.ears == ears
    if returned:
        s.out.append(Log("E", f"{peer.name} is heard"))
    if now - s.beaten_ns >= s.t.pulse_ns * 3 // 4 and _leader(s) == peer.name:
        s.pulse_ns = min(s.pulse_ns, now)
    if beat.floor > s.seen or beat.view > s.seen:
        s.seen = min(max(beat.floor, beat.view), s.seen + NUMBER_STEP_MAX)
    if beat.view or beat.bid:
        peer.busy_ns = now
    echoed = beat.heard[s.settings.index(s.settings.node)] if _is_whole(s, beat) else 0
    _, sent_ns, _ = _sent(s, echoed)
    peer.echoed_ns = max(peer.echoed_ns, sent_ns)
    # Of the same farm, if it was so and says the same.
    mutual = bool(echoed) and ((same and bool(was_mutual)) or not difference(s, peer))
    peer.mutual_ns = (peer.mutual_ns or now) if mutual else 0
    if s.view is not None and beat.view == s.view.number and peer.name in s.view.members:
        drains = unpack_all(beat.draining, s.groups)
        if drains != s.drains.get(peer.name):
            s.drains[peer.name] = drains
            table.apply(s)
    if s.mac and (returned or not same):
        table.apply(s)  # Whom packets are relayed to depends also on what a node takes part in.
    _mind_claim(s, peer, beat, now)
    if s.view is not None and s.lease_ns < s.pulse_ns + s.t.retry_ns:
        table.renew(s, now)  # An old echo ended it, and the next pulse may be too late.
    if returned or not same or beat.bid or not was_mutual or not mutual:
        return True
    return s.proposal is not None or bool(peer.tolerated_ns)


def _sent(s: State, number: int) -> tuple[int, int, int]:
    """Return what is known of a heartbeat of this node; zeros: it is none that it remembers."""
    place = number - s.sent[0][0] if s.sent else -1  # They are numbered one after the other.
    return s.sent[place] if 0 <= place < len(s.sent) else (0, 0, 0)


def _ears(peer: Peer, beat: FarmBeat) -> int:
    """Return the bitmap of the nodes that a node hears, itself one of them."""
    heard = beat.heard[:FARM_NODES_MAX]
    own = 1 << peer.index
    if min(heard, default=0) > 0:  # Most hear everybody.
        return own | (1 << len(heard)) - 1
    return own | sum([1 << index for index, number in enumerate(heard) if number > 0])


def _is_new(peer: Peer, beat: FarmBeat) -> bool:
    """Tell news from repetition: numbers only grow within an incarnation.

    An older incarnation is a straggler while the newer one is heard; after a silence it is a
    node whose disk was replaced, and which counts its starts anew.
    """
    before = peer.beat
    if before is None or (peer.silent and beat.incarnation != before.incarnation):
        return True
    if beat.incarnation == before.incarnation:
        return beat.number > before.number
    return beat.incarnation > before.incarnation


def _is_whole(s: State, beat: FarmBeat) -> bool:
    return len(beat.heard) == len(s.settings.nodes) and len(beat.powers) == s.groups


def difference(s: State, peer: Peer) -> str:
    """Return what makes a shared farm impossible: the configurations differ; or ""."""
    beat, settings = peer.beat, s.settings
    if beat is None:
        return ""
    if beat.mode != settings.mode:
        return f"{peer.name} filters by {beat.mode}, this node by {settings.mode}"
    if beat.seed != settings.seed:
        return f"{peer.name} hashes with seed {beat.seed}, this node with {settings.seed}"
    if beat.rules != settings.rules or not _is_whole(s, beat):
        return f"{peer.name} has other nodes, powers, rules or addresses configured"
    return ""


def hears(s: State, one: str, other: str) -> bool:
    """Return whether `one` hears `other`, as far as this node knows."""
    return bool(ears_of(s, one) >> s.settings.index(other) & 1)


def ears_of(s: State, name: str) -> int:
    """Return the bitmap of the nodes that one hears, itself one of them."""
    if name != s.settings.node:
        return s.peers[name].ears
    own = 1 << s.settings.index(name)
    return own | sum([1 << peer.index for peer in s.peers.values() if not peer.silent])


def silences(s: State, now: int) -> bool:
    """Declare the silences that are due; return whether there are any."""
    any_new = False
    before_ns = now - s.t.silent_ns
    for peer in s.peers.values():
        if not peer.silent and peer.heard_ns <= before_ns:
            peer.silent, peer.mutual_ns, peer.tolerated_ns = True, 0, 0
            any_new = True
            text = f"{peer.name} is silent on every network of the farm"
            member = s.view is not None and peer.name in s.view.members
            s.out.append(Log("C" if member else "E", text))
    if any_new and s.mac:
        table.apply(s)  # Who is out of the view is no relay any more.
    return any_new


def forgive(s: State, late_ns: int, now: int) -> None:
    """After a stall of this node: what others said meanwhile still waits to be handled.

    And nobody heard this node say whom it excludes, so that has to be said for long enough anew.
    """
    s.wished_ns = min(now, s.wished_ns + late_ns)
    _tell_anew(s, now)
    for peer in s.peers.values():
        if not peer.silent:
            peer.heard_ns = min(now, peer.heard_ns + late_ns)
            if peer.busy_ns:
                peer.busy_ns = min(now, peer.busy_ns + late_ns)
    s.out.append(Log("I", f"this node did not run for {late_ns // 1_000_000} ms"))


# --- strangers -----------------------------------------------------------------------------


def _mind_claim(s: State, peer: Peer, beat: FarmBeat, now: int) -> None:
    """Compare what a node says it is in with what this node is in; one of them may have to go.

    Excluded by a member: this node goes. A stranger: the weaker view goes at once; the stronger
    one only if the stranger does not go, for then it does not hear this node. A member of which
    this node is rid as well is a stranger.
    """
    theirs, claim = claim_of(beat), s.claim
    if theirs is None or claim is None:
        _tolerate_no_more(s, peer, now)
        return
    number, members = theirs
    with_us = bool(members >> s.settings.index(s.settings.node) & 1)
    if with_us and (peer.name in claim.members or _is_shared(s, peer, number)):
        peer.tolerated_ns = 0
        return
    ours = strength(claim.number, s.settings.bits(claim.members))
    weaker = not with_us and strength(number, members) < ours
    parting = weaker and s.view is not None and peer.parts(s.view, s.bid)
    for mine in (s.view, s.bid):
        if mine is not None and peer.name in mine.members and not parting:
            if not with_us and number > mine.number:
                table.lapse(s, now, f"{peer.name} goes on without this node")
                return
    named = peer.name in claim.members
    if named and (s.view is None or peer.name in s.view.members):
        peer.tolerated_ns = 0
        return
    # A view with this node in it that this node has left is the older one, however big. And who is
    # named only in what this node promised may be about to promise that; else it is a stranger.
    if not with_us and not weaker and not named:
        table.lapse(s, now, f"{peer.name} answers clients in another view, which is the stronger")
    elif not peer.tolerated_ns:
        s.out.append(Log("C", f"{peer.name} answers clients in another view: this one goes on"))
        peer.tolerated_ns = now
        if parting:
            # Only as long as what it echoed allows: then it may use what it promised.
            peer.tolerated_ns = min(now, peer.echoed_ns + s.t.lease_ns - s.t.tolerate_ns)
        table.renew(s, now)
        pulse(s, now, (peer.name,))


def _tolerate_no_more(s: State, peer: Peer, now: int) -> None:
    """Note that one of the two is closed: a lease may run on that ended with the patience.

    So may one that ended with an old echo of a member. The next pulse may be too late for that.
    """
    tolerated, peer.tolerated_ns = peer.tolerated_ns, 0
    if s.view is not None and (tolerated or peer.name in s.view.members):
        table.renew(s, now)


def _is_shared(s: State, peer: Peer, number: int) -> bool:
    """Return whether a claim that includes this node waits for its promise, or is its view."""
    if s.claim is not None and number > s.claim.number:
        return True
    return s.view is not None and number == s.view.number and peer.name in s.view.members


def claim_of(beat: FarmBeat) -> tuple[int, int] | None:
    """Return number and members of the view that a node is in or goes to; None: it is closed."""
    if beat.bid:
        return beat.bid, beat.bid_members
    return (beat.view, beat.view_members) if beat.view else None


def strength(number: int, members: int) -> tuple[int, int, int]:
    """Rank views that meet: more members, then the one with the first node, then the newer."""
    first = (members & -members).bit_length()
    return members.bit_count(), -first, number


def mind_strangers(s: State, now: int) -> None:
    """Give way to a stranger that was told of this node and stays: it does not hear us."""
    for peer in s.peers.values():
        since = peer.tolerated_ns
        if since and now - since >= s.t.tolerate_ns:
            peer.tolerated_ns = 0
            if s.claim is not None:
                table.lapse(s, now, f"{peer.name} answers clients and does not hear this node")
