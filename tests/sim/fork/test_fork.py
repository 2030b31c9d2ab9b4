"""Forked mirrors and farms begin in the same way: as the recording has them, watched as it was."""

from dataclasses import replace
from pathlib import Path

import pytest

from mirrorfarm.actors import effects as fx
from mirrorfarm.sim.fork.farm import ForkedFarm
from mirrorfarm.sim.fork.fork import Fork, fill
from mirrorfarm.sim.fork.recording import Recording, read
from mirrorfarm.sim.fork.settings import Settings
from mirrorfarm.sim.fork.world import Forked

FARM = Path(__file__).parents[3] / "examples/traces/farm"


@pytest.fixture(name="farm", scope="module")
def fixture_farm() -> Recording:
    return read([FARM], "service")


def forked(recording: Recording) -> Fork:
    kind = Forked if recording.module.mode == "mirror" else ForkedFarm
    return kind(recording, 1, Settings(), [])


def test_processes_are_those_of_the_recording_and_number_their_messages_on(
    before: Recording, farm: Recording
) -> None:
    for recording in (before, farm):
        world = forked(recording)
        for (node, name), running in recording.processes.items():
            process = world.hosts[node].processes[name]
            assert process.alive
            assert process.incarnation == running.incarnation
            assert process.sequence >= running.waiting.sequence
            assert process.actors.keys() == running.states.keys()


def test_the_recording_is_not_used_up(before: Recording, farm: Recording) -> None:
    for recording in (before, farm):
        world = forked(recording)
        assert world.watch is not recording.watch
        assert world.identity == recording.cluster
        assert set(world.network.names) <= {one.name for one in recording.module.heartbeats} | set(
            recording.module.farm.networks
        )


def test_what_ran_runs_and_what_was_watched_is(before: Recording) -> None:
    world = forked(before)
    assert isinstance(world, Forked)
    hands, doors = world.nodes["n1"].hands, before.doors["n1"]
    assert hands.app.runs
    hands.app.runs, started = False, hands.app.number_run
    fill(hands, replace(doors, vip=True, watch=fx.Watch((7,), 3)))
    assert (hands.app.runs, hands.app.number_run, hands.vip) == (True, started + 1, True)
    assert (hands.watched, hands.watch_number) == ((7,), 3)
