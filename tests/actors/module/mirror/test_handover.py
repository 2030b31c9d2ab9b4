"""Who may be given the role, and when a record may say that all is well."""

import pytest

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.effects import Tell
from mirrorfarm.actors.module.mirror import handover
from mirrorfarm.actors.module.mirror.phases import Phase, Session
from mirrorfarm.actors.module.mirror.state import State
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.transport.messages import Announcement, PlaneIs, Register
from tests.actors.module.mirror.building import BOTH, state

ALONE = Register(1, 2, "n1", ("n1",), "g0", "i0")


def leader(
    register: Register = BOTH, session: Session = Session.JOINED, was: str = "prim"
) -> State:
    s = state(NodeRecord(term=1, gen_cur="g0", cons=True, was=was))
    s.phase, s.arbiter.register, s.leading.session = Phase.LEAVING, register, session
    s.peer.silent, s.peer.about = False, Announcement("SECOND", "Ready", cons=True)
    return s


def test_the_role_is_given_only_to_one_that_has_everything_and_is_there() -> None:
    assert handover.may_hand_over(leader())
    assert not handover.may_hand_over(leader(ALONE))
    assert not handover.may_hand_over(leader(session=Session.COPYING))
    for change in ("silent", "left"):
        s = leader()
        setattr(s.peer, change, True)
        assert not handover.may_hand_over(s)


@pytest.mark.parametrize(("why", "isr"), [("swap", ("n1", "n2")), ("stop", ("n2",))])
def test_who_stops_leaves_the_set_with_its_role(why: str, isr: tuple[str, ...]) -> None:
    s = leader()
    s.stopping_for = why
    handover.hand_over(s, 1)
    asked = [e.event for e in s.out if isinstance(e, Tell) and isinstance(e.event, ev.AskCas)]
    assert [(a.register.term, a.register.holder, a.register.isr) for a in asked] == [(2, "n2", isr)]


def test_a_clean_end_needs_a_peer_or_a_map_that_has_everything() -> None:
    assert handover.leaves_clean(leader())
    assert not handover.leaves_clean(leader(session=Session.NONE))
    broke = leader()
    broke.leading.behind = True
    assert not handover.leaves_clean(broke)
    assert not handover.leaves_clean(leader(ALONE, Session.NONE))  # Untraced.
    assert handover.leaves_clean(leader(ALONE, Session.NONE, was="alone"))
    traced = leader(ALONE, Session.NONE)
    traced.leading.traced = True
    assert handover.leaves_clean(traced)


def test_what_the_data_plane_could_not_send_is_not_called_clean() -> None:
    s = leader()
    s.plane.answer = PlaneIs(0, "off", 0, "frozen", 0, behind=True)
    assert not handover.leaves_clean(s)
