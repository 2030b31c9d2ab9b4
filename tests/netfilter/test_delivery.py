"""Who answers for a virtual address, and with which MAC: frames in, frames out."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorfarm.limits import ASKERS_MAX, BUCKETS
from mirrorfarm.netfilter.delivery import Answers, Delivery, parse_virtual_mac, virtual_mac
from mirrorfarm.netfilter.neighbours import (
    Claim,
    IPAddress,
    Question,
    mac_text,
    parse_claim,
    question,
)
from mirrorfarm.netfilter.rules import rule

V4 = ipaddress.ip_address("198.18.0.100")
V6 = ipaddress.ip_address("2001:db8::100")
VIPS: tuple[IPAddress, ...] = (V4, V6)
CLIENT = bytes.fromhex("020000000050")
NODES = tuple(bytes.fromhex(f"02000000001{number}") for number in range(3))
ARP_RULE = (rule("tcp", "on_port"), rule("arp", "on_addr"))
ALL = bytes([1]) * BUCKETS
NONE = bytes(BUCKETS)


def asked(address: IPAddress, asker: str, mac: bytes = CLIENT) -> bytes:
    """Return the frame by which `asker` asks for `address`."""
    if address.version == 6:
        return solicitation(address, asker, mac)
    head = b"\xff" * 6 + mac + bytes.fromhex("0806 0001 0800 06 04 0001")
    return head + mac + ipaddress.ip_address(asker).packed + bytes(6) + address.packed


def solicitation(address: IPAddress, asker: str, mac: bytes) -> bytes:
    frame = question(address, mac)
    source = ipaddress.ip_address(asker).packed
    # The sum of a body is the complement of its words: the source's words come off it.
    total = ~int.from_bytes(frame[56:58], "big") & 0xFFFF
    total += sum(int.from_bytes(source[at : at + 2], "big") for at in range(0, 16, 2))
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return frame[:22] + source + frame[38:56] + (~total & 0xFFFF).to_bytes(2, "big") + frame[58:]


def farm(delivery: Delivery, rules: tuple = ()) -> list[Answers]:  # type: ignore[type-arg]
    """Three nodes that own a third of the buckets each."""
    nodes = [Answers(delivery, VIPS, mac, rules, seed=7) for mac in NODES]
    for number, node in enumerate(nodes):
        node.adopt([bytes(1 if at % 3 == number else 0 for at in range(BUCKETS))])
    return nodes


def test_the_virtual_mac_is_made_of_the_address() -> None:
    assert mac_text(virtual_mac(Delivery.INVISIBLE, V4)) == "5a:fe:c6:12:00:64"
    assert mac_text(virtual_mac(Delivery.MULTICAST, V4)) == "03:bf:c6:12:00:64"
    assert mac_text(virtual_mac(Delivery.INVISIBLE, V6)) == "5a:fe:00:00:01:00"
    assert virtual_mac(Delivery.DIRECTED, V4) == virtual_mac(Delivery.NONE, V4) == b""
    assert virtual_mac(Delivery.INVISIBLE, V4, CLIENT) == CLIENT


@given(st.ip_addresses())
def test_an_invisible_mac_is_unicast_and_a_multicast_one_is_not(address: IPAddress) -> None:
    assert not virtual_mac(Delivery.INVISIBLE, address)[0] & 1
    assert virtual_mac(Delivery.MULTICAST, address)[0] & 1


def test_a_configured_mac_is_read_in_both_spellings() -> None:
    for text in ("5A:FE:C0:A8:01:64", "5a-fe-c0-a8-01-64"):
        assert parse_virtual_mac(Delivery.INVISIBLE, text).hex() == "5afec0a80164"


@pytest.mark.parametrize(
    ("delivery", "text", "reason"),
    [
        (Delivery.INVISIBLE, "5AFE", "is not a MAC"),
        (Delivery.INVISIBLE, "5A:FE:C0:A8:01:6g", "is not a MAC"),
        (Delivery.INVISIBLE, "5A:FE:C0:A8:01:6４", "is not a MAC"),
        (Delivery.INVISIBLE, "00:00:00:00:00:00", "nobody's"),
        (Delivery.INVISIBLE, "03:bf:00:00:00:01", "is a group MAC"),
        (Delivery.MULTICAST, "5a:fe:00:00:00:01", "is no group MAC"),
        (Delivery.DIRECTED, "5a:fe:00:00:00:01", "remove addr"),
    ],
)
def test_a_wrong_mac_is_refused_with_the_reason(delivery: Delivery, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_virtual_mac(delivery, text)


@pytest.mark.parametrize("delivery", [Delivery.INVISIBLE, Delivery.MULTICAST])
def test_every_node_answers_with_the_shared_mac_and_sends_from_its_own(delivery: Delivery) -> None:
    for address, asker in ((V4, "198.18.0.50"), (V6, "2001:db8::50")):
        for node in farm(delivery):
            (frame,) = node.answer(asked(address, asker))
            assert frame[6:12] == node.mac
            shared = mac_text(virtual_mac(delivery, address))
            assert parse_claim(frame) == Claim(str(address), shared)


@pytest.mark.parametrize("delivery", list(Delivery))
def test_no_frame_is_ever_sent_from_the_virtual_mac(delivery: Delivery) -> None:
    for node in farm(delivery, ARP_RULE):
        frames = node.announcements() + node.adopt([ALL]) + node.answer(asked(V4, "198.18.0.50"))
        assert all(frame[6:12] == node.mac for frame in frames)


@given(st.ip_addresses(v=4, network="198.18.0.0/16"))
def test_with_a_rule_for_arp_exactly_one_node_answers_with_its_own_mac(
    asker: ipaddress.IPv4Address,
) -> None:
    if asker == V4:
        return  # Who has the address asks nothing.
    frames = [
        frame
        for node in farm(Delivery.DIRECTED, ARP_RULE)
        for frame in node.answer(asked(V4, str(asker)))
    ]
    assert len(frames) == 1
    assert frames[0][22:28] == frames[0][6:12]
    assert frames[0][6:12] in NODES


def test_the_rule_for_arp_counts_for_neighbour_discovery_too() -> None:
    for last in range(1, 60):
        nodes = farm(Delivery.DIRECTED, ARP_RULE)
        answers = [node.answer(asked(V6, f"2001:db8::{last:x}")) for node in nodes]
        assert sum(map(len, answers)) == 1


def test_askers_are_spread_over_the_nodes() -> None:
    nodes = farm(Delivery.DIRECTED, ARP_RULE)
    counts = [
        sum(len(node.answer(asked(V4, f"198.18.1.{last}"))) for last in range(1, 250))
        for node in nodes
    ]
    assert min(counts) > 50


def test_without_that_rule_every_node_that_owns_anything_answers_with_its_own_mac() -> None:
    nodes = farm(Delivery.DIRECTED)
    nodes[2].adopt([NONE])
    answers = [node.answer(asked(V4, "198.18.0.50")) for node in nodes]
    assert [len(frames) for frames in answers] == [1, 1, 0]
    assert answers[0][0][22:28] == NODES[0]


def test_a_survivor_tells_everybody_first_and_then_the_askers_it_heard_each_its_node() -> None:
    nodes = farm(Delivery.DIRECTED, ARP_RULE)
    askers = [f"198.18.1.{last}" for last in range(1, 100)]
    answered: dict[str, bytes] = {}
    for asker in askers:
        for node in nodes:
            for frame in node.answer(asked(V4, asker)):
                answered[asker] = frame[6:12]
    nodes[1].adopt([bytes(1 if at % 3 == 1 else 0 for at in range(BUCKETS))])
    assert not nodes[1].adopt([bytes(1 if at % 3 == 1 else 0 for at in range(BUCKETS))])
    told = nodes[1].adopt([bytes(0 if at % 3 == 2 else 1 for at in range(BUCKETS))])
    to_all = [frame for frame in told if frame[0] & 1]
    assert told[: len(to_all)] == to_all, "who is told its own node must not be drawn away again"
    assert {frame[22:28] for frame in to_all if frame[12:14] == b"\x08\x06"} == {NODES[1]}
    alone = told[len(to_all) :]
    addresses = {str(ipaddress.ip_address(frame[38:42])) for frame in alone}
    assert addresses == {asker for asker, mac in answered.items() if mac == NODES[0]}
    assert all(frame[:6] == CLIENT for frame in alone), "each is told alone"


def test_one_survivor_alone_tells_everybody() -> None:
    nodes = farm(Delivery.DIRECTED, ARP_RULE)
    for number, node in enumerate(nodes[:2]):
        node.adopt([bytes(1 if at % 2 == number else 0 for at in range(BUCKETS))])
    told = [node.adopt([ALL]) for node in nodes[:2]]
    assert all(told), "each of them gained, and owns the first bucket now"
    nodes = farm(Delivery.DIRECTED, ARP_RULE)
    gained = nodes[2].adopt([bytes(1 if at % 3 else 0 for at in range(BUCKETS))])
    assert not gained, "the first bucket is another's"


def test_a_node_without_buckets_is_silent_when_directed() -> None:
    node = Answers(Delivery.DIRECTED, VIPS, NODES[0], ARP_RULE)
    assert node.answer(asked(V4, "198.18.0.50")) == []
    assert node.announcements() == []


def test_only_the_owner_of_the_first_bucket_announces_where_macs_are_the_nodes_own() -> None:
    senders = {frame[6:12] for node in farm(Delivery.DIRECTED) for frame in node.announcements()}
    assert senders == {NODES[0]}


def test_behind_a_load_balancer_nothing_is_said() -> None:
    node = Answers(Delivery.NONE, VIPS, NODES[0])
    assert not node.adopt([ALL])
    assert not node.announcements()
    assert not node.answer(asked(V4, "198.18.0.50"))


def test_other_addresses_are_not_answered() -> None:
    node = farm(Delivery.INVISIBLE)[0]
    assert not node.answer(asked(ipaddress.ip_address("198.18.0.101"), "198.18.0.50"))


def test_who_probes_without_an_address_learns_that_it_is_taken() -> None:
    for address in VIPS:
        for node in farm(Delivery.INVISIBLE):
            assert len(node.answer(question(address, CLIENT))) == 1


def test_the_memory_of_askers_is_bounded_and_forgets_the_oldest() -> None:
    node = Answers(Delivery.DIRECTED, VIPS, NODES[0], ARP_RULE)
    first = ipaddress.ip_address("198.18.4.0")
    for number in range(ASKERS_MAX + 1):
        node.answer(asked(V4, str(first + number)))
    told = node.adopt([ALL])
    assert len(told) == ASKERS_MAX
    assert first.packed not in {frame[38:42] for frame in told}


@given(st.sampled_from(list(Delivery)), st.sampled_from(["0806", "86dd"]), st.binary(max_size=120))
def test_garbage_is_not_answered_and_never_raises(
    delivery: Delivery, ethertype: str, data: bytes
) -> None:
    for node in farm(delivery, ARP_RULE):
        assert not node.answer(bytes(12) + bytes.fromhex(ethertype) + data)


def test_the_frame_of_this_test_is_a_question() -> None:
    asker = ipaddress.ip_address("2001:db8::50")
    node = farm(Delivery.INVISIBLE)[0]
    (frame,) = node.answer(asked(V6, str(asker)))
    assert frame[38:54] == asker.packed
    assert Question(V6, asker, CLIENT).mac == frame[:6]


@pytest.mark.parametrize("rules", [(), ARP_RULE])
def test_all_are_told_another_mac_of_an_interface_that_some_of_them_know(rules: tuple) -> None:  # type: ignore[type-arg]
    for node in farm(Delivery.DIRECTED, rules):
        assert node.rename(node.mac) == []
        frames = node.rename(CLIENT)
        assert {frame[6:12] for frame in frames} == {CLIENT}
        told = {parse_claim(frame) for frame in frames}
        assert told == {Claim(str(address), mac_text(CLIENT)) for address in VIPS}
        node.adopt([NONE])
        assert node.rename(NODES[0]) == [], "who owns nothing has nobody"


def test_a_virtual_mac_stays_when_that_of_the_interface_changes() -> None:
    for node in farm(Delivery.INVISIBLE):
        assert node.rename(CLIENT) == []
        assert {frame[6:12] for frame in node.announcements()} == {CLIENT}
