"""Views: proposed by the coordinator, promised by every member, then used.

A member that promises closes, before it says so, whatever the new view does not give it. So
once all have promised, every bucket is closed at all members but its new owner, which opens it
when nodes outside the view cannot have it open either (`quiet_at`).
"""

from mirrorfarm.actors.effects import Log
from mirrorfarm.actors.farm_filter import table
from mirrorfarm.actors.farm_filter.admission import (
    coordinator,
    is_bound,
    is_sound,
    joined_at,
    wanted_members,
    wanted_weights,
    without_newcomers,
)
from mirrorfarm.actors.farm_filter.bitmaps import ALL, assign, pack_all, unpack_all
from mirrorfarm.actors.farm_filter.hearing import claim_of, hears, is_handed_on, send, strength
from mirrorfarm.actors.farm_filter.state import Proposal, State, View
from mirrorfarm.limits import CLOCK_RATE_ERROR_DIVISOR, DEPARTURES_MAX
from mirrorfarm.transport.messages import ViewAck, ViewCommit, ViewProposal

NUMBER_MAX = 1 << 62


def quiet_at(s: State, view: View) -> int:
    """Return from when on no node outside `view` can have a bucket open, as far as is known.

    A node that was last heard busy: when its lease is over. One never heard since this node
    takes part: likewise, from then on. And every node is told that it is excluded, for long
    enough that it hears it, or that this node hears it object (`State.announce_ns`).
    """
    at = 0
    announce_ns = s.announce_ns
    for peer in s.peers.values():
        if peer.name in view.members:
            continue
        beat = peer.beat
        if beat is not None and not peer.silent and beat.wish == "away" and s.view is not None:
            continue  # It said itself that it is closed, and does not open without a word.
        if beat is None or beat.view or beat.bid:
            at = max(at, max(peer.busy_ns, s.wished_ns) + s.settings.wait_ns)
        told_ns = s.told_ns if s.spread_ns < peer.excluded_ns else 0  # The agent keeps it.
        at = max(at, max(peer.excluded_ns, told_ns) + announce_ns)
    return at


# --- the coordinator -----------------------------------------------------------------------


def plan(s: State, now: int) -> None:
    """Propose a view if this node is the coordinator and the present one is not what it should be.

    A node that is in no view does not while it hears a stranger answer clients. One that hears
    nobody does not if its own agent explains that: others would hear of it only when the agent
    goes on, and give way to what is long past.
    """
    if s.wish == "away" or now < s.mute_ns or coordinator(s) != s.settings.node:
        s.proposal = None
        if s.bid is None:
            _repeat_commit(s, now)  # Only who made the view can, also if another one leads now.
        return
    present = s.present
    members = without_newcomers(s, wanted_members(s, present, now))
    if s.view is None and (_hears_busy_stranger(s, members) or not _may_form(s, now)):
        s.proposal = None
        return
    if all(peer.silent for peer in s.peers.values()) and not is_handed_on(s, now):
        s.proposal = None
        return
    weights = wanted_weights(s, members, now)
    proposal = s.proposal
    if proposal is not None:
        same = (proposal.view.members, proposal.view.weights) == (members, weights)
        if not _is_outbid(s, proposal, now) and (
            same or _goes_first(s, proposal, members, weights, now)
        ):
            _push(s, proposal, now)
            return
        if now - proposal.sent_ns < s.t.pulse_ns // 4 and proposal.view.members == members:
            return  # Several nodes that change at once change one view.
    elif s.view is not None and s.bid is None:
        same = (s.view.members, s.view.weights) == (members, weights)
        if same and present == s.view.members and not is_bound(s, s.view):
            _repeat_commit(s, now)
            return
    _propose(s, members, weights, now)


def _goes_first(
    s: State,
    proposal: Proposal,
    members: tuple[str, ...],
    weights: tuple[tuple[int, ...], ...],
    now: int,
) -> bool:
    """Return whether a proposal is finished before those who came since are taken in.

    Else nobody would ever be answered while nodes join one after the other. One that is young
    is made anew with them, and so is one that does not come to its end.
    """
    age_ns = now - proposal.made_ns
    if not s.t.pulse_ns <= age_ns < 2 * s.settings.wait_ns:
        return False
    view = proposal.view
    wanted = dict(zip(members, zip(*weights, strict=True), strict=True))
    proposed = zip(view.members, zip(*view.weights, strict=True), strict=True)
    return all(wanted.get(name) == weight for name, weight in proposed)


def _may_form(s: State, now: int) -> bool:
    """Return whether a view may be made from nothing: those heard are settled.

    Where one more comes all the time it is not waited for. Who lost most of its view waits: looked
    at now, for one that was asleep when it lost its view did not know yet whom it hears.
    """
    settle_ns = s.t.settle_ns
    begun_ns = max(s.wished_ns, s.mute_ns)
    if now - begun_ns < settle_ns or (now < s.alone_ns and s.hears_few):
        return False
    if not is_handed_on(s, now):
        return False
    if now - max(begun_ns, s.lapsed_ns) >= 3 * settle_ns:
        return True
    return all(not p.mutual_ns or now - p.mutual_ns >= settle_ns for p in s.peers.values())


