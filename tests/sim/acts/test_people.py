"""Faults of applications, checkers and the witness do what they say."""

import errno

import pytest

from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.acts.act import perform
from mirrorfarm.sim.acts.people import (
    CheckerLies,
    Exits,
    StartFails,
    WitnessReplaced,
    WritesAtStop,
)
from tests.sim.acts.clusters import farm, pair, results


@pytest.mark.parametrize("verb", ["stop", "swap", "restart"])
def test_an_application_writes_while_it_is_stopped_and_both_disks_stay_equal(verb: str) -> None:
    world = pair()
    told = results(world)
    perform(world, WritesAtStop("n1", 7))
    world.command("n1", verb)
    world.run(3_000)
    assert len(told) == 7
    assert set(told.values()) <= {0, errno.EPIPE}, "who writes last may be gone before the answer"
    assert {node.disk.data == set(told) for node in world.nodes.values()} == {True}


def test_a_checker_that_says_that_a_running_application_is_gone_has_it_restarted() -> None:
    world = pair(checked="restart")
    world.run(3_000)
    runs = world.nodes["n1"].hands.app.number_run
    perform(world, CheckerLies("n1", "gone"))
    assert world.run_until(lambda: world.nodes["n1"].hands.app.number_run > runs, 2_000)
    assert world.run_until(lambda: world.role("n1") == "PRIM Ready", 2_000)


def test_an_end_that_the_checker_does_not_hear_of_is_noticed_once_it_hears_again() -> None:
    world = pair(checked="restart")
    world.run(3_000)
    perform(world, CheckerLies("n1", "nothing", SECOND_NS))
    perform(world, Exits("n1"))
    world.run(900)
    assert not world.nodes["n1"].application
    assert world.run_until(lambda: world.nodes["n1"].application, 3_000)


def test_a_second_whose_witness_forgot_everything_says_why_it_is_not_promoted() -> None:
    world = pair()
    perform(world, WitnessReplaced())
    world.kill("n1")
    assert world.run_until(lambda: "knows no register" in world.reason("n2"), 5_000)
    assert world.role("n2") == "WAIT NotReady"


def test_a_primary_whose_witness_forgot_everything_says_so_and_goes_on() -> None:
    world = pair()
    perform(world, WitnessReplaced())
    assert world.run_until(lambda: "knows no register" in world.reason("n1"), 5_000)
    assert "forces it" in world.explanation("n1")[1]
    number = world.write()
    world.run(50)
    assert number in world.monitors.acked


def test_when_an_administrator_forces_a_node_its_peer_is_counted_in_again() -> None:
    world = pair()
    perform(world, WitnessReplaced())
    for order in ("stop", "primforce"):
        world.command("n1", order)
        world.run(1_000)
    assert world.role("n1").startswith(("ALONE", "PRIM"))
    assert world.run_until(lambda: world.role("n2") == "SECOND Ready", 5_000)
    world.kill("n1")
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 5_000)


def test_an_application_of_a_farm_that_does_not_start_keeps_its_node_away() -> None:
    world = farm(machines=True)
    perform(world, StartFails("n3", 9))
    world.command("n3", "restart")
    world.run(5_000)
    assert world.shares() == {"n1": 512, "n2": 512, "n3": 0}
