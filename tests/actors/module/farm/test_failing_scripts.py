"""What a script that fails changes at a farm's node, and at a light module."""

import pytest

from tests.actors.module.farm.building import Hand, core


@pytest.mark.parametrize("script", ["transition", "stop_sec", "stop_prim", "stop_both"])
def test_only_a_start_script_that_fails_keeps_the_clients_away(script: str) -> None:
    hand = Hand(core())
    hand.failing = (script,)
    hand.up().order("restart")
    assert hand.words() == "UP Ready"
    assert hand.acts().count("<in>") == 2
    assert hand.state()["reason"] == ""
    assert any(f"script {script}" in fact["text"] for fact in hand.state()["facts"])
    hand.order("drain").order("resume")
    assert hand.acts()[-1] == "<in>"


@pytest.mark.parametrize("mode", ["farm", "light"])
@pytest.mark.parametrize("script", ["start_prim", "start_sec"])
def test_a_script_that_starts_what_comes_after_the_traffic_is_told(mode: str, script: str) -> None:
    hand = Hand(core(mode=mode))
    hand.failing = (script,)
    state = hand.up().state()
    assert (state["state"], state["status"]) == ("UP", "Ready")
    assert state["reason"] == f"the application may not run: script {script}"
    assert state["command"] == "mirrorfarm -H n1 restart -m web"
    hand.order("restart")
    assert script in hand.state()["reason"], "it failed again"
    hand.failing = ()
    hand.order("restart")
    assert hand.state()["reason"] == ""


def test_every_start_script_that_fails_is_named_in_their_order() -> None:
    hand = Hand(core(mode="light"))
    hand.failing = ("start_sec", "start_prim", "start_both")
    reason = hand.up().state()["reason"]
    assert reason == "the application may not run: script start_both, start_prim, start_sec"


def test_a_node_that_serves_without_start_prim_is_drained_and_resumed() -> None:
    hand = Hand(core())
    hand.failing = ("start_prim",)
    hand.up().order("drain").order("resume")
    assert hand.outcomes()[-1][0] == "done"
    assert hand.acts()[-2:] == ["<drain>", "<in>"]
    hand.order("stop", "nodrain")
    hand.failing = ()
    assert hand.order("start").state()["reason"] == ""
