"""A session is durable before it is accepted, and declared complete before it is told (R7, S12)."""

import msgspec
import pytest

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors.events import Stored
from mirrorfarm.actors.module.mirror import comparison, following, planes
from mirrorfarm.actors.module.mirror.phases import Phase
from mirrorfarm.actors.module.mirror.state import State
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.transport import messages as msg
from tests.actors.module.mirror.building import BOTH, core, state

RECORD = NodeRecord(term=2, sid=3, gen_cur="g0", cons=True, was="idle")
OFFER = msg.SyncOffer(2, 4, "full", "g1", "g0", ("g0",), 1)


def waiting() -> State:
    s = state(RECORD)
    s.phase = Phase.WAITING
    s.plane.answer = msg.PlaneIs(s.plane.wish.number, "off", 0, "frozen", 0)
    return s


def sent(s: State) -> list[object]:
    return [e.message for e in s.out if isinstance(e, fx.Send)]


def test_an_offer_is_durable_and_the_data_inconsistent_before_it_is_accepted() -> None:
    s = waiting()
    following.on_offer(s, OFFER, 1)
    following.poll(s, 1)
    stored = [e.record for e in s.out if isinstance(e, fx.Store)]
    assert [(r.term, r.sid, r.cons, r.was) for r in stored] == [(2, 4, False, "second")]
    assert not sent(s)


def test_a_plane_that_ended_with_a_failure_is_left_as_well() -> None:
    s = waiting()
    failed = msg.PlaneIs(s.plane.wish.number, "off", 0, "frozen", 0, failure="the flush failed")
    s.plane.answer = failed
    following.on_offer(s, OFFER, 1)
    following.poll(s, 1)
    assert list(s.stores.values()) == ["target"]


def test_scripts_of_a_second_run_again_when_those_that_end_them_still_wait() -> None:
    s = waiting()
    s.scripts_as = "second"
    s.side_scripts.append("SECOND->WAIT")
    following.on_offer(s, OFFER, 1)
    assert list(s.side_scripts) == ["SECOND->WAIT", "WAIT->SECOND"]


@pytest.mark.parametrize("role", ["off", "follow"])
def test_the_session_before_is_left_before_the_next_one_is_written_down(role: str) -> None:
    """What was under way in it would else be applied after it was over (S10)."""
    s = waiting()
    s.plane.wish = msg.PlaneWish(5, role, term=2, sid=3 if role == "follow" else 0)
    following.on_offer(s, OFFER, 1)
    following.poll(s, 1)
    planes.poll(s, 1)
    assert not s.stores
    wish = s.plane.wish
    assert (wish.role, wish.sid) == (role, 0)
    s.plane.answer = msg.PlaneIs(wish.number, role, 2, "frozen", 0)
    following.poll(s, 2)
    assert list(s.stores.values()) == ["target"]


@pytest.mark.parametrize(("term", "sid"), [(2, 3), (2, 2)])
def test_a_session_that_is_over_is_refused(term: int, sid: int) -> None:
    s = waiting()
    following.on_offer(s, msgspec.structs.replace(OFFER, term=term, sid=sid), 1)
    assert isinstance(sent(s)[0], msg.SyncRefused)
    assert s.record is RECORD


@pytest.mark.parametrize("plan", ["none", "map"])
def test_an_offer_of_less_than_what_an_administrator_wants_is_refused(plan: str) -> None:
    """It was on its way when the order came, and `second fullsync` would be answered as done."""
    s = waiting()
    s.leading.full_wanted = True
    following.on_offer(s, msgspec.structs.replace(OFFER, plan=plan), 1)
    assert isinstance(sent(s)[0], msg.SyncRefused)
    following.on_offer(s, msgspec.structs.replace(OFFER, sid=5), 1)
    assert (s.target.sid, s.target.plan) == (5, "full")


def test_a_primary_of_the_past_gets_no_answer() -> None:
    s = waiting()
    following.on_offer(s, msgspec.structs.replace(OFFER, term=1, sid=9), 1)
    assert not s.out


def test_torn_data_are_never_taken_for_complete() -> None:
    s = waiting()
    s.record = msgspec.structs.replace(RECORD, cons=False)
    following.on_offer(s, msgspec.structs.replace(OFFER, plan="none"), 1)
    assert isinstance(sent(s)[0], msg.SyncRefused)


def copied() -> State:
    s = waiting()
    following.on_offer(s, OFFER, 1)
    s.target.step = "copying"
    following.on_copy_complete(s, msg.CopyComplete(2, 4))
    return s


def test_a_copy_has_a_generation_of_its_own_until_it_is_in_the_set() -> None:
    s = copied()
    assert s.record.cons
    assert s.record.gen_cur not in {"g0", "g1"}
    assert not sent(s)  # Synced waits for the disk.
    following.on_copy_stored(s)
    s.peer.silent, s.peer.about = False, msg.Announcement("PRIM", "Ready", term=2)
    following.poll(s, 10**12)
    assert msg.Synced(2, 4) in sent(s)
    s.arbiter.register = msgspec.structs.replace(BOTH, term=2, holder="n2", gen="g1")
    following.poll(s, 10**12)
    assert s.phase is Phase.FOLLOWING
    assert s.record.gen_cur == "g1"


def test_a_copy_that_never_joined_does_not_know_the_end_of_its_sources_generation() -> None:
    """Found by a simulated pair with a pinged arbiter: its source went on alone, under g1."""
    s = copied()
    assert s.record.partial == "g1"
    assert "g1" not in (s.record.gen_base, *s.record.gen_hist)
    source = msg.Announcement(gen_cur="g1", gen_base="g0", gen_hist=("g0",), lone=True)
    assert comparison.diverged(s.record, source), "what it wrote since must be set aside"
    assert not comparison.unrelated(s.record, source)


def test_a_generation_younger_than_the_offer_is_taken_from_the_register() -> None:
    s = copied()
    following.on_copy_stored(s)
    s.arbiter.register = msgspec.structs.replace(BOTH, term=2, holder="n2", gen="g2")
    following.poll(s, 10**12)
    assert (s.record.gen_cur, s.record.gen_base) == ("g2", "g1")
    assert "g0" in s.record.gen_hist


def test_the_end_of_another_sessions_copy_says_nothing() -> None:
    s = waiting()
    following.on_offer(s, OFFER, 1)
    s.target.step = "copying"
    following.on_copy_complete(s, msg.CopyComplete(2, 3))
    assert s.target.step == "copying"


def test_the_record_of_an_offer_that_was_overtaken_does_not_begin_the_newer_session() -> None:
    """A node that slept hears two offers at once; only the second one counts."""
    mirror = core(RECORD)
    s = mirror.state
    s.phase = Phase.WAITING
    for sid in (OFFER.sid, 5):
        following.on_offer(s, msgspec.structs.replace(OFFER, sid=sid), 1)
        s.plane.answer = msg.PlaneIs(s.plane.wish.number, "off", 0, "frozen", 0)
        following.poll(s, 1)
    first, second = (e.record.counter for e in s.out if isinstance(e, fx.Store))
    mirror.handle(Stored(first), 2)
    assert s.target.step == "beginning", "session 5 is not durable yet"
    mirror.handle(Stored(second), 3)
    assert s.target.step == "preparing"
