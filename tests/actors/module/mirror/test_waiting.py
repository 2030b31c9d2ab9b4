"""A node without the role asks for it only from the in-sync set, or says why it does not (R8)."""

import msgspec
import pytest

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.mirror import questions, waiting
from mirrorfarm.actors.module.mirror.describe import explanation
from mirrorfarm.actors.module.mirror.phases import Phase
from mirrorfarm.actors.module.mirror.state import State
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.transport.messages import Announcement, Register
from tests.actors.module.mirror.building import BOTH, state

NOW = 1_000 * SECOND_NS
GOOD = NodeRecord(term=1, gen_cur="g0", cons=True, was="second", wit_instance="i0", ver_seen=1)
NEW = msgspec.structs.replace(GOOD, cons=False, gen_cur="", was="idle")


def node(record: NodeRecord = GOOD, register: Register | None = BOTH, **changes: object) -> State:
    s = state(record, **changes)
    s.phase = Phase.WAITING
    s.arbiter.register, s.arbiter.known, s.arbiter.read_ns = register, True, NOW
    return s


def described(s: State) -> dict[str, object]:
    """Return what every record of this node says of it."""
    names = ("cluster", "module", "node", "inc", "os_boot", "ack_mode")
    return {name: getattr(s.record, name) for name in names}


def asked(s: State) -> list[ev.AskCas]:
    told = [e.event for e in s.out if isinstance(e, fx.Tell)]
    return [event for event in told if isinstance(event, ev.AskCas)]


def test_a_member_of_the_set_asks_for_the_next_term() -> None:
    s = node()
    waiting.poll(s, NOW)
    assert [(a.expected_ver, a.register.term, a.register.holder) for a in asked(s)] == [
        (1, 2, "n1")
    ]
    assert s.phase is Phase.ASKING


@pytest.mark.parametrize(
    ("record", "register", "word"),
    [
        (GOOD, Register(1, 1, "n2", ("n2",), "g0", "i0"), "may not be up to date"),
        (msgspec.structs.replace(GOOD, cons=False), BOTH, "half copied"),
        (msgspec.structs.replace(NEW, was="second"), BOTH, "half copied"),
        (NEW, BOTH, "new or was deleted"),
        (NodeRecord(), None, "first start"),
        (
            NEW,
            Register(1, 1, "n1", ("n1",), "g0", "i0"),
            "the data of n2 are not current either",
        ),
    ],
)
def test_who_may_not_lead_says_why_and_what_helps(
    record: NodeRecord, register: Register | None, word: str
) -> None:
    s = node(record, register)
    waiting.poll(s, NOW)
    assert not asked(s)
    assert word in s.reason
    assert s.would_change
    assert s.command


@pytest.mark.parametrize(("generation", "verb"), [("", "prim"), ("g0", "primforce")])
def test_two_members_without_good_data_do_not_wait_for_each_other(
    generation: str, verb: str
) -> None:
    s = node(msgspec.structs.replace(NEW, gen_cur=generation))
    s.peer.silent, s.peer.about = False, Announcement(role="WAIT", cons=False)
    waiting.poll(s, NOW)
    assert "administrator" in s.would_change
    assert s.command.endswith(f"{verb} -m app")


def test_a_promise_to_the_peer_is_kept() -> None:
    s = node()
    s.promise_until_ns = NOW + 1
    waiting.poll(s, NOW)
    assert not asked(s)
    waiting.poll(s, NOW + 1)
    assert asked(s)


def test_a_force_keeps_the_promise_as_well_and_is_durable_before_it_is_asked_for() -> None:
    s = node(register=Register(1, 1, "n2", ("n2",), "g0", "i0"))
    s.force, s.promise_until_ns = "primforce", NOW + 1
    waiting.poll(s, NOW)
    assert s.record is GOOD
    waiting.poll(s, NOW + 1)
    assert not asked(s)
    ordered = "primforce by an administrator on n1 ordered, for term 2"
    assert s.record == msgspec.structs.replace(
        GOOD, **described(s), counter=GOOD.counter + 1, forced=(ordered,)
    )
    assert explanation(s)[0] == (
        "primforce was ordered: that is written down before the arbiter is asked"
    )
    waiting.poll(s, NOW + 1)
    assert list(s.stores) == [s.record.counter], "once"
    s.stores.clear()
    waiting.poll(s, NOW + 1)
    assert asked(s)[0].forced


def test_the_last_primary_is_left_the_role_if_it_is_there() -> None:
    s = node(register=msgspec.structs.replace(BOTH, holder="n2"))
    s.peer.silent, s.peer.heard_ns = False, NOW
    s.peer.about = Announcement("WAIT", starting=True, cons=True)
    waiting.poll(s, NOW)
    assert not asked(s)
    s.peer.about = Announcement("WAIT", starting=True, cons=True, failed=True)
    waiting.poll(s, NOW)
    assert asked(s)


def test_failover_off_leaves_the_role_to_its_last_holder() -> None:
    s = node(register=msgspec.structs.replace(BOTH, holder="n2"), failover=False)
    waiting.poll(s, NOW)
    assert not asked(s)
    assert "failover is off" in s.reason


def test_terms_never_go_back_even_if_the_arbiter_did() -> None:
    late = msgspec.structs.replace(GOOD, term=4)
    s = node(late)
    waiting.poll(s, NOW)
    assert not asked(s)
    seeded = node(msgspec.structs.replace(late, wit_instance=""), None)
    seeded.force, seeded.peer.about = "primforce", Announcement(term=6)
    waiting.poll(seeded, NOW)
    seeded.stores.clear()
    waiting.poll(seeded, NOW)
    assert [a.register.term for a in asked(seeded)] == [7]


def test_who_is_refused_says_so_and_asks_again_once_a_second() -> None:
    s = node(register=None)
    s.arbiter.known = False
    times = []
    for now in range(NOW, NOW + 3 * SECOND_NS, SECOND_NS // 100):
        if s.arbiter.reading:
            refused = ev.RegisterKnown(
                s.arbiter.reading, "refused", None, now, reason="its disk is full"
            )
            questions.on_known(s, refused, now)
        before = s.arbiter.request
        waiting.poll(s, now)
        times += [now] if s.arbiter.request > before else []
    assert len(times) == 3
    assert s.reason == "the arbiter (witness w1) refuses: its disk is full: nobody may be promoted"
    known = ev.RegisterKnown(s.arbiter.request, "ok", BOTH, NOW)
    s.arbiter.reading = s.arbiter.request
    questions.on_known(s, known, NOW + 4 * SECOND_NS)
    assert (s.reason, s.arbiter.refused) == ("", "")


def test_a_primary_whose_arbiter_refuses_to_leave_its_peer_behind_says_so() -> None:
    s = state(NodeRecord(term=1, gen_cur="g0", cons=True, was="prim"))
    s.phase, s.arbiter.register = Phase.LEADING, BOTH
    s.leading.lost, s.arbiter.refused = "it is silent", "its disk is full"
    waiting.poll(s, NOW)
    assert s.reason == (
        "n2 must be left behind (it is silent), and the arbiter refuses that: its disk is full; "
        "writes are held"
    )
