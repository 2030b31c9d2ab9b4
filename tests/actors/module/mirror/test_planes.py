"""What the data plane shall be follows from the state; what it says is believed by number."""

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors.module.mirror import commands, demotion, planes, procedure
from mirrorfarm.actors.module.mirror.phases import Phase, Session
from mirrorfarm.actors.module.mirror.state import State, Target
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.limits import SECOND_NS, UNDER_WAY
from mirrorfarm.transport.codec import decode, encode
from mirrorfarm.transport.messages import Frame, PlaneIs, PlaneWish, Probe
from tests.actors.module.mirror.building import BOTH, state


def leader() -> State:
    s = state(NodeRecord(term=2, gen_cur="g0", cons=True, was="prim"))
    s.phase, s.arbiter.register = Phase.LEADING, BOTH
    s.leading.session, s.leading.sid = Session.JOINED, 3
    return s


def wishes(s: State) -> list[PlaneWish]:
    sent = [e.message for e in s.out if isinstance(e, fx.Send)]
    return [message for message in sent if isinstance(message, PlaneWish)]


def test_a_leader_wishes_to_lead_in_its_term_and_session() -> None:
    wish = planes.wanted(leader())
    assert (wish.role, wish.term, wish.sid, wish.gate) == ("lead", 2, 3, "both")


def test_nothing_is_wished_of_a_term_that_is_not_durable() -> None:
    s = leader()
    s.stores[9] = "granted"
    assert planes.wanted(s) is s.plane.wish


def test_a_session_is_followed_only_when_it_is_durable() -> None:
    s = state()
    s.phase, s.target = Phase.SYNCING, Target(2, 3, "full", step="beginning")
    assert planes.wanted(s).role == "off"
    s.target.step = "preparing"
    assert (planes.wanted(s).role, planes.wanted(s).sid) == ("follow", 3)


