"""`mirrorfarm trace merge`, `why` and `export` as a user calls them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mirrorfarm.cli.progress import EVERY, progress
from mirrorfarm.cli.trace_merge import tell_clocks
from mirrorfarm.trace.clocks import NodeClock
from tests.mirrorfarm.cli.test_trace import Run, run
from tests.mirrorfarm.trace.conftest import fixture_recorded, utc

__all__ = ("fixture_recorded", "run", "utc")


def test_merge_prints_steps_in_order_and_how_clocks_differ(recorded: Path, run: Run) -> None:
    code, out, err = run("trace", "merge", recorded)
    assert code == 0
    lines = out.splitlines()
    times = [line[:26] for line in lines]
    assert times == sorted(times)
    assert {line.split()[2].split("/")[0] for line in lines} == {"n1", "n2", "w"}
    assert any(" arbiter -> w/ledger/register: RegisterCas" in line for line in lines)
    assert err.splitlines()[0] == "n1: all times are given by its clock"
    assert "n2: its time of day is 5 h 0 min ahead" in err


def test_merge_tells_only_the_clocks(recorded: Path, run: Run) -> None:
    code, out, err = run("trace", "merge", "--clocks", recorded)
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 3
    _, out, _ = run("trace", "merge", "--clocks", "--json", recorded)
    assert [one["basis"] for one in json.loads(out)] == ["reference", "messages", "messages"]


def test_the_clocks_of_a_machine_that_was_booted_meanwhile_are_told_apart(
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = NodeClock("n1", "b", "reference", 0, 0, 0, 0.0)
    boots = [NodeClock("n2", f"{n}f3ad0c4-aa", "messages", 9, 5, 9, 0.0) for n in (7, 1)]
    tell_clocks([own, *boots], err=False)
    told = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert told == ["n1", "n2 (boot 7f3ad0c4)", "n2 (boot 1f3ad0c4)"]


def test_merge_gives_vector_clocks_for_programs(recorded: Path, run: Run) -> None:
    _, out, _ = run("trace", "merge", "--json", "--vectors", recorded)
    records = [json.loads(line) for line in out.splitlines()]
    assert records[-1]["vector"].keys() == {"n1/ledger", "n2/ledger", "w/witness"}
    assert sum(records[-1]["vector"].values()) <= len(records)
    code, _, err = run("trace", "merge", "--vectors", recorded)
    assert code == 2
    assert "--vectors needs --json" in err


def test_merge_without_an_output_says_what_it_says_beside_it(recorded: Path) -> None:
    command = f"{sys.executable} -m mirrorfarm.cli.main trace merge --json {recorded} >&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert len(done.stderr.splitlines()) == 3, "the clocks"


def test_why_prints_a_paragraph_and_a_diagram(recorded: Path, run: Run) -> None:
    code, out, _ = run("trace", "why", "n2 PRIM", recorded)
    assert code == 0
    paragraph, diagram = out.split("\n\n", 1)
    assert paragraph.startswith("n2 became PRIM in term 2")
    assert max(len(line) for line in paragraph.splitlines()) <= 98
    assert diagram.startswith("```mermaid\nsequenceDiagram\n")
    assert diagram.endswith("```\n")
    _, plain, _ = run("trace", "why", "n2 PRIM", recorded, "--no-diagram")
    assert plain.strip() == paragraph.strip()
    _, told, _ = run("trace", "why", "n2 PRIM", recorded, "--json")
    assert json.loads(told)["event"]["text"] == "n2 became PRIM in term 2"


def test_why_takes_a_line_of_trace_show_for_a_name(recorded: Path, run: Run) -> None:
    _, out, _ = run("trace", "show", recorded, "--node", "n2", "--kind", "PeerSilent")
    [line] = [line for line in out.splitlines() if "PeerSilent" in line]
    date, moment, node, where = line.split()[:4]
    actor = where.split("/")[1]
    code, out, _ = run("trace", "why", f"{date} {moment} {node} {actor} PeerSilent", recorded)
    assert code == 0
    assert "nothing from its peer" in out
    assert "n1 ended without a word" in " ".join(out.split())


@pytest.mark.parametrize(
    ("event", "says"), [("AskRead", "may mean"), ("n9 PRIM", "no event of these traces is that")]
)
def test_why_refuses_what_is_not_one_event(event: str, says: str, recorded: Path, run: Run) -> None:
    code, out, err = run("trace", "why", event, recorded)
    assert (code, out) == (2, "")
    assert says in err
    assert "/ledger/1." in err, "candidates"


def test_export_says_what_it_wrote(recorded: Path, run: Run, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    code, out, err = run("trace", "export", "--to", "perfetto", "-o", output, recorded)
    assert code == 0
    assert out.startswith(f"{output}: ")
    assert "https://ui.perfetto.dev" in out
    assert "5 h 0 min ahead" in err
    assert json.loads(output.read_text())["traceEvents"]
    code, out, _ = run("trace", "export", "--to", "jsonl", "-o", output, recorded, "--json")
    told = json.loads(out)
    assert told["steps"] == len(output.read_text().splitlines())
    assert told["messages_joined"] > 300


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--to", "pcapng", "--tla"), "--tla needs --to jsonl"),
        (("--to", "jsonl", "--tsviz"), "--tsviz needs --to shiviz"),
        (("--to", "parquet", "--run", "../up"), "letters, digits, dots"),
        (("--to", "excel"), "'excel' is not one of"),
        (("--to", "jsonl", "--limit", "5"), "--limit needs --to shiviz"),
        (("--to", "jsonl", "--run", "x"), "--run needs --to parquet"),
        (("--to", "jsonl", "-o", "-"), "-o -: neither a file nor a folder"),
        (("--to", "jsonl", "-o", "/dev/null"), "-o /dev/null: neither a file nor a folder"),
    ],
)
def test_export_refuses_what_does_not_go_together(
    words: tuple[str, ...], says: str, recorded: Path, run: Run, tmp_path: Path
) -> None:
    code, _, err = run("trace", "export", "-o", tmp_path / "out", *words, recorded)
    assert code == 2
    assert says in err
    assert not list(tmp_path.iterdir())


def test_export_of_a_damaged_trace_goes_as_far_as_it_goes(
    recorded: Path, run: Run, tmp_path: Path
) -> None:
    [path] = (recorded / "n2").rglob("*.mft")
    content = path.read_bytes()
    (tmp_path / "cut.mft").write_bytes(content[: len(content) * 2 // 3])
    (tmp_path / "foreign.mft").write_bytes(b"PK\x03\x04" * 100)
    output = tmp_path / "out"
    code, out, err = run("trace", "export", "--to", "jsonl", "-o", output, tmp_path)
    assert code == 11
    assert "foreign.mft: at byte 0" in err
    assert out.startswith(f"{output}: ")
    assert 0 < len(output.read_text().splitlines()) < 600


def test_a_progress_bar_is_for_terminals_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("exporting") as tell:
        tell(EVERY, 2 * EVERY)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress("exporting") as tell:
        tell(EVERY, 2 * EVERY)
        tell(2 * EVERY, 2 * EVERY)
    out, err = capsys.readouterr()
    assert out == ""
    assert "exporting" in err
    assert "100%" in err
