"""What is known at a fork, and traces from which nothing can go on."""

import shutil
from pathlib import Path

import msgspec
import pytest

from mirrorfarm.actors.effects import StartScript
from mirrorfarm.cli.trace_redact import redact_traces
from mirrorfarm.errors import MirrorfarmError, Refused, TraceInvalid, UsageInvalid
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import HeartbeatNetwork, Timing
from mirrorfarm.sim.fork.recording import Recording, read
from mirrorfarm.sim.fork.runs import Variant, play
from mirrorfarm.sim.fork.settings import Settings
from mirrorfarm.sim.scenario.playing import play as play_scenario
from mirrorfarm.sim.scenario.reading import read as scenario
from mirrorfarm.trace.files import Fault
from mirrorfarm.trace.merge import Merge
from tests.mirrorfarm.trace.little_cluster import LittleCluster


def test_every_process_goes_on_from_its_last_step(before: Recording) -> None:
    names = {"n1/ledger", "n2/ledger", "w/witness"}
    assert {"/".join(name) for name in before.processes} == names
    for running in before.processes.values():
        assert running.waiting.due() or "register" in running.states
    assert before.doors["n1"].runs
    assert not before.doors["n2"].runs
    record = before.records["n2"]
    assert record is not None
    assert record.was == "second"
    assert before.register is not None
    assert before.register.holder == "n1"


def test_what_came_from_outside_later_is_found(troubled: Path) -> None:
    found = read([troubled], "+10s").outside
    first_ns = found[0].at_ns
    told = sorted((round((one.at_ns - first_ns) / 1e9), one.kind, one.node) for one in found)
    assert told == [
        (0, "cut", "n1"),
        (0, "cut", "n1"),
        (0, "cut", "n2"),
        (18, "power", "n2"),
        (23, "start", "n2"),
    ]
    assert {round((one.until_ns - one.at_ns) / 1e9, 1) for one in found[:3]} == {8.0}


def test_a_node_that_was_off_is_off(troubled: Path) -> None:
    recording = read([troubled], "+40s")
    assert ("n2", "ledger") not in recording.processes
    assert [one.kind for one in recording.outside] == ["start"]


def test_orders_are_kept(tmp_path: Path) -> None:
    cluster = LittleCluster(tmp_path)
    for name in ("n1", "n2"):
        cluster.start(name)
    cluster.run(5_000)
    cluster.command("n1", "stop")
    cluster.run(2_000)
    cluster.close()
    recording = read([tmp_path], "+3s")
    told = [str(one).split("  ")[1] for one in recording.outside]
    assert told == ["n1 was ordered to stop"]
    assert any("start_prim takes 2 ms: it did not run" in one for one in recording.modelled)


def test_a_node_that_is_shut_down_hands_its_role_over_again(tmp_path: Path) -> None:
    cluster = LittleCluster(tmp_path)
    cluster.start("n1")
    cluster.run(500)
    cluster.command("n1", "prim")
    cluster.run(4_000)
    cluster.start("n2")
    cluster.run(6_000)
    cluster.shut_down("n1")
    cluster.run(2_000)
    cluster.kill("n1")
    cluster.run(10_000)
    cluster.close()
    recording = read([tmp_path], "+10s")
    told = [str(one).split("  ")[1] for one in recording.outside]
    assert told[0] == "n1 was ordered to shutdown"
    result = play(recording, Variant(), 1, 8 * SECOND_NS)
    assert [(one.node, one.needless) for one in result.takeovers] == [("n2", False)]
    assert result.takeovers[0].took_ns < recording.module.timing.detection_ns, "nobody waited"


