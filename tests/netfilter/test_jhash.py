"""The kernel's hash in Python. tests/live/test_farm_filter.py asks the kernel itself."""

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from mirrorfarm.limits import BUCKETS
from mirrorfarm.netfilter.jhash import jhash, jhash_bucket

WORD = 0xFFFF_FFFF


def test_the_values_of_lookup3_itself() -> None:
    # lookup3 starts from deadbeef + length + seed, as jhash does (driver5 of lookup3.c).
    text = b"Four score and seven years ago"
    assert jhash(b"", 0) == 0xDEADBEEF
    assert jhash(text, 0) == 0x17770551
    assert jhash(text, 1) == 0xCD628161


def test_a_client_stays_in_its_bucket() -> None:
    key = ipaddress.ip_address("198.18.0.50").packed + (40000).to_bytes(2, "big")
    assert jhash_bucket(key, 0x5EED) == jhash_bucket(key + b"\0\0", 0x5EED) == 509


@given(st.binary(max_size=40), st.integers(0, WORD))
def test_a_hash_has_32_bits_and_a_bucket_is_one_of_1024(key: bytes, seed: int) -> None:
    assert 0 <= jhash(key, seed) <= WORD
    assert 0 <= jhash_bucket(key, seed) < BUCKETS


def test_buckets_are_used_evenly() -> None:
    counts = [0] * BUCKETS
    for number in range(50 * BUCKETS):
        counts[jhash_bucket(number.to_bytes(4, "big"), 7)] += 1
    assert min(counts) > 15
    assert max(counts) < 100
