"""Of two nodes that may both lead one takes the role, and never does nobody (L4)."""

from typing import Any

import msgspec
import pytest

from mirrorfarm.actors.module.mirror import waiting
from mirrorfarm.actors.module.mirror.describe import explanation
from mirrorfarm.actors.module.mirror.phases import Phase
from mirrorfarm.actors.module.mirror.state import State
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.transport.messages import Announcement, Register
from tests.actors.module.mirror.building import FAST, state
from tests.actors.module.mirror.test_waiting import GOOD, NOW, asked

PATIENCE_NS = 2 * (FAST.detection_ns + FAST.lease_ns)
EQUAL = Announcement(
    role="WAIT", phase="waiting", starting=True, term=1, cons=True, gen_cur="g0", was="second"
)


def node(holder: str, about: Announcement = EQUAL, **changes: Any) -> State:
    """Return n1 in WAIT, whose peer is there and in the set as well."""
    s = state(GOOD, **changes)
    s.phase = Phase.WAITING
    register = Register(1, 1, holder, ("n1", "n2"), "g0", "i0")
    s.arbiter.register, s.arbiter.known, s.arbiter.read_ns = register, True, NOW
    s.peer.silent, s.peer.about, s.peer.heard_ns = False, about, NOW
    return s


def asks(s: State, now: int = NOW) -> bool:
    """Return whether it asks for the role, now."""
    s.arbiter.read_ns = now
    waiting.poll(s, now)
    return bool(asked(s))


@pytest.mark.parametrize(
    ("holder", "settings", "takes"),
    [
        ("n1", {}, True),
        ("n2", {}, False),
        ("n1", {"defaultprim": "n2"}, False),
        ("n2", {"defaultprim": "n1"}, True),
        # n2 does not lead either then: it says that n1, which was the last primary, returns.
        ("n1", {"defaultprim": "n2", "failover": False}, True),
    ],
)
def test_the_preferred_one_takes_the_role_else_the_last_primary(
    holder: str, settings: dict[str, Any], takes: bool
) -> None:
    assert asks(node(holder, **settings)) is takes


@pytest.mark.parametrize(
    ("holder", "settings", "claim"),
    [("n2", {}, "was the last primary"), ("n1", {"defaultprim": "n2"}, "is preferred")],
)
def test_a_peer_that_could_take_the_role_and_does_not_is_not_waited_for_for_ever(
    holder: str, settings: dict[str, Any], claim: str
) -> None:
    s = node(holder, **settings)
    assert not asks(s)
    why, change, command = explanation(s)
    assert why == f"the role is left to n2, which {claim}"
    assert "within 1.4 s, n1 does" in change
    assert command
    assert not asks(s, NOW + PATIENCE_NS - 1)
    assert asks(s, NOW + PATIENCE_NS)


@pytest.mark.parametrize("changes", [{"gen_cur": "g1", "lone": True}, {"phase": "starting"}])
def test_a_peer_that_may_have_newer_data_or_runs_its_prestart_is_waited_for(
    changes: dict[str, Any],
) -> None:
    s = node("n2", msgspec.structs.replace(EQUAL, **changes))
    for seconds in (0, 100, 1_000):
        assert not asks(s, NOW + seconds * SECOND_NS)
    assert "is left to n2" in s.reason
    assert "within" not in s.would_change


def test_who_was_counted_in_without_hearing_of_it_is_not_waited_for_for_ever() -> None:
    s = node("n2", msgspec.structs.replace(EQUAL, gen_cur="g1"))
    assert not asks(s)
    assert not asks(s, NOW + PATIENCE_NS - 1)
    assert asks(s, NOW + PATIENCE_NS)


def test_patience_begins_anew_when_the_peer_begins_anew() -> None:
    s = node("n2")
    assert not asks(s)
    s.peer.about = msgspec.structs.replace(EQUAL, phase="starting")
    assert not asks(s, NOW + PATIENCE_NS - 1)
    s.peer.about = EQUAL
    assert not asks(s, NOW + PATIENCE_NS)
    assert asks(s, NOW + 2 * PATIENCE_NS)