def test_a_module_that_was_configured_anew_goes_on_with_its_present_clocks(tmp_path: Path) -> None:
    cluster = LittleCluster(tmp_path)
    slow = msgspec.structs.replace(
        cluster.module,
        timing=Timing(250 * MILLISECOND_NS, 6 * SECOND_NS, 8 * SECOND_NS),
        heartbeats=(HeartbeatNetwork("red", "red", 250 * MILLISECOND_NS, 6 * SECOND_NS),),
    )
    for module in (cluster.module, slow):
        cluster.module = module
        cluster.start("n1")
        cluster.run(500)
        cluster.command("n1", "prim")
        cluster.run(4_000)
        cluster.start("n2")
        cluster.run(8_000)
        cluster.kill("n1")
        if module is not slow:
            cluster.kill("n2")
        cluster.run(16_000)
    cluster.close()
    recording = read([tmp_path], "+36s")
    assert recording.module == slow
    result = play(recording, Variant(), 1, 20 * SECOND_NS)
    assert [one.node for one in result.takeovers] == ["n2"]
    steps = Merge([tmp_path]).steps()
    serving = [
        placed.at_ns
        for placed in steps
        if placed.step.node == "n2" and placed.at_ns > recording.at_ns
        if any(type(one) is StartScript and one.name == "start_prim" for one in placed.step.effects)
    ]
    took_ns = serving[0] - recording.outside[0].at_ns
    assert abs(result.takeovers[0].took_ns - took_ns) < 500 * MILLISECOND_NS, "as it was recorded"


def test_a_witness_without_a_trace_has_what_the_nodes_knew(takeover: Path) -> None:
    recording = read([takeover / "n1", takeover / "n2"], "+14s")
    assert recording.register is not None
    assert recording.register.isr == ("n1", "n2")
    assert any("whose trace is not given" in one for one in recording.modelled)


@pytest.fixture(name="copied")
def fixture_copied(takeover: Path, tmp_path: Path) -> Path:
    shutil.copytree(takeover, tmp_path / "copied")
    return tmp_path / "copied"


def refused(kind: type[MirrorfarmError], folders: list[Path], at: str, *, module: str = "") -> str:
    with pytest.raises(kind) as caught:
        read(folders, at, module)
    return str(caught.value)


def test_one_node_of_two_is_refused(takeover: Path) -> None:
    text = refused(TraceInvalid, [takeover / "n1", takeover / "w"], "+14s")
    assert "no trace of n2/ledger" in text
    assert "copy var/log/mirrorfarm/modules/ledger of that node" in text


def test_another_module_or_none_is_refused(takeover: Path, tmp_path: Path) -> None:
    text = refused(UsageInvalid, [takeover], "+14s", module="ledgre")
    assert "did you mean ledger?" in text
    assert "name the folders of both nodes" in refused(UsageInvalid, [takeover / "w"], "+14s")
    assert "no trace can be read there" in refused(TraceInvalid, [tmp_path], "+14s")


