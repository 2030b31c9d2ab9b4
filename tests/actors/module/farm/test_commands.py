"""Orders and failures of a farm's node at odd moments."""

import pytest

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.answers import ANSWER_NS
from mirrorfarm.actors.module.farm.phases import Phase
from mirrorfarm.modules.settings import Farm
from tests.actors.module.farm.building import Hand, core, node, picture


def test_a_start_while_a_node_goes_down_to_wait_is_answered_with_what_it_waits_for() -> None:
    hand = Hand(core()).up()
    hand.obedient = False
    hand.give(ev.ResourceChanged("intf.a", "down", "wait", "no carrier"))
    assert hand.machine.state.phase is Phase.FALLING
    hand.order("start")
    for _ in range(4):
        hand.go_on()
    assert hand.outcomes()[-1][0] == "done"
    assert "resource intf.a is down" in hand.outcomes()[-1][1]


def test_a_stop_while_a_node_goes_down_to_wait_ends_what_is_watched_for_that() -> None:
    hand = Hand(core()).up()
    hand.obedient = False
    hand.give(ev.ResourceChanged("intf.a", "down", "wait", "no carrier")).order("stop")
    for _ in range(6):
        hand.go_on()
    assert hand.machine.state.phase is Phase.STOPPED
    watched = [e.event for e in hand.said if isinstance(getattr(e, "event", None), ev.WatchClasses)]
    assert watched[-1].classes == ()


def test_a_record_that_could_be_written_again_did_not_fail() -> None:
    hand = Hand(core()).up().give(ev.StoreFailed(1, 28, "no space"))
    assert hand.state()["degraded"]
    hand.order("stop", "nodrain").give(ev.Stored(2))
    assert not hand.state()["degraded"]


def test_what_is_refused_while_the_process_starts_does_not_keep_the_module_stopped() -> None:
    for verb, phase in (("power", Phase.UP), ("drain", Phase.UP), ("stop", Phase.STOPPED)):
        hand = Hand(core(start=True), obedient=False).give(ev.Started()).order(verb, "nodrain")
        for _ in range(8):
            hand.go_on()
        assert hand.machine.state.phase is phase


def test_resume_does_not_open_an_application_that_did_not_start() -> None:
    hand = Hand(core()).up().order("drain")
    hand.failing = ("start_both",)
    hand.order("restart").order("resume")
    outcome, text = hand.outcomes()[-1]
    assert outcome == "refused"
    assert "script start_both failed. First restart it" in text
    assert hand.acts()[-1] != "<in>"
    hand.failing = ()
    hand.order("restart")
    assert hand.acts()[-1] != "<in>"
    hand.order("resume")
    assert hand.acts()[-1] == "<in>"


def test_resume_opens_what_the_scripts_opened_and_nothing_else() -> None:
    hand = Hand(core(farm=Farm(script_control=True))).up().order("drain").order("resume")
    assert "<in>" not in hand.acts()
    hand.order("traffic", "open").order("drain").order("resume")
    assert hand.acts()[-2:] == ["<drain>", "<in>"]
    hand.order("drain").order("traffic", "close").forget().order("resume")
    assert "<in>" not in hand.acts()
    hand.order("drain").order("traffic", "open")
    assert "<in>" not in hand.acts()
    hand.order("resume")
    assert hand.acts()[-1] == "<in>"


def test_a_shutdown_that_waits_for_connections_goes_on_when_it_is_told_not_to() -> None:
    hand = Hand(core()).up()
    others = (node("n1", wish="drain", buckets=(0,)), node("n2"))
    hand.give(picture(*others, draining=9, connections=4)).order("shutdown")
    assert hand.machine.state.phase is Phase.DRAINING
    hand.order("shutdown", "nodrain")
    assert hand.machine.state.phase is Phase.STOPPED
    assert hand.machine.state.record.wanted, "it starts again with the machine"


def test_what_went_down_while_the_application_started_is_acted_on_when_it_runs() -> None:
    for action, phase in (("stop", Phase.STOPPED), ("stopstart", Phase.UP), ("restart", Phase.UP)):
        hand = Hand(core(), obedient=False).give(ev.Started()).order("start")
        _go_on_to(hand, Phase.RISING)
        hand.give(ev.ResourceChanged("proc.x", "down", action, "gone"))
        hand.obedient = True
        hand.go_on()
        assert hand.machine.state.phase is phase
        assert "stop_both" in hand.acts(), action
        stops = hand.acts().count("stop_both")
        hand.order("restart")
        assert hand.acts().count("stop_both") <= stops + 1, "it is acted on once"


def test_what_is_up_again_when_the_application_runs_changes_nothing() -> None:
    hand = Hand(core()).up()
    hand.obedient = False
    hand.order("restart").give(ev.ResourceChanged("proc.x", "down", "stop", "gone"))
    hand.give(ev.ResourceChanged("proc.x", "up"))
    hand.obedient = True
    hand.go_on()
    assert hand.machine.state.phase is Phase.UP


