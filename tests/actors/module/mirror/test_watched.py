"""What `prestart` began comes up by a stop and a start only, where that costs no service."""

import pytest

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.events import Tick
from mirrorfarm.actors.module.mirror.phases import Phase, Session
from mirrorfarm.modules.settings import Process
from mirrorfarm.transport import messages as msg
from tests.actors.module.mirror.building import BOTH, Hand, core

HELPER = Process("helper", process_class="pre")
GONE = ev.ResourceChanged("proc.helper", "down", "stopstart", "Process helper not running")
INIT = ev.ResourceChanged("proc.helper", "init")


def leading() -> Hand:
    """Return who leads alone, with a helper that `prestart` begins."""
    hand = Hand(core(processes=(HELPER,))).lead()
    assert hand.mirror.state.phase is Phase.LEADING
    hand.said.clear()
    return hand


def scripts(hand: Hand) -> list[str]:
    return [step.name for run in hand.told(ev.RunSequence) for step in run.steps]


def test_who_leads_alone_runs_prestart_again_and_leads_again() -> None:
    hand = leading()
    term = hand.mirror.state.record.term
    hand.give(GONE)
    assert "prestart" in scripts(hand)
    assert hand.mirror.state.phase is Phase.WAITING
    hand.give(INIT)
    hand.now += hand.mirror.state.module.timing.detection_ns
    hand.give(Tick())
    assert hand.mirror.state.phase is Phase.LEADING
    assert hand.mirror.state.record.term == term + 1
    assert len(hand.mirror.state.loop) == 1


def test_it_is_not_done_while_the_arbiter_could_not_name_this_node_again() -> None:
    hand = leading()
    hand.give(ev.ArbiterSilent(hand.now), GONE, Tick())
    assert hand.mirror.state.phase is Phase.LEADING
    assert scripts(hand) == []
    assert hand.mirror.state.loop == [], "what is put off is not counted"
    assert "Action stopstart put off" in hand.mirror.state.facts[-1][1]
    hand.give(ev.ArbiterHeard())
    assert "prestart" in scripts(hand)


def test_it_is_not_done_any_more_when_the_helper_is_up_again() -> None:
    hand = leading()
    hand.give(ev.ArbiterSilent(hand.now), GONE)
    hand.give(ev.ResourceChanged("proc.helper", "up"), ev.ArbiterHeard(), Tick())
    assert hand.mirror.state.phase is Phase.LEADING
    assert scripts(hand) == []


def test_a_peer_that_may_be_promoted_but_is_not_ready_is_waited_for() -> None:
    hand = leading()
    s = hand.mirror.state
    assert hand.register is not None
    s.arbiter.register = msg.Register(s.record.term, 9, "n1", BOTH.isr, hand.register.gen, "i0")
    s.leading.session = Session.JOINED
    s.lease.granted(hand.now, 0)
    hand.give(GONE)
    assert s.phase is Phase.LEADING
    assert s.put_off == ["proc.helper"]


def test_a_secondary_does_it_unless_its_primary_could_not_go_on_without_it() -> None:
    for silent in (False, True):
        hand = Hand(core(processes=(HELPER,)))
        s = hand.mirror.state
        s.phase, s.arbiter.register, s.arbiter.known = Phase.FOLLOWING, BOTH, True
        if silent:
            hand.give(ev.ArbiterSilent(hand.now))
        hand.said.clear()
        hand.give(GONE)
        assert ("prestart" in scripts(hand)) is not silent
        assert (s.phase is Phase.FOLLOWING) is silent
        assert len(s.loop) == (not silent), "what is put off is not counted"


@pytest.mark.parametrize("resource", ["proc.other", "vip.presence"])
def test_anything_else_is_restarted_in_place_by_who_leads_alone(resource: str) -> None:
    hand = leading()
    hand.give(ev.ResourceChanged(resource, "down", "stopstart", "gone"))
    assert hand.mirror.state.phase is Phase.LEADING
    assert "prestart" not in scripts(hand)
    assert "start_prim" in scripts(hand)


def test_a_helper_that_never_stays_up_is_not_begun_for_ever() -> None:
    hand = Hand(core(processes=(HELPER,), maxloop=2)).lead()
    for _ in range(3):
        assert hand.mirror.state.phase is Phase.LEADING
        hand.give(GONE, INIT)
        hand.now += hand.mirror.state.module.timing.detection_ns
        hand.give(Tick())
    assert hand.mirror.state.phase is Phase.STOPPED
