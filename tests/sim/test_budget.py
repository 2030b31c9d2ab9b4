"""What faults may break is allowed for as long as they act, and nothing else ever is."""

import pytest

from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.acts.act import perform, words
from mirrorfarm.sim.acts.processes import Pause, StandStill, Suspend
from mirrorfarm.sim.acts.vocabulary import MIRROR
from mirrorfarm.sim.budget import AFTERWARDS_NS, ALLOWS, Allowed, excuse_told
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


@pytest.mark.parametrize(
    "act", [Suspend("n1", 3 * SECOND_NS), StandStill("n2", 208_750_000), Pause("n1", SECOND_NS)]
)
def test_a_fault_that_a_recording_tells_of_excuses_as_long_as_the_act_did(
    act: Suspend | StandStill | Pause,
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
