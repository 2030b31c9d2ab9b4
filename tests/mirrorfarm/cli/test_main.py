"""Every command as a user calls it: output, errors, exit codes."""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.cli.main import COMMANDS, INTERRUPTED, UNREAD, cli, main
from mirrorfarm.cli.state import CODES
from mirrorfarm.errors import FrameInvalid, MirrorfarmError
from mirrorfarm.limits import POWER_MAX
from mirrorfarm.paths import Paths
from mirrorfarm.process import hold_lock, lock_path
from tests.mirrorfarm.cli.cluster_of_two import CLUSTER, Node, running_node, state_json

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="mf-"))
    monkeypatch.setenv("MIRRORFARM_ROOT", str(path))
    monkeypatch.delenv("SAFEMODULE", raising=False)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def node(root: Path) -> Iterator[Node]:
    with running_node(root) as running:
        yield running


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(list(words))
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return int(end.value.code or 0), out, err

    return call


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(name: str, run: Run) -> None:
    code, out, _ = run(name, "--help")
    assert code == 0
    assert "Usage" in out


@pytest.mark.parametrize("words", [("--help",), ("-h",), ("trace", "--help")])
def test_help_that_nobody_reads_ends_as_the_help_says(words: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "mirrorfarm.cli.main", *words]
    with open(writer, "wb") as unread:
        done = subprocess.run(command, stdout=unread, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (UNREAD, b"")


def test_the_help_names_every_exit_code(run: Run) -> None:
    text = run("--help")[1].partition("Exit codes: ")[2].partition("Options:")[0]
    listed = " ".join(text.split())
    errors: list[type[MirrorfarmError]] = [MirrorfarmError, *MirrorfarmError.__subclasses__()]
    errors.remove(FrameInvalid)  # No command ends so.
    codes = {error.exit_code for error in errors}
    assert {int(entry.split()[0]) for entry in listed.split(", ")} == {
        0,
        *codes,
        INTERRUPTED,
        UNREAD,
    }


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys, mirrorfarm.cli.main as m\n"
        "print([x for x in ('zmq', 'rich', 'lxml', 'pykka', 'pyroute2') if x in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_state_shows_a_table(node: Node, run: Run) -> None:
    code, out, _ = run("state")
    assert code == 0
    for word in ("ledger", "n1", "PRIM", "Ready", "uptodate", "1 min 0 s"):
        assert word in out
    assert "state.local" not in out
    assert "state.local" in run("state", "-m", "ledger", "-v")[1]


def test_state_as_json_is_the_state(node: Node, run: Run) -> None:
    code, out, _ = run("state", "--json")
    assert code == 0
    assert json.loads(out) == [node.state]


def test_the_exit_code_tells_the_state(node: Node, run: Run) -> None:
    for code, name in enumerate(("STOP", "WAIT", "ALONE", "PRIM", "SECOND")):
        node.state = state_json(state=name)
        assert run("state", "-m", "ledger", "-lq")[0] == code


def test_the_help_says_which_exit_code_is_which_state(run: Run) -> None:
    names: dict[int, list[str]] = {}
    for name, code in CODES.items():
        names.setdefault(code, []).append(name)
    said = ", ".join(f"{code} {' or '.join(same)}" for code, same in names.items())
    assert said in " ".join(run("state", "--help")[1].split())


def test_a_silent_node_is_told_and_the_others_are_shown(node: Node, run: Run) -> None:
    for words in ((), ("-m", "ledger")):
        code, out, err = run("-H", "*", "state", *words)
        assert code == 5
        assert "PRIM" in out
        assert "ERROR" in out
        assert "no answer from n2" in err


def test_control_characters_of_peers_are_escaped(node: Node, run: Run) -> None:
    node.state = state_json(reason="red \x1b[31m\x07")
    out = run("state")[1] + run("why", "-m", "ledger")[1]
    assert "\x1b" not in out
    assert "\\x1b[31m\\x07" in out


def test_verbs_tell_what_was_done_or_refused(node: Node, run: Run) -> None:
    assert run("swap", "-m", "ledger")[:2] == (0, "n1: it is so\n")
    node.outcomes = [("refused", "n2 is not SECOND Ready: wait for its data")]
    code, out, err = run("swap", "-m", "ledger")
    assert (code, out) == (6, "")
    assert "wait for its data" in err


@pytest.mark.parametrize(
    ("outcome", "changes", "told"),
    [
        ("failed", {}, True),
        ("failed", {"holder": "n2"}, False),
        ("failed", {"term": 13}, False),
        ("failed", {"state": "ALONE"}, False),
        ("failed", {"record": {"forced": ["prim by an administrator on n1, term 4"]}}, False),
        ("failed", {"mode": "farm", "holder": None, "record": None}, False),
        ("refused", {}, False),
    ],
)
def test_of_an_order_that_failed_but_was_taken_by_the_arbiter_it_is_said_that_it_stands(
    node: Node, run: Run, outcome: str, changes: dict[str, Any], told: bool
) -> None:
    forced = ["primforce by an administrator on n1, term 4"]
    known = {"state": "WAIT", "holder": "n1", "term": 4, "record": {"forced": forced}}
    node.state = state_json(**known | changes)
    node.outcomes = [(outcome, "its disk is not mounted")]
    code, _, err = run("primforce", "-m", "ledger")
    assert code == (6 if outcome == "refused" else 1)
    assert err.startswith("mirrorfarm: n1: its disk is not mounted\n")
    assert ("note: the order stands although it failed: n1 is named primary" in err) is told
    assert ("mirrorfarm -H n2 prim -m ledger" in err) is told


def test_a_command_without_final_answer_ends_in_its_time(node: Node, run: Run) -> None:
    node.outcomes = [("accepted", "")]
    code, _, err = run("start", "-m", "ledger", "--timeout", "0.3")
    assert code == 7
    assert "no final answer within 0.3 s" in err


def test_the_module_comes_from_the_environment_of_scripts(
    node: Node, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("swap")[0] == 2
    monkeypatch.setenv("SAFEMODULE", "ledger")
    assert run("swap")[0] == 0


def test_an_order_of_a_script_says_whose_it_is(node: Node, run: Run) -> None:
    assert run("stopstart", "-m", "ledger", "-i", "start_prim")[0] == 0
    assert run("farm", "power", "n1", "2", "-m", "ledger", "-i", "start_prim")[0] == 0
    assert run("stopstart", "-m", "ledger")[0] == 0
    given = [(one.verb, one.identity) for one in node.commands]
    assert given == [("stopstart", "start_prim"), ("power", "start_prim"), ("stopstart", "")]
    assert node.commands[0].who == "SYSTEM/start_prim"


def test_waitstate_waits_for_a_stable_state(node: Node, run: Run) -> None:
    assert run("waitstate", "PRIM", "-m", "ledger")[0] == 0
    code, _, err = run("waitstate", "ALONE", "-m", "ledger", "--timeout", "0.3")
    assert code == 7
    assert "PRIM Ready, not ALONE" in err


def test_why_tells_both_nodes(node: Node, run: Run) -> None:
    code, out, _ = run("why", "-m", "ledger")
    text = " ".join(out.split())
    assert code == 0
    assert "n1 is PRIM Ready since 1 min 0 s: it holds term 3 and n2 is in step." in text
    assert "1 min 0 s ago the arbiter granted term 3" in text
    assert "n2 does not answer about ledger; n1 heard it 1.0 s ago, as SECOND Ready." in text


def test_the_log_of_a_node_that_does_not_exist_is_not_waited_for(node: Node, run: Run) -> None:
    code, _, err = run("-H", "n3", "log", "-m", "ledger")
    assert code == 6
    assert "n3: not a node of this cluster: n1, n2" in err
    assert run("-H", "n1,n2", "log", "-m", "ledger")[0] == 2
    assert run("-H", "*", "log", "-m", "ledger")[0] == 2


def test_the_log_is_shown_without_an_agent(root: Path, run: Run) -> None:
    lines = (("E", "Local state PRIM Ready"), ("D", "a detail"), ("C", "bell \x07"))
    folder = root / "var/log/mirrorfarm/modules/ledger"
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text(
        "".join(
            json.dumps({"n": n, "t": 1.5, "level": level, "origin": "module", "text": text}) + "\n"
            for n, (level, text) in enumerate(lines, 1)
        )
    )
    out = run("log", "-m", "ledger")[1]
    assert "| E | module | Local state PRIM Ready" in out
    assert "a detail" not in out
    assert "bell \\x07" in out
    assert "a detail" in run("log", "-m", "ledger", "-A")[1]
    assert len(run("log", "-m", "ledger", "-s", "1")[1].splitlines()) == 1
    assert run("log", "-m", "other")[0] == 6


def test_without_an_agent_every_question_says_how_to_start_it(root: Path, run: Run) -> None:
    (root / "cluster.xml").write_text(CLUSTER)
    words = ("--node", "n1", "--bundles", str(root / "b"))
    assert run("cluster", "init", str(root / "cluster.xml"), *words)[0] == 0
    for command in (("state",), ("why", "-m", "x"), ("start", "-m", "x")):
        code, _, err = run(*command)
        assert code == 5
        assert "systemctl start mirrorfarm" in err


def test_a_cluster_is_made_joined_and_shown(
    root: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "cluster.xml").write_text(CLUSTER)
    words = ("cluster", "init", str(root / "cluster.xml"), "--node", "n1")
    code, out, _ = run(*words, "--bundles", str(root / "b"))
    assert code == 0
    assert "n2: mirrorfarm cluster join n2.join" in out
    shown = json.loads(run("cluster", "show", "--json")[1])
    assert [machine["name"] for machine in shown["machines"]] == ["n1", "n2"]
    monkeypatch.setenv("MIRRORFARM_ROOT", str(root / "other"))
    assert run("cluster", "join", str(root / "b/n2.join"))[0] == 0
    theirs = json.loads(run("cluster", "show", "--json")[1])
    fingerprints = [machine["fingerprint"] for machine in shown["machines"]]
    assert [machine["fingerprint"] for machine in theirs["machines"]] == fingerprints
    assert run(*words, "--bundles", str(root / "c"))[0] == 9 or not (root / "c/n2.join").exists()


def test_a_module_is_installed_and_listed_without_an_agent(root: Path, run: Run) -> None:
    assert run("module", "install", "ledger", "--id", "4")[0] == 0
    rows = json.loads(run("module", "list", "--json")[1])
    row = {"node": "", "module": "ledger", "id": 4, "configured": False, "trouble": ""}
    assert rows == [row], "the same keys as an agent tells"
    assert run("module", "install", "ledger")[0] == 6
    assert run("module", "uninstall", "ledger")[0] == 0
    assert json.loads(run("module", "list", "--json")[1]) == []


@pytest.mark.parametrize("verb", ["config", "deconfig", "uninstall"])
def test_a_module_that_runs_is_not_touched_while_no_agent_can_ask_it(
    root: Path, run: Run, verb: str
) -> None:
    assert run("module", "install", "ledger")[0] == 0
    lock = hold_lock(lock_path(Paths(root), "ledger"))
    try:
        code, _, err = run("module", verb, "ledger")
    finally:
        os.close(lock)
    assert code == 6
    assert f"runs here as process {os.getpid()}" in err
    assert "start it" in err
    assert [row["module"] for row in json.loads(run("module", "list", "--json")[1])] == ["ledger"]


def test_unknown_words_are_usage_errors(run: Run) -> None:
    assert run("bogus")[0] == 2
    assert run("state", "--bogus")[0] == 2
    assert cli.name == "cli"


@pytest.mark.parametrize("hosts", ["", ",", " , "])
def test_an_empty_variable_is_not_taken_for_this_node_or_for_nothing(
    node: Node, run: Run, hosts: str
) -> None:
    for words in (("-H", hosts, "stop", "-m", "ledger"), ("farm", "drain", hosts, "-m", "ledger")):
        code, _, err = run(*words)
        assert code == 2
        assert "names no node" in err
    assert node.commands == []


@pytest.mark.parametrize("command", ["state", "log", "why", "stop", "waitstate UP", "farm map"])
def test_an_empty_variable_is_not_taken_for_all_modules_or_for_none(
    node: Node, run: Run, command: str
) -> None:
    for module in ("", " "):
        code, out, err = run(*command.split(), "-m", module)
        assert (code, out) == (2, "")
        assert "names no module (an empty variable?)" in err


@pytest.mark.parametrize("command", ["stop", "waitstate UP"])
def test_nobody_waits_for_ever(node: Node, run: Run, command: str) -> None:
    code, _, err = run(*command.split(), "-m", "ledger", "--timeout", "nan")
    assert code == 2
    assert "'nan' is not a number" in err
    assert node.commands == []


def test_a_module_that_is_not_configured_is_told_as_such(node: Node, run: Run) -> None:
    code, out, err = run("state", "-m", "Ledger")
    assert code == 5
    assert "it is not configured there" in out
    assert "Ledger is not configured on n1: `mirrorfarm -H n1 module list` shows what is" in err
    shown = json.loads(run("state", "-m", "Ledger", "--json")[1])
    assert shown == [{"node": "n1", "module": "Ledger", "error": "not configured"}]
    for silent in json.loads(run("-H", "n2", "state", "-m", "ledger", "--json")[1]):
        assert silent == {"node": "n2", "module": "ledger", "error": "no answer"}


@pytest.mark.parametrize("source", ["/dev/zero", "too-long.xml"])
def test_a_file_without_end_is_no_cluster(root: Path, run: Run, source: str) -> None:
    (root / "too-long.xml").write_bytes(b" " * 3_000_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, hard))  # Where it would take all there is.
    try:
        words = ("--node", "n1", "--bundles", str(root / "b"))
        code, _, err = run("cluster", "init", str(root / source), *words)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert code == 3
    assert "more than 1048576" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("trace", "check", "takeover"), "-H n2: traces are read on this machine: copy the log"),
        (("trace", "show"), "-H n2: traces are read on this machine: copy the log"),
        (("sim", "run", "--seed", "1"), "-H n2: simulations run on this machine"),
    ],
)
def test_a_node_that_cannot_be_meant_is_refused(
    root: Path, run: Run, words: tuple[str, ...], says: str
) -> None:
    code, out, err = run("-H", "n2", *words)
    assert (code, out) == (2, "")
    assert says in err
    assert "names no node" in run("-H", "", *words)[2]


def test_a_number_that_no_module_has_is_refused_for_other_nodes_too(node: Node, run: Run) -> None:
    for words in ((), ("-H", "n1")):
        for number in ("0", "-1", "257"):
            assert run(*words, "module", "install", "ledger", "--id", number)[0] == 2


def test_a_power_that_no_node_takes_is_refused(node: Node, run: Run) -> None:
    words = ("farm", "power", "n1")
    code, _, err = run(*words, str(POWER_MAX + 1), "-m", "ledger")
    assert code == 2
    assert str(POWER_MAX) in err
    assert run(*words, str(POWER_MAX), "-m", "ledger")[0] == 0
    assert [command.arguments for command in node.commands] == [(str(POWER_MAX),)]


def test_a_line_with_a_time_that_no_calendar_has_is_shown(node: Node, run: Run) -> None:
    folder = node.paths.module_log("ledger")
    folder.mkdir(parents=True)
    line = '{"n": 1, "t": 1e30, "level": "E", "origin": "module", "text": "strange"}'
    (folder / "log.jsonl").write_text(f"{line}\n")
    assert "strange" in run("log", "-m", "ledger")[1]
