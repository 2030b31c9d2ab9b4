"""What docs/operate/trace-whatif.md says of a farm is what comes of it; all settings are named."""

import re
import shlex
from pathlib import Path

import pytest

from mirrorfarm.cli.main import main
from mirrorfarm.sim.fork.settings import OF_FARM, OF_MODULE, OF_NODE
from tests.docs.test_research import BLOCK, ROOT, plain

TEXT = Path(ROOT / "docs/operate/trace-whatif.md").read_text(encoding="utf-8")


def test_the_commands_of_a_farm_print_what_the_page_shows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    commands = [
        part.partition("\n")
        for language, text in BLOCK.findall(TEXT)
        if language == "console"
        for part in re.split(r"^[$] mirrorfarm ", text, flags=re.MULTILINE)[1:]
    ]
    assert len(commands) == 2
    for command, _, shown in commands:
        with pytest.raises(SystemExit) as end:
            main(shlex.split(command))
        out, err = capsys.readouterr()
        assert end.value.code == 0, err
        for line in shown.splitlines():
            assert plain(line.rstrip("…")) in plain(out), f"{command}\nshows not: {line}\n{out}"
        assert counts(shown) == counts(out)[-len(counts(shown)) :]


def counts(told: str) -> list[tuple[str, ...]]:
    """Return in how many runs which variant took over, and needlessly."""
    row = r"^ (as recorded|farm[.]silence=.*?\+1 s) +(\d+) +(\d+) +(n1 .*?)  "
    return re.findall(row, told, re.MULTILINE)


def test_every_setting_is_named() -> None:
    for name in (*OF_MODULE, *OF_FARM, *OF_NODE):
        assert name in TEXT, name
