"""Every order ends with one final answer, and the same order twice is done once (L7)."""

from typing import Any

import pytest

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.events import Tick
from mirrorfarm.actors.module.answers import ANSWER_NS
from mirrorfarm.actors.module.mirror.phases import Phase
from mirrorfarm.actors.module.mirror.procedure import ADDRESS_AGAIN_NS
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.transport import messages as msg
from tests.actors.module.mirror.building import ADMIN, BOTH, PLANE, Hand, core


def order(verb: str, request: str = "r9", identity: str = "") -> ev.Received:
    return ev.Received(ADMIN, msg.Command(request, verb, "test", identity=identity))


def outcomes(hand: Hand, request: str = "r9") -> list[str]:
    return [r.outcome for r in hand.sent(msg.CommandResult) if r.request == request]


def test_the_first_primary_is_named_and_the_order_is_done() -> None:
    hand = Hand(core()).lead()
    assert hand.mirror.state.phase is Phase.LEADING
    assert outcomes(hand, "r1")[-1] == "done"


def test_the_same_request_is_answered_twice_and_done_once() -> None:
    hand = Hand(core()).lead().give(order("restart"))
    runs = len(hand.told(ev.RunSequence))
    hand.give(order("restart"))
    assert outcomes(hand)[-2:] == ["done", "done"]
    assert len(hand.told(ev.RunSequence)) == runs


class NoReplicator(Hand):
    """Nothing answers in the replicator's place."""

    def _follow(self, effect: Any) -> None:
        if not (isinstance(effect, fx.Send) and effect.to == PLANE):
            super()._follow(effect)


def test_an_order_to_a_process_that_cannot_begin_is_answered_with_what_it_waits_for() -> None:
    hand = NoReplicator(core()).give(ev.Started(), order("start"))
    assert outcomes(hand) == ["accepted"]
    hand.now += ANSWER_NS
    hand.give(Tick())
    assert outcomes(hand) == ["accepted", "failed"]
    text = hand.sent(msg.CommandResult)[-1].text
    assert "its replicator has not said yet that nothing of it is left mounted" in text
    assert not hand.mirror.state.early, "what was answered does not count some day"


