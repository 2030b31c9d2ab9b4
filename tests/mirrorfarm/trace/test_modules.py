"""Traces say of which modules they are, and which processes have none."""

import shutil
from pathlib import Path

import pytest

from mirrorfarm.trace.files import Source, sources
from mirrorfarm.trace.modules import missing, modules_of

EXAMPLES = Path(__file__).parents[3] / "examples/traces"


@pytest.mark.parametrize("name", ["takeover", "farm"])
def test_nothing_is_missing_where_all_is_there(name: str) -> None:
    assert missing(sources([EXAMPLES / name])) == []


def test_the_modules_are_known_by_the_first_states_of_their_machines() -> None:
    found = modules_of(sources([EXAMPLES]))
    assert {name: (one.mode, one.nodes) for name, one in found.items()} == {
        "ledger": ("mirror", ("n1", "n2")),
        "web": ("farm", ("n1", "n2", "n3")),
    }


def test_processes_of_other_machines_are_missing() -> None:
    assert missing(sources([EXAMPLES / "takeover/n2"])) == [
        *("n1/ledger", "n1/ledger.replica", "w/witness")
    ]
    assert missing(sources([EXAMPLES / "farm/n3"])) == ["n1/web", "n2/web"]


def test_states_of_another_build_tell_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(EXAMPLES / "takeover/n2", tmp_path / "n2")
    found: list[Source] = sources([tmp_path])

    def restore(kind: type, state: object) -> None:
        raise ValueError("another form")

    monkeypatch.setattr("mirrorfarm.actors.snapshot.restore", restore)
    assert missing(found) == []