def test_of_all_that_went_down_meanwhile_the_gravest_is_acted_on() -> None:
    hand = Hand(core()).up()
    hand.obedient = False
    hand.order("restart")
    for resource, action in (("proc.x", "stop"), ("proc.y", "restart"), ("proc.z", "noaction")):
        hand.give(ev.ResourceChanged(resource, "down", action, "gone"))
    hand.obedient = True
    hand.go_on()
    assert hand.machine.state.phase is Phase.STOPPED


def test_what_never_comes_up_before_the_start_is_not_tried_for_ever() -> None:
    hand = Hand(core(maxloop=2), obedient=False).give(ev.Started()).order("start")
    for _ in range(3):
        _go_on_to(hand, Phase.RISING)
        hand.give(ev.ResourceChanged("proc.x", "down", "stopstart", "gone"))
        _go_on_to(hand, Phase.FALLING)
    _go_on_to(hand, Phase.STOPPED)
    assert any("maxloop" in fact["text"] for fact in hand.state()["facts"])


def _go_on_to(hand: Hand, phase: Phase) -> None:
    for _ in range(20):
        if hand.machine.state.phase is not phase:
            hand.go_on()
    assert hand.machine.state.phase is phase


PATIENCE_NS = ANSWER_NS + Farm().drain_ns


def test_an_order_to_a_process_that_cannot_begin_is_answered_with_what_it_waits_for() -> None:
    hand = Hand(core(), obedient=False).give(ev.Started()).order("start", request="r1")
    hand.now += ANSWER_NS
    hand.order("start", request="r1")  # Who waits asks again.
    assert [outcome for outcome, _ in hand.outcomes()] == ["accepted", "accepted"]
    hand.now += PATIENCE_NS - ANSWER_NS
    hand.order("start", request="r1")
    outcome, text = hand.outcomes()[-1]
    assert outcome == "failed"
    assert "processes of the application still run although killed" in text
    assert not hand.machine.state.early, "what was answered does not count some day"
    hand.order("start", request="r1")
    assert hand.outcomes()[-1] == (outcome, text)


def test_an_order_that_waits_for_the_kernel_is_answered_in_the_end() -> None:
    hand = Hand(core()).up()
    hand.obedient = False
    hand.order("forcestop", request="r1")
    hand.now += PATIENCE_NS
    hand.order("forcestop", request="r1")
    outcome, text = hand.outcomes()[-1]
    assert outcome == "failed"
    assert "n1 is WAIT Transient: processes of the application still run although killed" in text
    assert hand.state()["reason"].startswith("processes of the application")


def test_what_comes_when_too_much_waits_for_the_start_is_refused() -> None:
    hand = Hand(core(), obedient=False).give(ev.Started())
    for number in range(33):
        hand.order("start", request=f"r{number}")
    assert hand.outcomes()[-2][0] == "accepted"
    assert hand.outcomes()[-1] == ("refused", "too many commands are under way")


@pytest.mark.parametrize("mode", ["farm", "light"])
@pytest.mark.parametrize("verb", ["stopstart", "restart"])
def test_a_script_that_orders_the_same_again_and_again_is_stopped(mode: str, verb: str) -> None:
    words = ("nodrain",) if verb == "stopstart" else ()
    hand = Hand(core(mode=mode, maxloop=2)).up()
    for _ in range(2):
        hand.order(verb, *words, identity="start_both")
        assert hand.machine.state.phase is Phase.UP
    hand.order(verb, *words, identity="start_both")
    assert hand.machine.state.phase is Phase.STOPPED
    assert hand.outcomes()[-1][0] == "failed"
    facts = [fact["text"] for fact in hand.state()["facts"]]
    assert "Action stop called by maxloop: 3 in the interval" in facts


def test_scripts_that_control_the_traffic_leave_what_checkers_began_counted() -> None:
    hand = Hand(core(farm=Farm(script_control=True), maxloop=2)).up()
    for _ in range(3):
        hand.order("traffic", "open").order("power", "2", identity="start_both")
        hand.give(ev.ResourceChanged("proc.x", "down", "stopstart", "gone"))
    assert hand.machine.state.phase is Phase.STOPPED


def test_an_administrator_who_orders_it_again_and_again_is_obeyed() -> None:
    hand = Hand(core(maxloop=2)).up()
    for _ in range(4):
        hand.order("stopstart", "nodrain")
    assert hand.machine.state.phase is Phase.UP
    assert hand.machine.state.loop == []


def test_what_scripts_order_again_while_it_is_done_counts_once() -> None:
    hand = Hand(core(maxloop=1)).up()
    hand.obedient = False
    for _ in range(3):
        hand.order("stopstart", identity="checker")
    assert len(hand.machine.state.loop) == 1
