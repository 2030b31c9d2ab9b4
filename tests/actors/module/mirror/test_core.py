"""The whole state machine: what it says first, and that nothing it is told can break it."""

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.events import Tick
from mirrorfarm.actors.module.mirror import divergence
from mirrorfarm.actors.module.mirror.core import Mirror
from mirrorfarm.actors.module.mirror.phases import LEADERS, Phase
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.transport import messages as msg
from mirrorfarm.transport.address import Address
from tests.actors.module.mirror.building import ADMIN, PEER, PLANE, Hand, core

EFFECTS_MAX = 60
VERBS = ("start", "stop", "prim", "primforce", "second", "swap", "restart", "stopstart")
GENERATIONS = ("", "g0", "g1", "g2")


def test_a_new_process_removes_whatever_its_predecessor_left_before_it_says_stop() -> None:
    mirror = core()
    told = [e.event for e in mirror.handle(ev.Started(), 1) if isinstance(e, fx.Tell)]
    assert ev.KillApplication(1) in told
    assert mirror.state.phase is Phase.RESETTING
    hand = Hand(core()).give(ev.Started())
    assert hand.mirror.state.phase is Phase.STOPPED
    assert hand.told(ev.VipDown)


def test_a_command_that_comes_too_early_is_obeyed_when_the_reset_is_over() -> None:
    mirror = core()
    mirror.handle(ev.Started(), 1)
    mirror.handle(ev.Received(ADMIN, msg.Command("r1", "start", "test")), 2)
    assert mirror.state.phase is Phase.RESETTING
    hand = Hand(mirror)
    hand.give(ev.ApplicationGone(mirror.state.token))
    assert mirror.state.phase is Phase.WAITING


def test_a_damaged_record_is_told_and_its_data_are_not_trusted() -> None:
    hand = Hand(core(None, "both slots are damaged")).give(ev.Started())
    assert any("both slots are damaged" in text for _, text in hand.mirror.state.facts)
    assert not hand.mirror.state.record.cons


def test_what_a_copy_replaces_is_set_aside_where_the_record_was_damaged() -> None:
    hand = Hand(core(None, "both slots are damaged")).give(ev.Started())
    offer = msg.SyncOffer(9, 9, "full", "g1", "", ())
    assert divergence.quarantine(hand.mirror.state, offer) == "app-unknown-7"
    assert any("app-unknown-7" in text for _, text in hand.mirror.state.facts)
    assert not divergence.quarantine(core().state, offer)


def test_an_unknown_event_is_an_invariant_broken() -> None:
    with pytest.raises(AssertionError, match="unknown event"):
        core().handle(ev.PingAnswered(1, ()), 1)


def test_messages_of_strangers_change_nothing() -> None:
    hand = Hand(core()).lead()
    before = hand.mirror.state.phase
    stranger = Address("n9", "app", "module")
    hand.give(ev.Received(stranger, msg.Leave(9)))
    hand.give(
        ev.Received(Address("n2", "other", "module"), msg.SyncOffer(9, 9, "full", "", "", ()))
    )
    assert hand.mirror.state.phase is before
    assert not hand.mirror.state.peer.left


# --- whatever comes ------------------------------------------------------------------------

