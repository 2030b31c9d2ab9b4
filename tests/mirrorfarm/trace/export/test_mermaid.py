"""The diagram of a whole trace keeps to what is news."""

import re
from pathlib import Path

from mirrorfarm.trace.diagram import ARROWS_MAX, NOTES_MAX
from mirrorfarm.trace.export import Options, export
from mirrorfarm.trace.export.mermaid import Mermaid


def test_a_takeover_is_drawn_with_its_roles(recorded: Path, tmp_path: Path) -> None:
    export([recorded], Options("mermaid", tmp_path / "out"))
    lines = (tmp_path / "out").read_text().splitlines()
    assert lines[0] == "sequenceDiagram"
    grammar = re.compile(
        r"    (participant p\d+ as .+|Note over p\d+: [^:;#]+|p\d+(->>|-x)p\d+: [^:;#]+)"
    )
    assert all(grammar.fullmatch(line) for line in lines[1:])
    text = "\n".join(lines)
    assert 5 < text.count("->>") <= ARROWS_MAX
    assert "Heartbeat" not in text
    assert "RegisterAnswer" not in text, "one comes each second"
    assert text.index("was ordered to prim") < text.index("became ALONE in term 1")
    assert text.index("became PRIM in term 2") < text.index("became ALONE in term 2")


def test_what_is_left_out_is_told() -> None:
    format_ = Mermaid(lambda data: None)
    for _ in range(ARROWS_MAX + 2):
        format_.diagram.note("n1", "is in a view")
        format_.diagram.arrow("n1", "n2", "ViewCommit")
    assert format_.close().startswith("2 more messages and 2 more notes are left out: `mirr")
    format_ = Mermaid(lambda data: None)
    for _ in range(NOTES_MAX + 1):
        format_.diagram.note("n1", "is in a view")
    assert format_.close().startswith("1 more notes are left out: `mirr")
