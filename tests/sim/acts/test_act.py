"""Acts do what they say, are told to monitors, and are put on the tape."""

from mirrorfarm.modules.settings import PROFILES
from mirrorfarm.sim.acts import farm as farm_acts
from mirrorfarm.sim.acts.act import perform, words
from mirrorfarm.sim.acts.cables import Cut, Hold, Lose
from mirrorfarm.sim.acts.people import Command, Write
from mirrorfarm.sim.acts.processes import Power
from mirrorfarm.sim.acts.vocabulary import FARM, MIRROR
from mirrorfarm.sim.faults import FAULTS
from mirrorfarm.sim.monitors.seen import Fault
from mirrorfarm.sim.sweep import first_start
from mirrorfarm.sim.world import World


def pair() -> World:
    world = World(1, PROFILES["fast"])
    first_start(world)
    return world


def test_an_act_in_words_is_what_a_file_says() -> None:
    assert words(Cut(("n1", "w1"), "second", 300_000_000)) == (
        "cut: n1 w1, network: second, for: 300 ms"
    )
    assert words(Write(3)) == "write: 3"


def test_an_act_is_seen_and_taped_and_ends_by_itself() -> None:
    world = pair()
    world.tape = []
    act = Power("n2", 1_000_000_000)
    perform(world, act)
    assert world.tape == [(world.now, act)]
    faults = [step.event for step in world.watch.recent if isinstance(step.event, Fault)]
    assert faults == [Fault("power", "power: n2, for: 1 s")]
    assert world.role("n2") == "down"
    world.run(1_500)
    assert world.role("n2") != "down"


def test_every_act_says_what_it_does() -> None:
    for acts in (MIRROR.acts, FARM.acts):
        assert all(act.__doc__ and act.name == name for name, act in acts.items())


def test_every_kind_of_fault_of_a_swarm_is_an_act() -> None:
    known = set(MIRROR.acts) | {"crash_between_effects", "operator"}
    assert set(FAULTS) <= known


def test_single_messages_are_lost_or_held_back() -> None:
    world = pair()
    perform(world, Lose("Heartbeat", ("n1", "n2"), 100))
    world.run(1_000)
    assert world.role("n1").endswith("Ready")
    assert "silent" in "\n".join(world.story)
    world = pair()
    perform(world, Hold("CommandResult", ("n1", "n2"), 1_000_000_000))
    perform(world, Hold("Heartbeat", ("n1", "n2"), 200_000_000, 1))
    world.run(1_000)
    assert world.role("n2") == "SECOND Ready"


def test_a_forced_primary_is_outside_of_what_monitors_compare() -> None:
    world = pair()
    perform(world, Command("primforce", "n2"))
    assert world.monitors.register is None


def test_sides_of_a_partition_leave_nobody_out() -> None:
    sides = FARM.acts["partition"](farm_acts.SIDES.read("n1 n2 | n3"))  # type: ignore[call-arg]
    assert words(sides) == "partition: n1 n2 | n3"
