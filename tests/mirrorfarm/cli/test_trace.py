"""`mirrorfarm trace` as a user calls it: show, replay, redact."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
import zstandard

from mirrorfarm.actors.events import Started
from mirrorfarm.actors.heartbeat.core import Heartbeat
from mirrorfarm.cli.main import UNREAD, main
from mirrorfarm.cli.trace_show import Wanted, merged, time_ns
from mirrorfarm.errors import SystemUnsuitable, UsageInvalid
from mirrorfarm.trace.files import sources
from mirrorfarm.trace.step import Step
from mirrorfarm.trace.steps import read_items
from mirrorfarm.transport.trace import TraceWriter
from mirrorfarm.transport.trace_ring import Origin, Ring
from mirrorfarm.transport.trace_ring import sources as build_of_sources
from tests.mirrorfarm.trace.recorded import ORIGIN, record_simulations
from tests.transport.bus import until
from tests.transport.test_trace import STEPS

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return int(end.value.code or 0), out, err

    return call


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_simulations(tmp_path_factory.mktemp("trace"), mirrors=1, farms=0)


@pytest.fixture
def short(tmp_path: Path) -> Path:
    writer = TraceWriter(tmp_path / "t", ORIGIN)
    for step in STEPS:
        writer.step(*step)
    writer.close()
    return tmp_path / "t"


@contextmanager
def broken_heartbeat() -> Iterator[None]:
    honest = Heartbeat.handle

    def handle(core: Heartbeat, event: Any, now: int) -> list[Any]:
        return honest(core, event, now + (core._number == 5))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Heartbeat, "handle", handle)
        yield


# --- show ----------------------------------------------------------------------------------


def test_show_prints_a_row_for_each_event_and_effect(short: Path, run: Run) -> None:
    code, out, _ = run("trace", "show", short)
    assert code == 0
    lines = out.splitlines()
    assert len(lines) == sum(1 + len(effects) for *_, effects in STEPS)
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} n1 web/module <- Started$", lines[0])
    assert lines[1].endswith("n1 web/module -> Log(level='E', text='started é')")
    assert lines[3].endswith("Tell(actor='module', event=PeerSilent silent_ns=9)")
    assert "n1 web/module <- n2/web/module by red #8: Probe(network='red', number=1)" in out


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (("--actor", "heartbeat"), 3),
        (("--kind", "send"), 1),
        (("--kind", "recv", "--kind", "timer"), 3),
        (("--kind", "PeerSilent"), 2),
        (("--text", "started"), 1),
        (("--node", "n1"), 10),
        (("--kind", "Probe"), 3),
        (("--from", "1s"), 4),  # Only those at 2^62 ns.
        (("--to", "1s ago"), 6),
        (("--from", f"{'9' * 9}d"), 10),
    ],
)
def test_rows_are_filtered(short: Path, run: Run, words: tuple[str, ...], count: int) -> None:
    code, out, _ = run("trace", "show", short, *words)
    assert (code, len(out.splitlines())) == (0, count)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--node", "n2"), "--node n2: not in these traces; known here: n1"),
        (("--kind", "Started!"), "there is no such kind; did you mean Started?"),
        (("--kind", "42"), "no such kind; known are input, recv, effect"),
        (("--from", "22:00", "--to", "21:00"), "--to is before --from"),
        (("--from", f"{'9' * 400}d"), "9…: not a time; write 22:05"),
        (("--to", f"{'9' * 5_000}d ago"), "9…: not a time; write 22:05"),
    ],
)
def test_words_that_stand_for_nothing_are_an_error(
    short: Path, run: Run, words: tuple[str, ...], why: str
) -> None:
    code, out, err = run("trace", "show", short, *words)
    assert (code, out) == (2, "")
    assert why in err


def test_why_there_is_no_row_is_told(short: Path, run: Run) -> None:
    code, out, err = run("trace", "show", short, "--actor", "heartbet")
    assert (code, out) == (0, "")
    assert err == (
        "mirrorfarm: no row: --actor heartbet: not in these traces; did you mean heartbeat?\n"
    )
    _, _, err = run("trace", "show", short, "--text", "never said")
    assert err == "mirrorfarm: no row: nothing in these traces is as wanted\n"
    _, _, err = run("trace", "show", short, "--to", "1970-01-01")
    assert err == "mirrorfarm: no row: nothing in these traces is as wanted\n"


def test_an_actor_that_is_misspelt_beside_another_one_is_told(short: Path, run: Run) -> None:
    words = ("--actor", "heartbeat", "--actor", "heartbet")
    code, out, err = run("trace", "show", short, *words)
    assert (code, len(out.splitlines())) == (0, 3)
    assert err == "mirrorfarm: --actor heartbet: not in these traces; did you mean heartbeat?\n"


def test_a_trace_without_a_whole_step_is_told(tmp_path: Path, run: Run) -> None:
    clock(tmp_path, 0)
    assert run("trace", "show", tmp_path) == (
        *(0, ""),
        "mirrorfarm: no row: the files hold no whole step yet, or are cut off; take other copies "
        "if you have them\n",
    )


def clock(folder: Path, epoch_ns: int, *seconds: int) -> Path:
    """Record a step at each of these times; return the file."""
    ring = Ring(folder, ORIGIN, 9_999, 1, {"epoch_real_ns": epoch_ns})
    ring.ready(0, 1)
    for number, second in enumerate(seconds, 1):
        ring.ready(second * 10**9, number)
        ring.encoder.step("module", second * 10**9, Started(), (), ())
    ring.flush(ends=True)
    return folder / "trace-00000001.mft"


def test_rows_from_before_1970_are_shown_and_the_clock_is_told_of(tmp_path: Path, run: Run) -> None:
    file = clock(tmp_path, -3_600 * 10**9, 60, 90)
    code, out, err = run("trace", "show", "--json", tmp_path)
    times = [json.loads(row)["real_ns"] for row in out.splitlines()]
    assert (code, times) == (0, [-3_540 * 10**9, -3_510 * 10**9])
    before = "the clock of n1 stood before 1970: set it, should it still be wrong"
    assert err == f"mirrorfarm: {file}: {before}\n"
    assert len(run("trace", "show", tmp_path)[1].splitlines()) == 2
    assert len(run("trace", "show", tmp_path, "--from", "1969-12-30")[1].splitlines()) == 2
    assert not run("trace", "show", tmp_path, "--from", "1970-01-03")[1]


def test_rows_of_a_clock_that_goes_back_are_shown_in_their_order(tmp_path: Path, run: Run) -> None:
    file = clock(tmp_path, 10**18, 60, 90, 70, 65)
    code, out, err = run("trace", "show", "--json", tmp_path)
    assert code == 0
    assert [json.loads(row)["boot_ns"] // 10**9 for row in out.splitlines()] == [60, 90, 70, 65]
    assert err == (
        f"mirrorfarm: {file}: the boot clock of n1 goes back by 20.00 s at step 3: the machine "
        "stood still or the trace is damaged, and times are wrong there\n"
    )


def test_the_time_that_is_printed_belongs_to_the_range(tmp_path: Path, run: Run) -> None:
    clock(tmp_path, 10**18 + 123_456_789, 60)
    row = run("trace", "show", tmp_path)[1]
    printed = "T".join(row.split()[:2])
    assert printed.endswith(".123456")
    for words in (("--to", printed), ("--from", printed, "--to", printed)):
        assert run("trace", "show", tmp_path, *words) == (0, row, "")
    before = printed.replace(".123456", ".123455")
    assert run("trace", "show", tmp_path, "--to", before)[1] == ""


def test_a_reader_that_leaves_ends_the_command_without_a_word(short: Path) -> None:
    command = f"{sys.executable} -m mirrorfarm.cli.main trace show --json {short}"
    program = f"set -o pipefail; {command} | true"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (UNREAD, "", "")


def test_json_has_every_field(short: Path, run: Run) -> None:
    _, out, _ = run("trace", "show", short, "--json", "--kind", "send", "--kind", "recv")
    sent, received, _ = [json.loads(line) for line in out.splitlines()]
    assert (sent["kind"], sent["type"], sent["step"], sent["boot_ns"]) == ("send", "Send", 2, 2_000)
    assert sent["value"]["message"] == {"type": "Probe", "network": "red", "number": 1}
    assert received["value"]["source"] == "n2/web/module"
    assert (received["value"]["incarnation"], received["value"]["sequence"]) == (7, 8)


def test_what_peers_said_cannot_write_to_the_terminal(tmp_path: Path, run: Run) -> None:
    from mirrorfarm.actors.effects import Log  # noqa: PLC0415

    writer = TraceWriter(tmp_path, ORIGIN)
    writer.step("module", 1, STEPS[0][2], [Log("E", "\x1b[2J\nroot")])
    writer.close()
    _, out, _ = run("trace", "show", tmp_path)
    assert "\x1b" not in out
    assert len(out.splitlines()) == 2


def test_a_damaged_trace_is_shown_as_far_as_it_goes_with_exit_code_11(
    short: Path, run: Run
) -> None:
    (path,) = short.iterdir()
    shutil.copy(path, short / "trace-00000009.mft")
    path.write_bytes(b"nonsense" * 100)
    code, out, err = run("trace", "show", short)
    assert (code, len(out.splitlines())) == (11, 10)
    assert err.count(str(path)) == 1
    assert "not a trace" in err


def test_of_many_damaged_places_the_first_are_told_and_the_others_counted(
    tmp_path: Path, run: Run
) -> None:
    file = clock(tmp_path, 10**18, 1)
    frame = zstandard.compress(b"\x80")
    for places in (200, 400):  # Each frame is one as well: a map that is no head.
        with file.open("ab") as end:
            end.write((b"nonsense" + frame) * 100)
        code, _, err = run("trace", "check", tmp_path)
        told = [line for line in err.splitlines() if str(file) in line]
        assert (code, len(told)) == (11, 101)
        assert told[0].startswith(f"mirrorfarm: {file}: at byte ")
        more = f"mirrorfarm: {file}: and {places - 100} more places that cannot be read"
        assert told[-1] == more
        result = json.loads(run("trace", "replay", "--json", tmp_path)[1])
        assert result["unreadable_places"] == places


def test_a_folder_without_traces_is_refused(tmp_path: Path, run: Run) -> None:
    code, _, err = run("trace", "show", tmp_path)
    assert code == 11
    assert "name files *.mft" in err


def test_without_a_path_it_is_this_node(
    short: Path, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MIRRORFARM_ROOT", str(tmp_path / "root"))
    shutil.copytree(short, tmp_path / "root/var/log/mirrorfarm/modules/web/trace")
    assert len(run("trace", "show")[1].splitlines()) == 10


def test_follow_goes_on_with_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mirrorfarm.cli import trace_show  # noqa: PLC0415

    lines: list[str] = []
    ends = threading.Event()

    def pause(_: float) -> None:
        if ends.wait(0.02):
            raise KeyboardInterrupt

    def watches() -> None:
        with suppress(KeyboardInterrupt):
            trace_show.show_trace([tmp_path], Wanted(), follow=True)

    monkeypatch.setattr(trace_show, "time", SimpleNamespace(**{**vars(time), "sleep": pause}))
    monkeypatch.setattr(click, "echo", lambda text, err=False: lines.append(str(text)))
    writer = TraceWriter(tmp_path, ORIGIN)
    writer.step(*STEPS[0])
    until(lambda: any(tmp_path.iterdir()))
    watch = threading.Thread(target=watches)
    watch.start()
    try:
        until(lambda: len(lines) == 2)
        for step in STEPS[1:]:
            writer.step(*step)
        writer.close()
        until(lambda: len(lines) == 10)
    finally:
        ends.set()
        watch.join()
    assert len(set(lines)) == 10


def test_times_are_as_people_write_them() -> None:
    now = 1_800_000_000.5
    assert time_ns("10min", "--from", now) == (1_800_000_000 - 600) * 10**9
    assert time_ns("2h ago", "--from", now) == (1_800_000_000 - 7_200) * 10**9
    assert time_ns("2027-01-15T08:00:00+00:00", "--to", now) == 1_800_000_000 * 10**9
    assert time_ns("00:00", "--to", now) <= 1_800_000_000 * 10**9
    assert time_ns("22:05:09.25", "--to", now) % 10**9 == 250_000_000
    with pytest.raises(UsageInvalid, match=r"--from soon: not a time; write 22:05"):
        time_ns("soon", "--from", now)


def test_rows_of_several_processes_are_merged(tmp_path: Path) -> None:
    for name in ("a", "b"):
        writer = TraceWriter(tmp_path / name, ORIGIN)
        for step in STEPS:
            writer.step(*step)
        writer.close()
    rows = list(merged([tmp_path], Wanted(), lambda _: None, {}))  # type: ignore[arg-type]
    assert len(rows) == 20


# --- replay --------------------------------------------------------------------------------


def test_replay_of_an_honest_trace_finds_nothing(simulated: Path, run: Run) -> None:
    code, out, _ = run("trace", "replay", simulated)
    assert code == 0
    assert re.search(r"\d+ steps, \d+ records in [\d.]+ s \(\d+ records/s\): every effect", out)
    assert "another build" not in out


def test_replay_of_a_node_or_actor_that_is_not_there_is_refused(simulated: Path, run: Run) -> None:
    for option, word in (("--node", "n77"), ("--actor", "nobody")):
        code, out, err = run("trace", "replay", simulated, option, word)
        assert (code, out) == (2, "")
        assert f"{option} {word}: not in these traces; " in err


def test_replay_refuses_an_actor_that_is_misspelt_beside_another_one(run: Run) -> None:
    words = ("--actor", "module", "--actor", "modul")
    code, out, err = run("trace", "replay", TAKEOVER, *words)
    assert (code, out) == (2, "")
    assert err == "mirrorfarm: --actor modul: not in these traces; did you mean module?\n"


def test_a_core_that_does_something_else_is_shown_with_both_effects(
    simulated: Path, run: Run
) -> None:
    with broken_heartbeat():
        code, out, _ = run("trace", "replay", simulated)
    assert code == 3
    assert re.search(r"n1 web/Heartbeat\d+, step \d+: the core did something else", out)
    assert "the events that led there:" in out
    recorded = re.search(r"effect (\d+) as recorded: (.*)", out)
    replayed = re.search(r"effect (\d+) as replayed: (.*)", out)
    assert recorded is not None
    assert replayed is not None
    assert recorded[1] == replayed[1]
    assert recorded[2] != replayed[2]


def without_states(simulated: Path, to: Path, node: str = "n1") -> Path:
    """Copy traces as steps alone, as of this node."""
    (source,) = sources([simulated])
    header = {**source.header, "node": node}
    names = (header[name] for name in ("version", "cluster", "node", "process", "inc", "os_boot"))
    copy = Ring(to, Origin(*names), 1 << 30, 1, header=header)
    for item in read_items(source):
        if isinstance(item, Step):
            copy.ready(item.now_ns, item.number)
            copy.encoder.step(item.actor, item.now_ns, item.event, item.effects, item.sent)
    copy.flush(ends=True)
    return to


def test_what_was_not_replayed_is_not_called_the_same(
    simulated: Path, run: Run, tmp_path: Path
) -> None:
    bare = without_states(simulated, tmp_path / "bare", "n2")
    code, out, _ = run("trace", "replay", bare)
    assert code == 11
    assert (
        "(0 records/s): nothing was replayed: no step in these traces comes behind a state" in out
    )
    assert "replay them with the version that recorded them" in out
    assert "the same" not in out
    result = json.loads(run("trace", "replay", "--json", bare)[1])
    assert (result["replayed"], result["records_per_second"]) == (0, 0)
    assert result["skipped"] == result["steps"] > 1_000
    code, out, _ = run("trace", "replay", bare, simulated)
    assert code == 0
    told = re.search(r"(\d+) steps, .* of (\d+) steps replayed every effect came again", out)
    assert told is not None
    assert int(told[1]) == 2 * int(told[2]) == 2 * result["steps"]
    assert f"{result['steps']} steps were not replayed: the state of their core" in out
    both = json.loads(run("trace", "replay", "--json", bare, simulated)[1])
    assert both["replayed"] == both["skipped"] == result["steps"]
    assert both["records"] == 2 * both["skipped_records"]


def test_a_copy_beside_the_original_is_refused_by_replay_and_check(
    simulated: Path, run: Run, tmp_path: Path
) -> None:
    shutil.copytree(simulated, tmp_path / "copy")
    for command in ("replay", "check"):
        code, out, err = run("trace", command, simulated, tmp_path / "copy")
        assert (code, out) == (11, "")
        assert "both hold start 7 of n1/web: name only one of the folders" in err
    alone = run("trace", "replay", "--json", simulated)[1]
    twice = run("trace", "replay", "--json", simulated, simulated / "../" / simulated.name)[1]
    assert json.loads(twice)["steps"] == json.loads(alone)["steps"]


def test_all_differences_are_counted_and_json_tells_them(simulated: Path, run: Run) -> None:
    with broken_heartbeat():
        _, one, _ = run("trace", "replay", simulated, "--json")
        code, every, _ = run("trace", "replay", simulated, "--json", "--all")
    assert code == 3
    assert json.loads(one)["differences"] == 1
    assert json.loads(every)["differences"] == len(json.loads(every)["first"]) > 1
    assert json.loads(every)["build"] == build_of_sources()[0]


def test_actors_can_be_chosen(simulated: Path, run: Run) -> None:
    _, out, _ = run("trace", "show", simulated, "--json", "--kind", "checkpoint")
    names = {json.loads(line)["actor"] for line in out.splitlines()}
    other = next(name for name in sorted(names) if not name.startswith("Heartbeat"))
    with broken_heartbeat():
        code, out, _ = run("trace", "replay", simulated, "--actor", other)
    assert code == 0, out


def test_another_build_may_replay_and_is_named(
    simulated: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mirrorfarm.cli import trace_replay  # noqa: PLC0415

    monkeypatch.setattr(trace_replay, "build_of_sources", lambda: ("another", {}))
    code, out, _ = run("trace", "replay", simulated)
    assert code == 0
    assert "recorded by another build" in out
    assert "this one is another" in out


# --- redact --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["hash", "drop"])
def test_a_redacted_copy_has_no_names_but_all_steps(
    simulated: Path, run: Run, tmp_path: Path, mode: str
) -> None:
    code, out, _ = run("trace", "redact", simulated, "--to", tmp_path / "out", "--mode", mode)
    assert code == 0
    assert f"mode {mode}" in out
    _, before, _ = run("trace", "show", simulated, "--json")
    _, after, _ = run("trace", "show", tmp_path / "out", "--json")
    rows = [json.loads(line) for line in after.splitlines()]
    kept = [json.loads(line) for line in before.splitlines()]
    assert len(rows) == len([row for row in kept if row["kind"] != "checkpoint"])
    assert '"n1"' not in after
    assert '"n2"' not in after
    assert '"PeerSilent"' in after
    assert "0123456789abcdef" not in after
    code, _, err = run("trace", "replay", tmp_path / "out")
    assert code == 6
    assert "a redacted trace cannot be replayed" in err
    code, _, err = run("trace", "redact", simulated, "--to", tmp_path / "out")
    assert (code, "is not empty" in err) == (6, True)


@pytest.mark.parametrize("there", [True, False])
def test_of_a_copy_that_does_not_fit_nothing_stays(run: Run, tmp_path: Path, there: bool) -> None:
    """Each of its files would pass for a whole trace."""
    out = tmp_path / "out"
    if there:
        out.mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))  # Two processes fit.
    try:
        code, _, err = run("trace", "redact", TAKEOVER, "--to", out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == SystemUnsuitable.exit_code
    assert "0003/trace-00000001.mft: only partly written: make room there" in err
    assert out.exists() == there
    assert not there or not list(out.iterdir())


def test_a_start_that_is_there_twice_is_neither_shown_nor_redacted_twice(
    short: Path, run: Run, tmp_path: Path
) -> None:
    shutil.copytree(short, tmp_path / "copy")
    for words in (("show",), ("redact", "--to", tmp_path / "out")):
        code, out, err = run("trace", *words, short, tmp_path / "copy")
        assert (code, out) == (11, "")
        assert "name only one of the folders" in err
    assert not (tmp_path / "out").exists()


def test_copies_without_names_are_shown_although_they_cannot_be_told_apart(
    run: Run, tmp_path: Path
) -> None:
    drop = ("--mode", "drop")
    run("trace", "redact", TAKEOVER, "--to", tmp_path / "drop", *drop)
    shutil.copytree(tmp_path / "drop", tmp_path / "drop/copy")
    assert run("trace", "show", tmp_path / "drop")[0] == 0
    assert run("trace", "redact", tmp_path / "drop", "--to", tmp_path / "again", *drop)[0] == 0


def test_a_copy_with_hashes_is_checked_like_the_original(run: Run, tmp_path: Path) -> None:
    original = Path(__file__).parents[3] / "examples/traces/takeover"
    run("trace", "redact", original, "--to", tmp_path / "hash")
    code, out, _ = run("trace", "check", tmp_path / "hash")
    assert (code, out) == (0, run("trace", "check", original)[1])
    run("trace", "redact", original, "--to", tmp_path / "drop", "--mode", "drop")
    code, _, err = run("trace", "check", tmp_path / "drop")
    assert code == 11
    assert "its names are gone (redact --mode drop)" in err


# --- check ---------------------------------------------------------------------------------

TAKEOVER = Path(__file__).parents[3] / "examples/traces/takeover"
# A root whose reading and searching is bound by the modes of files, as that of any other user.
BOUND = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")


def bound(*words: object) -> tuple[int, str, str]:
    """Run a command as one who may read only what modes allow."""
    command = [sys.executable, "-m", "mirrorfarm.cli.main", *(str(word) for word in words)]
    if os.geteuid() == 0:
        command = [*BOUND, *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_check_that_could_not_see_all_traces_decides_nothing(run: Run) -> None:
    code, out, err = run("trace", "check", TAKEOVER / "n1", TAKEOVER / "w")
    assert "every invariant that can be seen in traces held" in out
    assert (code, "no trace of n2/ledger, n2/ledger.replica: what is told" in err) == (11, True)
    assert run("trace", "check", TAKEOVER)[0] == 0


@pytest.mark.parametrize("closed", ["n2", "n2/modules/ledger/trace/trace-00000001.mft"])
def test_what_may_not_be_read_is_told_with_exit_code_11(tmp_path: Path, closed: str) -> None:
    shutil.copytree(TAKEOVER, tmp_path / "log")
    path = tmp_path / "log" / closed
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        checked = bound("trace", "check", tmp_path / "log")
        shown = bound("trace", "show", path)
    finally:
        path.chmod(mode)
    told = f"{path}: cannot be read (Permission denied): run as root, or copy it\n"
    assert (checked[0], f"mirrorfarm: {told}" in checked[2]) == (11, True)
    assert re.search("no trace of n2/ledger.*, a part cannot be read: what is told", checked[2])
    assert shown[:2] == (11, "")
    assert shown[2].endswith(f"no trace can be read there: {told}")
