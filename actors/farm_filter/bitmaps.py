"""Sets of buckets as integers (bit b is bucket b), owner tables as bytes."""

from functools import lru_cache

from mirrorfarm.limits import BUCKETS
from mirrorfarm.netfilter.share import NOBODY, share

ALL = (1 << BUCKETS) - 1
BITMAP_BYTES = BUCKETS // 8
NO_OWNER = 255  # In an owner table.

FOREIGN, HARD, SOFT = 0, 1, 2
_ZEROS = int.from_bytes(b"0" * BUCKETS, "big")


def pack(bitmap: int) -> bytes:
    """Return 128 bytes, bucket 0 in the lowest bit of the first."""
    return bitmap.to_bytes(BITMAP_BYTES, "little")


def unpack(data: bytes) -> int:
    """Return the set; of a wrong length it may be anything, so it is everything."""
    return int.from_bytes(data, "little") if len(data) == BITMAP_BYTES else ALL


def pack_all(bitmaps: list[int]) -> tuple[bytes, ...]:
    """Return one bitmap for each group; none at all when all of them are empty."""
    return tuple(pack(bitmap) for bitmap in bitmaps) if any(bitmaps) else ()


def unpack_all(data: tuple[bytes, ...], groups: int) -> list[int]:
    """Return one set for each group."""
    if not data:
        return [0] * groups
    return [unpack(one) for one in data] if len(data) == groups else [ALL] * groups


@lru_cache(maxsize=512)
def owned(owners: bytes, index: int) -> int:
    """Return the buckets that member `index` owns: a cache, not a state."""
    ones = bytearray(b"0" * 256)
    ones[index] = ord("1")
    return int(owners[::-1].translate(ones), 2)


@lru_cache(maxsize=256)
def states(opened: int, soft: int) -> bytes:
    """Return the state of every bucket for the filter."""
    # A byte for each bucket: FOREIGN, one more is HARD, two more SOFT.
    return (_spread(opened) + _spread(opened & soft)).to_bytes(BUCKETS, "little")


def _spread(bitmap: int) -> int:
    """Return a number whose bytes are the bits of a set."""
    return int.from_bytes(f"{bitmap:0{BUCKETS}b}".encode(), "big") - _ZEROS


@lru_cache(maxsize=256)
def assign(
    members: tuple[str, ...],
    weights: tuple[int, ...],
    seed: int,
    before: tuple[tuple[str, ...], bytes] | None,
) -> bytes:
    """Return the owner table for one group; `before`: members and table of the view before.

    Remembered, as a cache: nodes that come and go lead to the same tables again and again.
    """
    names = None
    if before is not None:
        old, table = before
        names = tuple(old[owner] if owner < len(old) else NOBODY for owner in table)
        if not any(names):
            names = None  # From nothing, so that what a node had comes back to it.
    owners = share(tuple(zip(members, weights, strict=True)), seed, names)
    index = {name: number for number, name in enumerate(members)} | {NOBODY: NO_OWNER}
    return bytes(index[name] for name in owners)
