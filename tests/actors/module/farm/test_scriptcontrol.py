"""Scripts that open the traffic by themselves, and what that order is not."""

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.farm.phases import Phase
from mirrorfarm.modules.settings import Farm
from tests.actors.module.farm.building import Hand, core


def test_a_script_that_opens_the_traffic_does_not_undo_the_loop_limit() -> None:
    hand = Hand(core(maxloop=2, farm=Farm(script_control=True))).up().order("traffic", "open")
    for _ in range(3):
        assert hand.words() == "UP Ready"
        hand.give(ev.ResourceChanged("proc.x", "down", "restart", "gone"))
        hand.give(ev.ResourceChanged("proc.x", "init")).order("traffic", "open")
    assert hand.machine.state.phase is Phase.STOPPED
    assert any("maxloop" in fact["text"] for fact in hand.state()["facts"])


def test_what_an_administrator_orders_begins_the_count_anew() -> None:
    hand = Hand(core(maxloop=2)).up()
    for _ in range(3):
        hand.give(ev.ResourceChanged("proc.x", "down", "restart", "gone"))
        hand.order("drain").order("resume")
    assert hand.words() == "UP Ready"
