"""What a filter reads of a packet, whatever the packet is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorfarm.limits import PACKET_HEAD_BYTES_MAX
from mirrorfarm.netfilter.packet import ARP, ICMP, TCP, UDP, Kind, Packet, parse, parse_frame
from mirrorfarm.netfilter.packet import ICMPV6 as ICMP_OF_IPV6
from tests.netfilter import packets as make
from tests.netfilter.packets import Traffic, address, ipv4, ipv6, tcp, udp

A, VIP = "198.18.0.50", "198.18.0.100"
A6, VIP6 = "2001:db8:f::50", "2001:db8:f::100"


def test_the_opening_of_a_connection_is_told_from_the_rest_of_it() -> None:
    opening = parse(ipv4(A, VIP, TCP, tcp(40_000, 80), identification=0x1234))
    assert opening == Packet(
        Kind.SYN, 4, address(A), address(VIP), TCP, 40_000, 80, identification=0x1234
    )
    for flags in (make.SYN_ACK, make.ACK, make.RST, make.FIN, 0):
        assert parse(ipv4(A, VIP, TCP, tcp(40_000, 80, flags))).kind is Kind.STREAM
    assert parse(ipv4(A, VIP, TCP, tcp(40_000, 80, make.SYN | 0xC0))).kind is Kind.SYN  # ECN.


def test_options_of_ipv4_are_stepped_over() -> None:
    packet = parse(ipv4(A, VIP, UDP, udp(5353, 53), options=b"\x01" * 40))
    assert (packet.kind, packet.source_port, packet.destination_port) == (Kind.UDP, 5353, 53)


def test_a_packet_is_found_behind_an_offset_and_in_a_frame() -> None:
    raw = ipv6(A6, VIP6, TCP, tcp(40_000, 443, make.ACK))
    expected = Packet(Kind.STREAM, 6, address(A6), address(VIP6), TCP, 40_000, 443)
    assert parse(raw) == parse(b"\xff" * 7 + raw, 7) == parse_frame(make.ethernet(raw)) == expected


def test_extension_headers_of_ipv6_are_walked() -> None:
    body = make.extension(make.ROUTING, 16) + make.extension(make.DESTINATION, 24)
    body += make.extension(make.AUTHENTICATION) + make.authentication(make.FRAGMENT)
    body += make.fragment(TCP) + tcp(40_000, 443)  # Atomic: a whole packet (RFC 8200, 4.5).
    packet = parse(ipv6(A6, VIP6, make.HOP_BY_HOP, body))
    assert packet == Packet(Kind.SYN, 6, address(A6), address(VIP6), TCP, 40_000, 443)


@pytest.mark.parametrize("field", [0x2000, 0x0001, 0x1FFF, 0x20B9])
def test_first_and_later_fragments_are_alike_and_have_no_ports(field: int) -> None:
    packet = parse(ipv4(A, VIP, UDP, udp(40_000, 53), fragment_field=field))
    assert packet == Packet(Kind.FRAGMENT, 4, address(A), address(VIP), UDP)


def test_the_flag_not_to_fragment_makes_no_fragment() -> None:
    assert parse(ipv4(A, VIP, UDP, udp(1, 2), fragment_field=0x4000)).kind is Kind.UDP


@pytest.mark.parametrize(("offset", "more"), [(0, 1), (185, 1), (200, 0)])
def test_fragments_of_ipv6_are_seen_behind_other_extensions(offset: int, more: int) -> None:
    body = make.extension(make.FRAGMENT) + make.fragment(UDP, offset, more) + udp(40_000, 53)
    packet = parse(ipv6(A6, VIP6, make.DESTINATION, body))
    assert packet == Packet(Kind.FRAGMENT, 6, address(A6), address(VIP6), UDP)


@pytest.mark.parametrize("kind", [3, 11, 12])
def test_an_icmp_error_carries_the_packet_it_is_about(kind: int) -> None:
    cause = ipv4(VIP, A, TCP, tcp(80, 40_000)[:8])
    packet = parse(ipv4("198.18.0.1", VIP, ICMP, make.icmp(kind, 4, cause)))
    assert packet.kind is Kind.ICMP_ERROR
    assert packet.embedded == cause
    assert parse(packet.embedded).source == address(VIP)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(0, Kind.OTHER), (4, Kind.OTHER), (5, Kind.OTHER), (8, Kind.ECHO), (13, Kind.OTHER)],
)
def test_of_other_icmp_only_pings_count(kind: int, expected: Kind) -> None:
    assert parse(ipv4(A, VIP, ICMP, make.icmp(kind))).kind is expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (1, Kind.ICMP_ERROR),
        (2, Kind.ICMP_ERROR),
        (4, Kind.ICMP_ERROR),
        (5, Kind.OTHER),
        (128, Kind.ECHO),
        (129, Kind.OTHER),
        (135, Kind.NEIGHBOUR),
        (136, Kind.NEIGHBOUR),
        (143, Kind.OTHER),
    ],
)
def test_icmp_of_ipv6_has_its_own_numbers(kind: int, expected: Kind) -> None:
    assert parse(ipv6(A6, VIP6, ICMP_OF_IPV6, make.icmp(kind))).kind is expected


def test_the_icmp_of_the_other_version_is_no_icmp() -> None:
    assert parse(ipv4(A, VIP, ICMP_OF_IPV6, make.icmp(128))).kind is Kind.OTHER
    assert parse(ipv6(A6, VIP6, ICMP, make.icmp(8))).kind is Kind.OTHER


def test_a_question_by_arp_names_who_asks_and_what_for() -> None:
    packet = parse_frame(make.ethernet(make.arp(1, A, VIP), 0x0806))
    assert packet == Packet(Kind.ARP, 4, address(A), address(VIP), ARP)
    assert parse_frame(make.ethernet(make.arp(2, A, VIP), 0x0806)).kind is Kind.OTHER
    assert parse_frame(make.ethernet(make.arp(1, VIP, VIP), 0x0806)).kind is Kind.OTHER
    assert parse_frame(make.ethernet(make.arp(1, A, VIP)[:27], 0x0806)).kind is Kind.MALFORMED


def test_frames_of_other_kinds_and_tagged_ones_are_not_ours() -> None:
    assert parse_frame(make.ethernet(b"\0\x0a" + ipv4(A, VIP, UDP), 0x8100)) == Packet(Kind.OTHER)
    assert parse_frame(make.ethernet(ipv4(A, VIP, UDP), 0x86DD)) == Packet(Kind.MALFORMED)
    assert parse_frame(b"\0" * 13) == Packet(Kind.MALFORMED)


ABSURD = {
    "empty": b"",
    "a version that does not exist": b"\x50" + ipv4(A, VIP, TCP, tcp(1, 2))[1:],
    "an IPv4 header of four words": ipv4(A, VIP, TCP, tcp(1, 2), first=0x44),
    "an IPv4 header longer than the packet": ipv4(A, VIP, TCP, b"", first=0x4F),
    "a length shorter than the header": ipv4(A, VIP, TCP, tcp(1, 2), total=19),
    "ports in the padding": ipv4(A, VIP, TCP, tcp(1, 2), total=39),
    "half a TCP header": ipv4(A, VIP, TCP, tcp(1, 2)[:19]),
    "a TCP header of four words": ipv4(A, VIP, TCP, tcp(1, 2, offset=4)),
    "half a UDP header": ipv6(A6, VIP6, UDP, udp(1, 2)[:7]),
    "half a ping": ipv4(A, VIP, ICMP, make.icmp(8)[:7]),
    "an extension longer than the packet": ipv6(A6, VIP6, 60, b"\x06\xff" + tcp(1, 2)),
    "half an extension": ipv6(A6, VIP6, 60, b"\x06\0\0\0"),
    "half the header of a first fragment": ipv6(A6, VIP6, 44, make.fragment(UDP, 0, 1)[:7]),
    "half a fragment header": ipv6(A6, VIP6, 44, make.fragment(UDP)[:7]),
    "extensions without end": ipv6(A6, VIP6, 60, make.extension(60) * 20 + tcp(1, 2)),
    "a header beyond what is read": ipv6(
        A6, VIP6, 60, make.extension(60, 200) + make.extension(TCP) + tcp(1, 2)
    ),
}


@pytest.mark.parametrize("name", ABSURD)
def test_the_absurd_is_malformed(name: str) -> None:
    assert parse(ABSURD[name]).kind is Kind.MALFORMED


def test_as_many_extensions_as_allowed_are_walked_and_not_one_more() -> None:
    nine = make.extension(60) * 8 + make.extension(TCP) + tcp(1, 2)
    assert parse(ipv6(A6, VIP6, 60, nine[8:])).kind is Kind.SYN
    assert parse(ipv6(A6, VIP6, 60, nine)).kind is Kind.MALFORMED


def test_joined_segments_without_a_length_are_read_to_their_end() -> None:
    assert parse(ipv4(A, VIP, TCP, tcp(1, 2), total=0)).kind is Kind.SYN
    assert parse(ipv6(A6, VIP6, TCP, tcp(1, 2), payload=0)).kind is Kind.SYN


@given(st.binary(max_size=320))
def test_no_bytes_raise(data: bytes) -> None:
    for packet in (parse(data), parse_frame(data), parse(data, 14)):
        assert len(packet.source) in (0, 4, 16)
        assert len(packet.source) == len(packet.destination)


@given(st.integers(0, 2**32), st.integers(0, 300))
def test_a_packet_cut_short_keeps_its_meaning_or_is_malformed(seed: int, cut: int) -> None:
    whole = Traffic((VIP, VIP6), (80, 53), seed).frame()[14:]
    short = parse(whole[:cut])
    if short.kind is not Kind.MALFORMED:
        assert short[:8] == parse(whole)[:8]


@given(st.integers(0, 2**32))
def test_what_lies_beyond_the_head_counts_for_nothing(seed: int) -> None:
    frame = Traffic((VIP, VIP6), (80, 53), seed).frame()[14:]
    assert parse(frame) == parse(frame[:PACKET_HEAD_BYTES_MAX])