def _hears_busy_stranger(s: State, members: tuple[str, ...]) -> bool:
    """Return whether somebody answers clients who would not give way to these members."""
    for peer in s.peers.values():
        if peer.silent or peer.name in members or peer.beat is None:
            continue
        claim = claim_of(peer.beat)
        if claim is None:
            continue
        ours = strength(s.seen + 1, s.settings.bits(members))
        if strength(*claim) > ours or not hears(s, peer.name, s.settings.node):
            return True
    return False


def _is_outbid(s: State, proposal: Proposal, now: int) -> bool:
    """Return whether a member promised a higher number to somebody else, or was restarted."""
    view = proposal.view
    bits = s.settings.bits(view.members)
    for name in view.members:
        beat = s.peers[name].beat if name in s.peers else None
        if beat is not None and name not in proposal.quiet and beat.floor >= view.number:
            # Its heartbeat may be here sooner than its answer.
            ours = (beat.floor, beat.bid, beat.bid_members) == (view.number, view.number, bits)
            if not ours or now - proposal.asked_ns >= 2 * s.t.retry_ns:
                return True
        if name in proposal.quiet and beat is not None and beat.view == beat.bid == 0:
            # It promised, and gave up since; a heartbeat from before is not meant.
            if beat.floor >= view.number:
                return True
    return False


def _propose(
    s: State, members: tuple[str, ...], weights: tuple[tuple[int, ...], ...], now: int
) -> None:
    before = s.view or s.hint
    number = max(s.floor, s.seen) + 1
    assert number < NUMBER_MAX, "the numbers of views are used up"
    owners = tuple(
        assign(
            members,
            of_group,
            s.settings.seed,
            (before.members, before.owners[group]) if before else None,
        )
        for group, of_group in enumerate(weights)
    )
    view = View(number, s.settings.node, s.settings.incarnation, members, weights, owners)
    s.seen = number
    present = s.present if s.view else members
    first = tuple(name for name in members if name not in present)
    s.proposal = Proposal(view, first, now, now, now)
    s.out.append(Log("I", f"view {number} is proposed: {' '.join(members)}"))
    _send_proposal(s, s.proposal, now)
    _go_on(s, s.proposal, now)


def _go_on(s: State, proposal: Proposal, now: int) -> None:
    """Ask the others once the joiners are ready; use the view once all have promised.

    A bucket is closed from the promise of its old owner on: nobody shall wait for a joiner then.
    """
    quiet = proposal.quiet
    if not proposal.begun:
        if any(name not in quiet for name in proposal.first):
            return
        if now < max(quiet.values(), default=0):
            return
        proposal.begun, proposal.asked_ns = True, now
        promise(s, proposal.view, now)
        quiet[s.settings.node] = 0  # Looked at when it is used.
        _send_proposal(s, proposal, now)
    if is_agreed(proposal) and now >= commit_at(s, proposal):
        _commit(s, proposal, now)


def is_agreed(proposal: Proposal) -> bool:
    """Return whether every member has promised."""
    return len(proposal.quiet) == len(proposal.view.members)


def _send_proposal(s: State, proposal: Proposal, now: int) -> None:
    proposal.sent_ns = now
    view = proposal.view
    incarnations = tuple(_incarnation(s, name) for name in view.members)
    message = ViewProposal(
        view.number, view.incarnation, view.members, incarnations, view.weights, view.owners
    )
    asked = view.members if proposal.begun else proposal.first
    for name in asked:
        if name not in proposal.quiet:
            send(s, name, message)


def _incarnation(s: State, name: str) -> int:
    if name == s.settings.node:
        return s.settings.incarnation
    beat = s.peers[name].beat
    return beat.incarnation if beat else 0


def _push(s: State, proposal: Proposal, now: int) -> None:
    if now - proposal.sent_ns >= s.t.retry_ns:
        _send_proposal(s, proposal, now)
    _go_on(s, proposal, now)


def on_ack(s: State, name: str, ack: ViewAck, now: int) -> None:
    """Note that a member has promised."""
    proposal = s.proposal
    if proposal is None or (ack.number, ack.incarnation) != proposal.view.key[::2]:
        return
    if name not in proposal.view.members:
        return
    if name in proposal.quiet and now + ack.quiet_ns >= proposal.quiet[name]:
        return  # Repeated; else it has heard since that another node closed everything.
    # Its clock may be slower than this one.
    wait_ns = min(max(0, ack.quiet_ns), s.settings.announce_first_ns)
    proposal.quiet[name] = now + wait_ns + 2 * wait_ns // CLOCK_RATE_ERROR_DIVISOR
    proposal.draining[name] = ack.draining
    _go_on(s, proposal, now)


def commit_at(s: State, proposal: Proposal) -> int:
    """Return when a proposal goes on, as far as it depends on time."""
    if not proposal.begun:
        return max(proposal.quiet.values(), default=0)
    return max([quiet_at(s, proposal.view), *proposal.quiet.values()])


