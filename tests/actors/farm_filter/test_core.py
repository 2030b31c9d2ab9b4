"""One node of a farm, fed by hand: in which order it acts, and what it does not believe."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.farm_filter.core import FarmDue, FarmFilter
from mirrorfarm.actors.farm_filter.state import ACTOR, Settings, assert_farm_timing
from mirrorfarm.limits import BUCKETS, MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import FarmTiming
from mirrorfarm.transport import messages as msg
from mirrorfarm.transport.address import Address

NODES = ("n1", "n2", "n3")
OWNERS = (bytes([0, 1] * (BUCKETS // 2)),)
EMPTY = bytes(BUCKETS)


class Hand:
    """Feeds n2 of a farm of three, whose n1 is played by the test."""

    def __init__(self) -> None:
        self.now = 50 * SECOND_NS
        self.farm = FarmFilter.build(Settings("n2", "web", NODES, ("lan",), 5, "bpf", 7, "r"))
        self.said: list[Any] = []
        self.number = 0
        self.give(ev.Started(), ev.FarmWish("in"))
        self.now += 700 * MILLISECOND_NS  # Until then it is mute.
        self.give(FarmDue())

    def give(self, *events: Any) -> list[Any]:
        out: list[Any] = []
        for event in events:
            new = self.farm.handle(event, self.now)
            own = [e for e in new if isinstance(e, fx.Send) and e.to.nodes == ("n2",)]
            for effect in own:  # The agent hands them back.
                new += self.farm.handle(ev.Received(effect.to, effect.message, ""), self.now)
            out += new
        self.said += out
        return out

    def hear(self, message: Any, source: str = "n1", actor: str = ACTOR) -> list[Any]:
        return self.give(ev.Received(Address(source, "web", actor), message, "lan"))

    def beat(self, **changes: Any) -> msg.FarmBeat:
        self.number += 1
        heard = (0, self.farm.state.number, 0)
        beat = msg.FarmBeat(
            self.number, 3, "in", "bpf", 7, "r", (1,), heard, view=4, view_members=1, floor=4
        )
        return msgspec.structs.replace(beat, **changes)

    def picture(self) -> ev.FarmPicture:
        """Return what the module was told last."""
        told = [effect.event for effect in self.said if isinstance(effect, fx.Tell)]
        picture = told[-1]
        assert isinstance(picture, ev.FarmPicture)
        return picture

    def pass_ms(self, milliseconds: int, **changes: Any) -> None:
        """Let time pass; n1 beats every 100 ms."""
        for step in range(milliseconds // 10):
            self.now += 10 * MILLISECOND_NS
            self.give(FarmDue())
            if step % 10 == 0:
                self.hear(self.beat(**changes))

    def join(self) -> None:
        """Become a member of view 5, with n1."""
        self.pass_ms(400)
        self.hear(proposal(5))
        self.pass_ms(700, bid=5, bid_members=3, floor=5)
        self.hear(msg.ViewCommit(5, 3, (("n1", ()),)))


def proposal(number: int, **changes: Any) -> msg.ViewProposal:
    message = msg.ViewProposal(number, 3, ("n1", "n2"), (3, 5), ((1, 1),), OWNERS)
    return msgspec.structs.replace(message, **changes)


def sent(out: list[Any], kind: type) -> list[Any]:
    return [e.message for e in out if isinstance(e, fx.Send) and isinstance(e.message, kind)]


def test_a_new_process_closes_the_filter_before_it_says_a_word() -> None:
    said = [type(effect) for effect in Hand().said if not isinstance(effect, fx.Log)]
    assert said[:2] == [fx.ApplyTable, fx.RenewLease]
    assert Hand().said[0] == fx.ApplyTable(1, (EMPTY,))
    assert Hand().said[1] == fx.RenewLease(0)


def test_it_opens_only_when_the_view_is_committed() -> None:
    hand = Hand()
    hand.pass_ms(400)
    out = hand.hear(proposal(5))
    assert sent(out, msg.ViewAck)[0].number == 5
    assert not any(isinstance(e, fx.ApplyTable) for e in out)
    hand.pass_ms(700, bid=5, bid_members=3, floor=5)
    out = hand.hear(msg.ViewCommit(5, 3, (("n1", ()),)))
    tables = [e for e in out if isinstance(e, fx.ApplyTable)]
    assert tables[-1].states[0].count(1) == 512
    # The lease is set before the table: what was allowed before may be too long.
    kinds = [type(e) for e in out if isinstance(e, (fx.ApplyTable, fx.RenewLease))]
    assert kinds[0] is fx.RenewLease


def test_what_it_loses_is_closed_before_it_says_so() -> None:
    hand = Hand()
    hand.join()
    out = hand.hear(proposal(6, owners=(bytes(BUCKETS),)))
    places = [i for i, e in enumerate(out) if isinstance(e, fx.ApplyTable)]
    acks = [
        i
        for i, e in enumerate(out)
        if isinstance(e, fx.Send) and isinstance(e.message, msg.ViewAck)
    ]
    assert places[0] < acks[0]
    assert out[places[0]].states == (EMPTY,)


def test_the_same_proposal_again_is_answered_again() -> None:
    hand = Hand()
    hand.pass_ms(400)
    assert sent(hand.hear(proposal(5)), msg.ViewAck)
    assert sent(hand.hear(proposal(5)), msg.ViewAck)


@pytest.mark.parametrize(
    "changes",
    [
        {"number": 0},
        {"members": ("n1", "n3"), "incarnations": (3, 1)},
        {"members": ("n2", "n1"), "incarnations": (5, 3)},
        {"members": ("n1", "n2", "n2")},
        {"incarnations": (3, 4)},
        {"incarnations": ()},
        {"owners": ()},
        {"owners": (b"short",)},
        {"weights": ((1, 1), (1, 1))},
        {"weights": ((1,),)},
        {"number": 1 << 62},
        {"number": (1 << 62) - 1},  # There would be no number for the next one.
    ],
)
def test_proposals_that_make_no_sense_are_not_promised(changes: dict[str, Any]) -> None:
    hand = Hand()
    hand.pass_ms(400)
    assert not sent(hand.hear(proposal(**({"number": 5} | changes))), msg.ViewAck)
    assert hand.farm.state.bid is None


def test_a_promise_is_kept_whatever_older_proposals_come() -> None:
    hand = Hand()
    hand.pass_ms(400)
    hand.hear(proposal(7))
    assert not sent(hand.hear(proposal(6)), msg.ViewAck)
    hand.hear(msg.ViewCommit(6, 3))
    assert hand.farm.state.view is None


def test_only_the_coordinator_is_agreed_to() -> None:
    hand = Hand()
    hand.pass_ms(400)
    other = proposal(5, members=("n2", "n3"), incarnations=(5, 9))
    assert not sent(hand.hear(other, source="n3"), msg.ViewAck)


def test_the_lease_runs_from_the_heartbeat_that_was_echoed() -> None:
    hand = Hand()
    hand.join()
    state = hand.farm.state
    assert state.lease_ns == state.peers["n1"].echoed_ns + state.t.lease_ns
    hand.pass_ms(900, heard=(0, 1, 0), view=5, view_members=3, floor=5)  # It hears no new ones.
    assert state.view is None
    assert state.lease_ns == 0
    assert hand.farm.state.reason == "its lease ran out"


def test_a_hardware_address_that_was_not_known_at_first_is_told_and_relayed_from() -> None:
    own, other = b"\2\0\0\0\0\2", b"\2\0\0\0\0\1"
    hand = Hand()
    hand.join()
    hand.hear(hand.beat(view=5, view_members=3, floor=5, mac=other))
    said = hand.give(ev.HardwareIs(own))
    assert {beat.mac for beat in sent(said, msg.FarmBeat)} == {own}
    tables = [effect for effect in said if isinstance(effect, fx.ApplyTable)]
    assert other in tables[-1].peers


def test_a_filter_that_failed_is_the_reason_told_until_the_node_answers_again_or_leaves() -> None:
    hand = Hand()
    hand.join()
    assert hand.picture().reason == ""
    hand.give(ev.FilterFailed("the table is refused"))
    awaited = "n1 has to take this node in"
    assert hand.picture().reason == f"{awaited}; before: the table is refused"
    hand.pass_ms(400, view=5, view_members=1, floor=5)
    assert hand.picture().reason == f"{awaited}; before: the table is refused"
    hand.hear(proposal(6))
    hand.pass_ms(700, bid=6, bid_members=3, floor=6)
    hand.hear(msg.ViewCommit(6, 3, (("n1", ()),)))
    hand.give(ev.FarmWish("drain"))
    assert hand.picture().reason == ""
    hand.give(ev.FilterFailed("the lease is refused"), ev.FarmWish("away"), ev.FarmWish("in"))
    assert hand.picture().reason == awaited


def test_a_count_of_an_older_table_is_not_believed() -> None:
    hand = Hand()
    hand.join()
    state = hand.farm.state
    live = list(state.live)
    none = bytes(BUCKETS // 8)
    hand.give(ev.SocketsCounted(state.table - 1, (none,)))
    assert state.live == live
    hand.give(ev.SocketsCounted(state.table, (none,), 3))
    assert state.live == state.opened
    assert state.counted == 3


@pytest.mark.parametrize("alone", [True, False])
def test_who_is_named_in_a_promise_and_goes_on_alone_is_a_stranger(alone: bool) -> None:
    hand = Hand()
    hand.join()
    owners = (bytes([0, 1, 2, 0] * (BUCKETS // 4)),)
    weights = ((1, 1, 1),)
    hand.hear(proposal(6, members=NODES, incarnations=(3, 5, 1), weights=weights, owners=owners))
    assert hand.farm.state.bid is not None
    for number in range(1, 5):  # It hears nobody, and has promised a view of its own instead.
        members = 4 if alone else 7
        beat = msg.FarmBeat(number, 1, "in", "bpf", 7, "r", (1,), (0, 0, 0))
        hand.hear(msgspec.structs.replace(beat, bid=6, bid_members=members, floor=6), "n3")
        hand.pass_ms(50, view=5, view_members=3, bid=6, bid_members=7, floor=6)
    assert (hand.farm.state.view is None) == alone
    assert (hand.farm.state.lease_ns <= hand.now) == alone


def test_heartbeats_of_strangers_and_other_actors_are_ignored() -> None:
    hand = Hand()
    hand.hear(hand.beat(), source="n9")
    hand.hear(hand.beat(), actor="module")
    assert all(peer.beat is None for peer in hand.farm.state.peers.values())


def test_a_farm_power_is_bounded_and_told_at_once() -> None:
    hand = Hand()
    out = hand.give(ev.FarmPower(-5))
    assert sent(out, msg.FarmBeat)[0].powers == (0,)
    assert hand.give(ev.FarmPower(3, "nosuch"))
    assert hand.farm.state.powers == [0]


@pytest.mark.parametrize(
    "timing",
    [
        FarmTiming(silent_ns=200 * MILLISECOND_NS),
        FarmTiming(lease_ns=450 * MILLISECOND_NS),
        FarmTiming(announce_ns=120 * MILLISECOND_NS),
        FarmTiming(tolerate_ns=90 * MILLISECOND_NS),
    ],
)
def test_clocks_that_would_not_be_safe_are_refused(timing: FarmTiming) -> None:
    with pytest.raises(AssertionError):
        assert_farm_timing(timing)


SMALL = st.integers(0, 9)
BEATS = st.builds(
    msg.FarmBeat,
    number=st.integers(-1, 1 << 62),
    incarnation=SMALL,
    wish=st.sampled_from(["away", "in", "drain", "other"]),
    mode=st.sampled_from(["bpf", "nft"]),
    seed=st.just(7),
    rules=st.just("r"),
    powers=st.lists(st.integers(-9, 9), max_size=2).map(tuple),
    heard=st.lists(SMALL, max_size=4).map(tuple),
    view=SMALL,
    view_members=st.integers(0, 1 << 20),
    bid=SMALL,
    bid_members=st.integers(0, 1 << 20),
    floor=st.integers(0, 1 << 63),
    draining=st.lists(st.binary(max_size=130), max_size=2).map(tuple),
)
PROPOSALS = st.builds(
    msg.ViewProposal,
    SMALL,
    SMALL,
    st.lists(st.sampled_from([*NODES, "n9"]), max_size=3).map(tuple),
    st.lists(SMALL, max_size=3).map(tuple),
    st.sampled_from([((1, 1),), ((1, 1, 1),), ((),)]),
    st.sampled_from([OWNERS, (), (b"x",), (bytes([255]) * BUCKETS,)]),
)
NEWS = st.one_of(
    BEATS, PROPOSALS, st.builds(msg.ViewAck, SMALL, SMALL, st.integers(-9, 1 << 62)),
    st.builds(msg.ViewCommit, SMALL, SMALL),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["n1", "n3"]), NEWS, st.integers(0, 300)), max_size=40))
def test_news_from_a_peer_never_raises(story: list[tuple[str, Any, int]]) -> None:
    hand = Hand()
    for source, message, later in story:
        hand.now += later * MILLISECOND_NS
        hand.hear(message, source)
        hand.give(FarmDue())
