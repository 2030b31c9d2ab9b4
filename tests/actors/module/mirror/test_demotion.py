"""What ends at once ends completely, and what was ordered meanwhile still happens."""

from typing import Any

import pytest

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.mirror import demotion
from mirrorfarm.actors.module.mirror.commands import become_leaving
from mirrorfarm.actors.module.mirror.phases import LEADERS, Phase
from mirrorfarm.transport import messages as msg
from tests.actors.module.mirror.building import ADMIN, PLANE, Hand, core, state


def test_a_superseded_primary_kills_its_application_and_removes_its_addresses() -> None:
    hand = Hand(core()).lead()
    assert hand.mirror.state.phase is Phase.LEADING
    before = len(hand.told(ev.KillApplication)), len(hand.told(ev.VipDown))
    hand.give(ev.GuardActed(1))
    assert len(hand.told(ev.KillApplication)) >= before[0] + 2
    assert len(hand.told(ev.VipDown)) >= before[1] + 1


@pytest.mark.parametrize("believed", [True, False])
def test_two_who_lead_in_one_term_have_two_registers_and_one_of_them_is_not_believed(
    *, believed: bool
) -> None:
    """Forced on a new witness that knows of no term: who led by the old one gives way."""
    hand = Hand(core()).lead()
    s = hand.mirror.state
    s.arbiter.distrust = "" if believed else "the arbiter's register is another one than before"
    about = msg.Announcement("ALONE", "Ready", phase="leading", term=s.record.term, starting=True)
    hand.give(ev.PeerHeard("default", msg.Heartbeat("default", 1, 1, about)))
    gave_up = [text for _, text in s.facts if "gives up the primary role: n2 is primary" in text]
    assert bool(gave_up) is not believed


class Undying(Hand):
    """Its application hangs in the kernel: the order to end it is never answered."""

    def _answer(self, event: Any) -> None:
        if self.mirror.state.phase is Phase.RESETTING or not isinstance(event, ev.KillApplication):
            super()._answer(event)


@pytest.mark.parametrize(
    "event", [ev.GuardActed(1), ev.Received(ADMIN, msg.Command("r2", "forcestop", "test"))]
)
def test_addresses_go_although_the_application_cannot_be_ended(event: ev.Event) -> None:
    hand = Undying(core()).lead()
    assert hand.mirror.state.phase is Phase.LEADING
    before = len(hand.told(ev.VipDown))
    hand.give(event)
    assert hand.mirror.state.step == "kill"
    assert len(hand.told(ev.VipDown)) == before + 1


def test_a_failed_disk_makes_the_node_wait_until_it_is_started_again() -> None:
    hand = Hand(core()).lead()
    hand.give(ev.Received(PLANE, msg.StorageFailed(1, "data", 5, "input/output error")))
    s = hand.mirror.state
    assert s.phase is Phase.WAITING
    assert "input/output error" in s.reason
    hand.give(ev.Received(ADMIN, msg.Command("r2", "stopstart", "test")))
    assert not s.failed


def test_a_failed_disk_frees_its_users_before_they_are_killed() -> None:
    hand = Hand(core()).lead()
    failed = msg.StorageFailed(1, "data", 5, "input/output error")
    effects = hand.mirror.handle(ev.Received(PLANE, failed), hand.now)
    assert hand.mirror.state.plane.wish.role == "off"
    assert not any(isinstance(getattr(e, "event", None), ev.KillApplication) for e in effects)


class SlowDisk(Hand):
    """Its records are not written yet when the node is given the role, nor its scripts over."""

    counter = 0

    def _follow(self, effect: Any) -> None:
        leads = self.mirror.state.phase in LEADERS
        if leads and isinstance(effect, fx.Store):
            self.counter = self.counter or effect.record.counter
        elif not (leads and isinstance(getattr(effect, "event", None), ev.RunSequence)):
            super()._follow(effect)


@pytest.mark.parametrize("verb", ["stop", "stopstart", "swap"])
def test_a_term_that_cannot_be_written_down_opens_no_gate_while_the_node_leaves(verb: str) -> None:
    hand = SlowDisk(core()).lead()
    s = hand.mirror.state
    assert s.phase is Phase.TAKING
    if verb == "swap":
        s.stopping_for = verb
        become_leaving(s, hand.now)
    else:
        hand.give(ev.Received(ADMIN, msg.Command("r2", verb, "test")))
    assert s.phase is Phase.LEAVING
    hand.give(ev.StoreFailed(hand.counter, 28, "no space"))
    assert not [wish for wish in hand.sent(msg.PlaneWish) if wish.role == "lead"]
    assert s.phase is {"stop": Phase.STOPPED}.get(verb, Phase.WAITING)
    assert bool(s.failed) is (verb != "stopstart")


@pytest.mark.parametrize("verb", ["stop", "forcestop"])
def test_a_stop_that_comes_during_a_demotion_is_obeyed_after_it(verb: str) -> None:
    hand = Hand(core()).lead()
    s = hand.mirror.state
    killing = hand.mirror.handle(ev.GuardActed(1), hand.now)  # Nobody answers yet.
    assert s.phase is Phase.DEMOTING
    hand.mirror.handle(ev.Received(ADMIN, msg.Command("r2", verb, "test")), hand.now)
    assert killing
    hand.give(ev.ApplicationGone(s.token))
    if s.plane.wish.role == "off" and not s.plane.settled:
        hand.give(ev.Received(PLANE, msg.PlaneIs(s.plane.wish.number, "off", 0, "frozen", 0)))
    assert s.phase is Phase.STOPPED
    assert hand.sent(msg.CommandResult)[-1].outcome == "done"


def test_a_secondary_whose_disk_fails_runs_its_stop_scripts() -> None:
    s = state()
    s.phase, s.scripts_as = Phase.FOLLOWING, "second"
    demotion.storage_failed(s, 1, "broken")
    assert s.phase is Phase.WAITING
    assert list(s.side_scripts) == ["SECOND->WAIT"]
