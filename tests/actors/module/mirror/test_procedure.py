"""What the steps of a mirror wait for, and what they order."""

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors.module.mirror import procedure
from mirrorfarm.actors.module.mirror.phases import Phase
from mirrorfarm.actors.module.mirror.state import State
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.transport.messages import PlaneIs, PlaneWish
from tests.actors.module.mirror.building import BOTH, state


def told(s: State) -> list[object]:
    return [effect.event for effect in s.out if isinstance(effect, fx.Tell)]


def test_the_application_is_never_started_without_a_lease_while_the_peer_may_lead() -> None:
    s = state(NodeRecord(term=1, was="prim"))
    s.phase, s.arbiter.register = Phase.TAKING, BOTH
    procedure.begin(s, 1, "vip up", "scripts take")
    assert s.step == "gate"
    assert not told(s)


def test_a_plane_that_failed_to_end_does_not_hold_up_the_end() -> None:
    s = state()
    s.plane.wish = PlaneWish(5, "off", bare=True)
    procedure.begin(s, 1, "plane clean", "kill")
    assert s.step == "plane clean"
    s.plane.answer = PlaneIs(5, "off", 0, "frozen", 0, failure="it is busy")
    procedure.advance(s, 2)
    assert s.step == "kill"


def test_a_leader_that_is_not_known_to_be_confirmed_does_not_say_idle() -> None:
    s = state(NodeRecord(term=1, was="prim"))
    s.phase, s.arbiter.register = Phase.LEAVING, BOTH  # And no session: it broke.
    procedure.begin(s, 1, "idle", "kill")
    assert s.record.was == "prim"
    assert s.step == "kill"


def test_accompanying_scripts_wait_and_are_bounded() -> None:
    s = state()
    procedure.begin(s, 1, "kill")
    for _ in range(9):
        procedure.run_side_scripts(s, "WAIT->SECOND")
    assert len(s.side_scripts) == 4
    procedure.poll_side_scripts(s)
    assert not s.side_run
    procedure.complete(s, 2, "kill", s.token)
    procedure.poll_side_scripts(s)
    assert s.side_run
