"""What faults may break is allowed for as long as they act, and nothing else ever is."""

import pytest

from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.acts.act import perform
from mirrorfarm.sim.acts.processes import Pause, Suspend
from mirrorfarm.sim.acts.vocabulary import MIRROR
from mirrorfarm.sim.budget import AFTERWARDS_NS, ALLOWS
from mirrorfarm.sim.monitors import Violation
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
