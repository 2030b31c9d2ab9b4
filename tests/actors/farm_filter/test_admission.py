"""Who is wanted in a view: the bitmaps say what the rule says, node by node."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from mirrorfarm.actors.farm_filter.admission import (
    coordinator,
    is_doubtful,
    note_apart,
    refusal,
    wanted_members,
    wanted_weights,
)
from mirrorfarm.actors.farm_filter.hearing import hears
from mirrorfarm.actors.farm_filter.state import Settings, State, View, new_state
from mirrorfarm.limits import POWER_MAX, SECOND_NS
from mirrorfarm.transport.messages import FarmBeat

NODES = ("n1", "n2", "n3", "n4", "n5")
NOW = 100 * SECOND_NS
ALL = (1 << len(NODES)) - 1
VIEW = View(4, "n1", 1, NODES[:4], ((1,) * 4,), (bytes(1024),))


@dataclass(frozen=True)
class Known:
    """What this node knows of another one."""

    silent: bool
    mutual: bool
    young: bool
    ears: int
    wish: str
    view: int
    floor: int
    power: int
    apart_ns: int


KNOWN = st.builds(
    Known,
    silent=st.booleans(),
    mutual=st.sampled_from([True, True, True, False]),
    young=st.sampled_from([False, False, False, True]),
    ears=st.one_of(st.just(ALL), st.sampled_from([ALL & ~(1 << bit) for bit in range(5)])),
    wish=st.sampled_from(["in", "in", "in", "drain", "away"]),
    view=st.sampled_from([4, 0, 0]),
    floor=st.sampled_from([3, 4]),
    power=st.sampled_from([-1, 1, 3, 1 << 40]),
    apart_ns=st.sampled_from([0, NOW - 1, NOW - SECOND_NS]),
)


@st.composite
def states(draw: st.DrawFn) -> State:
    node = draw(st.sampled_from(NODES[:4]))
    s = new_state(Settings(node, "web", NODES, ("lan",), 1, "bpf", 7, "r"))
    s.wish = draw(st.sampled_from(["in", "drain", "away"]))
    s.view = draw(st.sampled_from([VIEW, None]))
    for peer in s.peers.values():
        known = draw(KNOWN)
        peer.beat = FarmBeat(
            1, 1, known.wish, powers=(known.power,), view=known.view, floor=known.floor
        )
        peer.member_inc, peer.apart_ns, peer.silent = 1, known.apart_ns, known.silent
        peer.mutual_ns = (NOW - (1 if known.young else SECOND_NS)) * known.mutual
        peer.ears = known.ears | 1 << peer.index
    return s


def takes_part(s: State, name: str) -> bool:
    if name == s.settings.node:
        return s.wish != "away"
    beat = s.peers[name].beat
    return bool(s.peers[name].mutual_ns) and beat is not None and beat.wish != "away"


def hear_each_other(s: State, one: str, other: str) -> bool:
    return hears(s, one, other) and hears(s, other, one)


@settings(max_examples=100, deadline=None)
@given(states())
def test_members_first_and_whoever_hears_all_that_were_chosen_before(s: State) -> None:
    before = s.present
    chosen = [s.settings.node]
    for name in sorted(s.peers, key=lambda name: name not in before):
        peer = s.peers[name]
        if not takes_part(s, name) or (name not in before and refusal(s, peer, NOW)):
            continue
        doubtful = name in before and is_doubtful(s, peer, NOW)
        if doubtful or all(hear_each_other(s, name, one) for one in chosen):
            chosen.append(name)
    wanted = wanted_members(s, before, NOW)
    assert wanted == tuple(name for name in NODES if name in chosen)
    powers = {name: p.beat.powers[0] for name, p in s.peers.items() if p.beat is not None}
    wishes = {name: p.beat.wish for name, p in s.peers.items() if p.beat is not None}
    powers[s.settings.node], wishes[s.settings.node] = 1, s.wish
    full = s.t.slow_start_steps
    weights = [max(0, min(powers[n], POWER_MAX)) * full * (wishes[n] == "in") for n in wanted]
    assert wanted_weights(s, wanted, NOW) == (tuple(weights),)


@settings(max_examples=100, deadline=None)
@given(states())
def test_members_are_apart_unless_all_hear_each_other(s: State) -> None:
    since = {name: peer.apart_ns for name, peer in s.peers.items()}
    together = {n: all(hear_each_other(s, n, one) for one in s.present) for n in s.peers}
    note_apart(s, NOW)
    for name, peer in s.peers.items():
        if name not in s.present:
            assert peer.apart_ns == since[name]
        else:
            assert peer.apart_ns == (0 if together[name] else since[name] or NOW)


@settings(max_examples=100, deadline=None)
@given(states())
def test_the_coordinator_is_the_first_that_takes_part_and_one_in_a_view_goes_before(
    s: State,
) -> None:
    able = [name for name in NODES if takes_part(s, name)]
    view = s.view

    def in_view(name: str) -> bool:
        if name == s.settings.node:
            return view is not None
        beat = s.peers[name].beat
        assert beat is not None
        if beat.view or view is None:
            return bool(beat.view)
        committed = view.coordinator == name or beat.floor < view.number
        return committed and name in s.present

    assert coordinator(s) == ([name for name in able if in_view(name)] or able or [""])[0]
