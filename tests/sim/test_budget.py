"""What faults may break is allowed for as long as they act, and nothing else ever is."""

import pytest

from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.acts.act import perform, words
from mirrorfarm.sim.acts.processes import Pause, StandStill, Suspend
from mirrorfarm.sim.acts.vocabulary import MIRROR
from mirrorfarm.sim.budget import (
    AFTERWARDS_NS,
    ALLOWS,
    LONGEST_LEASE_NS,
    Allowed,
    excuse_told,
)
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.monitors.seen import Fault
from tests.sim.acts.clusters import pair


def test_only_acts_that_there_are_may_break_anything() -> None:
    assert set(ALLOWS) <= set(MIRROR.acts)


def test_a_suspended_machine_excuses_for_a_while_what_a_paused_one_never_does() -> None:
    world = pair()
    watch = world.monitors.watch
    monitor = watch.monitors["X1"]
    perform(world, Pause("n1", SECOND_NS))
    with pytest.raises(Violation):
        watch.found(monitor, "X1: two")
    perform(world, Suspend("n1", SECOND_NS))
    watch.found(monitor, "X1: two")
    assert watch.excused == 1
    with pytest.raises(Violation):
        watch.found(watch.monitors["S4"], "S4: lost")
    watch.at = world.now + SECOND_NS + AFTERWARDS_NS + 1
    with pytest.raises(Violation):
        watch.found(monitor, "X1: two")


def test_whose_clocks_stood_still_is_excused_until_the_lease_ends_that_it_holds_to_be_young() -> (
    None
):
    world = pair()
    perform(world, StandStill("n2", SECOND_NS))
    until = world.now + SECOND_NS + world.timing.lease_ns + AFTERWARDS_NS
    assert {moment for moment, _ in world.watch.allowed.values()} == {until}
    told: Allowed = {}  # A recording does not tell which lease it was.
    excuse_told(told, Fault("stand_still", "stand_still: n2, for: 1 s"), world.now)
    until += LONGEST_LEASE_NS - world.timing.lease_ns
    assert {moment for moment, _ in told.values()} == {until}


@pytest.mark.parametrize("act", [Suspend("n1", 3 * SECOND_NS), Pause("n1", SECOND_NS)])
def test_a_fault_that_a_recording_tells_of_excuses_as_long_as_the_act_did(
    act: Suspend | Pause,
) -> None:
    world = pair()
    perform(world, act)
    told: Allowed = {}
    excuse_told(told, Fault(act.name, words(act)), world.now)
    assert told == world.watch.allowed


def test_a_fault_whose_length_is_redacted_excuses_as_one_that_is_over_at_once() -> None:
    told: Allowed = {}
    excuse_told(told, Fault("suspend", "x0123"), 5)
    excuse_told(told, Fault("suspend", "suspend: n1, for: ever"), 4)
    assert {until for until, _ in told.values()} == {5 + AFTERWARDS_NS}
