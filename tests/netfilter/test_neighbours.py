"""Frames of ARP and neighbour discovery: known bytes, round trips, garbage."""

import ipaddress

from hypothesis import example, given
from hypothesis import strategies as st

from mirrorfarm.netfilter.neighbours import (
    Claim,
    Question,
    announcements,
    answer,
    mac_text,
    parse_claim,
    parse_question,
    question,
)

MAC = bytes.fromhex("020000000001")
VIRTUAL = bytes.fromhex("5afec6120064")
V4 = ipaddress.ip_address("198.18.0.100")
V6 = ipaddress.ip_address("2001:db8::100")

macs = st.binary(min_size=6, max_size=6)
addresses = st.ip_addresses().filter(lambda address: int(address) != 0)


def test_a_gratuitous_arp_has_the_bytes_of_rfc_5227() -> None:
    request, reply = announcements(V4, MAC)
    head = "ffffffffffff 020000000001 0806 0001 0800 06 04"
    assert request == bytes.fromhex(f"{head} 0001 020000000001 c6120064 000000000000 c6120064")
    assert reply == bytes.fromhex(f"{head} 0002 020000000001 c6120064 ffffffffffff c6120064")


def test_an_unsolicited_advertisement_overrides_and_goes_to_all_nodes() -> None:
    (frame,) = announcements(V6, MAC)
    assert frame[:14].hex() == "333300000001" + MAC.hex() + "86dd"
    assert frame[38:54] == ipaddress.ip_address("ff02::1").packed
    assert frame[21] == 255
    assert frame[54:56].hex() == "8800"
    assert frame[58:62].hex() == "20000000"


def test_a_question_claims_nothing() -> None:
    assert parse_claim(question(V4, MAC)) is None
    assert parse_claim(question(V6, MAC)) is None


def test_an_ipv6_question_goes_to_the_solicited_node_group_from_nobody() -> None:
    frame = question(V6, MAC)
    assert frame[:6].hex() == "3333ff000100"
    assert frame[22:38] == bytes(16)
    assert frame[38:54] == ipaddress.ip_address("ff02::1:ff00:100").packed


@given(addresses, macs)
def test_an_announcement_is_read_back_as_the_claim_it_makes(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, mac: bytes
) -> None:
    for frame in announcements(address, mac):
        assert parse_claim(frame) == Claim(str(address), mac_text(mac))


@given(st.binary(max_size=200))
@example(b"\xff" * 12 + b"\x08\x06")
@example(b"\xff" * 12 + b"\x86\xdd")
def test_garbage_never_raises(data: bytes) -> None:
    parse_claim(data)


@given(st.sampled_from(["0806", "86dd"]), st.binary(max_size=120))
def test_garbage_of_the_right_type_never_raises(ethertype: str, data: bytes) -> None:
    parse_claim(bytes(12) + bytes.fromhex(ethertype) + data)


@given(addresses, macs, st.integers(0, 500), st.integers(1, 255))
def test_a_damaged_advertisement_is_no_claim_of_another_address(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, mac: bytes, where: int, flip: int
) -> None:
    if address.version == 4:
        return  # ARP has no checksum.
    frame = bytearray(announcements(address, mac)[0])
    frame[14 + where % (len(frame) - 14)] ^= flip
    claim = parse_claim(bytes(frame))
    assert claim is None or claim == Claim(str(address), mac_text(mac))


@given(addresses, macs, st.integers(0, 100))
def test_a_truncated_frame_is_no_claim(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, mac: bytes, length: int
) -> None:
    frame = announcements(address, mac)[0]
    if length < len(frame):
        assert parse_claim(frame[:length]) is None


def arp_request(sender: str, asked: str, mac: bytes = MAC) -> bytes:
    ends = [ipaddress.ip_address(text).packed for text in (sender, asked)]
    head = b"\xff" * 6 + mac + bytes.fromhex("0806 0001 0800 06 04 0001")
    return head + mac + ends[0] + bytes(6) + ends[1]


def test_an_arp_answer_goes_to_the_asker_and_keeps_the_virtual_mac_off_the_ethernet_header() -> (
    None
):
    asked = parse_question(arp_request("198.18.0.50", "198.18.0.100"))
    assert asked == Question(V4, ipaddress.ip_address("198.18.0.50"), MAC)
    real = bytes.fromhex("020000000011")
    frame = answer(asked, VIRTUAL, real)
    assert frame[:12] == MAC + real
    assert frame[20:22] == b"\x00\x02"
    assert frame[22:28] == VIRTUAL
    assert frame[32:42] == MAC + bytes((198, 18, 0, 50))


def test_an_announcement_for_a_virtual_mac_comes_from_the_real_one() -> None:
    for address in (V4, V6):
        for frame in announcements(address, VIRTUAL, MAC):
            assert frame[6:12] == MAC
            assert parse_claim(frame) == Claim(str(address), mac_text(VIRTUAL))


def test_a_probe_without_an_address_is_a_question_of_nobody() -> None:
    for address in (V4, V6):
        assert parse_question(question(address, MAC)) == Question(address, None, MAC)


def test_an_advertisement_for_nobody_goes_to_all_and_is_not_called_solicited() -> None:
    frame = answer(Question(V6, None, MAC), VIRTUAL, MAC)
    assert frame[:6].hex() == "333300000001"
    assert frame[58] == 0x20


def test_a_solicited_advertisement_says_so() -> None:
    asker = ipaddress.ip_address("2001:db8::50")
    frame = answer(Question(V6, asker, MAC), VIRTUAL, MAC)
    assert frame[38:54] == asker.packed
    assert frame[58] == 0x60
    assert parse_claim(frame) == Claim(str(V6), mac_text(VIRTUAL))


def test_who_announces_its_own_address_asks_nothing() -> None:
    assert parse_question(announcements(V4, MAC)[0]) is None


def test_a_reply_and_a_question_from_a_group_are_not_answered() -> None:
    assert parse_question(announcements(V4, MAC)[1]) is None
    group = bytes.fromhex("010000000001")
    assert parse_question(arp_request("198.18.0.50", "198.18.0.100", group)) is None
    assert parse_question(question(V6, group)) is None


@given(st.sampled_from(["0806", "86dd"]), st.binary(max_size=120))
@example("0806", b"")
def test_no_question_is_read_from_garbage_and_nothing_raises(ethertype: str, data: bytes) -> None:
    parse_question(bytes(12) + bytes.fromhex(ethertype) + data)
    parse_question(data)


@given(addresses, macs, st.integers(0, 100))
def test_a_truncated_question_is_none(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, mac: bytes, length: int
) -> None:
    frame = question(address, mac)
    if length < len(frame):
        assert parse_question(frame[:length]) is None
