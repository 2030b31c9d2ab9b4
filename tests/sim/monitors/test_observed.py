"""Faults that a recording tells of excuse in it what they excuse while it is made, and no more."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mirrorfarm.modules.settings import PROFILES
from mirrorfarm.sim import checking
from mirrorfarm.sim.acts.act import perform
from mirrorfarm.sim.acts.disks import RecordRots
from mirrorfarm.sim.acts.people import WitnessReplaced
from mirrorfarm.sim.monitors import seen
from mirrorfarm.sim.monitors.observed import KINDS, observed
from mirrorfarm.sim.recording.recorder import Recorder
from mirrorfarm.sim.steps import Step
from mirrorfarm.sim.sweep import first_start
from mirrorfarm.sim.world import World


def row(*event: object) -> Step:
    return Step("n1", "world", "world", 7, list(event))


def test_rows_that_excuse_are_as_the_simulation_gave_them() -> None:
    gone = Step("n1", "app", "world", 7, seen.RecordGone("app"))
    assert observed(row("RecordGone", "app")) == gone
    fault = Step("n1", "", "world", 7, seen.Fault("cut", "cut: n1 w1"))
    assert observed(row("Fault", "cut", "cut: n1 w1")) == fault
    assert observed(row("Told", 1, 1, 1)) is None, "it would have to be compared with disks"
    assert observed(row("RecordGone", 5)) is None
    assert observed(row()) is None
    assert all(issubclass(kind, seen.Seen) for kind in KINDS.values())


def rots(world: World) -> None:
    perform(world, RecordRots("n2"))


def vanishes(world: World) -> None:
    """No fault: what the disk had confirmed is not there any more."""
    world.nodes["n2"].records.record = None


def replaced(world: World) -> None:
    perform(world, WitnessReplaced())


def forgets(world: World) -> None:
    """No fault: the witness's disk has lost what it had confirmed."""
    world.witness_node.registers = {}
    world.restart_witness()


def checked(folder: Path, happens: Callable[[World], None]) -> list[str]:
    """Return what is wrong with a recorded pair to which this happens while n2 is off."""
    world = World(1, PROFILES["fast"], monitors=())
    recorder = Recorder(world, folder)
    first_start(world)
    world.run(300)
    world.kill("n2")
    world.run(1_000)
    happens(world)
    world.start("n2", again=True)
    if not world.witness_node.registers:
        world.command("n1", "stop")
        world.run(500)
        world.command("n1", "primforce")
    world.run(500)
    recorder.close()
    return [one.text for one in checking.check([folder]).broken]


@pytest.mark.parametrize(
    ("fault", "none", "wrong"),
    [
        (rots, vanishes, "S9: n2 went back from 1.1 to 0.0"),
        (replaced, forgets, "S9: version 3 is followed by 1"),
    ],
)
def test_what_a_fault_took_away_is_no_violation_and_without_the_fault_it_is(
    tmp_path: Path,
    fault: Callable[[World], None],
    none: Callable[[World], None],
    wrong: str,
) -> None:
    assert checked(tmp_path / "fault", fault) == []
    assert checked(tmp_path / "none", none) == [wrong]
