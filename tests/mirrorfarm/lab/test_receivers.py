"""The frames that receivers are sent, and their share of the buckets."""

from hypothesis import given
from hypothesis import strategies as st

from mirrorfarm.lab.receivers import FLOWS, NODES, datagrams, header_checksum, own_states
from mirrorfarm.limits import BUCKETS
from mirrorfarm.netfilter.packet import Kind, parse
from mirrorfarm.netfilter.rules import State


def test_every_frame_is_a_datagram_of_another_client_for_the_address() -> None:
    frames = datagrams(b"\x5a" * 6, b"\x02" * 6)
    found = [parse(frame[14:]) for frame in frames]
    assert {packet.kind for packet in found} == {Kind.UDP}
    assert len({packet.source for packet in found}) == len(frames) == FLOWS
    assert {len(frame) for frame in frames} == {60}


@given(st.binary(min_size=20, max_size=20))
def test_a_header_with_its_checksum_sums_up_to_nothing(data: bytes) -> None:
    head = data[:10] + b"\0\0" + data[12:]
    whole = head[:10] + header_checksum(head).to_bytes(2, "big") + head[12:]
    assert header_checksum(whole) == 0


def test_the_node_that_is_measured_owns_its_part() -> None:
    owned = own_states().count(State.HARD)
    assert owned in (BUCKETS // NODES, BUCKETS // NODES + 1)