def _commit(s: State, proposal: Proposal, now: int) -> None:
    view = proposal.view
    proposal.draining[s.settings.node] = _left_in(s, view)
    commit = ViewCommit(view.number, view.incarnation, tuple(proposal.draining.items()))
    s.proposal = None
    for name in view.members:
        if name in s.peers:
            send(s, name, commit)
    _install(s, view, commit, now)


def _repeat_commit(s: State, now: int) -> None:
    """Tell a member again that its promise is due, if the first commit was lost."""
    view = s.view
    if view is None or view.coordinator != s.settings.node:
        return
    for name in view.members:
        peer = s.peers.get(name)
        if peer is None or peer.beat is None or now - peer.heard_ns:
            continue  # Once for each of its heartbeats.
        if peer.beat.bid == view.number:
            drains = tuple((of, pack_all(sets)) for of, sets in s.drains.items())
            mine = (s.settings.node, _left_in(s, view))
            send(s, name, ViewCommit(view.number, view.incarnation, (*drains, mine)))


# --- every member --------------------------------------------------------------------------


def on_proposal(s: State, name: str, message: ViewProposal, now: int) -> None:
    """Promise the view, if it comes from the coordinator and is newer than all promised."""
    view = View(
        message.number, name, message.incarnation, message.members, message.weights, message.owners
    )
    if s.bid is not None and s.bid == view:
        _ack(s, view, now)  # Repeated: the answer was lost.
        return
    if view.number <= s.floor or view.number >= NUMBER_MAX or not is_sound(s, view):
        return
    place = view.index(s.settings.node)
    if message.incarnations[place : place + 1] != (s.settings.incarnation,):
        return
    if s.wish == "away" or coordinator(s) != name:
        return
    s.proposal = None
    promise(s, view, now)
    _ack(s, view, now)


def promise(s: State, view: View, now: int) -> None:
    """Close what is not this node's in `view`; agree to no older view from now on."""
    s.bid, s.promised_ns, s.floor = view, now, view.number
    s.seen = max(s.seen, view.number)
    mark_excluded(s, now)
    table.keep_only(s, view)
    s.urgent = True


def mark_excluded(s: State, now: int) -> None:
    """Note since when each node is told that this one goes on without it."""
    claim = s.claim
    for peer in s.peers.values():
        if claim is None or peer.name in claim.members:
            peer.excluded_ns = 0
        elif not peer.excluded_ns:
            peer.excluded_ns = now


def ack_again(s: State, now: int) -> None:
    """Promise again if less has to be waited for: a node's leave may be slower than a proposal."""
    bid = s.bid
    if bid is not None and bid.coordinator in s.peers and now < s.quiet_ns:
        if quiet_at(s, bid) < s.quiet_ns:
            _ack(s, bid, now)


def _ack(s: State, view: View, now: int) -> None:
    s.quiet_ns = quiet_at(s, view)
    wait_ns = max(0, s.quiet_ns - now)
    ack = ViewAck(view.number, view.incarnation, wait_ns, _left_in(s, view))
    send(s, view.coordinator, ack)


def _left_in(s: State, view: View) -> tuple[bytes, ...]:
    """Return where this node may have connections that `view` gives to others."""
    mine = table.own(s, view)
    return pack_all([live & ~a for live, a in zip(s.live, mine, strict=True)])


def on_commit(s: State, name: str, commit: ViewCommit, now: int) -> None:
    """Use the promised view: every member has closed what is not its own."""
    bid = s.bid
    if bid is not None and bid.key == (commit.number, name, commit.incarnation):
        s.proposal = None  # Made on top of the view before, it would move what need not move (F4).
        _install(s, bid, commit, now)


def _install(s: State, view: View, commit: ViewCommit, now: int) -> None:
    before, present = s.view.members if s.view else (), s.present
    for peer in s.peers.values():
        beat = peer.beat
        stays = peer.name in present and peer.name in view.members
        if peer.name in before and not stays and beat is not None and beat.wish == "in":
            peer.departures = [*peer.departures, now][-DEPARTURES_MAX:]
        if not stays:
            peer.joined_ns = joined_at(s, peer.name, view, now) if peer.name in view.members else 0
        peer.member_inc = beat.incarnation if beat is not None else 0
    s.joined_ns = s.joined_ns or now
    told = dict(commit.draining)
    s.drains = {
        name: unpack_all(told.get(name, ()), s.groups) if name in told else [ALL] * s.groups
        for name in view.members
        if name in s.peers
    }
    if not before or view.members != before:
        s.out.append(Log("E", f"farm membership: {' '.join(view.members)} (view {view.number})"))
    s.view, s.bid, s.hint = view, None, view
    s.counting_ns = 0
    s.urgent = True
    table.keep_only(s, view)
    table.renew(s, now)  # Before anything is opened: new members may allow less.
    open_when_quiet(s, now)


def open_when_quiet(s: State, now: int) -> None:
    """Open what the agreed view gives this node, as soon as no stranger can have it open."""
    if s.view is None or s.bid is not None or now < quiet_at(s, s.view):
        return
    if s.opened != table.own(s, s.view):
        table.open_own(s)
    s.reason = s.failed = ""
