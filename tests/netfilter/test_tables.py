"""The bytes that the filter in the kernel reads."""

import struct

import pytest

from mirrorfarm.limits import RULES_PER_ADDRESS_MAX
from mirrorfarm.netfilter import tables
from mirrorfarm.netfilter.elf import read
from mirrorfarm.netfilter.rules import State, rule
from tests.netfilter.packets import address
from tests.netfilter.test_elf import SHIPPED

VIP, VIP6 = address("198.18.0.100"), address("2001:db8:f::100")


def test_an_ipv4_address_is_mapped_into_ipv6() -> None:
    assert tables.address_key(VIP) == bytes(10) + b"\xff\xff" + VIP
    assert tables.address_key(VIP6) == VIP6


def test_rules_stand_in_order_after_seed_and_number() -> None:
    other = rule("tcp", "on_addr", "80", "198.18.0.101")
    rules = (rule("tcp", "on_port", "443", group=1), other, rule("udp", "on_ipid"))
    value = tables.address_value(VIP, rules, 2**64 - 1, directed=True)
    assert struct.unpack_from("=QII", value) == (2**64 - 1, 1, 2)
    assert value[16:24] == b"\x06\x01\x01\0\x01\xbb\0\0"
    assert value[24:32] == b"\x11\x02\0\0\0\0\0\0"
    assert value[32:] == bytes(8 * (RULES_PER_ADDRESS_MAX - 2))


def test_the_directory_is_read_back() -> None:
    keys = [tables.address_key(VIP), tables.FREE, VIP6]
    assert tables.directory_keys(tables.directory_value(keys)) == keys


def test_values_have_the_sizes_that_the_program_says() -> None:
    sizes = {map_.name: map_.value_bytes for map_ in read(SHIPPED).maps}
    assert len(tables.address_value(VIP, (), 0)) == sizes["addresses"]
    assert len(tables.directory_value([VIP6] * tables.PLACES)) == sizes["directory"]
    assert len(tables.bucket_value(State.SOFT, 63)) == sizes["buckets"]
    assert (
        len(tables.VERDICTS) <= next(m for m in read(SHIPPED).maps if m.name == "verdicts").entries
    )


def test_a_bucket_holds_its_state_and_whom_to_relay_to() -> None:
    assert tables.bucket_value(State.SOFT, 3) == struct.pack("=I", 2 | 3 << 8)
    assert tables.bucket_key(2, 5) == struct.pack("=I", 2 * 1024 + 5)
    with pytest.raises(AssertionError):
        tables.bucket_key(8, 0)


def test_a_whole_group_is_packed_as_its_buckets_are() -> None:
    states = bytes(bucket % 3 for bucket in range(1024))
    peers = bytes(bucket % 64 for bucket in range(1024))
    values = tables.bucket_values(states, peers)
    for bucket in range(1024):
        one = tables.bucket_value(State(states[bucket]), peers[bucket])
        assert values[bucket] == one
    assert tables.bucket_keys(3)[5] == tables.bucket_key(3, 5)


def test_a_peer_is_its_hardware_address_or_nobody() -> None:
    mac = bytes.fromhex("020000000012")
    assert tables.peer_value(mac) == mac + b"\x01\0"
    assert tables.peer_value(b"") == bytes(8)
    assert tables.relay_key(mac) == mac + b"\0\0"
