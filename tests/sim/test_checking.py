"""The monitors on recorded traces: what was right passes, what was wrong is told with causes."""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mirrorfarm.actors.arbiter.witness import WitnessCore
from mirrorfarm.actors.effects import RegisterStore
from mirrorfarm.cli.main import main
from mirrorfarm.errors import TraceInvalid
from mirrorfarm.sim.checking import check
from mirrorfarm.trace.files import frames
from tests.mirrorfarm.trace.little_cluster import HOUR_NS, LittleCluster, Machine, takeover


def exit_code(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(words))
    return int(end.value.code or 0)


@pytest.mark.parametrize("wrong_ns", [0, -3 * HOUR_NS])
def test_a_takeover_breaks_nothing_whatever_the_clocks_say(
    tmp_path: Path, wrong_ns: int, capsys: pytest.CaptureFixture[str]
) -> None:
    takeover(tmp_path, Machine("n2", wrong_ns=wrong_ns))
    assert exit_code("trace", "check", "--json", str(tmp_path)) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["violations"], told["gaps"], len(told["processes"])) == (0, 0, 3)
    assert {"S1", "S5", "S9"} <= set(told["invariants"])
    assert told["steps"] > 1_000


def test_a_witness_that_leaves_versions_out_is_told_with_what_led_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    honest = WitnessCore.handle

    def handle(core: WitnessCore, event: Any, now: int) -> list[Any]:
        return [_hasty(effect) for effect in honest(core, event, now)]

    monkeypatch.setattr(WitnessCore, "handle", handle)
    takeover(tmp_path)
    assert exit_code("trace", "check", str(tmp_path)) == 1
    told = capsys.readouterr().out
    assert "S9: version 1 is followed by 4" in told
    assert "n1 asked its arbiter that n1 hold term 1 with the in-sync set {n1, n2}" in told
    assert "w had on its disk that n1 holds ledger in term 1 with the in-sync set" in told


def _hasty(effect: Any) -> Any:
    """Make every other version up."""
    if not isinstance(effect, RegisterStore):
        return effect
    register = msgspec.structs.replace(effect.register, ver=effect.register.ver**2)
    return msgspec.structs.replace(effect, register=register)


def test_a_folder_without_traces_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceInvalid, match="no trace can be read there"):
        check([tmp_path])


