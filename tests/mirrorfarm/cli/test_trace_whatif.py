"""`mirrorfarm trace whatif` as a user calls it: a table, JSON, and errors that say what to do."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mirrorfarm.cli.main import main
from mirrorfarm.cli.trace_whatif import unserved
from mirrorfarm.sim.fork.incidents import Incident
from mirrorfarm.sim.fork.measure import Result
from mirrorfarm.sim.fork.runs import Variant
from mirrorfarm.sim.fork.unserved import Says
from mirrorfarm.sim.fork.whatif import Summary
from mirrorfarm.sim.monitors.monitor import Monitor
from mirrorfarm.sim.steps import Step
from tests.mirrorfarm.trace.little_cluster import takeover

SECOND_NS = 10**9
EXAMPLES = Path(__file__).parents[3] / "examples/traces"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(name="folder", scope="module")
def fixture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """n1 leads, n2 follows, n1 loses its power, n2 takes over."""
    folder = tmp_path_factory.mktemp("takeover")
    takeover(folder)
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["trace", "whatif", *(str(word) for word in words)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return int(end.value.code or 0), out, err

    return call


def test_a_table_shows_the_unchanged_variant_and_one_for_each_value(folder: Path, run: Run) -> None:
    words = ("--set", "heart.detection=1s,4s", "--seeds", 2, "--progress")
    code, out, err = run(folder, *words)
    assert code == 0, err
    rows = [line.split() for line in out.splitlines()]
    assert any(line.startswith("ledger goes on from 20") for line in out.splitlines())
    assert "n1 lost its power, or all its processes were killed" in out
    shown = [
        row[:2]
        for row in rows
        if row and row[0] in {"as", "heart.detection=1", "heart.detection=4"}
    ]
    assert shown == [["as", "recorded"], ["heart.detection=1", "s"], ["heart.detection=4", "s"]]
    assert "playing: 6 of 6" in err


def test_json_has_all_of_it(folder: Path, run: Run) -> None:
    words = ("--at", "+14s", "--no-faults", "--crash", "n1 +1s", "--seeds", 2, "--minutes", 0.2)
    code, out, _ = run(folder, *words, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["module"], found["nodes"], found["witness"]) == ("ledger", ["n1", "n2"], "w")
    assert (found["seeds"], found["played_ns"]) == (2, 12 * SECOND_NS)
    assert [one["kind"] for one in found["from_outside"]] == ["power"]
    usual, crashed = found["variants"]
    assert (usual["took_over"], usual["at_end"]) == (0, {"n1": 2})
    assert (crashed["changes"], crashed["took_over"], crashed["needless"]) == (
        ["crash n1 +1 s"],
        2,
        0,
    )
    assert 2 * SECOND_NS < crashed["failover_ns"]["median"] < 4 * SECOND_NS


def test_why_nobody_serves_at_the_end_is_told_for_each_variant(folder: Path, run: Run) -> None:
    words = ("--at", "+14s", "--no-faults", "--crash", "n1 +1s", "--crash", "n2", "--seeds", 2)
    code, out, _ = run(folder, *words, "--minutes", 0.1)
    assert code == 0
    assert out.endswith(
        "\ncrash n1 +1 s, crash n2: why nobody served at the end\n"
        "  in 2 runs: no node's module ran\n"
    )


def test_what_would_begin_after_the_end_of_each_run_is_refused(folder: Path, run: Run) -> None:
    words = ("--crash", "n1 +1s", "--crash", "n2 +6s", "--seeds", 1, "--minutes", 0.1)
    code, out, err = run("--at", "+14s", *words, folder)
    assert (code, out) == (2, "")
    assert "--crash: each run is over after 6.00 s, before 'crash n2 +6 s' begins" in err


def test_what_no_run_reaches_is_not_said_to_be_kept(folder: Path, run: Run) -> None:
    words = (folder, "--at", "+14s", "--seeds", 1)
    power = "n1 lost its power, or all its processes were killed"
    for minutes, kept, reached in ((0.05, "not reached", False), (0.5, "kept", True)):
        _, out, _ = run(*words, "--minutes", minutes)
        (line,) = (one for one in out.splitlines() if one.endswith(power))
        assert line.partition(":")[0] == kept
        _, out, _ = run(*words, "--minutes", minutes, "--json")
        assert [one["reached"] for one in json.loads(out)["from_outside"]] == [reached]
    _, out, _ = run(*words, "--minutes", 0.05, "--no-faults")
    assert "\nleft out: " in out


def test_a_start_that_fails_is_the_next_one_whenever_that_is() -> None:
    at_ns = 60 * SECOND_NS
    assert Incident(at_ns, "start_fails", "n2").reached(0, SECOND_NS)
    assert not Incident(at_ns, "start", "n2").reached(0, SECOND_NS)
    assert Incident(at_ns, "start", "n2").reached(0, at_ns + 1)


def test_of_many_reasons_three_are_told() -> None:
    said = [Says(f"n{number}", "WAIT", "NotReady", "", "old", "", "") for number in range(6)]
    few = [Result(number, unserved=(one,)) for number, one in enumerate([*said, said[0], said[0]])]
    assert list(unserved(Summary(Variant(), few))) == [
        "as recorded: why nobody served at the end",
        "  in 3 runs: n0 is WAIT NotReady: old",
        "  in 1 run: n1 is WAIT NotReady: old",
        "  in 1 run: n2 is WAIT NotReady: old",
        "  … and 3 other reasons, in 3 runs",
    ]
    assert list(unserved(Summary(Variant(), few[:4])))[-1] == "  … and 1 other reason, in 1 run"
    assert list(unserved(Summary(Variant(), [Result(0, at_end="n1")]))) == []


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("--set", "heart.detecton=1s"), 2, "did you mean heart.detection?"),
        (("--set", "heart.detection=0.3s"), 2, "is not longer than 3 pulses"),
        (("--at", "+9h"), 2, "not within what was recorded"),
        (("--drop", "Heartbeat n1->n9 5s"), 2, "n9 is not there"),
        (("--module", "other"), 2, "did you mean|known here: ledger"),
        (("--seeds", "0"), 2, "0 is not in the range"),
        (("--workers", "0"), 2, "0 is not in the range"),
        (("--minutes", "nan"), 2, "'nan' is not a number"),
        (("--minutes", 0), 2, "0.0 is not in the range"),
        (("nowhere",), 11, "there is no such file or folder"),
    ],
)
def test_bad_words_get_an_exit_code_and_a_cure(
    folder: Path, run: Run, words: tuple[str, ...], code: int, why: str
) -> None:
    got, out, err = run(folder, *words)
    assert (got, out) == (code, "")
    assert any(part in err for part in why.split("|")), err


@pytest.mark.parametrize(
    ("example", "script"), [("takeover", "n1.start_both"), ("farm", "n1.start_prim")]
)
def test_a_script_that_the_module_does_not_have_is_refused(
    run: Run, example: str, script: str
) -> None:
    words = ("--set", f"{script}=5s", "--seeds", 1, "--minutes", 0.02, EXAMPLES / example)
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert f"which has no {script.partition('.')[2]} on n1" in err


def test_what_a_damaged_trace_lacks_is_told_and_the_rest_played(
    folder: Path, run: Run, tmp_path: Path
) -> None:
    foreign = tmp_path / "notes.mft"
    foreign.write_text("no trace at all")
    code, out, err = run(folder, foreign, "--seeds", 1)
    assert code == 11
    assert "not a trace" in err
    assert "as recorded" in out


def test_an_invariant_that_does_not_hold_is_told(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirrorfarm.sim.monitors.mirror_safety.Monotony.on", _always)
    code, out, _ = run(folder, "--seeds", 1, "--minutes", 0.1)
    assert code == 1
    assert "S9 1" in out


def _always(self: Monitor, step: Step) -> None:
    self.fail(f"as always, at {step.now}")
