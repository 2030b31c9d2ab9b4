"""No answer is not yes (R3), and every answer leads back to where its question came from."""

from typing import Any

import msgspec
import pytest

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.mirror import leading, orders, questions
from mirrorfarm.actors.module.mirror.phases import Phase, Session
from mirrorfarm.actors.module.mirror.state import State, Target
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import Arbiter, Replicated, Replication
from mirrorfarm.transport.messages import Announcement, Register
from tests.actors.module.mirror.building import BOTH, state

NOW = 1_000 * SECOND_NS
NEXT = msgspec.structs.replace(BOTH, term=2, ver=2)
ALONE = Register(1, 2, "n1", ("n1",), "g0", "i0")


def asking() -> State:
    s = state(NodeRecord(term=1, gen_cur="g0", cons=True, was="second"))
    s.arbiter.register = msgspec.structs.replace(BOTH, holder="n2")
    orders.ask_swap(s, "promote", NEXT)
    s.phase = Phase.ASKING
    return s


def answer(s: State, outcome: str, register: Register | None, **more: Any) -> None:
    questions.on_known(s, ev.RegisterKnown(s.arbiter.swapping, outcome, register, NOW, **more), NOW)


def test_a_grant_is_durable_before_anything_else() -> None:
    s = asking()
    answer(s, "ok", NEXT)
    assert s.phase is Phase.TAKING
    assert (s.record.term, s.record.was) == (2, "prim")
    assert "granted" in s.stores.values()
    assert s.target == Target()


@pytest.mark.parametrize("outcome", ["conflict", "held", "refused"])
def test_anything_but_yes_leads_back(outcome: str) -> None:
    s = asking()
    answer(s, outcome, s.arbiter.register, lease_left_ns=77)
    assert s.phase is Phase.WAITING
    assert s.arbiter.retry_ns > NOW


def test_an_arbiter_without_any_register_is_not_believed_by_who_remembers_one() -> None:
    s = asking()
    s.record = msgspec.structs.replace(s.record, wit_instance="i0", ver_seen=1)
    answer(s, "unset", None, reason="there is no register")
    assert s.phase is Phase.WAITING
    assert "knows no register although one existed" in s.arbiter.distrust


def test_a_held_lease_is_asked_for_again_when_it_ends() -> None:
    s = asking()
    answer(s, "held", s.arbiter.register, lease_left_ns=SECOND_NS)
    assert s.arbiter.retry_ns == NOW + SECOND_NS


def test_an_answer_to_another_question_settles_nothing() -> None:
    s = asking()
    questions.on_known(s, ev.RegisterKnown(99, "ok", NEXT, NOW), NOW)
    assert s.arbiter.swapping
    assert s.phase is Phase.ASKING


def test_a_reading_that_was_given_up_for_a_change_renews_no_lease() -> None:
    """Its answer was on its way already: nobody else promised anything for it."""
    s = state(NodeRecord(term=1, gen_cur="g0", cons=True, was="prim"))
    s.phase, s.arbiter.register = Phase.LEADING, BOTH
    s.lease.granted(NOW - SECOND_NS)
    deadline_ns = s.lease.deadline_ns
    orders.ask_read(s, NOW)
    reading = s.arbiter.reading
    orders.ask_swap(s, "shrink", ALONE)
    questions.on_known(s, ev.RegisterKnown(reading, "ok", BOTH, NOW), NOW)
    assert s.lease.deadline_ns == deadline_ns
    answer(s, "ok", ALONE)
    orders.ask_read(s, NOW)
    assert s.arbiter.reading, "it can be read again"


def test_a_growth_that_was_not_granted_can_be_asked_again() -> None:
    s = state(NodeRecord(term=1, gen_cur="g0", cons=True, was="prim"))
    s.phase, s.arbiter.register, s.leading.session = Phase.LEADING, ALONE, Session.GROWING
    orders.ask_swap(s, "grow", BOTH)
    answer(s, "refused", ALONE)
    assert s.leading.session is Session.SYNCED
    assert s.arbiter.retry_ns > NOW


def test_a_primary_that_the_register_does_not_name_any_more_gives_up() -> None:
    s = state(NodeRecord(term=1, gen_cur="g0", cons=True, was="prim"))
    s.phase, s.arbiter.register = Phase.LEADING, BOTH
    other = msgspec.structs.replace(BOTH, term=2, ver=2, holder="n2")
    questions.on_known(s, ev.RegisterKnown(1, "conflict", other, NOW), NOW)
    assert s.phase is Phase.DEMOTING


def test_news_of_the_peer_are_checked_at_the_arbiter() -> None:
    s = state(NodeRecord(term=1, gen_cur="g0", cons=True, was="second"))
    s.phase = Phase.FOLLOWING
    questions.on_news(s, NEXT, NOW)
    assert s.arbiter.reading
    assert s.arbiter.register is None


@pytest.mark.parametrize("policy", ["manual", "keep-primary"])
def test_who_was_named_in_one_term_with_the_peer_leaves_its_writes_to_an_administrator(
    policy: str,
) -> None:
    """By copies of the register that had not met; this one served nobody yet."""
    s = state(
        NodeRecord(term=2, gen_cur="g1", gen_hist=("g0",), cons=True, was="prim"),
        arbiter=Arbiter("ping"),
        replication=Replication((Replicated("/data"),), divergence=policy),
    )
    s.phase, s.peer.silent = Phase.TAKING, False
    s.peer.about = Announcement(
        "STOP", term=2, was="alone", gen_cur="g2", gen_hist=("g0",), lone=True
    )
    orders.ask_read(s, NOW)
    named = Register(2, 9, "n2", ("n2",), "g2", "i0")
    questions.on_known(s, ev.RegisterKnown(s.arbiter.reading, "ok", named, NOW), NOW)
    assert (s.phase is Phase.DEMOTING) == (policy == "manual")


def test_a_primary_that_the_register_does_not_name_reads_it_once_in_a_heartbeat() -> None:
    s = state(NodeRecord(term=2, gen_cur="g1", cons=True, was="prim"))
    s.phase, s.leading.lost = Phase.LEADING, "it is in STOP"
    s.arbiter.register = msgspec.structs.replace(BOTH, holder="n2")
    for milliseconds in range(0, 200, 2):
        leading.poll(s, NOW + milliseconds * MILLISECOND_NS)
        s.arbiter.reading = 0  # It is answered at once.
    asked = [e for e in s.out if isinstance(e, fx.Tell) and isinstance(e.event, ev.AskRead)]
    assert 2 <= len(asked) <= 5
