"""A farm's node that lost its filter and addresses while its module runs."""

import pytest

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.farm.core import FarmTick
from mirrorfarm.actors.module.farm.phases import Phase
from mirrorfarm.modules.settings import Farm
from tests.actors.module.farm.building import Hand, core, node, picture

LOST = ev.ResourceChanged("farm.address", "down", "wait", "eth0 has no address")
OUT, BACK = ev.CablesOut(("eth0",)), ev.CablesOut(())


def test_the_others_take_the_clients_before_the_stop_scripts_run() -> None:
    hand = Hand(core()).up().forget()
    hand.obedient = False
    hand.give(LOST)
    assert hand.acts() == ["<away>", "stop_sec", "stop_prim", "stop_both"]
    hand.give(OUT, BACK)
    assert "<in>" not in hand.acts(), "that the cable is in brings no address"


def test_an_interface_that_came_back_without_its_address_brings_no_clients() -> None:
    hand = Hand(core()).up().forget()
    hand.obedient = False
    hand.give(OUT, LOST, BACK)
    assert hand.machine.state.phase is Phase.FALLING
    assert [act for act in hand.acts() if act.startswith("<")] == ["<away>"]
    hand.obedient = True
    hand.go_on()
    assert hand.words() == "WAIT NotReady"
    hand.give(FarmTick(), ev.ResourceChanged("farm.address", "up"))
    assert hand.words() == "UP Ready"
    assert hand.acts()[-3:] == ["<in>", "start_prim", "start_sec"]


@pytest.mark.parametrize("by_script", [False, True])
def test_a_restart_meanwhile_does_not_open_it(by_script: bool) -> None:
    hand = Hand(core(farm=Farm(script_control=by_script))).up()
    hand.order("traffic", "open")
    hand.obedient = False
    hand.order("restart").forget().give(LOST)
    assert hand.acts() == ["<away>"]
    hand.order("traffic", "open").give(FarmTick())
    hand.go_on()
    assert "start_prim" in hand.acts()
    assert "<in>" not in hand.acts()
    hand.go_on()
    assert hand.machine.state.phase is Phase.FALLING


def test_a_stop_does_not_wait_for_connections_that_nothing_serves() -> None:
    hand = Hand(core()).up().order("stop")
    hand.give(
        picture(node("n1", wish="drain", buckets=(0,)), node("n2"), draining=9, connections=4)
    )
    assert hand.machine.state.phase is Phase.DRAINING
    hand.give(LOST)
    assert hand.words() == "STOP NotReady"
