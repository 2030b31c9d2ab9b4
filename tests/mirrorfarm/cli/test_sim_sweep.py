"""`mirrorfarm sim sweep` as a user runs it: to its end, interrupted, killed, in parts."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from mirrorfarm.cli.sim_progress import Progress
from mirrorfarm.cli.sim_sweep import _what_next, report, sweep
from mirrorfarm.sim.sweeps import outputs
from mirrorfarm.sim.sweeps.engines import Wanted
from mirrorfarm.sim.sweeps.plan import Batch, Finished
from mirrorfarm.sim.sweeps.results import Appender, Header, Results
from mirrorfarm.sim.sweeps.run import build_id, command_of
from mirrorfarm.sim.sweeps.seeds import Shard
from tests.sim.sweeps.stand_in import quick
from tests.sim.sweeps.watching import order_of

SHORT = ("--options", "mirror", "--workers", "2")
LONG = ("--seeds", "0..100000", *SHORT)
DEADLINE_SECONDS = 60


STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def end_what_was_started() -> Iterator[None]:
    """Whatever fails, no sweep goes on beside the next tests."""
    yield
    for process in STARTED:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
    STARTED.clear()


def mirrorfarm(*words: str | Path) -> subprocess.Popen[str]:
    """Start a command as a shell does: with a group of processes that Ctrl-C reaches whole."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mirrorfarm.cli.main", "sim", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    STARTED.append(process)
    return process


def run(*words: str | Path, code: int = 0) -> tuple[str, str]:
    process = mirrorfarm(*words)
    out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return out, err


def summary(*words: str | Path, code: int = 0) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(run(*words, "--json", code=code)[0])
    return told


