"""Who synchronises whom: two announcements compared (the table of docs/protocols/mirror.md).

The source is always the holder of the register; what is decided here is how much it copies,
and whether the two histories belong together at all.
"""

from dataclasses import dataclass

from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.transport.messages import Announcement


def plan_for(
    record: NodeRecord, peer: Announcement, map_base: str, *, exact: bool, full: bool
) -> str:
    """Return what a session must copy: `none`, `map` or `full`.

    `exact`: this node took its role over by a planned exchange or followed until then, so that
    its data equals what the peer's clean record stands for. `map_base`: generation since which
    the data plane knows every change. Whenever in doubt: `full` (compared by checksums).
    """
    if full or not peer.cons or not peer.gen_cur:
        return "full"
    clean = peer.was == "idle" or (peer.was == "second" and not peer.os_crashed)
    if not clean:
        return "full"
    if exact and peer.was == "idle" and peer.gen_cur == record.gen_cur and record.was != "alone":
        return "none"
    if map_base and peer.gen_cur == map_base:
        return "map"
    return "full"


def unrelated(record: NodeRecord, peer: Announcement) -> bool:
    """Return whether the two data sets have no generation in common although both have data."""
    if not record.gen_cur or not peer.gen_cur or record.gen_cur == peer.gen_cur:
        return False
    mine = {record.gen_cur, record.gen_base, record.partial, *record.gen_hist} - {""}
    theirs = {peer.gen_cur, peer.gen_base, peer.partial, *peer.gen_hist} - {""}
    return mine.isdisjoint(theirs)


def diverged(record: NodeRecord, peer: Announcement) -> bool:
    """Return whether the peer went on alone with writes that this node's data do not contain.

    Not so once a decision gave these writes up (R13).
    """
    if not peer.lone or not peer.gen_cur:
        return False
    known = {record.gen_cur, record.gen_base, *record.gen_hist, *record.given_up}
    return peer.gen_cur not in known


def both_diverged(record: NodeRecord, peer: Announcement) -> bool:
    """Return whether each node has writes that the other lacks: a split (S15).

    Equal on both nodes; so without what one of them gave up, which the other cannot know. A node
    whose copy did not end has no data to choose: what it had is set aside, or being replaced.
    """
    mine = {record.gen_cur, record.gen_base, *record.gen_hist}
    theirs = {peer.gen_cur, peer.gen_base, *peer.gen_hist}
    lone = record.lone and peer.lone and bool(peer.gen_cur)
    whole = record.cons and peer.cons
    return lone and whole and record.gen_cur not in theirs and peer.gen_cur not in mine


@dataclass(frozen=True, slots=True)
class Side:
    """What a policy for a split looks at."""

    node: str
    term: int
    lone: bool
    changes: int  # -1: unknown.


def winner(policy: str, one: Side, other: Side) -> str:
    """Return the node whose data are kept after a split; "": an administrator must say.

    Equal on both nodes. Whoever stayed primary when the other took over has the lower term.
    """
    if one.lone != other.lone:
        return one.node if one.lone else other.node  # Only one of them wrote: nothing is lost.
    first, second = sorted((one, other), key=lambda side: (side.term, side.node))
    if not one.lone or policy == "keep-primary":
        return first.node
    if policy == "keep-newer":
        return second.node
    if policy == "keep-more-changes" and min(one.changes, other.changes) >= 0:
        return second.node if second.changes > first.changes else first.node
    return ""
