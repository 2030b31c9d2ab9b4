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
