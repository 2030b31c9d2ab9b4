"""What cores are given is counted by the state they are in, and the impossible is a violation."""

import pytest

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.farm_filter.core import FarmFilter
from mirrorfarm.actors.module.farm.core import FarmModule
from mirrorfarm.actors.module.mirror.core import Mirror
from mirrorfarm.sim import running
from mirrorfarm.sim.coverage.collector import Collector, watching
from mirrorfarm.sim.coverage.machines import MACHINES, MIRROR, kind_of
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.plans import plan_of
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import Command, Leave


def test_a_run_of_a_mirror_is_counted_and_its_cores_are_left_as_they_were() -> None:
    honest = Mirror.handle, FarmModule.handle, FarmFilter.handle
    found = running.play(plan_of("mirror", 3)).coverage
    assert (Mirror.handle, FarmModule.handle, FarmFilter.handle) == honest
    cells = found.named_cells()
    assert cells["mirror stopped Started"] >= 2
    assert cells["mirror leading PeerHeard"] > 10
    assert found.sometimes["R1 writes wait for the secondary"]
    assert found.hashes() == tuple(sorted(set(found.hashes())))
    assert len(found.hashes()) > 10


def test_faults_are_counted_in_the_state_of_their_node() -> None:
    played = running.play(plan_of("mirror", 4))
    pairs = played.coverage.fault_states
    assert {pair.split()[0] for pair in pairs} == set(played.faults)
    assert {pair.split()[1] for pair in pairs} <= {"down", *MIRROR.states}


def test_a_run_of_a_farm_is_counted() -> None:
    found = running.play(plan_of("farm", 1)).coverage
    assert found.sometimes["a view was agreed"]
    assert any(cell.startswith("filter coordinator FarmBeat") for cell in found.named_cells())


def test_what_cannot_be_is_a_violation_that_says_why() -> None:
    collector = Collector()
    collector.count(MIRROR, "leading", ev.PeerSilent)
    with pytest.raises(Violation, match="given VipIsDown while leading, which cannot be: it answ"):
        collector.count(MIRROR, "leading", ev.VipIsDown)


def test_a_message_is_known_by_its_kind_and_a_command_by_its_verb() -> None:
    source = Address("n1", "cli", "cli")
    assert kind_of(ev.Received(source, Leave(1))) is Leave
    assert kind_of(ev.Received(source, Command("r1", "swap", "test", ()))) == "Command swap"


def test_what_is_impossible_names_states_and_events_that_exist() -> None:
    for machine in MACHINES.values():
        for event, only in machine.only.items():
            assert event in machine.events
            assert set(only.states) <= set(machine.states)
            assert only.why
        assert set(machine.unplayed) <= set(machine.events)


def test_watching_ends_also_when_the_run_breaks_off() -> None:
    honest = Mirror.handle

    def breaks_off() -> None:
        with watching(Collector()):
            assert Mirror.handle is not honest
            raise RuntimeError("broken off")

    with pytest.raises(RuntimeError, match="broken off"):
        breaks_off()
    assert Mirror.handle is honest
