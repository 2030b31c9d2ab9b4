"""The hash of `nft jhash`: Bob Jenkins' lookup3 as in include/linux/jhash.h, seed and all.

With it tests, `farm map` and the core predict in which bucket the kernel puts a client. The words
of a key are read as the kernel of x86 and ARM does, lowest byte first: a farm in this mode must
not have nodes of the other byte order.
"""

import struct

from mirrorfarm.limits import BUCKETS

_MASK = 0xFFFF_FFFF
_GOLDEN = 0xDEAD_BEEF
# Which word is changed by which other one, and the rotation.
_MIX = ((0, 2, 4), (1, 0, 6), (2, 1, 8), (0, 2, 16), (1, 0, 19), (2, 1, 4))
_FINAL = ((2, 1, 14), (0, 2, 11), (1, 0, 25), (2, 1, 16), (0, 2, 4), (1, 0, 14), (2, 1, 24))


def jhash(key: bytes, seed: int) -> int:
    """Return the 32-bit hash of any number of bytes."""
    start = (_GOLDEN + len(key) + seed) & _MASK
    words = [start, start, start]
    while len(key) > 12:
        _add(words, key[:12])
        for changed, other, rotation in _MIX:
            third = 3 - changed - other
            words[changed] = (words[changed] - words[other]) & _MASK
            words[changed] ^= _rotate(words[other], rotation)
            words[other] = (words[other] + words[third]) & _MASK
        key = key[12:]
    if key:
        _add(words, key + bytes(12 - len(key)))
        for changed, other, rotation in _FINAL:
            words[changed] ^= words[other]
            words[changed] = (words[changed] - _rotate(words[other], rotation)) & _MASK
    return words[2]


def jhash_bucket(key: bytes, seed: int) -> int:
    """Return the bucket of `jhash … mod 1024`: registers have four bytes, so keys are padded."""
    padded = key + bytes(-len(key) % 4)
    return jhash(padded, seed) * BUCKETS >> 32


def _add(words: list[int], block: bytes) -> None:
    for at, word in enumerate(struct.unpack("<III", block)):
        words[at] = (words[at] + word) & _MASK


def _rotate(word: int, bits: int) -> int:
    return (word << bits | word >> (32 - bits)) & _MASK
