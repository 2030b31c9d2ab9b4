"""How long an ordered power holds: the machine of the module beside the one of its filter."""

import pytest

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.farm_filter.core import FarmFilter
from mirrorfarm.actors.farm_filter.state import Settings
from mirrorfarm.modules.settings import Farm, FarmGroup
from mirrorfarm.transport import messages as msg
from tests.actors.module.farm.building import Hand, core, node, picture

GROUPS = (FarmGroup("web", (("n1", 2), ("n2", 1))), FarmGroup("mail", (("n2", 1),)))
CONFIGURED = [2, 0]


def story() -> Hand:
    """Return n1 of a farm with two groups, UP."""
    usual = node("n1", powers=(2, 0), weights=(2, 0), buckets=(683, 0))
    return Hand(core(farm=Farm(groups=GROUPS))).up().give(picture(usual, node("n2")))


def powers(hand: Hand) -> list[int]:
    """Return the powers that the filter has after all that it was told."""
    names, usual = tuple(group.name for group in GROUPS), tuple(CONFIGURED)
    how = Settings("n1", "web", ("n1", "n2"), ("lan",), 7, "bpf", 7, "r", names, usual)
    machine = FarmFilter.build(how)
    machine.handle(ev.Started(), hand.now)
    for effect in hand.said:
        if isinstance(effect, fx.Tell) and effect.actor == "farm_filter":
            machine.handle(effect.event, hand.now)
    return machine.state.powers


@pytest.mark.parametrize("order", [("0",), ("0", "web"), ("5", "mail")])
def test_an_ordered_power_holds_until_the_module_stops(order: tuple[str, ...]) -> None:
    hand = story().order("power", *order)
    assert powers(hand) != CONFIGURED
    hand.order("restart").give(ev.ResourceChanged("a.b", "down", "wait"))
    hand.give(ev.ResourceChanged("a.b", "up"))
    assert hand.words() == "UP Ready"
    assert powers(hand) != CONFIGURED, "it did not stop"
    hand.order("stop", "nodrain").order("start")
    assert hand.words() == "UP Ready"
    assert powers(hand) == CONFIGURED


@pytest.mark.parametrize("verb", ["stopstart", "forcestop"])
def test_every_end_of_the_module_takes_the_ordered_power_back(verb: str) -> None:
    hand = story().order("power", "0").order(verb, "nodrain")
    assert powers(hand) == CONFIGURED


def test_a_power_that_is_ordered_before_the_start_holds_in_that_run() -> None:
    hand = Hand(core(start=True, farm=Farm(groups=GROUPS)), obedient=False)
    hand.give(ev.Started()).order("power", "0")
    for _ in range(8):
        hand.go_on()
    assert hand.words() == "UP Ready"
    assert powers(hand) == [0, 0]


@pytest.mark.parametrize("word", ["", "-1", "1000001", "9" * 5_000])
def test_what_is_no_power_is_refused(word: str) -> None:
    hand = story().order("power", word)
    (answer,) = [
        effect.message.text
        for effect in hand.said
        if isinstance(effect, fx.Send)
        and isinstance(effect.message, msg.CommandResult)
        and effect.message.outcome == "refused"
    ]
    assert answer == "power needs a number from 0 to 1000000"
    assert powers(hand) == CONFIGURED