@pytest.mark.parametrize(
    ("verb", "why"),
    [
        ("swap", "not SECOND Ready"),
        ("second", "stop it first"),
        ("dance", "unknown verb"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(verb: str, why: str) -> None:
    hand = Hand(core()).lead().give(order(verb))
    last = hand.sent(msg.CommandResult)[-1]
    assert last.outcome == "refused"
    assert why in last.text


def test_a_full_copy_of_a_secondary_in_step_is_refused_and_not_said_to_be_done() -> None:
    hand = Hand(core())
    s = hand.mirror.state
    s.phase, s.arbiter.register = Phase.FOLLOWING, BOTH
    hand.give(order("second"))
    assert outcomes(hand)[-1] == "done"
    full = msg.Command("r10", "second", "test", ("fullsync",))
    hand.give(ev.Received(ADMIN, full))
    assert outcomes(hand, "r10") == ["refused"]
    assert "stop it first" in hand.sent(msg.CommandResult)[-1].text
    assert not s.leading.full_wanted


def test_stop_and_start_bring_the_same_node_back() -> None:
    hand = Hand(core()).lead().give(order("stop"))
    assert hand.mirror.state.phase is Phase.STOPPED
    assert hand.mirror.state.record.was == "idle"
    assert not hand.mirror.state.record.wanted
    hand.give(order("start", "r10"))
    assert hand.mirror.state.phase is Phase.WAITING  # Until the peer's silence is certain.


class SlowKill(Hand):
    """The kill of what a predecessor left takes a while."""

    def _answer(self, event: Any) -> None:
        if not isinstance(event, ev.KillApplication):
            super()._answer(event)


@pytest.mark.parametrize("verb", ["stop", "forcestop"])
def test_a_stop_while_the_process_is_just_starting_is_not_forgotten(verb: str) -> None:
    hand = SlowKill(core(NodeRecord(os_boot="boot-1", wanted=True)))
    s = hand.mirror.state
    hand.give(ev.Started(), order(verb))
    assert s.phase is Phase.RESETTING
    hand.give(ev.ApplicationGone(s.token))
    assert (s.phase, outcomes(hand)) == (Phase.STOPPED, ["accepted", "accepted", "done"])
    assert not s.record.wanted, "else it would start by itself with its next process"
    assert not [one for one in hand.said if isinstance(one, fx.Store)][-1].record.wanted


def test_a_resource_that_is_down_restarts_until_there_is_no_use() -> None:
    hand = Hand(core(maxloop=2)).lead()
    for _ in range(2):
        hand.give(ev.ResourceChanged("proc.x", "down", "restart"))
        assert hand.mirror.state.phase is Phase.LEADING
    hand.give(ev.ResourceChanged("proc.x", "down", "restart"))
    assert hand.mirror.state.phase is Phase.STOPPED


def lead_again(hand: Hand) -> None:
    """Let the peer's silence become certain."""
    hand.now += hand.mirror.state.module.timing.detection_ns
    hand.give(Tick())
    assert hand.mirror.state.phase is Phase.LEADING


@pytest.mark.parametrize("verb", ["stopstart", "restart"])
def test_a_script_that_orders_the_same_again_and_again_is_stopped(verb: str) -> None:
    hand = Hand(core(maxloop=2)).lead()
    for request in ("r1", "r2"):
        hand.give(order(verb, f"{verb} {request}", "start_prim"))
        lead_again(hand)
    assert hand.mirror.state.phase is Phase.LEADING
    hand.give(order(verb, "r11", "start_prim"))
    assert hand.mirror.state.phase is Phase.STOPPED
    assert outcomes(hand, "r11") == ["accepted", "failed"]
    words = "Action stop called by maxloop: 3 in the interval"
    assert words in [text for _, text in hand.mirror.state.facts]


def test_an_order_of_a_script_leaves_what_checkers_began_counted() -> None:
    hand = Hand(core(maxloop=2)).lead()
    for number in range(2):
        hand.give(ev.ResourceChanged("proc.x", "down", "restart"))
        hand.give(order("swap", f"s{number}", "start_prim"))
    hand.give(order("restart", "r11"))
    assert hand.mirror.state.loop == [], "an administrator has looked at it"
    for _ in range(2):
        hand.give(ev.ResourceChanged("proc.x", "down", "restart"))
    hand.give(order("swap", "s11", "start_prim"))
    hand.give(ev.ResourceChanged("proc.x", "down", "restart"))
    assert hand.mirror.state.phase is Phase.STOPPED


def test_what_scripts_order_again_while_it_is_done_counts_once() -> None:
    hand = HeldScripts(core(maxloop=1))
    hand.lead()
    hand.release()
    for number in range(3):
        hand.give(order("stopstart", f"s{number}", "checker"))
    hand.release()
    assert hand.mirror.state.phase is Phase.WAITING
    assert len(hand.mirror.state.loop) == 1


GONE = ev.ResourceChanged("vip.presence", "down", "stopstart", "(another program removed it)")


def test_a_lone_primary_sets_an_address_that_was_removed_before_its_application_starts() -> None:
    hand = Hand(core()).lead()
    hand.said.clear()
    hand.give(GONE)
    assert hand.mirror.state.phase is Phase.LEADING
    kinds = [type(e.event) for e in hand.said if isinstance(e, fx.Tell)]
    acts = [kind for kind in kinds if kind in {ev.RunSequence, ev.VipUp}]
    assert acts == [ev.RunSequence, ev.VipUp, ev.RunSequence, ev.RunSequence]


class HeldScripts(Hand):
    """Scripts last until they are released."""

    held: ev.RunSequence | None = None

    def _answer(self, event: Any) -> None:
        if isinstance(event, ev.RunSequence):
            self.held = event
        else:
            super()._answer(event)

    def release(self, name: str = "") -> None:
        """End the scripts under way, and all that follow until `name` is to run."""
        while self.held is not None and name not in {step.name for step in self.held.steps}:
            run, self.held = self.held.run, None
            self.give(ev.SequenceEnded(run))


@pytest.mark.parametrize("again", [False, True])
def test_an_address_that_was_removed_while_scripts_ran_is_set_again(again: bool) -> None:
    hand = HeldScripts(core())
    hand.lead()
    if again:
        hand.release()
        hand.give(order("restart"))
    hand.release("start_prim")
    assert hand.mirror.state.phase is (Phase.RESTARTING if again else Phase.TAKING)
    hand.give(GONE)
    hand.said.clear()
    hand.release()
    assert hand.mirror.state.phase is Phase.LEADING
    hand.now += ADDRESS_AGAIN_NS
    hand.give(Tick())
    assert len(hand.told(ev.VipUp)) == 1
    hand.give(ev.ResourceChanged("vip.presence", "up"))
    hand.now += ADDRESS_AGAIN_NS
    hand.give(Tick())
    assert len(hand.told(ev.VipUp)) == 1
