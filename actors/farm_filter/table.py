"""What this node's filter lets in: its table, its lease, and where connections may be left.

The only writer of the table. Buckets that a node loses are closed before it says so, and a
node that may not answer has every bucket closed and no lease.
"""

from mirrorfarm.actors.effects import ApplyTable, CountSockets, Log, RenewLease
from mirrorfarm.actors.events import SocketsCounted
from mirrorfarm.actors.farm_filter import relay
from mirrorfarm.actors.farm_filter.bitmaps import ALL, owned, states, unpack_all
from mirrorfarm.actors.farm_filter.state import Peer, State, View


def own(s: State, view: View | None) -> list[int]:
    """Return the buckets that `view` gives this node, by group."""
    if view is None:
        return [0] * s.groups
    index = view.index(s.settings.node)
    return [owned(owners, index) for owners in view.owners]


def keep_only(s: State, view: View | None) -> None:
    """Close what `view` does not give this node; nothing is opened."""
    _open_exactly(s, [a & b for a, b in zip(s.opened, own(s, view), strict=True)])


def open_own(s: State) -> None:
    """Open what the agreed view gives this node."""
    _open_exactly(s, own(s, s.view))


def _open_exactly(s: State, opened: list[int]) -> None:
    # A bucket that is or was open may have got a connection until just now.
    s.live = [live | old | new for live, old, new in zip(s.live, s.opened, opened, strict=True)]
    s.opened = opened
    apply(s)


def apply(s: State) -> None:
    """Give the filter its table, if that changed."""
    soft = drained_by_others(s)
    rows = tuple(states(a, b & a) for a, b in zip(s.opened, soft, strict=True))
    relayed = relay.targets(s, soft, draining(s)) if s.mac else ((), ())
    if rows != s.applied or relayed != s.relayed or s.table == 0:
        s.table += 1
        s.applied, s.relayed = rows, relayed
        s.out.append(ApplyTable(s.table, rows, *relayed))


def drained_by_others(s: State) -> list[int]:
    """Return the buckets in which another member may have connections, by group."""
    soft = [0] * s.groups
    for name in s.view.members if s.view else ():
        if name in s.drains:
            soft = [a | b for a, b in zip(soft, s.drains[name], strict=True)]
    present = s.present if s.bid else ()
    for name in s.bid.members if s.bid else ():
        if name in s.peers and name not in present:
            return [ALL] * s.groups  # It may use that view sooner than this node does.
    return soft


def draining(s: State) -> list[int]:
    """Return the buckets of others in which this node may have connections, by group."""
    mine = own(s, s.view)
    return [live & ~a for live, a in zip(s.live, mine, strict=True)]


# --- counting connections ------------------------------------------------------------------


def count_when_due(s: State, now: int) -> None:
    """Ask for a count from time to time, while there is something to find out."""
    if s.view is None or (s.counting_ns and now - s.counting_ns < s.t.scan_ns):
        return
    if s.wish == "drain" or any(draining(s)):
        s.counting_ns = now
        s.out.append(CountSockets(s.table))


def counted(s: State, event: SocketsCounted) -> None:
    """Take a count over, unless the table has changed since it was asked for."""
    if event.number != s.table:
        s.counting_ns = 0
        return
    found = unpack_all(event.live, s.groups)
    live = [a | b for a, b in zip(found, s.opened, strict=True)]
    if live != s.live:
        s.live = live
        s.urgent = True
    s.counted = max(0, event.connections)


# --- the lease -----------------------------------------------------------------------------


def lease_of(s: State, now: int) -> int:
    """Return until when this node may answer: all members that it hears have to agree.

    One that is silent is not asked, for it cannot answer; but who hears less than half of its
    view is likelier cut off than all the others are, and its lease ends. Who hears no member
    asks its own agent: if that hangs, the others hear nothing of this node and take over. What
    it handed on to some only, as to those left out, tells the members nothing.

    One that says that it closed everything is not asked either, while others are: it opens only
    after a new promise, which it tells for as long as a lease. What it echoes may be old, for
    it may just have been asleep. The same holds for one that is about to go on without this
    node, and this node without it: it is tolerated for a moment, as a stranger.
    """
    if s.view is None:
        return 0
    others = [s.peers[name] for name in s.view.members if name in s.peers]
    heard = [peer for peer in others if not peer.silent]
    asked = others
    if 2 * (len(heard) + 1) >= len(others) + 1:
        asked = [peer for peer in heard if not _needs_no_asking(s, s.view, peer)] or heard
    if asked:
        end = min([peer.echoed_ns for peer in asked]) + s.t.lease_ns
    elif s.peers:
        end = max(_alone_until(s, others), s.lease_ns)  # What members allowed remains.
    else:
        end = now + s.t.lease_ns
    # Beside a stranger only as long as it is tolerated, also if this process is frozen then.
    ends = [p.tolerated_ns + s.t.tolerate_ns for p in s.peers.values() if p.tolerated_ns]
    return min([end, *ends])


def _alone_until(s: State, members: list[Peer]) -> int:
    """Return until when the own agent allows to go on without a word of any member.

    What it handed on before their last word does not count: it may have got lost, and have been
    the last thing before the agent hung.
    """
    last_ns = max([peer.heard_ns for peer in members], default=0)
    return s.spread_ns + s.t.lease_ns if s.spread_ns > last_ns else 0


def _needs_no_asking(s: State, view: View, peer: Peer) -> bool:
    """Return whether a member of `view` closed everything and said so, or is a stranger by now."""
    busy = peer.beat is not None and (peer.beat.view or peer.beat.bid)
    if busy:
        return bool(peer.tolerated_ns) and peer.parts(view, s.bid)
    return peer.gave_up(view)


def renew(s: State, now: int) -> None:
    """Tell the filter the new end of the lease."""
    deadline = lease_of(s, now)
    if deadline != s.lease_ns:
        s.lease_ns = deadline
        s.out.append(RenewLease(deadline))


def lapse(s: State, now: int, reason: str) -> None:
    """Answer nobody any more, and forget the view: this node has to be taken in again."""
    view = s.view
    if view is not None:
        s.hint = view
        s.out.append(Log("C", f"this node stops answering clients: {reason}"))
    s.view, s.bid, s.proposal, s.drains = None, None, None, {}
    s.joined_ns = 0
    s.lapsed_ns = now
    s.reason = reason
    s.urgent = True
    if view is not None and view.members != (s.settings.node,):
        s.alone_ns = now + s.t.minority_ns
    keep_only(s, None)
    if s.lease_ns:
        s.lease_ns = 0
        s.out.append(RenewLease(0))