numbers = st.integers(0, 4)
names = st.sampled_from(("n1", "n2"))
gens = st.sampled_from(GENERATIONS)
sets = st.sampled_from((("n1",), ("n2",), ("n1", "n2")))
registers = st.builds(
    msg.Register, st.integers(1, 5), st.integers(1, 9), names, sets, gens, st.just("i0")
)
announcements = st.builds(
    msg.Announcement,
    role=st.sampled_from(("STOP", "WAIT", "ALONE", "PRIM", "SECOND")),
    phase=st.sampled_from([phase.value for phase in Phase]),
    term=numbers,
    sid=numbers,
    ver=numbers,
    cons=st.booleans(),
    was=st.sampled_from(("idle", "second", "prim", "alone")),
    gen_cur=gens,
    gen_base=gens,
    incarnation=st.integers(1, 3),
    os_crashed=st.booleans(),
    starting=st.booleans(),
    failed=st.booleans(),
    full_wanted=st.booleans(),
)
peer_messages = st.one_of(
    st.builds(
        msg.SyncOffer,
        numbers,
        numbers,
        st.sampled_from(("none", "map", "full")),
        gens,
        gens,
        st.just(()),
        numbers,
    ),
    st.builds(msg.SyncAccepted, numbers, numbers),
    st.builds(msg.SyncRefused, numbers, numbers, st.just("no")),
    st.builds(msg.Synced, numbers, numbers),
    st.builds(msg.RegisterNews, registers),
    st.builds(msg.Leave, numbers),
    st.builds(msg.SwapWanted, numbers, st.just("test")),
    st.builds(msg.SwapRefused, numbers, st.just("no")),
)
plane_messages = st.one_of(
    st.builds(msg.PlaneIs, st.just(0), st.just("off"), numbers, st.just("frozen"), numbers),
    st.builds(msg.SessionUp, numbers, numbers),
    st.builds(msg.SessionBroken, numbers, numbers, st.just("cut")),
    st.builds(msg.CopyComplete, numbers, numbers),
    st.builds(msg.WriteHeld, numbers),
    st.builds(msg.StorageFailed, numbers, st.just("data"), st.just(5), st.just("error")),
)
events = st.one_of(
    st.builds(lambda m: ev.Received(PEER, m, "default"), peer_messages),
    st.builds(lambda m: ev.Received(PLANE, m), plane_messages),
    st.builds(
        lambda n, verb: ev.Received(ADMIN, msg.Command(f"r{n}", verb, "test")),
        st.integers(0, 99),
        st.sampled_from((*VERBS, "forcestop", "nonsense")),
    ),
    st.builds(
        ev.PeerHeard,
        st.just("default"),
        st.builds(
            msg.Heartbeat, st.just("default"), numbers, numbers, announcements, numbers, numbers
        ),
    ),
    st.builds(ev.PeerSilent, st.just(SECOND_NS)),
    st.builds(ev.ArbiterSilent, st.just(1)),
    st.just(ev.ArbiterHeard()),
    st.builds(ev.GuardActed, st.just(1)),
    st.builds(
        ev.ResourceChanged,
        st.just("proc.x"),
        st.sampled_from(("up", "down")),
        st.sampled_from(("restart", "stopstart", "stop", "noaction")),
    ),
    st.just(Tick()),
)
# An answer to what the core really waits for; chosen when it is given.
answers = st.tuples(
    st.sampled_from(("step", "plane", "stored", "failed", "register")),
    st.sampled_from(("ok", "conflict", "held", "unset", "refused")),
    registers,
)


def answer_to(mirror: Mirror, kind: str, outcome: str, register: msg.Register) -> list[ev.Event]:
    """Return what the surroundings could answer now."""
    s, wish = mirror.state, mirror.state.plane.wish
    match kind:
        case "step":
            return [
                made(s.token)
                for made in (ev.SequenceEnded, ev.ApplicationGone, ev.VipIsUp, ev.VipIsDown)
            ]
        case "plane":
            failure = "it broke" if outcome == "refused" else ""
            answer = msg.PlaneIs(
                wish.number, wish.role, wish.term, wish.gate, wish.sid, wish.map_base, failure
            )
            return [ev.Received(PLANE, answer)]
        case "stored":
            return [ev.Stored(counter) for counter in list(s.stores)]
        case "failed":
            return [ev.StoreFailed(counter, 28, "no space") for counter in list(s.stores)[:1]]
        case _:
            wanted = s.arbiter.wanted
            known = wanted if outcome == "ok" and s.arbiter.swapping and wanted else register
            request = s.arbiter.swapping or s.arbiter.reading or s.arbiter.request
            return [ev.RegisterKnown(request, outcome, known, 1)]


records = st.builds(
    NodeRecord,
    term=numbers,
    sid=numbers,
    gen_cur=gens,
    gen_base=gens,
    cons=st.booleans(),
    was=st.sampled_from(("idle", "second", "prim", "alone")),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    records,
    st.booleans(),
    st.booleans(),
    st.lists(st.one_of(events, answers, answers), max_size=50),
)
def test_whatever_comes_it_answers_within_bounds_and_forgets_nothing_durable(
    record: NodeRecord, failover: bool, plane: bool, steps: list[object]
) -> None:
    changes: dict[str, Any] = (
        {}
        if plane
        else {
            "replication": msgspec.structs.replace(core().state.module.replication, directories=())
        }
    )
    mirror = core(record, failover=failover, **changes)
    now = SECOND_NS
    mirror.handle(ev.Started(), now)
    for step in steps:
        given_now = answer_to(mirror, *step) if isinstance(step, tuple) else [step]
        for event in given_now:
            before = mirror.state.record
            now += 30 * MILLISECOND_NS
            effects = mirror.handle(event, now)
            after = mirror.state.record
            assert len(effects) <= EFFECTS_MAX
            assert (after.term, after.sid) >= (before.term, before.sid)  # S9
            assert after.counter >= before.counter
            s = mirror.state
            assert len(s.pending) <= 32
            if s.phase in LEADERS and s.peer_in_isr:
                assert s.plane.wish.gate != "self"  # R1


def test_a_guard_that_acted_late_and_has_a_newer_deadline_by_then_is_disarmed() -> None:
    """A renewal was here first: later that deadline would end an application that goes on alone."""
    hand = Hand(core()).lead()
    hand.mirror.state.guard_ns = hand.now + SECOND_NS
    hand.give(ev.GuardActed(hand.now - 1))
    assert hand.told(ev.GuardDisarm) == [ev.GuardDisarm()]
    assert hand.mirror.state.guard_ns == 0
