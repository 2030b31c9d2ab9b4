"""Where a node sends on what reached it and is another's: only with `vmac_directed`.

To the owner of the bucket; to all while a former owner still has connections in it, for only the
nodes' own sockets tell whose a segment is.
"""

from functools import lru_cache

from mirrorfarm.actors.farm_filter.state import State
from mirrorfarm.limits import BUCKETS
from mirrorfarm.netfilter.tables import EVERY_PEER

MAC_BYTES = 6


def targets(
    s: State, drained: list[int], draining: list[int]
) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Return by group whom each bucket is relayed to, and the MACs of the nodes by number.

    `drained`, `draining`: buckets in which others, and in which this node, have connections that
    are not the owner's.
    """
    view = s.view
    if view is None:
        return (), ()
    others = [name for name in s.settings.nodes if name != s.settings.node]
    macs = tuple(_mac(s, name) for name in others)
    numbers = tuple(
        others.index(name) + 1 if name in others and macs[others.index(name)] else 0
        for name in view.members
    )
    rows = tuple(
        _row(owners, numbers, soft | mine)
        for owners, soft, mine in zip(view.owners, drained, draining, strict=True)
    )
    return rows, macs


def _mac(s: State, name: str) -> bytes:
    peer = s.peers[name]
    beat = peer.beat
    if beat is None or len(beat.mac) != MAC_BYTES or beat.mac[0] & 1:
        return b""
    # A node out of service relays nothing: what comes from its MAC is its own, as any client's.
    # So it is with one that died, whose machine may be up again without its agent. A member that
    # is silent is about to be left out; until then both may relay, and no frame shall circle.
    member = s.view is not None and name in s.view.members
    serves = beat.wish != "away" or beat.view or beat.bid
    return beat.mac if member or (serves and not peer.silent) else b""


@lru_cache(maxsize=64)
def _row(owners: bytes, numbers: tuple[int, ...], every: int) -> bytes:
    """Return one group's row: a cache, not a state."""
    return bytes(
        EVERY_PEER
        if every >> bucket & 1
        else (numbers[owners[bucket]] if owners[bucket] < len(numbers) else 0)
        for bucket in range(BUCKETS)
    )