def until_lines(path: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_keeps_what_is_done_and_says_how_to_resume(
    tmp_path: Path, number: signal.Signals
) -> None:
    file = tmp_path / "results.jsonl"
    process = mirrorfarm("sweep", *LONG, "-o", tmp_path)
    until_lines(file, 4, process)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert f"--resume {file}" in out
    before = file.read_bytes()
    assert before.endswith(b"\n")
    done = before.count(b"\n") - 1
    told = summary("sweep", "--seeds", f"0..{done + 10}", *SHORT, "--resume", file)
    assert told["missing"] == 0
    assert told["seeds"] >= done + 10
    assert file.read_bytes().startswith(before)  # Nothing was played twice.
    assert (tmp_path / "report.html").exists()


def test_ctrl_c_ends_a_sweep_on_dask_in_order(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="Dask is not installed")
    process = mirrorfarm("sweep", *LONG, "--engine", "dask", "-o", tmp_path)
    until_lines(tmp_path / "results.jsonl", 3, process)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "died" not in err
    assert "--engine dask" in out


def test_ctrl_c_while_workers_begin_shows_no_traceback(tmp_path: Path) -> None:
    process = mirrorfarm("sweep", *LONG, "-o", tmp_path)
    until_lines(tmp_path / "results.jsonl", 1, process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_a_killed_sweep_leaves_no_worker_and_can_be_resumed(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    process = mirrorfarm("sweep", *LONG, "-o", tmp_path)
    until_lines(file, 3, process)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.kill()
    process.communicate(timeout=DEADLINE_SECONDS)
    _, alive = psutil.wait_procs(children, timeout=DEADLINE_SECONDS)
    assert not alive
    with file.open("ab") as torn:
        torn.write(b'{"seed":99999,"opt')
    _, err = run("sweep", "--seeds", "0..3", *SHORT, "--resume", file)
    assert "unfinished line" in err


def test_a_killed_worker_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    process = mirrorfarm("sweep", "--seeds", "0..24", *SHORT, "-o", tmp_path, "--json")
    until_lines(file, 3, process)
    workers = [
        child
        for child in psutil.Process(process.pid).children()
        if "spawn_main" in " ".join(child.cmdline())
    ]
    workers[0].kill()
    out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, err
    told = json.loads(out)
    assert (told["seeds"], told["missing"]) == (24, 0)
    assert told["workers_died"] >= 1
    assert "a worker died" in err


def test_a_full_disk_ends_the_sweep_with_the_cure_and_it_can_be_resumed(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    words = [*LONG, "-o", str(tmp_path)]
    limited = (
        f"ulimit -f 8; exec {sys.executable} -m mirrorfarm.cli.main sim sweep {' '.join(words)}"
    )
    full = subprocess.run(
        ["bash", "-c", limited],
        check=False,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )
    assert full.returncode == 8
    assert f"{file}: results cannot be written" in full.stderr
    assert f"--resume {file}" in full.stderr
    assert "Traceback" not in full.stderr
    whole = file.read_bytes().rpartition(b"\n")[0]
    told = summary("sweep", "--seeds", "0..3", *SHORT, "--resume", file)
    assert told["seeds"] >= whole.count(b"\n")
    assert file.read_bytes().startswith(whole)


def test_parts_are_played_alone_and_reported_together(tmp_path: Path) -> None:
    for part in (1, 2):
        words = ("--seeds", "0..7", "--shard", f"{part}/2", "-o", tmp_path)
        out, _ = run("sweep", *SHORT, *words)
        assert f"part {part}/2 is complete" in out
        assert not (tmp_path / "report.html").exists()
    parts = sorted(tmp_path.glob("*.jsonl"))
    assert [part.name for part in parts] == ["results-1-of-2.jsonl", "results-2-of-2.jsonl"]
    told = summary("report", "--seeds", "0..9", "-o", tmp_path / "all", *parts, code=1)
    assert (told["seeds"], told["missing"]) == (7, 2)
    told = summary("report", "--seeds", "3..1000000000000", "-o", tmp_path / "all", *parts, code=1)
    assert told["missing"] == 10**12 - 7
    assert "the first is 7" in told["notes"][-1]
    told = summary("report", "--seeds", "0..7", "-o", tmp_path / "all", *parts)
    assert (told["seeds"], told["failed"], told["missing"]) == (7, 0, 0)


def test_failures_are_told_with_the_command_that_plays_them_and_exit_code_1(
    tmp_path: Path,
) -> None:
    file = tmp_path / "r.jsonl"
    appender = Appender(file, Header(options="mirror", build=quick("mirror", 0).build))
    appender.append(quick("mirror", seed) for seed in range(100))
    appender.close()
    out, _ = run("report", "-o", tmp_path / "all", file, code=1)
    assert "5 × S3" in out
    assert "mirrorfarm sim run --seed 0x53 --options mirror" in out
    assert "100 seeds, 10 failed in 2 classes" in out
    assert "no time line of seed" in out  # These results are not the simulator's.
    told = summary("report", "-o", tmp_path / "all", file, code=1)
    assert [one["invariant"] for one in told["classes"]] == ["L4", "S3"]
    assert {"01-L4.txt", "02-S3.txt"} <= {Path(path).name for path in told["files"]}


def test_a_sweep_that_never_came_by_what_must_happen_fails_when_it_had_seeds_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "r.jsonl"
    with closing(Appender(file, Header(options="mirror", build=build_id()))) as appender:
        appender.append(quick("mirror", seed) for seed in (1, 2, 4))
    words = [str(file), "-o", str(tmp_path / "out")]
    assert CliRunner().invoke(report, words, standalone_mode=False).return_value == 0
    monkeypatch.setattr("mirrorfarm.sim.sweeps.summary.SEEDS_ENOUGH", 3)
    shown = CliRunner().invoke(report, words, standalone_mode=False)
    assert shown.return_value == 1
    assert "never happened: R4 a compare-and-swap conflicted" in shown.output
    assert "never happened: a restart kept the role" not in shown.output


def results_of(file: Path, count: int) -> None:
    with closing(Appender(file, Header(options="mirror", build=build_id()))) as appender:
        appender.append(quick("mirror", seed) for seed in range(count))


def test_ctrl_c_while_classes_are_shrunk_ends_all_of_it_and_says_how_to_make_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "the results.jsonl"
    results_of(file, 30)
    tried = []

    def shrink(options: str, seed: int) -> str:
        tried.append(seed)
        with suppress(KeyboardInterrupt):  # As shrinking does, to give its best.
            signal.raise_signal(signal.SIGINT)
        return "shrunk"

    honest = partial(outputs.write_outputs, shrink=shrink)
    monkeypatch.setattr(outputs, "write_outputs", honest)
    words = ["--seeds", "0..30", "-o", str(tmp_path), str(file)]
    shown = CliRunner().invoke(report, words, standalone_mode=False)
    assert (shown.return_value, len(tried)) == (130, 1)
    assert "shrinking class 1 of 2" in shown.output
    assert f"  mirrorfarm sim report --seeds 0..30 '{file}' -o {tmp_path}\n" in shown.output
    tried.clear()
    words = ["--seeds", "0..30", "--options", "mirror", "--resume", str(file)]
    shown = CliRunner().invoke(sweep, words, standalone_mode=False)
    assert (shown.return_value, len(tried)) == (130, 1)
    assert f"  mirrorfarm sim report '{file}' -o {tmp_path}\n" in shown.output


def test_the_end_of_a_sweep_looks_at_the_results_once_not_once_for_each_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "r.jsonl"
    results_of(file, 3)
    honest, asked = Results.seeds, []

    def seeds(results: Results) -> set[int]:
        asked.append(results)
        return honest(results)

    monkeypatch.setattr(Results, "seeds", seeds)
    words = ["--seeds", "0..3", "--options", "mirror", "--resume", str(file)]
    assert CliRunner().invoke(sweep, words, standalone_mode=False).return_value == 0
    assert len(asked) == 2  # At the beginning and at the end.


def test_commands_that_are_told_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    wanted = {"wanted": Wanted(2), "seed_seconds": 600.0, "shard": Shard(1, 2)}
    order = order_of(folder, 10, **wanted)
    words = shlex.split(order.command_to_resume())
    assert words[words.index("--seed-seconds") + 1] == "600"
    assert words[words.index("--resume") + 1] == str(folder / "r.jsonl")
    told = _what_next(order, 0)
    assert f"-o '{folder}' '{folder}'/*.jsonl" in told
    assert command_of("mirror; reboot", 7).endswith(" --options 'mirror; reboot'")


def test_files_without_a_result_are_no_success(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    results_of(file, 0)
    _, err = run("report", file, "-o", tmp_path, code=6)
    assert f"{file}: no result of any seed is there: there is nothing to report" in err
    with file.open("ab") as damaged:
        damaged.write(b"{}\n")
    _, err = run("report", file, "-o", tmp_path, code=6)
    assert "only damaged lines" in err


@pytest.mark.parametrize(
    ("end", "says"),
    [
        (b"{}\n", "damaged lines, left out: FILE:4"),
        (b'{"seed":2,"opt', "unfinished last lines, left out: FILE:4"),
    ],
)
def test_a_line_that_is_no_result_is_told_and_may_be_of_a_seed_that_is_missing(
    tmp_path: Path, end: bytes, says: str
) -> None:
    file = tmp_path / "r.jsonl"
    results_of(file, 2)
    report = ("report", file, "-o", tmp_path / "report")
    assert "2 seeds, none failed" in run(*report)[0]
    with file.open("ab") as whole:
        whole.write(end)
    assert says.replace("FILE", str(file)) in run(*report, code=1)[0]
    assert summary(*report, code=1)["notes"]
    run(*report, "--seeds", "0..2")  # Nothing of these is missing.
    assert "1 seed is missing: it is 2" in run(*report, "--seeds", "0..3", code=1)[0]


def test_what_does_not_agree_with_another_part_or_was_not_wanted_is_told(tmp_path: Path) -> None:
    parts = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for part in parts:
        results_of(part, 3)
    words: list[str | Path] = ["report", "-o", tmp_path / "report", *parts]
    assert "3 seeds, none failed" in run(*words)[0], "the same results twice"
    shown, _ = run(*words, "--seeds", "0..2")
    others = "1 seed is none of --seeds 0..2, and counted as well"
    assert others in shown
    assert others in run("sweep", "--seeds", "0..2", *SHORT, "--resume", parts[0])[0]
    parts[0].write_bytes(parts[0].read_bytes().replace(b'"steps":', b'"steps":1', 1))
    shown, _ = run(*words, code=1)
    assert f"lines unlike an earlier one of the same seed: {parts[1]}:2" in shown


def test_a_seed_that_is_given_up_is_not_said_to_be_played_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = Progress()
    for batch in (Batch((3, 4)), Batch((3,)), Batch((3, 4), alone=True), Batch((3,), alone=True)):
        progress.died(Finished(batch, None, "killed"))
    assert capsys.readouterr().err.splitlines() == [
        "a worker died (killed); 2 seeds are played again",
        "a worker died (killed); 1 seed is played again",
        "a worker died (killed); 2 seeds are played again",
        "a worker died again (killed), with seed 3 alone: it counts as failed",
    ]


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_played(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    (tmp_path / "taken").touch()
    words = ("--seeds", "0..2", *SHORT, "--resume", file, "-o", tmp_path / "taken" / "out")
    _, err = run("sweep", *words, code=8)
    assert f"{tmp_path / 'taken' / 'out'}: Not a directory" in err
    assert not file.exists()


def test_the_second_ctrl_c_leaves_at_once(tmp_path: Path) -> None:
    long = ("--seeds", "0..9", "--options", "mirror-swarm,minutes=600", "--workers", "2")
    process = mirrorfarm("sweep", *long, "-o", tmp_path)
    assert process.stderr is not None
    until_lines(tmp_path / "results.jsonl", 1, process)
    process.send_signal(signal.SIGINT)
    assert "Ctrl-C again" in process.stderr.readline()
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert not psutil.wait_procs(children, timeout=DEADLINE_SECONDS)[1]


def test_a_sweep_that_exists_is_not_begun_again(tmp_path: Path) -> None:
    run("sweep", "--seeds", "0..2", *SHORT, "-o", tmp_path)
    _, err = run("sweep", "--seeds", "0..2", *SHORT, "-o", tmp_path, code=6)
    assert f"--resume {tmp_path / 'results.jsonl'}" in err
    _, err = run("sweep", "--seeds", "0..2", "--resume", tmp_path / "results.jsonl", code=6)
    assert "options 'mirror'" in err


def test_results_are_not_replaced_by_what_is_made_of_them(tmp_path: Path) -> None:
    file = tmp_path / "results.parquet"
    _, err = run("sweep", "--seeds", "0..2", *SHORT, "--resume", file, code=2)
    assert f"another name, such as {tmp_path / 'results.jsonl'}" in err
    assert not file.exists()
    run("sweep", "--seeds", "0..2", *SHORT, "--resume", file, "-o", tmp_path / "out")
    before = file.read_bytes()
    run("report", file, "-o", tmp_path, code=2)
    assert file.read_bytes() == before


def test_words_without_sense_are_refused_before_anything_begins(tmp_path: Path) -> None:
    for words in (
        ("--seeds", "9..1"),
        ("--seeds", "0..1", "--options", "mirror,stepz=1"),
        ("--seeds", "0..1", "--shard", "3/2"),
        ("--seeds", "0..1", "--engine", "ray"),
        ("--seeds", f"0..{2**64}"),
        ("--seeds", "0..1", "--seed-seconds", "inf"),
        ("--seeds", "0..1", "--seed-seconds", "0.5"),
        ("--seeds", "0..1", "--seed-seconds", "1e12"),
        ("--seeds", "0..1", "--scheduler", "tcp://machine:8786"),
    ):
        _, err = run("sweep", *words, "-o", tmp_path / "s", code=2)
        assert words[-2] in err
    assert not (tmp_path / "s").exists()
