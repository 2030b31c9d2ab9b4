"""`mirrorfarm sim scenario` and `mirrorfarm sim shrink`, as they are typed."""

import json
from pathlib import Path

import pytest

from mirrorfarm.actors.module.mirror import leading
from mirrorfarm.cli.main import main
from tests.mirrorfarm.cli.test_trace import bound

TAKEOVER = Path(__file__).parents[3] / "examples" / "scenarios" / "takeover.yaml"


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["sim", *words])
    return int(str(ended.value.code))


def test_a_scenario_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("scenario", str(TAKEOVER)) == 0
    told = capsys.readouterr().out
    assert "     1.000 s  n1  ! power: n1\n" in told
    assert "n2  ALONE Ready\n" in told
    assert told.endswith(f"as expected: {TAKEOVER}\n")


def test_what_is_not_as_expected_ends_with_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("end: 1 s\nexpect: [{at: 1 s, node: n1, is: down}]\nviolates: S3\n")
    assert run("scenario", "-q", str(TAKEOVER), str(file)) == 1
    told = capsys.readouterr().out
    assert "not as expected: line 2, at 1 s: n1 is PRIM Ready, not down\n" in told
    assert "every invariant holds, instead of: S3 is violated" in told
    assert f"FAILED: {file}" in told
    assert f"as expected: {TAKEOVER}\n" in told


def test_faults_of_all_files_are_listed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("evnts: []\nmirror: {arbitr: none}\n")
    assert run("scenario", str(tmp_path / "a"), str(tmp_path / "b")) == 3
    errors = capsys.readouterr().err
    assert errors.count("did you mean events?") == 2
    assert f"{tmp_path / 'b'}:2: mirror.arbitr: unknown key; did you mean arbiter?" in errors


def test_a_file_that_is_not_there_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run("scenario", str(tmp_path / "none.yaml")) == 8
    assert "none.yaml" in capsys.readouterr().err


def test_a_file_that_is_not_there_hides_no_faults_of_the_others(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "faulty").write_text("evnts: []\n")
    assert run("scenario", str(tmp_path / "none"), str(tmp_path / "faulty")) == 3
    errors = capsys.readouterr().err
    assert f"{tmp_path / 'none'}: No such file or directory: check how it is spelt" in errors
    assert f"{tmp_path / 'faulty'}:1: evnts: unknown key; did you mean events?" in errors
    assert run("scenario", str(tmp_path / "none"), str(TAKEOVER), str(tmp_path / "nor")) == 8
    errors = capsys.readouterr().err
    assert f"{tmp_path / 'none'}: No such file" in errors
    assert f"{tmp_path / 'nor'}: No such file" in errors


def test_what_cannot_be_read_hides_no_faults_of_the_others(tmp_path: Path) -> None:
    closed, faulty = tmp_path / "closed", tmp_path / "faulty"
    closed.write_text("end: 1 s\n")
    closed.chmod(0)
    faulty.write_text("evnts: []\n")
    code, _, errors = bound("sim", "scenario", closed, tmp_path, faulty)
    assert code == 3
    assert f"{closed}: Permission denied" in errors
    assert f"{tmp_path}: Is a directory" in errors
    assert f"{faulty}:1: evnts: unknown key" in errors
    code, _, errors = bound("sim", "scenario", closed, tmp_path, TAKEOVER)
    assert code == 8
    assert f"{closed}: Permission denied" in errors


def test_no_more_of_a_file_is_read_than_a_scenario_may_have(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    endless = tmp_path / "endless"
    with endless.open("wb") as file:
        file.truncate(1 << 40)
    assert run("scenario", str(endless)) == 3
    assert f"{endless}: YAML: larger than 262144 bytes" in capsys.readouterr().err


def test_traces_of_files_of_one_name_are_not_mixed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ("scenario", "-q", "--trace", str(tmp_path / "traces"), str(TAKEOVER), str(TAKEOVER))
    assert run(*words) == 2
    assert "several files are called takeover" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_shrunk_seed_without_a_place_to_write_it_is_refused_at_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run("shrink", "--seed", "1", "-o", str(tmp_path / "nowhere" / "x.yaml")) == 2
    assert "nowhere; make it first" in capsys.readouterr().err


def test_no_file_is_lost_to_the_page_of_a_shrunk_seed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run("shrink", "--seed", "1", "-o", str(tmp_path / "found.md")) == 2
    assert f"name the scenario {tmp_path / 'found.yaml'}" in capsys.readouterr().err
    page, folder, link = (tmp_path / f"{name}.md" for name in ("notes", "folder", "link"))
    page.write_text("# Notes\n\n```mermaid\nsequenceDiagram\n```\n")
    folder.mkdir()
    link.symlink_to(tmp_path / "nowhere")
    for path in (page, folder, link):
        assert run("shrink", "--seed", "1", "-o", str(path.with_suffix(".yaml"))) == 2
        told = capsys.readouterr().err
        assert f"{path} is there already" in told
        assert "move it away" in told
    assert {path.name for path in tmp_path.iterdir()} == {"notes.md", "folder.md", "link.md"}


def test_json_holds_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("scenario", "--json", str(TAKEOVER)) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["as_expected"] is True
    assert [1_000_000_000, "n1", "down"] in found["moments"]


def test_a_seed_is_shrunk_into_files(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = leading.gate_of
    monkeypatch.setattr(leading, "gate_of", lambda s: "self" if s.leading.lost else honest(s))
    file = tmp_path / "found.yaml"
    words = ("shrink", "--seed", "0x0", "--options", "mirror")
    assert run(*words, "--seconds", "600", "-o", str(file), "--json") == 0
    out, err = capsys.readouterr()
    assert "leave out events:" in err
    found = json.loads(out)
    assert found["scenario"] == file.read_text()
    assert found["minimal"] is True
    assert "```mermaid" in file.with_suffix(".md").read_text()
    assert run("scenario", str(file)) == 1
    told = capsys.readouterr().out
    assert "instead of: every invariant holds" in told
    file.with_suffix(".md").write_text(found["diagram"] + "an earlier run\n")
    assert run(*words, "--seconds", "0", "-o", str(file)) == 0
    assert "an earlier run" not in file.with_suffix(".md").read_text()
    assert run(*words, "--seconds", "0") == 0
    assert "perhaps not the shortest: more time" in capsys.readouterr().err


def test_a_seed_that_breaks_nothing_or_is_none_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("shrink", "--seed", "1", "--options", "mirror") == 6
    assert run("shrink", "--seed", "x") == 2
    assert "64 bits" in capsys.readouterr().err
