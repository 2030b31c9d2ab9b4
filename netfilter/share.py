"""Decide which live node owns each of the 1024 buckets of a load-balancing group.

Two things are wanted at once: exact proportion to the powers, and no move that is not needed.
A function of members, powers and seed alone cannot give both, because which bucket need not
move depends on who has it; therefore the owners before the change are an input too. Nodes
compute from the table of the view they agreed on, so all compute the same.

Counts do not depend on history: each member has its share by the largest remainder. The table
made from nothing (`before=None`) is the home of every bucket: whoever must give, gives first
what is not at home with it, and who gains, gains first what is. So a node that leaves and
returns finds its own buckets again. Every choice is an integer score, xxh64 of member and
bucket: equal on every platform and with every version of Python.
"""

from collections.abc import Mapping
from functools import lru_cache

from xxhash import xxh64_intdigest

from mirrorfarm.limits import BUCKETS, CASCADE_RATIO, PEERS_MAX

__all__ = ("BUCKETS", "NOBODY", "Owners", "bucket_of", "quotas", "share")

NOBODY = ""

Owners = tuple[str, ...]  # The owner of each bucket; NOBODY when no live member has power.
Members = tuple[tuple[str, int], ...]


def bucket_of(digest: int) -> int:
    """Return the bucket of a client, by the xxh64 of its key."""
    return digest & (BUCKETS - 1)


def share(members: Mapping[str, int] | Members, seed: int, before: Owners | None = None) -> Owners:
    """Return the owner of each bucket; `members` are the live nodes with their powers (>= 0).

    A member owns its exact share of the buckets, rounded up or down: within one bucket. Of the
    buckets in `before` it keeps min(owned, share), so that as many move as are gained and no
    more. With equal powers no bucket moves between nodes that stay; with unequal ones rounding
    may pass one bucket of a member on. Without `before` the table is made from nothing.
    """
    ordered = _ordered(members)
    count = dict(quotas(ordered, seed))
    home = _home(ordered, seed)
    if before is None:
        return home
    assert len(before) == BUCKETS, "a table has one owner per bucket"
    if not count:
        return (NOBODY,) * BUCKETS
    kept = _kept(before, count, home, seed)
    return _filled(kept, count, home, seed)


def quotas(members: Mapping[str, int] | Members, seed: int) -> Members:
    """Return how many buckets each member owns, for those that own any power, by name.

    A member with at most 1/64 of the strongest one's power owns none: powers 1, 64 and 4096
    are a strict order. Remainders that are equal are ranked by the score of the name.
    """
    ordered = _ordered(members)
    strongest = max((power for _, power in ordered), default=0)
    able = [(name, power) for name, power in ordered if power * CASCADE_RATIO > strongest]
    total = sum(power for _, power in able)
    if total == 0:
        return ()
    whole = {name: BUCKETS * power // total for name, power in able}
    ranked = sorted(
        able, key=lambda able_: (-(BUCKETS * able_[1] % total), _score(able_[0], seed), able_[0])
    )
    for name, _ in ranked[: BUCKETS - sum(whole.values())]:
        whole[name] += 1
    return tuple(whole.items())


def _ordered(members: Mapping[str, int] | Members) -> Members:
    pairs = members.items() if isinstance(members, Mapping) else members
    ordered = tuple(sorted(pairs))
    assert len(ordered) <= PEERS_MAX, "more members than a cluster has nodes"
    assert len({name for name, _ in ordered}) == len(ordered), "a member is named twice"
    assert all(name != NOBODY and power >= 0 for name, power in ordered), "no name or power"
    return ordered


@lru_cache(maxsize=PEERS_MAX)
def _home(ordered: Members, seed: int) -> Owners:
    """Make the table from nothing: each bucket goes to its best member that has room."""
    count = dict(quotas(ordered, seed))
    if not count:
        return (NOBODY,) * BUCKETS
    return _filled([NOBODY] * BUCKETS, count, (NOBODY,) * BUCKETS, seed)


def _kept(before: Owners, count: dict[str, int], home: Owners, seed: int) -> list[str]:
    """Return `before` without what must be given up: NOBODY at its place."""
    kept = [owner if owner in count else NOBODY for owner in before]
    owned = {name: [b for b in range(BUCKETS) if kept[b] == name] for name in count}
    gains = [name for name in count if len(owned[name]) < count[name]]
    for name, buckets in owned.items():
        surplus = len(buckets) - count[name]
        if surplus <= 0:
            continue
        scores = _scores(name, seed)

        def rank(
            bucket: int, name: str = name, scores: tuple[int, ...] = scores
        ) -> tuple[int, ...]:
            at_home = home[bucket] == name
            wanted = home[bucket] in gains
            return (at_home, not wanted, scores[bucket], bucket)

        for bucket in sorted(buckets, key=rank)[:surplus]:
            kept[bucket] = NOBODY
    return kept


def _filled(kept: list[str], count: dict[str, int], home: Owners, seed: int) -> Owners:
    """Give the free buckets to the members that lack some: home first, then by score."""
    owners = list(kept)
    room = {name: count[name] - owners.count(name) for name in count}
    for bucket in range(BUCKETS):
        name = home[bucket]
        if owners[bucket] == NOBODY and room.get(name, 0) > 0:
            owners[bucket] = name
            room[name] -= 1
    able = {name: _scores(name, seed) for name in room if room[name] > 0}
    for bucket in range(BUCKETS):
        if owners[bucket] == NOBODY:
            _, best = max((scores[bucket], name) for name, scores in able.items())
            owners[bucket] = best
            room[best] -= 1
            if not room[best]:
                del able[best]
    return tuple(owners)


def _score(name: str, seed: int) -> int:
    return xxh64_intdigest(name.encode(), seed)


@lru_cache(maxsize=2 * PEERS_MAX)
def _scores(name: str, seed: int) -> tuple[int, ...]:
    """Return the score of a member for every bucket: a cache, not a state."""
    head = name.encode() + b"\0"
    return tuple(xxh64_intdigest(head + b.to_bytes(2, "big"), seed) for b in range(BUCKETS))
