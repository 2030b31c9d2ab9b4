"""What the steps of a mirror wait for, and what they order."""

import msgspec
import pytest

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.events import WatchClasses
from mirrorfarm.actors.module.mirror import commands, demotion, procedure
from mirrorfarm.actors.module.mirror.phases import Phase, Session
from mirrorfarm.actors.module.mirror.state import State
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.modules.settings import Process, Replication
from mirrorfarm.transport.messages import Announcement, PlaneIs, PlaneWish, Register
from tests.actors.module.mirror.building import BOTH, Hand, core, state

ALONE = msgspec.structs.replace(BOTH, isr=("n1",))


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


def ordered_scripts(s: State) -> list[tuple[list[str], str, str]]:
    return [
        ([step.name for step in event.steps], event.state, event.next_state)
        for event in told(s)
        if isinstance(event, ev.RunSequence)
    ]


def put_off(s: State) -> list[str]:
    """What starts the application, once the scripts before it are over."""
    return [step.name for step in s.to_start.steps] if s.to_start else []


def test_the_application_is_started_only_if_the_right_to_act_outlasts_the_scripts_before() -> None:
    mirror = Hand(core()).lead().mirror
    s = mirror.state
    s.out = []
    procedure.begin(s, 2, "scripts restart-in", "kill")
    assert ordered_scripts(s)[-1][0] == ["start_both"]
    lease, s.lease.deadline_ns = s.lease.deadline_ns, 1
    mirror.handle(ev.SequenceEnded(s.token, ("start_both: exit 1",)), 3)
    assert len(ordered_scripts(s)) == 1, "it hung until the lease was over"
    s.lease.deadline_ns = lease
    procedure.advance(s, 4)
    assert ordered_scripts(s)[-1][0][0] == "start_prim"
    mirror.handle(ev.SequenceEnded(s.token, ("start_prim: exit 2",)), 5)
    assert s.unstarted == "start_both: exit 1, start_prim: exit 2"


@pytest.mark.parametrize("phase", [Phase.FOLLOWING, Phase.SYNCING, Phase.ASKING, Phase.TAKING])
def test_a_stop_stops_what_was_started_as_secondary(phase: Phase) -> None:
    s = state()
    s.phase, s.scripts_as = phase, "second"
    commands.stop(s, 1, "stop")
    stops = ["stop_sec", "stop_second", "stop_both", "transition"]
    assert ordered_scripts(s) == [(stops, "SECOND", "WAIT")]


def test_who_loses_the_role_before_its_start_scripts_stops_what_was_started_as_secondary() -> None:
    s = state(NodeRecord(term=2, was="prim"))
    s.phase, s.scripts_as, s.plane.wish = Phase.TAKING, "second", PlaneWish(5, "off", bare=True)
    s.plane.answer = PlaneIs(5, "off", 0, "frozen", 0)
    demotion.demote(s, 1, "superseded")
    procedure.complete(s, 2, "kill", s.token)
    procedure.complete(s, 2, "vip down", s.token)
    assert ordered_scripts(s)[-1][1:] == ("SECOND", "WAIT")


def test_the_scripts_are_told_when_a_primary_has_a_secondary_and_when_it_lost_it() -> None:
    s = Hand(core()).lead().mirror.state
    assert s.phase is Phase.LEADING
    s.out = []
    for s.arbiter.register in (BOTH, ALONE):
        procedure.poll_side_scripts(s)
        assert s.side_run
        procedure.side_scripts_ended(s)
        procedure.poll_side_scripts(s)
        assert not s.side_run, "once is enough"
    assert ordered_scripts(s) == [
        (["stop_sec", "transition"], "ALONE", "PRIM"),
        (["transition", "start_sec"], "PRIM", "ALONE"),
    ]


@pytest.mark.parametrize("verb", ["restart", "stop"])
def test_scripts_of_a_lost_or_found_secondary_that_are_cut_short_are_stopped_with_the_others(
    verb: str,
) -> None:
    s = Hand(core()).lead().mirror.state
    s.arbiter.register, s.out = BOTH, []
    procedure.poll_side_scripts(s)
    assert s.side_run
    getattr(commands, verb)(s, 10**12, *([verb] if verb == "stop" else []))
    procedure.complete(s, 10**12, "watch", s.token)
    assert "stop_sec" in ordered_scripts(s)[-1][0]
    assert ordered_scripts(s)[-1][1] == "ALONE"


def swapping(s: State) -> str:
    """Order a swap of a primary whose secondary is in step; return why it is refused."""
    s.arbiter.register, s.leading.session = BOTH, Session.JOINED
    s.peer.silent, s.peer.about = False, Announcement(role="SECOND")
    return commands.swap(s, 1, "test")


def test_a_swap_right_after_the_secondary_is_there_stops_what_was_begun_without_one() -> None:
    s = Hand(core()).lead().mirror.state
    s.arbiter.register, s.out = BOTH, []
    procedure.poll_side_scripts(s)
    assert s.side_run
    assert not swapping(s)
    procedure.complete(s, 1, "watch", s.token)
    names, *_ = ordered_scripts(s)[-1]
    assert names == ["stop_sec", "stop_prim", "stop_prim"]


