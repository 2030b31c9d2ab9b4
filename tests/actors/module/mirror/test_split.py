"""A primary goes on in a term above one that it forgot and that its waiting peer remembers."""

from typing import Any

import msgspec
import pytest

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.mirror import questions, split
from mirrorfarm.actors.module.mirror.phases import Phase, Session
from mirrorfarm.actors.module.mirror.state import State
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.modules.settings import Replication
from mirrorfarm.transport.messages import Announcement, Register
from tests.actors.module.mirror.building import state

NOW = 1_000 * SECOND_NS
OURS = Register(1, 1, "n1", ("n1",), "g1", "i1")
THEIRS = Register(3, 2, "n2", ("n2",), "g0", "i1")
ABOVE = Register(3, 2, "n1", ("n1",), "g1", "i1")
WAITS = Announcement("WAIT", phase="waiting", term=2, cons=True, gen_cur="g0", starting=True)
GIVEN_UP = msgspec.structs.replace(WAITS, full_wanted=True)


def primary(about: Announcement = GIVEN_UP) -> State:
    """Return n1, which leads in term 1 beside n2, which waits and knows of term 2."""
    record = NodeRecord(term=1, gen_cur="g1", cons=True, was="prim", wit_instance="i1", ver_seen=1)
    s = state(record, replication=Replication())
    s.phase, s.arbiter.register, s.arbiter.known = Phase.LEADING, OURS, True
    s.peer.about, s.peer.silent = about, False
    return s


def questions_of(s: State) -> list[ev.AskCas]:
    """Return what the arbiter is asked, everything being durable at once."""
    for _ in range(3):
        split.poll(s, NOW)
        s.stores.clear()
    told = [effect.event for effect in s.out if isinstance(effect, fx.Tell)]
    return [event for event in told if isinstance(event, ev.AskCas)]


def answer(s: State, outcome: str, register: Register) -> None:
    questions.on_known(s, ev.RegisterKnown(s.arbiter.swapping, outcome, register, NOW), NOW)


@pytest.mark.parametrize(
    "changes", [{"full_wanted": True}, {"full_given": True}], ids=["peer's", "ours"]
)
def test_an_administrator_decides_whose_data_count(changes: dict[str, bool]) -> None:
    s = primary(msgspec.structs.replace(WAITS, full_wanted="full_wanted" in changes))
    s.leading.full_given = "full_given" in changes
    (question,) = questions_of(s)
    assert (question.register, question.forced) == (ABOVE, True)
    assert s.record.forced == (
        "a term above those of n2, whose data an administrator gave up ordered, for term 3",
    )
    answer(s, "ok", ABOVE)
    assert (s.phase, s.split, s.record.term) == (Phase.LEADING, "settled", 3)
    assert s.record.forced[0].endswith("gave up, term 3")


@pytest.mark.parametrize("outcome", ["conflict", "held"])
def test_who_became_primary_meanwhile_stays_it(outcome: str) -> None:
    """By force the role would be taken from the node that the witness names."""
    s = primary()
    assert len(questions_of(s)) == 1
    answer(s, outcome, THEIRS)
    assert (s.phase, s.split) == (Phase.DEMOTING, "")
    assert len(questions_of(s)) == 1  # Never again.


def test_a_refused_term_is_asked_for_again_with_patience() -> None:
    s = primary()
    assert len(questions_of(s)) == 1
    answer(s, "refused", OURS)
    assert (s.phase, s.split) == (Phase.LEADING, "")  # Writes go on meanwhile.
    assert len(questions_of(s)) == 1
    s.arbiter.retry_ns = NOW
    assert len(questions_of(s)) == 2


def nobody_decided(s: State) -> None:
    s.peer.about = WAITS


def peer_is_silent(s: State) -> None:
    s.peer.silent = True


def peer_leads(s: State) -> None:
    s.peer.about = msgspec.structs.replace(GIVEN_UP, role="ALONE", phase="leading")


def peer_knows_no_more(s: State) -> None:
    s.peer.about = msgspec.structs.replace(GIVEN_UP, term=1)


def peer_may_be_promoted(s: State) -> None:
    s.arbiter.register = msgspec.structs.replace(OURS, isr=("n1", "n2"))


def session_runs(s: State) -> None:
    s.leading.session = Session.OFFERED


def register_is_anothers(s: State) -> None:
    s.arbiter.register = THEIRS


def register_is_not_believed(s: State) -> None:
    s.arbiter.distrust = "the arbiter went back"


def arbiter_is_silent(s: State) -> None:
    s.arbiter.silent_since_ns = NOW - 1


def something_is_asked(s: State) -> None:
    s.arbiter.swapping, s.arbiter.purpose = 9, "shrink"


@pytest.mark.parametrize(
    "unless",
    [
        nobody_decided,
        peer_is_silent,
        peer_leads,
        peer_knows_no_more,
        peer_may_be_promoted,
        session_runs,
        register_is_anothers,
        register_is_not_believed,
        arbiter_is_silent,
        something_is_asked,
    ],
)
def test_nothing_is_asked_unless_that_is_sure(unless: Any) -> None:
    s = primary()
    unless(s)
    assert questions_of(s) == []
    assert s.split == ""
