"""The durable record of a farm's node: it says whether its module is to run."""

import pytest

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.farm.core import FarmModule
from tests.actors.module.farm.building import Hand, core

FAULT = "the durable record is damaged (no valid slot); it is kept as record.damaged"


@pytest.mark.parametrize("mode", ["farm", "light"])
def test_a_module_that_stays_stopped_for_its_damaged_record_says_so(mode: str) -> None:
    settings = core(mode=mode).state.settings
    hand = Hand(FarmModule.build(settings, None, FAULT)).give(ev.Started())
    state = hand.state()
    assert (state["state"], state["status"]) == ("STOP", "NotReady")
    assert state["reason"] == f"stopped: {FAULT}"
    assert state["command"] == "mirrorfarm -H n1 start -m web"
    assert [fact["text"] for fact in state["facts"]] == [FAULT]
    hand.order("start").give(ev.Stored(1))
    assert hand.state()["reason"] == ""
    hand.order("stop", "nodrain").give(ev.Stored(2))
    assert hand.state()["reason"] == "stopped"


def test_a_stop_that_could_not_be_written_down_is_said() -> None:
    hand = Hand(core()).up().order("stop", "nodrain").give(ev.StoreFailed(2, 28, "no space"))
    assert hand.state()["reason"] == "stopped: the durable record: no space (28)"