@pytest.mark.parametrize("command", ["check", "replay"])
def test_a_trace_that_is_cut_off_before_its_first_step_is_not_called_right(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    takeover(tmp_path / "whole")
    whole = next((tmp_path / "whole").rglob("*.mft"))
    cut = tmp_path / whole.name
    cut.write_bytes(whole.read_bytes()[: header_bytes(whole) + 9])
    exit_code("trace", command, str(cut))
    assert "nothing was" in capsys.readouterr().out


def test_what_is_told_without_all_traces_may_be_wrong_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A single node is right, but the register that gave it its term is the witness's."""
    traces = Path(__file__).parents[2] / "examples/traces/takeover"
    assert exit_code("trace", "check", str(traces / "n1"), str(traces / "n2")) == 11
    told = capsys.readouterr()
    assert "violations of invariants" in told.out
    assert "no trace of w/witness: what is told as a violation may be none" in told.err
    assert exit_code("trace", "check", "--json", str(traces)) == 0
    assert json.loads(capsys.readouterr().out)["missing"] == []


def test_that_a_trace_is_missing_beside_redacted_ones_is_told_as_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    takeover(tmp_path / "whole")
    shutil.rmtree(tmp_path / "whole/n2")
    assert exit_code("trace", "redact", str(tmp_path / "whole"), "--to", str(tmp_path / "red")) == 0
    capsys.readouterr()
    assert exit_code("trace", "check", "--json", str(tmp_path / "red")) == TraceInvalid.exit_code
    told = json.loads(capsys.readouterr().out)
    module = next(name.partition("/")[2] for name in told["processes"] if "witness" not in name)
    assert [name.partition("/")[2] for name in told["missing"]] == [module]


def test_a_violation_in_damaged_traces_may_be_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(Path(__file__).parents[2] / "examples/traces/takeover", tmp_path / "traces")
    (damaged,) = (tmp_path / "traces/n1/modules/ledger/trace").iterdir()
    content = damaged.read_bytes()
    middle = len(content) // 2
    damaged.write_bytes(content[:middle] + b"x" * 40 + content[middle + 40 :])
    assert exit_code("trace", "check", str(tmp_path)) == 11
    assert "traces are damaged: what is told as a violation may be none" in capsys.readouterr().err


@pytest.mark.parametrize("left", [-700, 1])  # Without its end, and its header alone.
def test_a_violation_where_messages_are_missing_in_a_trace_may_be_none(
    tmp_path: Path, left: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recording is sound: what the witness granted is in the part that is cut off."""
    shutil.copytree(Path(__file__).parents[2] / "examples/traces/takeover", tmp_path / "traces")
    (file,) = (tmp_path / "traces/w/witness/trace").iterdir()
    file.write_bytes(file.read_bytes()[: left if left < 0 else header_bytes(file)])
    assert exit_code("trace", "check", str(tmp_path / "traces")) == 11
    told = capsys.readouterr()
    assert "violations of invariants" in told.out
    assert "n1/ledger, w/witness: messages that came from them are not in their " in told.err
    assert "(cut off, or a start is missing): what is told as a violation may be none" in told.err
    hashed = tmp_path / "hashed"  # Which of its names are command lines cannot be seen there.
    assert exit_code("trace", "redact", "--to", str(hashed), str(tmp_path / "traces")) == 0
    capsys.readouterr()
    assert exit_code("trace", "check", "--json", str(hashed)) == 11
    assert len(json.loads(capsys.readouterr().out)["partial"]) == 2


def header_bytes(trace: Path) -> int:
    """Return how long the first frame of a trace is, which says whose it is."""
    _, begin = (offset for offset, _ in itertools.islice(frames(trace, lambda _: None), 2))
    return begin


def test_a_violation_without_an_earlier_start_of_a_process_may_be_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    story = tmp_path / "story.yaml"
    story.write_text("mirror: {}\nevents:\n  - {at: 9 s, witness_restart: w1}\nend: 12 s\n")
    assert exit_code("sim", "scenario", str(story), "--trace", str(tmp_path / "traces")) == 0
    assert exit_code("trace", "check", str(tmp_path / "traces")) == 0
    capsys.readouterr()
    shutil.rmtree(tmp_path / "traces/w1/witness-1")
    assert exit_code("trace", "check", str(tmp_path / "traces")) == 11
    told = capsys.readouterr()
    assert "violations of invariants" in told.out
    assert "w1/witness: messages that came from it are not in its trace (cut off, or" in told.err


def test_messages_of_a_lost_tail_cast_no_doubt_on_a_sound_recording(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    traces = Path(__file__).parents[2] / "examples/traces/takeover"  # There n1 loses its power.
    assert exit_code("trace", "check", "--json", str(traces)) == 0
    told = json.loads(capsys.readouterr().out)
    assert "n1/ledger" in told["partial"]
    assert told["violations"] == 0


def test_what_a_killed_replicator_mounted_counts_as_dead_not_as_bared(tmp_path: Path) -> None:
    scenario = Path(__file__).parent / "scenarios/stale_start_finds_nothing.yaml"
    assert exit_code("sim", "scenario", str(scenario), "--trace", str(tmp_path)) == 0
    assert exit_code("trace", "check", str(tmp_path)) == 0


@pytest.mark.parametrize(
    ("cut", "compared"),
    [
        ({("n1", "w"), ("n2", "w")}, True),  # A witness that nobody hears has no application.
        ({("n1", "n2"), ("n1", "w")}, False),
    ],
)
def test_what_compares_clocks_is_said_to_hold_only_where_messages_compare_them(
    tmp_path: Path,
    cut: set[tuple[str, str]],
    compared: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cluster = LittleCluster(tmp_path)
    cluster.cut |= {frozenset(way) for way in cut}
    for name in ("n1", "n2"):
        cluster.start(name)
    cluster.run(3_000)
    cluster.close()
    assert exit_code("trace", "check", str(tmp_path)) == 0
    out, err = capsys.readouterr()
    assert ("X1, X2" in out) == compared
    assert ("not looked at: X1, X2: no messages compare" in err) != compared
