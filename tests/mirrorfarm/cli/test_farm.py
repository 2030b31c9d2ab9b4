"""What the commands of a farm say where its module does not come to run."""

from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.absence import Absence
from mirrorfarm.cli.main import main
from mirrorfarm.errors import NodeUnreachable
from mirrorfarm.limits import SECOND_NS
from tests.mirrorfarm.cli.cluster_of_two import running_node, state_json


@pytest.mark.parametrize("word", ["map", "state"])
def test_a_farm_that_runs_nowhere_is_said_to_and_why(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    word: str,
) -> None:
    monkeypatch.setenv("MIRRORFARM_ROOT", str(tmp_path))
    with running_node(tmp_path) as node:
        node.state = Absence("n1", "ledger", "no control group", 9 * SECOND_NS, 0, 0).state()
        with pytest.raises(SystemExit) as ended:
            main(["farm", word, "-m", "ledger"])
    assert ended.value.code == NodeUnreachable.exit_code
    assert "ledger runs on no node (n1: no control group)" in capsys.readouterr().err


@pytest.mark.parametrize("own", [{}, {"nodes": [{"name": "n1"}, {"name": "n2"}]}])
def test_a_node_of_a_version_that_tells_less_is_shown_without_that(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    own: dict[str, Any],
) -> None:
    monkeypatch.setenv("MIRRORFARM_ROOT", str(tmp_path))
    with running_node(tmp_path) as node:
        farm = {"mode": "bpf", "names": ["n1"], **own}
        node.state = state_json(mode="farm", state="UP", reason="it serves", farm=farm)
        with pytest.raises(SystemExit) as ended:
            main(["farm", "state", "-m", "ledger"])
    assert not ended.value.code
    out = capsys.readouterr().out
    assert "UP Ready" in out
    assert "n1: filter bpf, view ? of nobody" in out
