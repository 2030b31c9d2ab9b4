"""What a sweep leaves in its folder."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mirrorfarm.sim.running import Moment
from mirrorfarm.sim.sweeps import tables
from mirrorfarm.sim.sweeps.outputs import write_outputs
from mirrorfarm.sim.sweeps.result import SeedResult
from mirrorfarm.sim.sweeps.results import Appender, Header, Results, read_results
from mirrorfarm.sim.sweeps.run import build_id
from mirrorfarm.unfinished import whole
from tests.sim.sweeps.stand_in import quick


def results_of(folder: Path, count: int, build: str = "", options: str = "mirror") -> Results:
    path = folder / "r.jsonl"
    build = build or build_id()
    appender = Appender(path, Header(options=options, build=build))
    appender.append(replace(quick(options, seed), build=build) for seed in range(count))
    appender.close()
    return read_results([path])


def replay(options: str, seed: int) -> tuple[SeedResult, list[Moment]]:
    return quick(options, seed), [Moment(0, "n1", "state", "leading")]


def test_each_class_has_one_scenario_and_the_summary_is_json(tmp_path: Path) -> None:
    written = write_outputs(
        results_of(tmp_path, 100),
        tmp_path / "out",
        shrink=lambda options, seed: f"seed: {seed}\noptions: {options}\n",
        replay=replay,
    )
    assert all(path.exists() for path in written.paths)
    scenarios = sorted((tmp_path / "out" / "failures").iterdir())
    assert [path.name for path in scenarios] == ["01-L4.yaml", "02-S3.yaml"]
    assert scenarios[1].read_text() == "seed: 83\noptions: mirror\n"
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["failed"] == 10
    assert not list((tmp_path / "out").rglob("*.part"))


def test_an_example_that_another_report_is_just_writing_is_left_to_it(tmp_path: Path) -> None:
    results = results_of(tmp_path, 100)
    write_outputs(results, tmp_path, shrink=None, replay=replay)
    with whole(tmp_path / "failures" / "01-L4.txt") as file:
        file.write(b"of the other report\n")
        write_outputs(results, tmp_path, shrink=None, replay=replay)
    assert (tmp_path / "failures" / "01-L4.txt").read_text() == "of the other report\n"
    assert not list(tmp_path.rglob("*.part"))


def test_without_a_shrinker_the_command_is_the_example(tmp_path: Path) -> None:
    write_outputs(results_of(tmp_path, 100), tmp_path, shrink=None, replay=replay)
    text = (tmp_path / "failures" / "02-S3.txt").read_text()
    assert text == "mirrorfarm sim run --seed 0x53 --options mirror\n"


def test_shrinking_says_how_far_it_is(tmp_path: Path) -> None:
    told: list[str] = []
    write_outputs(
        results_of(tmp_path, 100),
        tmp_path,
        shrink=lambda options, seed: "",
        replay=replay,
        tell=told.append,
    )
    assert [line.partition(",")[0] for line in told] == [
        "shrinking class 1 of 2: L4",
        "shrinking class 2 of 2: S3",
    ]


def test_a_shrinker_that_fails_is_told_and_hides_nothing(tmp_path: Path) -> None:
    def shrink(options: str, seed: int) -> str:
        raise ValueError("the seed passes")

    written = write_outputs(results_of(tmp_path, 100), tmp_path, shrink=shrink, replay=replay)
    assert "could not be shrunk: ValueError('the seed passes')" in written.notes[0]
    assert (tmp_path / "failures" / "01-L4.txt").exists()


def test_examples_of_an_earlier_report_do_not_stay(tmp_path: Path) -> None:
    write_outputs(results_of(tmp_path, 100), tmp_path / "out", replay=replay)
    (tmp_path / "r.jsonl").unlink()
    write_outputs(results_of(tmp_path, 5), tmp_path / "out", replay=replay)
    assert [p.name for p in (tmp_path / "out" / "failures").iterdir()] == ["01-S3.txt"]


def test_a_run_that_is_played_differently_has_no_time_line_and_says_so(tmp_path: Path) -> None:
    written = write_outputs(
        results_of(tmp_path, 4), tmp_path, replay=lambda options, seed: (quick(options, 8), [])
    )
    assert "no time line of seed 3" in written.notes[-1]
    assert "not deterministic" in written.notes[-1]


def test_results_of_another_build_are_reported_without_a_run_of_this_one(tmp_path: Path) -> None:
    def play(options: str, seed: int) -> tuple[SeedResult, list[Moment]]:
        raise AssertionError("another build's seed is another run")

    def shrink(options: str, seed: int) -> str:
        raise AssertionError("another build's seed is another run")

    results = results_of(tmp_path, 100, build="0123456789abcdef")
    written = write_outputs(results, tmp_path, shrink=shrink, replay=play)
    assert [note.partition(",")[0] for note in written.notes] == [
        "these are results of build 0123456789abcdef"
    ]
    assert build_id() in written.notes[0]
    names = [path.name for path in sorted((tmp_path / "failures").iterdir())]
    assert names == ["01-L4.txt", "02-S3.txt"]
    assert (tmp_path / "report.html").exists()


def test_options_that_nobody_knows_prevent_no_report(tmp_path: Path) -> None:
    written = write_outputs(results_of(tmp_path, 4, options="no such thing"), tmp_path)
    assert (tmp_path / "report.html").exists()
    assert "no time line of seed 3: it could not be played again: --options" in written.notes[-1]


def test_without_pyarrow_the_rest_is_there_and_the_cure_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "pyarrow", None)
    written = write_outputs(results_of(tmp_path, 4), tmp_path, replay=replay)
    assert "pip install -e '.[analysis]'" in written.notes[0]
    assert [p.name for p in written.paths] == ["summary.json", "01-S3.txt", "report.html"]
