"""When a mirror is at rest: nothing is under way, and nothing becomes due by time alone."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.answers import Pending
from mirrorfarm.actors.module.mirror import planes, rest
from mirrorfarm.actors.module.mirror.phases import Phase, Session
from mirrorfarm.actors.module.mirror.state import State
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.actors.vip.core import PRESENCE
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.transport.messages import Announcement, Command, PlaneIs, PlaneWish
from tests.actors.module.mirror.building import ADMIN, BOTH, FAST, state

NOW = 10 * SECOND_NS


def pair(phase: Phase) -> State:
    """Return a node of a pair in service, which has just heard its peer."""
    record = NodeRecord(term=1, sid=3, gen_cur="g0", cons=True, was="prim", wit_instance="i0")
    s = state(msgspec.structs.replace(record, promised_ns=FAST.lease_ns))
    leads = phase is Phase.LEADING
    s.phase, s.arbiter.register, s.arbiter.known = phase, BOTH, True
    s.promises, s.target.step = not leads, "done"
    s.leading.session, s.leading.sid = Session.JOINED if leads else Session.NONE, 3
    s.peer.about = Announcement("SECOND" if leads else "PRIM", "Ready", term=1, lease_ns=0)
    s.peer.silent, s.peer.heard_ns, s.peer.networks = False, NOW, {"default": "up"}
    s.plane.wish = PlaneWish(4, "lead" if leads else "follow", term=1, gate="both", sid=3)
    s.plane.answer = PlaneIs(4, s.plane.wish.role, 1, "both", 3)
    s.plane.sent_ns, s.plane.start = NOW, 1
    s.lease.granted(NOW)
    return s


@pytest.mark.parametrize("phase", [Phase.LEADING, Phase.FOLLOWING])
def test_a_pair_in_service_rests(phase: Phase) -> None:
    assert rest.begins(pair(phase))


def changed(path: str, value: Any) -> Callable[[State], None]:
    """Return what sets an attribute of the state."""

    def change(s: State) -> None:
        owner, _, name = path.rpartition(".")
        target: Any = s
        for part in owner.split(".") if owner else ():
            target = getattr(target, part)
        if isinstance(target, msgspec.Struct):
            msgspec.structs.force_setattr(target, name, value)
        else:
            setattr(target, name, value)

    return change


COMMAND = Command("r1", "swap", "test")
UNDER_WAY = {
    "phase": Phase.RESTARTING,
    "step": "gate",
    "side_run": 4,
    "stores": {7: "step"},
    "early": [(ADMIN, COMMAND)],
    "pending": [Pending("r1", ADMIN, "swap", NOW)],
    "put_off": ["proc.helper"],
    "unset": ("eth0 is down",),
    "resources": {PRESENCE: "down"},
    "peer.silent": True,
    "peer.left": True,
    "plane.answer": None,
    "plane.held": True,
    "plane.leaves": True,
}
LEADS = {
    "leading.session": Session.SYNCED,
    "leading.lost": "it is silent",
    "leading.lease_closed": True,
    "arbiter.register": None,
    "arbiter.known": False,
    "arbiter.distrust": "it went back",
    "arbiter.unclear": 5,
    "arbiter.swapping": 5,
    "arbiter.refused": "no",
    "plane_off": "clean",
    "split": "frozen",
    "record.from_memory": True,
    "record.wit_instance": "i1",
    "record.ver_seen": 2,
    "record.term": 2,
    "peer.about": Announcement("WAIT", "Ready", term=1),
}
FOLLOWS = {
    "promises": False,
    "record.promised_ns": 1,
    "target.step": "copying",
    "peer.about": Announcement("ALONE", "Ready", term=1),
}


@pytest.mark.parametrize("path", UNDER_WAY)
@pytest.mark.parametrize("phase", [Phase.LEADING, Phase.FOLLOWING])
def test_nothing_rests_while_anything_is_under_way(phase: Phase, path: str) -> None:
    s = pair(phase)
    changed(path, UNDER_WAY[path])(s)
    assert not rest.begins(s)


@pytest.mark.parametrize("path", LEADS)
def test_a_primary_rests_only_if_its_right_to_lead_is_in_no_doubt(path: str) -> None:
    s = pair(Phase.LEADING)
    changed(path, LEADS[path])(s)
    assert not rest.begins(s)


@pytest.mark.parametrize("path", FOLLOWS)
def test_a_secondary_rests_only_while_it_follows_a_primary_with_a_promise(path: str) -> None:
    s = pair(Phase.FOLLOWING)
    changed(path, FOLLOWS[path])(s)
    assert not rest.begins(s)


@pytest.mark.parametrize("queue", ["steps", "side_scripts"])
@pytest.mark.parametrize("phase", [Phase.LEADING, Phase.FOLLOWING])
def test_nothing_rests_while_a_procedure_waits(phase: Phase, queue: str) -> None:
    s = pair(phase)
    getattr(s, queue).append("kill")
    assert not rest.begins(s)


@pytest.mark.parametrize("word", ["held", "broken", "fault"])
def test_a_plane_that_has_news_is_heard_by_a_look_at_everything(word: str) -> None:
    s = pair(Phase.LEADING)
    assert s.plane.answer is not None
    news = {word: True if word == "held" else "the disk failed"}
    s.plane.answer = msgspec.structs.replace(s.plane.answer, **news)
    assert not rest.begins(s)


def test_rest_ends_when_the_lease_does() -> None:
    s = pair(Phase.LEADING)
    closes_ns = s.lease.gate_closes_ns()
    s.wake_ns = closes_ns
    assert rest.goes_on(s, ev.Tick(), closes_ns - 1)
    assert not rest.goes_on(s, ev.Tick(), closes_ns)


def test_rest_ends_while_the_arbiter_is_silent_and_then_answers() -> None:
    s = pair(Phase.LEADING)
    answer = ev.RegisterKnown(9, "ok", BOTH, NOW)
    assert rest.goes_on(s, answer, NOW)
    s.arbiter.silent_since_ns = NOW
    assert not rest.goes_on(s, answer, NOW)
    s.arbiter.silent_since_ns, s.arbiter.reading = 0, 9
    assert not rest.goes_on(s, answer, NOW)


def test_rest_ends_when_the_replicator_did_not_answer_and_would_be_asked_again() -> None:
    s = pair(Phase.FOLLOWING)
    s.wake_ns = NOW
    assert rest.goes_on(s, ev.Tick(), NOW + planes.ALIVE_NS)
    assert s.plane.unanswered == 1
    assert rest.goes_on(s, ev.Tick(), NOW + 2 * planes.ALIVE_NS - 1)
    assert not rest.goes_on(s, ev.Tick(), NOW + 2 * planes.ALIVE_NS)


def test_a_timer_of_before_does_not_end_the_one_that_is_set() -> None:
    s = pair(Phase.FOLLOWING)
    s.wake_ns = NOW + 1
    assert rest.goes_on(s, ev.Tick(), NOW)
    assert s.wake_ns == NOW + 1
    assert rest.goes_on(s, ev.Tick(), NOW + 1)
    assert not s.wake_ns


def test_what_the_arbiter_answers_renews_no_lease_of_a_secondary() -> None:
    assert not rest.goes_on(pair(Phase.FOLLOWING), ev.RegisterKnown(9, "ok", BOTH, NOW), NOW)
