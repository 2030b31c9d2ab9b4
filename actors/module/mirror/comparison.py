"""Who synchronises whom: two announcements compared (the table of docs/protocols/mirror.md).

The source is always the holder of the register; what is decided here is how much it copies,
and whether the two histories belong together at all.
"""

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
    if not record.gen_cur or not peer.gen_cur:
        return False
    mine = {record.gen_cur, record.gen_base, *record.gen_hist} - {""}
    theirs = {peer.gen_cur, peer.gen_base, *peer.gen_hist} - {""}
    return mine.isdisjoint(theirs)


def diverged(record: NodeRecord, peer: Announcement) -> bool:
    """Return whether both went on alone from a common ancestor: neither knows the other's data."""
    if not record.gen_cur or not peer.gen_cur or record.gen_cur == peer.gen_cur:
        return False
    mine = {record.gen_base, *record.gen_hist} - {""}
    theirs = {peer.gen_base, *peer.gen_hist} - {""}
    knows = peer.gen_cur in mine or record.gen_cur in theirs
    return not knows and not mine.isdisjoint(theirs)