def test_a_wish_is_repeated_until_it_is_answered() -> None:
    s = leader()
    for now in range(SECOND_NS, 3 * SECOND_NS, SECOND_NS // 10):
        planes.poll(s, now)
    assert 3 <= len(wishes(s)) <= 5
    assert len({wish.number for wish in wishes(s)}) == 1
    planes.on_message(s, PlaneIs(s.plane.wish.number, "lead", 2, "both", 3), 4 * SECOND_NS)
    s.out.clear()
    planes.poll(s, 5 * SECOND_NS)
    assert not wishes(s)


def test_an_answer_to_an_older_wish_settles_nothing() -> None:
    s = leader()
    planes.poll(s, SECOND_NS)
    planes.on_message(s, PlaneIs(s.plane.wish.number - 1, "lead", 2, "both", 3), SECOND_NS)
    assert not s.plane.settled


def test_a_replicator_that_died_ends_the_leadership() -> None:
    s = leader()
    planes.poll(s, SECOND_NS)
    planes.on_message(s, PlaneIs(s.plane.wish.number, "lead", 2, "both", 3), SECOND_NS)
    planes.on_message(s, PlaneIs(0, "off", 0, "frozen", 0), SECOND_NS)
    assert s.phase is Phase.DEMOTING


def test_an_end_that_has_become_urgent_is_ordered_anew_but_a_finished_one_is_not() -> None:
    s = state()
    s.phase = Phase.DEMOTING
    s.plane.wish = PlaneWish(5, "off", clean=True)
    assert not planes.wanted(s).clean
    s.plane.answer = PlaneIs(5, "off", 0, "frozen", 0)
    assert planes.wanted(s).clean


def test_a_replicator_that_hangs_is_ended_after_five_questions_without_an_answer() -> None:
    s = leader()
    planes.poll(s, SECOND_NS)
    planes.on_message(s, PlaneIs(s.plane.wish.number, "lead", 2, "both", 3), SECOND_NS)
    s.out.clear()
    for now in range(2 * SECOND_NS, 11 * SECOND_NS, SECOND_NS // 2):
        planes.poll(s, now)
        s.plane.passes = True
    assert fx.EndReplica() not in s.out
    for now in range(11 * SECOND_NS, 16 * SECOND_NS, SECOND_NS // 2):
        planes.poll(s, now)
        s.plane.passes = True  # What is sent by the own agent comes back.
    assert s.out.count(fx.EndReplica()) == 1
    assert any("has not answered" in text for _, text in s.facts)
    assert s.phase is Phase.DEMOTING, "no successor may ever come to say that it is gone"


def test_a_pause_of_this_node_is_not_held_against_its_replicator() -> None:
    s = leader()
    planes.poll(s, SECOND_NS)
    planes.on_message(s, PlaneIs(s.plane.wish.number, "lead", 2, "both", 3), SECOND_NS)
    planes.poll(s, 600 * SECOND_NS)
    planes.on_message(s, PlaneIs(s.plane.wish.number, "lead", 2, "both", 3), 601 * SECOND_NS)
    planes.poll(s, 602 * SECOND_NS)
    assert fx.EndReplica() not in s.out


def settled() -> State:
    """Return a leader whose replicator, in its start 7, does what it shall."""
    s = leader()
    planes.poll(s, SECOND_NS)
    planes.on_message(s, PlaneIs(0, "off", 0, "frozen", 0, start=7), SECOND_NS)
    planes.poll(s, SECOND_NS)
    assert wishes(s)[-1].start == 7
    number = s.plane.wish.number
    planes.on_message(s, PlaneIs(number, "lead", 2, "both", 3, start=7), SECOND_NS)
    assert s.plane.settled
    return s


def test_what_an_answer_tells_again_counts_as_if_it_had_been_heard_first() -> None:
    s = settled()
    number = s.plane.wish.number
    again = PlaneIs(number, "lead", 2, "both", 0, start=7, held=True, broken="it is silent")
    planes.on_message(s, again, 2 * SECOND_NS)
    assert s.plane.held
    assert s.leading.lost == "it is silent"
    planes.on_message(s, PlaneIs(number, "lead", 2, "both", 0, start=7), 2 * SECOND_NS)
    assert not s.plane.held  # The gate was open since.
    failed = PlaneIs(number, "lead", 2, "both", 0, start=7, fault="map: no space")
    planes.on_message(s, failed, 3 * SECOND_NS)
    assert "no space" in s.failed


def test_a_replicator_that_is_known_already_may_say_so_again() -> None:
    s = settled()
    planes.on_message(s, PlaneIs(0, "off", 0, "frozen", 0, start=7), SECOND_NS)
    assert s.phase is Phase.LEADING
    planes.on_message(s, PlaneIs(0, "off", 0, "frozen", 0, start=8), SECOND_NS)
    assert s.phase is Phase.DEMOTING


def test_a_replicator_that_hangs_while_it_shall_change_is_ended() -> None:
    s = settled()
    s.leading.session, s.leading.sid = Session.NONE, 4
    for tenth in range(150):
        s.plane.passes = True  # What is sent by the own agent comes back.
        planes.poll(s, 2 * SECOND_NS + tenth * SECOND_NS // 10)
    assert sum(isinstance(effect, fx.EndReplica) for effect in s.out) == 1
    s = settled()
    s.leading.session, s.leading.sid = Session.NONE, 4
    for tenth in range(150):
        planes.poll(s, 2 * SECOND_NS + tenth * SECOND_NS // 10)
        busy = PlaneIs(UNDER_WAY, "lead", 2, "both", 3, start=7)
        planes.on_message(s, busy, 2 * SECOND_NS)
    assert not any(isinstance(effect, fx.EndReplica) for effect in s.out)


def test_nothing_is_concluded_while_the_agent_between_is_away() -> None:
    s = settled()
    for second in range(2, 60):
        planes.poll(s, second * SECOND_NS)
    assert not any(isinstance(effect, fx.EndReplica) for effect in s.out)
    for second in range(60, 90):
        planes.on_message(s, Probe("", 0), second * SECOND_NS)
        planes.poll(s, second * SECOND_NS)
    assert any(isinstance(effect, fx.EndReplica) for effect in s.out)


def test_what_the_agent_shall_bring_back_is_a_message_that_it_takes() -> None:
    s = settled()
    for second in range(2, 12, 2):
        planes.poll(s, second * SECOND_NS)
    (send, *_) = [e for e in s.out if isinstance(e, fx.Send) and isinstance(e.message, Probe)]
    frame = Frame("c" * 16, send.to, 1, 1, 1, send.to, send.message)
    assert decode(encode(frame)) == frame


def test_a_plane_that_is_not_what_it_shall_be_is_not_settled() -> None:
    s = settled()
    number = s.plane.wish.number
    planes.on_message(s, PlaneIs(number, "off", 0, "frozen", 0, start=7), 2 * SECOND_NS)
    assert not s.plane.settled


def test_a_demoted_node_bares_its_directories_when_its_application_has_ended() -> None:
    s = settled()
    demotion.demote(s, 3 * SECOND_NS, "superseded")
    planes.poll(s, 3 * SECOND_NS)
    assert (s.plane.wish.role, s.plane.wish.clean, s.plane.wish.bare) == ("off", False, False)
    while s.step in {"watch", "kill", "vip down"}:
        procedure.complete(s, 4 * SECOND_NS, s.step, s.token)
    planes.on_message(
        s, PlaneIs(s.plane.wish.number, "off", 0, "frozen", 0, start=7), 4 * SECOND_NS
    )
    assert s.step == "plane bare", "it waits until they are unmounted"
    planes.poll(s, 4 * SECOND_NS)
    assert (s.plane.wish.clean, s.plane.wish.bare) == (False, True)
    planes.on_message(
        s, PlaneIs(s.plane.wish.number, "off", 0, "frozen", 0, start=7), 5 * SECOND_NS
    )
    procedure.advance(s, 5 * SECOND_NS)
    assert s.step != "plane bare"


def test_what_fails_under_the_application_is_aborted_first_and_bared_last() -> None:
    s = settled()
    demotion.storage_failed(s, 3 * SECOND_NS, "data: no space")
    planes.poll(s, 3 * SECOND_NS)
    assert s.step == "plane abort"
    assert (s.plane.wish.clean, s.plane.wish.bare) == (False, False)
    assert [*s.steps].index("kill") < [*s.steps].index("plane bare")


def test_a_forced_stop_bares_nothing_before_the_application_has_ended() -> None:
    s = settled()
    commands.force_stop(s, 3 * SECOND_NS)
    planes.poll(s, 3 * SECOND_NS)
    assert s.phase is Phase.STOPPING
    assert not s.plane.wish.bare
    planes.on_message(
        s, PlaneIs(s.plane.wish.number, "off", 0, "frozen", 0, start=7), 4 * SECOND_NS
    )
    planes.poll(s, 4 * SECOND_NS)
    assert not s.plane.wish.bare


def test_a_secondary_has_nothing_to_bare() -> None:
    s = state()
    s.phase = Phase.STOPPING
    s.plane.wish = PlaneWish(5, "follow", term=2, sid=3)
    assert planes.wanted(s) == PlaneWish(5, "off", bare=True)
