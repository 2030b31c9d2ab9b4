"""What is taken from a heartbeat: whom its sender hears, and which of ours it has."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mirrorfarm.actors.farm_filter.hearing import beat_of, hear, pulse, returned
from mirrorfarm.actors.farm_filter.state import Settings, State, new_state
from mirrorfarm.limits import BEATS_REMEMBERED, FARM_NODES_MAX, MILLISECOND_NS, SECOND_NS
from mirrorfarm.transport.messages import FarmBeat

NODES = ("n1", "n2", "n3")
NOW = 100 * SECOND_NS


def state(node: str) -> State:
    return new_state(Settings(node, "web", NODES, ("lan",), 1, "bpf", 7, "r"))


def beat(number: int, mode: str = "bpf", heard: tuple[int, ...] = (1, 0, 0)) -> FarmBeat:
    return FarmBeat(number, 1, "in", mode, 7, "r", (1,), heard)


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
    s = state("n1")
    for number in range(1, beats + 1):
        s.number = number
        s.sent.append((number, NOW - SECOND_NS + number, 0))
    peer = s.peers["n2"]
    hear(s, peer, beat(1, heard=heard), "lan", NOW)
    known = {index for index, number in enumerate(heard[:FARM_NODES_MAX]) if number > 0}
    assert {index for index in range(FARM_NODES_MAX) if peer.ears >> index & 1} == known | {1}
    echo = heard[0] if len(heard) == len(NODES) else 0
    remembered = max(0, beats - BEATS_REMEMBERED) < echo <= beats
    assert peer.echoed_ns == (NOW - SECOND_NS + echo if remembered else 0)
    assert bool(peer.mutual_ns) == (echo != 0)


def test_a_heartbeat_that_went_to_some_tells_nothing_to_the_others() -> None:
    s = state("n1")
    s.wish = "in"
    pulse(s, NOW)
    later = NOW + 50 * MILLISECOND_NS
    pulse(s, later, ("n2",))
    returned(s, beat_of(s), later)
    assert (s.returned_ns, s.spread_ns) == (later, NOW)
    pulse(s, later)
    returned(s, beat_of(s), later)
    assert s.spread_ns == later


def test_a_node_of_another_configuration_is_never_one_of_the_farm_however_often_it_says_so() -> (
    None
):
    s = state("n1")
    s.sent.append((1, NOW, NOW))
    for number, mode in enumerate(["bpf", "bpf", "nft", "nft", "nft", "bpf"], 1):
        hear(s, s.peers["n2"], beat(number, mode), "lan", NOW)
        assert bool(s.peers["n2"].mutual_ns) == (mode == "bpf"), number


def test_a_heartbeat_tells_whom_its_node_hears_in_the_order_of_the_farm() -> None:
    for node, heard in (("n1", (0, 8, 9)), ("n2", (7, 0, 9)), ("n3", (7, 8, 0))):
        s = state(node)
        assert beat_of(s).heard == (0, 0, 0)
        for number, peer in zip([n for n in heard if n], s.peers.values(), strict=True):
            hear(s, peer, beat(number), "lan", NOW)
        assert beat_of(s).heard == heard
