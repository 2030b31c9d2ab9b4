"""What a node says of itself."""

import msgspec
import pytest

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
from mirrorfarm.transport.messages import Register
from tests.actors.module.mirror.building import BOTH, state

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


def test_a_failed_copy_is_announced() -> None:
    s = state()
    s.failed = "input/output error"
    assert announcement(s).failed
    assert msgspec.json.decode(state_json(s, 1))["degraded"] is True
