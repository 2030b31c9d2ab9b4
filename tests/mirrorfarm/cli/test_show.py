import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorfarm.cli.show import age, clean, table
from mirrorfarm.limits import SECOND_NS


@given(st.text())
def test_cleaned_text_can_be_printed_on_any_terminal(text: str) -> None:
    assert clean(text).isprintable()
    assert clean(clean(text)) == clean(text)


def test_ages_are_said_as_a_person_says_them() -> None:
    said = [age(seconds * SECOND_NS) for seconds in (0, 9, 12, 185, 7_620, 349_200)]
    assert said == ["0.0 s", "9.0 s", "12 s", "3 min 5 s", "2 h 7 min", "4 d 1 h"]
    assert age(-5) == "0.0 s"


ROW = ("ledger", "n1", "PRIM", "Ready", "uptodate", "2 h 7 min", "it holds term 3")
HEADS = ("module", "node", "state", "status", "data", "since", "reason")


@pytest.mark.parametrize("columns", [0, 5, 20, 40, 80, 200])
def test_a_table_is_read_on_a_terminal_of_any_width(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    table(HEADS, [ROW, ("web", *ROW[1:])], ["green", "red"])
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(len(line) for line in lines) <= (columns or 200)
    letters = "".join("".join(lines).split())
    for word in ("ledger", "PRIM", "Ready", "uptodate"):
        assert word in letters
        if columns >= 20:
            assert any(word in line.split() for line in lines), "in one piece"