@pytest.mark.parametrize(
    ("failed", "begun"),
    [
        ((), ["transition", "start_prim", "start_sec"]),
        (("stop_prim: exit 1",), ["transition", "start_both", "start_prim", "start_sec"]),
    ],
)
def test_a_role_that_is_taken_again_after_a_swap_starts_what_the_swap_has_ended(
    failed: tuple[str, ...], begun: list[str]
) -> None:
    mirror = Hand(core(replication=Replication())).lead().mirror
    s = mirror.state
    s.side_kind = "PRIM"
    assert not swapping(s)
    assert s.step == "scripts swap-out"
    mirror.handle(ev.SequenceEnded(s.token, failed), 2)
    assert s.step == ("kill" if failed else "vip down")
    s.phase, s.arbiter.register, s.out = Phase.TAKING, ALONE, []
    procedure.begin(s, 3, "scripts take")
    names, *_ = ordered_scripts(s)[-1]
    assert names + put_off(s) == begun


def test_who_was_killed_at_a_swap_starts_everything_as_secondary() -> None:
    mirror = Hand(core()).lead().mirror
    s = mirror.state
    s.side_kind = "PRIM"
    assert not swapping(s)
    mirror.handle(ev.SequenceEnded(s.token, ("stop_prim force: exit 1",)), 2)
    assert procedure.scripts_in_the_end(s) == "", "the offer orders WAIT->SECOND"


@pytest.mark.parametrize("before", ["WAIT->SECOND", "swap-in", "restart SECOND"])
@pytest.mark.parametrize(("register", "role"), [(BOTH, "PRIM"), (ALONE, "ALONE")])
def test_who_leads_while_its_scripts_as_secondary_run_begins_everything_anew(
    before: str, register: Register, role: str
) -> None:
    s = state(NodeRecord(term=1, was="second"), replication=Replication())
    s.phase, s.arbiter.register = Phase.FOLLOWING, register
    s.leading.session, s.lease.deadline_ns = Session.JOINED, 10**12
    procedure.run_side_scripts(s, before)
    procedure.poll_side_scripts(s)
    s.phase, s.out = Phase.TAKING, []
    procedure.begin(s, 2, "scripts take")
    names, *words = ordered_scripts(s)[-1]
    stops = ["stop_sec", "stop_second", "stop_both"]
    starts = ["transition", "start_both", "start_prim", *(["start_sec"] * (role == "ALONE"))]
    assert names + put_off(s) == stops + starts
    assert words == ["SECOND", role]
    assert (s.scripts_as, s.side_kind) == ("prim", role)


def test_what_start_both_began_is_stopped_where_a_swap_left_it() -> None:
    s = state()
    s.phase, s.scripts_as = Phase.WAITING, "swapped"
    commands.stop(s, 1, "stop")
    assert "stop_both" in ordered_scripts(s)[-1][0]


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


def watching(*classes: str) -> State:
    """Return a secondary that has processes of these classes, its start scripts still running."""
    processes = tuple(Process(f"p{one}", process_class=one) for one in classes)
    s = state(NodeRecord(term=1, was="second"), processes=processes)
    s.phase = Phase.FOLLOWING
    procedure.run_side_scripts(s, "WAIT->SECOND")
    procedure.poll_side_scripts(s)
    s.out.clear()
    return s


@pytest.mark.parametrize(
    ("classes", "watched"),
    [
        (("prim", "second"), [WatchClasses(("second", "sec"))]),
        (("both",), [WatchClasses(("second", "sec"))]),
        (("pre", "sec"), [WatchClasses(("pre", "second", "sec"))]),
        (("pre", "prim"), [WatchClasses(("pre", "second", "sec"))]),
        (("prim",), []),
    ],
)
def test_what_runs_on_a_secondary_is_watched_once_its_start_scripts_have_ended(
    classes: tuple[str, ...], watched: list[WatchClasses]
) -> None:
    s = watching(*classes)
    procedure.poll_watch(s)
    assert not told(s)
    s.side_run = 0
    procedure.poll_watch(s)
    procedure.poll_watch(s)
    assert told(s) == watched


def test_what_runs_on_a_secondary_is_not_watched_while_its_scripts_run_or_it_leads() -> None:
    s = watching("second")
    s.side_run = 0
    procedure.poll_watch(s)
    s.out.clear()
    procedure.run_side_scripts(s, "restart SECOND")
    procedure.poll_watch(s)
    assert told(s) == [WatchClasses(())]
    s.side_scripts.clear()
    procedure.poll_watch(s)
    s.out.clear()
    s.phase = Phase.TAKING
    procedure.poll_watch(s)
    procedure.poll_watch(s)
    assert told(s) == [WatchClasses(())]


def test_what_prestart_started_is_watched_on_a_primary_too() -> None:
    s = state(processes=(Process("helper", process_class="pre"),))
    procedure.begin(s, 1, "watch prim both", "watch")
    assert told(s) == [WatchClasses(("pre", "prim", "both")), WatchClasses(())]
