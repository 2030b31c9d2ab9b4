"""The marked frames of a check: round trips, strangers' frames, counts, what the kernel passes."""

import ipaddress
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mirrorfarm.limits import CHECK_ROWS_MAX, CHECK_SIZE_MAX, FARM_NODES_MAX, VIRTUAL_ADDRESSES_MAX
from mirrorfarm.netfilter.neighbours import checksum
from mirrorfarm.netfilter.packet import parse as parse_packet
from mirrorfarm.netfilter.preflight import (
    COPIES_MAX,
    ETHERTYPE,
    PROBES,
    PROGRAM,
    Kind,
    Probe,
    Seen,
    Tally,
    build,
    is_host_mac,
    parse,
)

TOKEN = bytes(range(16))
MAC = bytes.fromhex("020000000001")
VIRTUAL = bytes.fromhex("5afec6120064")
V4 = ipaddress.ip_address("198.18.0.1"), ipaddress.ip_address("198.18.0.100")
V6 = ipaddress.ip_address("2001:db8::1"), ipaddress.ip_address("2001:db8::100")

probes = st.builds(
    Probe,
    token=st.just(TOKEN),
    kind=st.sampled_from(Kind),
    sender=st.integers(0, FARM_NODES_MAX - 1),
    segment=st.integers(0, VIRTUAL_ADDRESSES_MAX - 1),
    target=st.integers(0, FARM_NODES_MAX - 1),
    number=st.integers(0, PROBES - 1),
)


@given(probe=probes, ends=st.sampled_from([None, V4, V6]), size=st.integers(0, CHECK_SIZE_MAX))
def test_what_is_built_is_read_back_with_or_without_an_ip_header(
    probe: Probe, ends: tuple[ipaddress.IPv4Address, ipaddress.IPv4Address] | None, size: int
) -> None:
    probe = probe._replace(size=0 if ends else size)
    frame = build(probe, MAC, VIRTUAL, ends)
    assert parse(frame, TOKEN) == probe
    assert frame[:12] == VIRTUAL + MAC
    assert len(frame) - 14 >= max(46, probe.size)
    assert passes(frame)


@given(frame=st.binary(max_size=200))
@example(frame=build(Probe(TOKEN, Kind.OWN, 0, 0, 0, 0), MAC)[:40])
@example(frame=build(Probe(TOKEN, Kind.OWN, 0, 0, 0, PROBES), MAC))
@example(frame=build(Probe(TOKEN, Kind.OWN, 255, 0, 0, 0), MAC))
@example(frame=build(Probe(TOKEN, Kind.SIZE, 0, 0, 0, 0, 1400), MAC)[:1000])
def test_other_frames_and_cut_ones_are_no_probes(frame: bytes) -> None:
    assert parse(frame, TOKEN) is None


def test_a_probe_of_another_check_is_not_read() -> None:
    frame = build(Probe(TOKEN, Kind.VIRTUAL, 0, 0, 0, 0), MAC, VIRTUAL, V4)
    assert parse(frame, bytes(16)) is None


def test_a_probe_to_a_virtual_mac_is_a_packet_that_no_rule_of_a_farm_takes() -> None:
    for ends in (V4, V6):
        frame = build(Probe(TOKEN, Kind.VIRTUAL, 1, 0, 2, 3), MAC, VIRTUAL, ends)
        packet = parse_packet(frame[14:])
        assert packet is not None
        assert packet.destination == ends[1].packed
        assert packet.protocol == 253
    header = build(Probe(TOKEN, Kind.VIRTUAL, 1, 0, 2, 3), MAC, VIRTUAL, V4)[14:34]
    assert checksum(header) == 0
    assert header[8] == 1  # Routers do not pass it on.


def test_the_kernel_passes_probes_alone() -> None:
    arp = b"\xff" * 6 + MAC + bytes.fromhex("0806") + bytes(46)
    udp = b"\xff" * 6 + MAC + bytes.fromhex("0800") + b"\x45" + bytes(8) + b"\x11" + bytes(40)
    udp6 = b"\xff" * 6 + MAC + bytes.fromhex("86dd") + b"\x60" + bytes(5) + b"\x11" + bytes(60)
    assert not any(passes(frame) for frame in (arp, udp, udp6))
    probe = build(Probe(TOKEN, Kind.BROADCAST, 0, 0, 0, 0), MAC)
    assert probe[12:14] == ETHERTYPE.to_bytes(2, "big")
    assert passes(probe)


@pytest.mark.parametrize("ends", [None, V4, V6])
@pytest.mark.parametrize(
    ("tag", "present", "passed"),
    [
        (0x0000, True, True),
        (0x6000, True, True),
        (0x7000, True, True),
        (0x6005, True, False),
        (0x0FFF, True, False),
        (0x6005, False, True),
    ],
)
def test_frames_of_a_vlan_are_not_the_interface_s_but_a_priority_alone_is_no_vlan(
    ends: tuple[ipaddress.IPv4Address, ipaddress.IPv4Address] | None,
    tag: int,
    present: bool,
    passed: bool,
) -> None:
    probe = build(Probe(TOKEN, Kind.VIRTUAL, 0, 0, 0, 0), MAC, VIRTUAL, ends)
    other = b"\xff" * 6 + MAC + bytes.fromhex("0806") + bytes(46)
    assert passes(probe, tag, present=present) is passed
    assert not passes(other, tag, present=present)


def passes(frame: bytes, tag: int = 0, *, present: bool = False) -> bool:
    """Run the classic BPF program as the kernel would.

    What is in the place of the tag says nothing unless one is `present`: some kernels leave there
    that of a frame which they have handed to the interface of its VLAN.
    """
    at, value = 0, 0
    while True:
        code, if_true, if_false, k = PROGRAM[at]
        at += 1
        if code == 0x06:
            return k > 0
        if code == 0x20:
            value = {0xFFFFF030: int(present), 0xFFFFF02C: tag}[k]
        elif code == 0x54:
            value &= k
        elif code == 0x28:
            (value,) = struct.unpack_from("!H", frame, k)
        elif code == 0x30:
            value = frame[k]
        else:
            assert code == 0x15
            at += if_true if value == k else if_false


def test_copies_are_told_from_frames_and_memory_is_bounded() -> None:
    tally = Tally()
    probe = Probe(TOKEN, Kind.OWN, 1, 0, 2, 0)
    for number in (0, 1, 1):
        tally.add("eth0", probe._replace(number=number))
    assert tally.rows() == (Seen("eth0", 1, 0, int(Kind.OWN), 2, 0, frames=2, copies=3),)
    for _ in range(2 * COPIES_MAX):
        tally.add("eth0", probe)
    assert tally.rows()[0].copies <= 2 * COPIES_MAX
    for number in range(CHECK_ROWS_MAX + 100):
        tally.add(f"eth{number}", probe)
    assert len(tally.rows()) <= CHECK_ROWS_MAX


def test_only_the_mac_of_one_machine_is_a_host_mac() -> None:
    assert is_host_mac("02:00:00:00:00:01")
    for text in ("", "03:00:00:00:00:01", "00:00:00:00:00:00", "02:00:00:00:00", "2:0:0:0:0:1"):
        assert not is_host_mac(text)
    assert not is_host_mac("02-00-00-00-00-01")
    assert not is_host_mac("02:00:00:00:00:0G")
