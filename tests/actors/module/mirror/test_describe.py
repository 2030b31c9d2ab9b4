"""What a node says of itself."""

import msgspec
import pytest

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.mirror import orders
from mirrorfarm.actors.module.mirror.describe import (
    announcement,
    explanation,
    role_of,
    state_json,
    status_of,
)
from mirrorfarm.actors.module.mirror.phases import Phase
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.modules.settings import HeartbeatNetwork
from mirrorfarm.transport.messages import Command, Register
from tests.actors.module.mirror.building import ADMIN, BOTH, Hand, core, state

ALONE = Register(1, 2, "n1", ("n1",), "g0", "i0")


@pytest.mark.parametrize(
    ("phase", "register", "role", "status"),
    [
        (Phase.STOPPED, None, "STOP", "NotReady"),
        (Phase.RESETTING, None, "STOP", "Transient"),
        (Phase.WAITING, None, "WAIT", "Transient"),
        (Phase.SYNCING, BOTH, "SECOND", "Transient"),
        (Phase.FOLLOWING, BOTH, "SECOND", "Ready"),
        (Phase.LEADING, ALONE, "ALONE", "Ready"),
        (Phase.LEADING, BOTH, "PRIM", "Transient"),  # Its gate is frozen: no session.
        (Phase.TAKING, BOTH, "PRIM", "Transient"),
    ],
)
def test_phases_have_names_that_users_know(
    phase: Phase, register: Register | None, role: str, status: str
) -> None:
    s = state()
    s.phase, s.arbiter.register = phase, register
    assert (role_of(s), status_of(s)) == (role, status)


def test_a_node_that_waits_for_a_reason_is_not_ready() -> None:
    s = state()
    s.phase, s.reason = Phase.WAITING, "the peer has newer data"
    assert status_of(s) == "NotReady"


def test_the_state_is_told_with_its_reason_its_record_and_its_register() -> None:
    s = state(NodeRecord(term=3, gen_cur="g0", cons=True, was="second"))
    s.phase, s.arbiter.register, s.reason = Phase.FOLLOWING, BOTH, "why not"
    told = msgspec.json.decode(state_json(s, 99))
    assert (told["state"], told["reason"], told["now_ns"]) == ("SECOND", "why not", 99)
    assert (told["term"], told["holder"], told["isr"]) == (3, "n1", ["n1", "n2"])
    assert told["uptodate"] is True
    assert told["record"]["was"] == "second"
    assert told["resources"]["state.local"] == "SECOND Ready"


def test_a_primary_that_does_not_believe_its_arbiter_says_so() -> None:
    s = state(NodeRecord(wit_instance="i0", ver_seen=1))
    s.phase, s.arbiter.register = Phase.LEADING, ALONE
    assert explanation(s) == ("", "", "")
    orders.learn(s, None, 1)
    reason, would_change, command = explanation(s)
    assert "knows no register although one existed" in reason
    assert "forces it" in would_change
    assert command.endswith("primforce -m app")
    assert status_of(s) == "Ready"


@pytest.mark.parametrize(
    ("phase", "step", "words"),
    [
        (Phase.RESETTING, "plane bare", "its replicator has not said"),
        (Phase.STOPPING, "vip down", "the virtual addresses are not removed"),
        (Phase.LEAVING, "plane clean", "its replicator has not said"),
        (Phase.DEMOTING, "kill", "superseded; processes of the application still run"),
    ],
)
def test_what_the_end_of_a_role_waits_for_is_said(phase: Phase, step: str, words: str) -> None:
    s = state()
    s.phase, s.step = phase, step
    s.reason = "superseded" if phase is Phase.DEMOTING else ""
    reason, would_change, command = explanation(s)
    assert reason.startswith(words)
    assert would_change
    assert command == "mirrorfarm -H n1 log -m app"


@pytest.mark.parametrize("phase", [Phase.TAKING, Phase.RESTARTING])
def test_a_primary_whose_replicator_is_away_says_so(phase: Phase) -> None:
    s = state()
    s.phase, s.step, s.arbiter.register = phase, "gate", ALONE
    s.plane.start = 1
    assert explanation(s)[0] == "", "it was asked just now"
    s.plane.unanswered = 1
    assert explanation(s)[0] == "its replicator does not serve the directories yet"
    s.step = "scripts take"
    assert explanation(s)[0] == ""


@pytest.mark.parametrize("verb", ["prim", "primforce"])
def test_an_order_to_lead_tells_for_how_long_it_still_listens_for_another_primary(
    verb: str,
) -> None:
    networks = tuple(
        HeartbeatNetwork(n, n, SECOND_NS, t * SECOND_NS) for n, t in (("a", 2), ("b", 30))
    )
    hand = Hand(core(heartbeats=networks))
    hand.give(ev.Started(), ev.Received(ADMIN, Command("r1", verb, "test")))
    for silent, listened in (("a", "a, b"), ("b", "b")):
        told = msgspec.json.decode(state_json(hand.mirror.state, hand.now))
        assert (told["state"], told["status"]) == ("WAIT", "Transient")
        assert told["reason"].startswith(f"{verb} was ordered, but n2 may be primary")
        assert f"(network {listened})" in told["reason"]
        assert "30000 ms" in told["would_change"]
        assert told["command"] == "mirrorfarm -H n1 state -v -m app"
        hand.give(ev.NetworkSilent(silent))
    told = msgspec.json.decode(state_json(hand.mirror.state, hand.now))
    assert (told["state"], told["reason"]) == ("ALONE", "")


def test_a_failed_copy_is_announced() -> None:
    s = state()
    s.failed = "input/output error"
    assert announcement(s).failed
    assert msgspec.json.decode(state_json(s, 1))["degraded"] is True
