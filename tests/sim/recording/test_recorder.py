"""A simulated run, recorded: read by everything that reads the traces of production."""

import json
from pathlib import Path

import pytest

from mirrorfarm.cli.main import main
from mirrorfarm.errors import UsageInvalid
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.modules.settings import PROFILES
from mirrorfarm.sim import running
from mirrorfarm.sim.acts.act import perform
from mirrorfarm.sim.acts.disks import RecordRots
from mirrorfarm.sim.acts.processes import StandStill
from mirrorfarm.sim.monitors import seen
from mirrorfarm.sim.recording.recorder import Recorder
from mirrorfarm.sim.sweep import first_start
from mirrorfarm.sim.world import World
from mirrorfarm.trace.export.run import FORMATS
from mirrorfarm.trace.files import sources
from mirrorfarm.trace.merge import Merge
from mirrorfarm.trace.named import OLDER
from mirrorfarm.trace.replay import Replay
from mirrorfarm.trace.step import Step
from mirrorfarm.trace.steps import read_items

ROOT = Path(__file__).parents[3]
TAKEOVER = ROOT / "examples" / "scenarios" / "takeover.yaml"
PLAYS_TRICKS = 94


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(str(ended.value.code))


@pytest.fixture(name="takeover", scope="module")
def fixture_takeover(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("takeover") / "traces"
    assert run("sim", "scenario", "--quiet", str(TAKEOVER), "--trace", str(folder)) == 0
    return folder


def test_a_full_disk_is_told_and_is_none_of_the_simulated_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "only partly written")

    monkeypatch.setattr("mirrorfarm.transport.trace_ring._append_whole", full)
    assert run("sim", "scenario", "--quiet", str(TAKEOVER), "--trace", str(tmp_path)) == 8
    told = capsys.readouterr().err
    assert told.startswith(f"mirrorfarm: --trace: the run is not recorded: {tmp_path}/")
    assert told.endswith(".mft: only partly written: make room there, or use another file system\n")


def test_what_only_the_simulation_saw_is_told_with_the_names_of_its_fields(
    takeover: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("trace", "show", "--json", str(takeover)) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    world = [one["value"] for one in rows if one["process"] == "world"]
    kinds = {one["type"]: one for one in world}
    assert {"Fault", "AppRuns", "Invoked", "Told", "PowerLost", "Read"} <= kinds.keys()
    assert kinds["Fault"].keys() == {"type", "kind", "what"}
    assert kinds["Told"].keys() == {"type", "write", "extent", "term"}
    assert run("trace", "show", "--kind", "AppRuns", str(takeover)) == 0
    assert "n1 world/world <- AppRuns(module='app', runs=True)" in capsys.readouterr().out


def test_older_recordings_are_told_with_the_same_names() -> None:
    for name, fields in OLDER.items():
        assert list(getattr(seen, name).__struct_fields__) == fields


def replayed(folder: Path) -> tuple[int, int, int]:
    """Return how many steps were replayed, skipped, and came to something else."""
    steps = skipped = differences = 0
    for source in sources([folder]):
        if source.has_cores:
            replay = Replay()
            differences += len(list(replay.run(read_items(source))))
            steps += replay.counts["steps"]
            skipped += replay.counts["skipped"]
    return steps, skipped, differences


@pytest.mark.parametrize(
    ("seed", "options"), [(PLAYS_TRICKS, "mirror"), (7, "mirror"), (4, "farm")]
)
def test_a_recorded_run_is_the_same_and_every_step_of_it_comes_again(
    tmp_path: Path, seed: int, options: str
) -> None:
    plain, traced = running.run(seed, options), running.run(seed, options, tmp_path)
    assert (plain.digest, plain.outcome) == (traced.digest, "ok")
    assert bool(sum(plain.bugs.values())) == (seed == PLAYS_TRICKS), "choose another seed"
    steps, skipped, differences = replayed(tmp_path)
    assert steps > 300
    assert (skipped, differences) == (0, 0)


def test_a_new_file_of_a_process_begins_with_the_states_of_its_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirrorfarm.sim.recording.recorder.FILE_BYTES", 7_000)
    monkeypatch.setattr("mirrorfarm.transport.trace_encoder.FRAME_BYTES", 20_000)
    assert run("sim", "scenario", "--quiet", str(TAKEOVER), "--trace", str(tmp_path)) == 0
    assert replayed(tmp_path)[1:] == (0, 0)
    later = [path for path in tmp_path.rglob("app-*/*.mft") if path.name != "trace-00000001.mft"]
    assert later
    steps, skipped, differences = max(replayed(path) for path in later)
    assert steps > skipped
    assert differences == 0


def test_messages_join_the_processes_of_all_nodes(takeover: Path) -> None:
    merge = Merge([takeover])
    for _ in merge.steps():
        pass
    assert (merge.unordered, merge.gaps, merge.seed) == (0, 0, 1)
    assert merge.joined > 100
    assert {clock.basis for clock in merge.clocks} == {"reference", "messages"}
    assert all(abs(clock.ahead_ns) < 1_000_000 for clock in merge.clocks)


def test_why_check_and_replay_take_it_for_a_recording(
    takeover: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("trace", "why", "--no-diagram", "n2 ALONE", str(takeover)) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "w1 had on its disk that n2 holds app in term 2" in told
    assert "n1 ended without a word" in told
    assert run("trace", "check", str(takeover)) == 0
    assert "every invariant that can be seen in traces held" in capsys.readouterr().out
    assert run("trace", "replay", "--json", str(takeover)) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["differences"], report["skipped"]) == (0, 0)


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_every_format_can_be_made_of_it(takeover: Path, tmp_path: Path, form: str) -> None:
    words = {"tla": ("jsonl", "--tla"), "tsviz": ("shiviz", "--tsviz")}.get(form, (form,))
    assert run("trace", "export", "--to", *words, "-o", str(tmp_path / "out"), str(takeover)) == 0
    assert (tmp_path / "out").stat().st_size > 500


def test_a_folder_with_traces_is_not_mixed_with_another_run(takeover: Path) -> None:
    with pytest.raises(UsageInvalid, match="name another folder"):
        running.run(1, "mirror", takeover)


def test_several_scenarios_have_a_folder_each(tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("begin: off\nend: 100 ms\n")
    files = (str(TAKEOVER), str(other))
    assert run("sim", "scenario", "--quiet", *files, "--trace", str(tmp_path / "t")) == 0
    assert {path.name for path in (tmp_path / "t").iterdir()} == {"takeover", "other"}


def test_what_happens_to_a_machine_that_stands_still_is_at_the_time_that_its_clock_shows(
    tmp_path: Path,
) -> None:
    world = World(1, PROFILES["fast"], monitors=())
    recorder = Recorder(world, tmp_path)
    first_start(world)
    perform(world, StandStill("n1", SECOND_NS))
    world.run(100)
    perform(world, RecordRots("n1"))
    recorder.close()
    [source] = [one for one in sources([tmp_path / "n1"]) if one.process == "world"]
    steps = [item for item in read_items(source) if isinstance(item, Step)]
    times = {step.event[0]: step.now_ns for step in steps}
    assert times["RecordGone"] == times["Fault"] == max(times.values())
