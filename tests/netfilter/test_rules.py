"""Which rule a packet falls under, and what of the client decides."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh64_intdigest

from mirrorfarm.netfilter.packet import ICMP, TCP, UDP, Kind, Packet, parse, parse_frame
from mirrorfarm.netfilter.packet import ICMPV6 as ICMP_OF_IPV6
from mirrorfarm.netfilter.rules import (
    Known,
    Placement,
    State,
    Verdict,
    accepts,
    bucket,
    key,
    rule,
    rules_of,
)
from tests.netfilter import packets as make
from tests.netfilter.packets import Traffic, address, ipv4, ipv6, tcp, udp

SEED = 0x5EED
A, VIP, VIP_2 = "198.18.0.50", "198.18.0.100", "198.18.0.101"
A6, VIP6 = "2001:db8:f::50", "2001:db8:f::100"
HTTP = rule("tcp", "on_addr", "80", group=0)
HTTPS = rule("tcp", "on_port", "443", group=1)
DNS = rule("udp", "on_ipid", "53", group=2)
RULES = (HTTP, HTTPS, DNS)


def to(port: int, flags: int = make.SYN, source_port: int = 40_000) -> Packet:
    return parse(ipv4(A, VIP, TCP, tcp(source_port, port, flags)))


def datagram(source: str, identification: int, fragment_field: int = 0) -> Packet:
    raw = ipv4(source, VIP, UDP, udp(40_000, 53), identification=identification)
    return parse(raw[:6] + fragment_field.to_bytes(2, "big") + raw[8:])


def expected(group: int, client: bytes) -> Placement:
    return Placement(group, xxh64_intdigest(client, SEED) & 1023)


def test_a_client_is_its_address_or_its_address_and_port() -> None:
    assert bucket(to(80), RULES, SEED) == expected(0, address(A))
    assert bucket(to(443), RULES, SEED) == expected(1, address(A) + b"\x9c\x40")
    assert bucket(to(443, make.ACK), RULES, SEED) == bucket(to(443), RULES, SEED)
    assert key(to(443, source_port=0), HTTPS) == address(A) + b"\0\0"


def test_datagrams_of_one_source_are_spread_by_their_identification() -> None:
    assert bucket(datagram(A, 0x1234), RULES, SEED) == expected(2, address(A) + b"\x12\x34")
    over_6 = parse(ipv6(A6, VIP6, UDP, udp(40_000, 53)))
    assert bucket(over_6, RULES, SEED) == expected(2, address(A6))  # IPv6 has none.


def test_fragments_of_a_datagram_go_to_one_node() -> None:
    first = bucket(datagram(A, 7, 0x2000), RULES, SEED)
    assert first == bucket(datagram(A, 7, 0x00B9), RULES, SEED) == expected(2, address(A))


def test_what_matches_no_rule_is_refused() -> None:
    assert bucket(to(22), RULES, SEED) is Verdict.REFUSED
    assert bucket(to(80), (), SEED) is Verdict.REFUSED
    assert bucket(parse(ipv4(A, VIP, UDP, udp(1, 80))), RULES, SEED) is Verdict.REFUSED
    assert bucket(parse(ipv4(A, VIP, 47)), RULES, SEED) is Verdict.REFUSED
    assert bucket(parse(ipv4(A, VIP, TCP)), RULES, SEED) is Verdict.REFUSED
    assert bucket(parse(b""), RULES, SEED) is Verdict.REFUSED
    fragment = parse(ipv4(A, VIP, 0, fragment_field=1))
    assert bucket(fragment, (*RULES, rule("arp", "on_addr")), SEED) is Verdict.REFUSED


def test_the_first_rule_that_matches_decides() -> None:
    rest = rule("tcp", "on_addr", group=3)
    assert bucket(to(443), (HTTPS, rest), SEED) == expected(1, address(A) + b"\x9c\x40")
    assert bucket(to(443), (rest, HTTPS), SEED) == expected(3, address(A))
    assert bucket(to(22), (HTTPS, rest), SEED) == expected(3, address(A))


def test_a_rule_may_be_for_one_virtual_address() -> None:
    other = rule("tcp", "on_addr", "80", VIP_2, group=1)
    assert bucket(to(80), (other, HTTP), SEED) == expected(0, address(A))
    assert rules_of(address(VIP), (other, HTTP, rule("arp", "on_addr"))) == (HTTP,)
    assert rules_of(address(VIP_2), (other, HTTP)) == (other, HTTP)
    with pytest.raises(ValueError, match="more than 16 rules"):
        rules_of(address(VIP), (HTTP,) * 17)


def test_errors_and_neighbours_go_to_all_and_pings_to_one() -> None:
    error = parse(ipv4("198.18.0.1", VIP, ICMP, make.icmp(3, 4)))
    asked = parse(ipv6(A6, VIP6, ICMP_OF_IPV6, make.icmp(135)))
    assert bucket(error, (), SEED) is bucket(asked, (), SEED) is Verdict.EVERYONE
    ping = parse(ipv4(A, VIP, ICMP, make.icmp(8)))
    long_ping = parse(ipv4(A, VIP, ICMP, make.icmp(8), fragment_field=0x2000))
    assert bucket(ping, (HTTPS, HTTP), SEED) == expected(1, address(A))
    assert bucket(long_ping, (HTTPS, HTTP), SEED) == expected(1, address(A))
    assert bucket(ping, (rule("arp", "on_addr"),), SEED) is Verdict.REFUSED


def test_all_answer_arp_unless_a_rule_chooses_one() -> None:
    question = parse_frame(make.ethernet(make.arp(1, A, VIP), 0x0806))
    assert bucket(question, RULES, SEED) is Verdict.EVERYONE
    chosen = bucket(question, (*RULES, rule("arp", "on_addr", group=4)), SEED)
    assert chosen == expected(4, address(A))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("sctp", "on_addr"), "proto"),
        (("tcp", "on_mac"), "filter"),
        (("tcp", "on_ipid"), "tear a connection apart"),
        (("arp", "on_port"), "arp"),
        (("arp", "on_addr", "80"), "arp"),
        (("tcp", "on_addr", "0"), "port"),
        (("tcp", "on_addr", "65536"), "port"),
        (("tcp", "on_addr", "http"), "port"),
        (("tcp", "on_addr", "²"), "port"),
        (("tcp", "on_addr", "80", "no-address"), "no-address"),
        (("tcp", "on_addr", "80", "*", 8), "group"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(words: tuple[Any, ...], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        rule(*words)


ACCEPTED = {
    # kind, state: nothing known, listener, cookie, connection, one opened anew elsewhere
    (Kind.SYN, State.FOREIGN): (False,) * 5,
    (Kind.SYN, State.HARD): (True,) * 5,
    (Kind.SYN, State.SOFT): (True,) * 5,
    (Kind.STREAM, State.FOREIGN): (False, False, False, True, False),
    (Kind.STREAM, State.HARD): (True,) * 5,
    (Kind.STREAM, State.SOFT): (False, False, True, True, False),
    (Kind.UDP, State.FOREIGN): (False,) * 5,
    (Kind.UDP, State.SOFT): (True,) * 5,
    (Kind.ECHO, State.HARD): (True,) * 5,
    (Kind.FRAGMENT, State.FOREIGN): (False,) * 5,
}


@pytest.mark.parametrize(("kind", "state"), ACCEPTED)
def test_who_takes_a_packet(kind: Kind, state: State) -> None:
    taken = tuple(accepts(Packet(kind), state, known) for known in Known)
    assert taken == ACCEPTED[kind, state]


@given(st.integers(0, 2**32), st.integers(0, 2**64 - 1))
def test_every_packet_has_one_placement(seed: int, hash_seed: int) -> None:
    packet = parse_frame(Traffic((VIP, VIP6), (80, 443, 53), seed).frame())
    placed = bucket(packet, RULES, hash_seed)
    assert isinstance(placed, Verdict) or (placed.group < 3 and 0 <= placed.bucket < 1024)
    assert isinstance(placed, Verdict) == (
        packet.kind in (Kind.MALFORMED, Kind.OTHER, Kind.ICMP_ERROR, Kind.NEIGHBOUR, Kind.ARP)
        or placed is Verdict.REFUSED
    )