def test_what_is_neither_a_mirror_nor_a_farm_is_refused(
    takeover: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirrorfarm.sim.fork.recording.MODES", ("farm",))
    assert "ledger is a mirror module: only mirrors and farms" in refused(
        Refused, [takeover], "+2s"
    )


@pytest.mark.parametrize("module", ["", "web"])
def test_filters_without_modules_are_refused(tmp_path: Path, module: str) -> None:
    assert play_scenario(scenario(b"farm: {nodes: 3}\nend: 3 s\n", "f.yaml"), trace=tmp_path)
    text = refused(UsageInvalid, [tmp_path], "service", module=module)
    assert "of which only the filters ran" in text
    assert "whole: yes" in text


def test_a_redacted_trace_is_refused(takeover: Path, tmp_path: Path) -> None:
    assert redact_traces([takeover], tmp_path, "hash") == 0
    assert "a redacted trace cannot go on" in refused(Refused, [tmp_path], "+14s")


def test_traces_of_two_clusters_are_refused(takeover: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.mirrorfarm.trace.little_cluster.CLUSTER", "d" * 16)
        other = LittleCluster(tmp_path)
        other.start("n2")
        other.run(8_000)
        other.close()
    folders = [takeover / "n1", takeover / "w", tmp_path / "n2"]
    assert "traces of different clusters" in refused(TraceInvalid, folders, "+4s")


def test_without_a_checkpoint_before_the_fork_nothing_goes_on(
    takeover: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirrorfarm.sim.fork.cores.Replay._checkpoint", lambda *_: None)
    text = refused(TraceInvalid, [takeover], "+14s")
    assert "no checkpoint of heartbeat, arbiter" in text
    assert "fork at a later time" in text


def test_what_the_oldest_files_told_is_known_of_the_cores(tmp_path: Path) -> None:
    cluster = LittleCluster(tmp_path)
    cluster.start("n1")
    cluster.run(500)
    cluster.command("n1", "prim")
    cluster.run(2_000)
    cluster.start("n2")
    cluster.run(3_000)
    for name in ("n1", "n2", "w"):
        cluster.run(1_000)
        cluster.lose(name)
    cluster.run(6_000)
    cluster.kill("n1")
    cluster.run(6_000)
    cluster.close()
    text = refused(UsageInvalid, [tmp_path], "+1s")
    assert "what w/witness did before" in text or "what n2/ledger did before" in text
    recording = read([tmp_path], "+5s")
    doors = recording.doors["n1"]
    assert (doors.runs, doors.guard_ns > 0) == (True, True)
    assert not recording.doors["n2"].runs
    assert [one.kind for one in recording.outside] == ["power"]
    result = play(recording, Variant(), 1, 15 * SECOND_NS)
    assert [(one.node, one.needless) for one in result.takeovers] == [("n2", False)]


def test_cores_that_do_something_else_do_not_go_on(
    takeover: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirrorfarm.actors.vip.core.Vip.handle", lambda *_: [])
    text = refused(TraceInvalid, [takeover], "+14s")
    assert "of vip: the core of this build does something else" in text
    assert "mirrorfarm trace replay" in text


def test_a_trace_without_a_whole_step_is_refused(copied: Path) -> None:
    path = next((copied / "n2").rglob("*.mft"))
    path.write_bytes(path.read_bytes()[:3_000])
    told: list[Fault] = []
    with pytest.raises(TraceInvalid, match="no whole step of n2/ledger: take another copy"):
        read([copied], "+14s", on_fault=told.append)


def test_a_damaged_file_is_told_and_what_lacks_its_state_refused(copied: Path) -> None:
    path = next((copied / "n1").rglob("*.mft"))
    content = bytearray(path.read_bytes())
    content[len(content) // 8] ^= 0xFF
    path.write_bytes(bytes(content))
    told: list[Fault] = []
    with pytest.raises(MirrorfarmError) as caught:
        read([copied], "+14s", on_fault=told.append)
    assert told
    assert str(path) in f"{told[0]} {caught.value}"


def test_a_node_whose_last_second_is_lost_cannot_go_on_from_it(tmp_path: Path) -> None:
    cluster = LittleCluster(tmp_path)
    for name in ("n1", "n2"):
        cluster.start(name)
    cluster.run(4_000)
    cluster.machines["n1"].ring.flush()
    cluster.machines["n1"].ring.encoder.step = lambda *_: None  # It is killed before it writes.
    cluster.run(900)
    cluster.machines["n1"].cores = {}
    cluster.run(6_000)
    cluster.machines["n1"].ring.flush(ends=True)
    cluster.machines["n1"].cores = {}
    cluster.close()
    assert "n1/ledger recorded nothing after" in refused(UsageInvalid, [tmp_path], "+4.5s")
    assert [one.kind for one in read([tmp_path], "+3.5s").outside] == ["power"]


AWAY = b"""\
events:
  - {at: 1 s, witness_away: w1, for: 2 s}
  - {at: 5 s, power: n1}
  - {at: 7 s, witness_away: w1, for: 500 ms}
end: 9 s
"""


def test_a_witness_comes_and_goes_as_often_as_it_did(tmp_path: Path) -> None:
    """Also if the fork is while it is off: there it is off, knows the register, and comes back."""
    assert play_scenario(scenario(AWAY, "away.yaml"), trace=tmp_path).as_expected
    incidents = [one for one in read([tmp_path], "service").outside if one.node == "w1"]
    kinds = ["witness_ends", "witness_starts", "witness_ends", "witness_starts"]
    assert [one.kind for one in incidents] == kinds
    since_ns = incidents[0].at_ns - Merge([tmp_path]).begin_ns
    recording = read([tmp_path], f"+{since_ns / 1e9 + 1:.3f}s")
    assert recording.witness_off
    assert [one.kind for one in recording.outside if one.node == "w1"] == kinds[1:]
    result = play(recording, Variant("", Settings(), ()), 1, 8 * SECOND_NS)
    assert [one.node for one in result.takeovers] == ["n2"]
    assert result.at_end == "n2"
