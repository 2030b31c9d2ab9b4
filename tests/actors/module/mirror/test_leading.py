"""The gate follows from the state, and contains everybody who could be promoted (R1)."""

from typing import Any

import pytest

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.mirror import holding, leading
from mirrorfarm.actors.module.mirror.phases import Phase, Session
from mirrorfarm.actors.module.mirror.state import State
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.modules.settings import Replication
from mirrorfarm.transport.messages import Announcement, Register, Synced
from tests.actors.module.mirror.building import BOTH, state

ALONE = Register(1, 2, "n1", ("n1",), "g0", "i0")


def leader(register: Register, session: Session = Session.NONE, **changes: Any) -> State:
    s = state(NodeRecord(term=1, sid=3, gen_cur="g0", cons=True, was="prim"), **changes)
    s.phase, s.arbiter.register = Phase.LEADING, register
    s.leading.session, s.leading.sid = session, 4
    return s


@pytest.mark.parametrize("session", list(Session))
@pytest.mark.parametrize("lone", [False, True])
@pytest.mark.parametrize("growing", [False, True])
@pytest.mark.parametrize("register", [ALONE, BOTH])
def test_nobody_answers_alone_while_the_peer_could_be_promoted(
    session: Session, lone: bool, growing: bool, register: Register
) -> None:
    s = leader(register, session)
    s.lone = lone
    if growing:
        s.arbiter.swapping, s.arbiter.purpose = 5, "grow"
    gate = leading.gate_of(s)
    if register is BOTH or growing:
        assert gate != "self"
    if gate == "self":
        assert lone
    if session in {Session.NONE, Session.OFFERED, Session.OPENING, Session.COPYING}:
        assert gate != "both"


def test_a_lease_that_is_over_freezes_the_gate_whatever_else_holds() -> None:
    s = leader(BOTH, Session.JOINED)
    assert leading.gate_of(s) == "both"
    s.leading.lease_closed = True
    assert leading.gate_of(s) == "frozen"


def test_the_guard_is_armed_while_the_peer_could_be_promoted_and_only_then() -> None:
    s = leader(BOTH, Session.JOINED)
    s.lease.granted(1_000_000_000)
    holding.keep_lease(s, 1_000_000_001)
    assert ev.GuardArm(s.lease.guard_acts_ns()) in [getattr(e, "event", None) for e in s.out]
    s.arbiter.register, s.leading.session = ALONE, Session.NONE
    holding.keep_lease(s, 1_000_000_002)
    assert s.guard_ns == 0
    assert ev.GuardDisarm() in [getattr(e, "event", None) for e in s.out]


def test_an_unanswered_growth_counts_as_granted_for_the_lease() -> None:
    s = leader(ALONE, Session.NONE)
    s.arbiter.swapping, s.arbiter.purpose = 5, "grow"
    s.lease.granted(1_000_000_000)
    holding.keep_lease(s, 1_000_000_001)
    assert s.guard_ns
    holding.keep_lease(s, s.lease.deadline_ns)
    assert s.leading.lease_closed


def test_words_of_an_older_session_are_not_counted() -> None:
    s = leader(ALONE, Session.COPYING)
    leading.on_synced(s, Synced(1, 3))
    leading.on_synced(s, Synced(0, 4))
    assert s.leading.session is Session.COPYING
    leading.on_synced(s, Synced(1, 4))
    assert s.leading.session is Session.SYNCED


@pytest.mark.parametrize("role", ["STOP", "WAIT"])
@pytest.mark.parametrize(("sid", "lost"), [(4, True), (3, False)])
def test_a_secondary_that_gave_up_is_left_behind_without_a_stream_that_breaks(
    role: str, sid: int, lost: bool
) -> None:
    s = leader(BOTH, Session.JOINED, replication=Replication())
    s.peer.silent, s.peer.about = False, Announcement(role=role, term=1, sid=sid)
    s.lease.granted(1_000_000_000)
    leading.poll(s, 1_000_000_001)
    assert (s.leading.session is Session.NONE) is lost, "what it said before it joined is no news"
    assert (s.leading.lost == f"it is in {role}") is lost


def test_a_change_map_begins_only_where_every_write_is_traced() -> None:
    s = leader(ALONE)
    assert leading.map_base(s) == "g0"
    s.arbiter.register = BOTH
    assert leading.map_base(s) == ""
