"""What is taken from a heartbeat: whom its sender hears, and which of ours it has."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mirrorfarm.actors.farm_filter.hearing import hear
from mirrorfarm.actors.farm_filter.state import Settings, new_state
from mirrorfarm.limits import BEATS_REMEMBERED, FARM_NODES_MAX, SECOND_NS
from mirrorfarm.transport.messages import FarmBeat

NODES = ("n1", "n2", "n3")
NOW = 100 * SECOND_NS
NUMBERS = st.one_of(st.just(1), st.sampled_from([-1, 0, 1, 40, 70, 1 << 60]))


@settings(max_examples=100, deadline=None)
@given(
    heard=st.one_of(
        st.tuples(NUMBERS, NUMBERS, NUMBERS), st.lists(NUMBERS, max_size=20).map(tuple)
    ),
    beats=st.integers(0, 70),
)
def test_who_has_a_number_is_heard_and_an_echo_is_from_when_that_heartbeat_was_sent(
    heard: tuple[int, ...], beats: int
) -> None:
    s = new_state(Settings("n1", "web", NODES, ("lan",), 1, "bpf", 7, "r"))
    for number in range(1, beats + 1):
        s.number = number
        s.sent.append((number, NOW - SECOND_NS + number))
    peer = s.peers["n2"]
    hear(s, peer, FarmBeat(1, 1, "in", "bpf", 7, "r", (1,), heard), "lan", NOW)
    known = {index for index, number in enumerate(heard[:FARM_NODES_MAX]) if number > 0}
    assert {index for index in range(FARM_NODES_MAX) if peer.ears >> index & 1} == known | {1}
    echo = heard[0] if len(heard) == len(NODES) else 0
    remembered = max(0, beats - BEATS_REMEMBERED) < echo <= beats
    assert peer.echoed_ns == (NOW - SECOND_NS + echo if remembered else 0)
    assert bool(peer.mutual_ns) == (echo != 0)
