"""Histories of what the simulated application did: a lost write is found by any checker."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from mirrorfarm.actors.module.mirror import leading
from mirrorfarm.modules.settings import PROFILES
from mirrorfarm.sim import running, sweep
from mirrorfarm.sim.monitors import seen
from mirrorfarm.sim.recording.recorder import Recorder
from mirrorfarm.sim.recording.workload import Read, Refused, Workload
from mirrorfarm.sim.storage import Extents
from mirrorfarm.sim.witness import WITNESS
from mirrorfarm.sim.world import World
from mirrorfarm.trace.export import Options, export
from tests.sim.recording.linear import Operation, broken_keys, is_linearizable, registers


def history(folder: Path, form: str = "jepsen") -> Path:
    file = folder / f"history.{form}"
    export([folder / "traces"], Options(form, file))
    return file


def cut_off_while_writing(folder: Path) -> None:
    """n1 is cut off with what it has not told anybody; n2 takes over and its application reads."""
    world = World(1, PROFILES["fast"], monitors=(), extents=2)
    recorder = Recorder(world, folder / "traces")
    sweep.first_start(world)
    for _ in range(4):
        world.write()
        world.run(50)
    world.set_link("n1", "n2", up=False)
    world.set_link("n1", WITNESS, up=False)
    world.run(20)
    world.write()
    world.write()
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 5_000)
    world.write()
    world.run(100)
    recorder.close()


def test_what_was_told_as_written_is_read_after_a_takeover(tmp_path: Path) -> None:
    cut_off_while_writing(tmp_path)
    file = history(tmp_path)
    assert ":f :read" in file.read_text()
    assert broken_keys(file) == []


def test_a_write_that_was_told_and_lost_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = leading.gate_of
    monkeypatch.setattr(leading, "gate_of", lambda s: "self" if s.leading.lost else honest(s))
    cut_off_while_writing(tmp_path)
    assert broken_keys(history(tmp_path)) != []


@pytest.mark.parametrize("seed", [4])
def test_histories_under_faults_are_those_of_registers(tmp_path: Path, seed: int) -> None:
    assert running.run(seed, "mirror,extents=4", tmp_path / "traces").outcome == "ok"
    file = history(tmp_path)
    assert sum(len(row) for row in registers(file).values()) > 100
    assert broken_keys(file) == []


def test_porcupines_calls_have_one_return_each(tmp_path: Path) -> None:
    cut_off_while_writing(tmp_path)
    events = [json.loads(line) for line in history(tmp_path, "porcupine").read_text().splitlines()]
    calls = sorted(event["Id"] for event in events if not event["Kind"])
    returns = sorted(event["Id"] for event in events if event["Kind"])
    assert calls == returns == list(range(len(calls)))


def test_a_write_that_failed_before_it_began_did_not_happen() -> None:
    workload = Workload({})
    for write in (1, 2):
        assert workload.told("n1", seen.Invoked(write, 7)) == [seen.Invoked(write, 7)]
    workload.told("n1", seen.Wrote(7, 2, 1, 0))
    assert workload.told("n1", seen.Failed(1, 7)) == [Refused(1, 7)]
    assert workload.told("n1", seen.Failed(2, 7)) == [seen.Failed(2, 7)], "it may be there"


def test_what_cannot_be_read_any_more_is_left_out_of_what_an_application_reads() -> None:
    disk = Extents()
    disk.memory |= {1: 5, 2: 6}
    disk.rotten.add(1)
    workload = Workload({"n1": SimpleNamespace(disk=disk, application=True)})
    for extent in (1, 2):
        workload.told("n1", seen.Invoked(9, extent))
    starts = seen.AppRuns("app", True)
    assert workload.told("n1", starts) == [starts, Read(6, 2)]
    assert workload.at_the_end() == [("n1", Read(6, 2))]


def test_the_checker_tells_a_register_from_what_is_none() -> None:
    first, second = Operation(False, 1, 0, 1), Operation(False, 2, 2, 3)
    assert is_linearizable([first, second, Operation(True, 2, 4, 5)])
    assert not is_linearizable([first, second, Operation(True, 1, 4, 5)])
    assert not is_linearizable([first, Operation(True, 0, 2, 3)])
    unknown = Operation(False, 2, 2)
    assert is_linearizable([first, unknown, Operation(True, 1, 4, 5), Operation(True, 2, 6, 7)])
    assert not is_linearizable([first, unknown, Operation(True, 2, 4, 5), Operation(True, 1, 6, 7)])
