"""The diagram of a whole trace keeps to what is news."""

import re
from pathlib import Path

from mirrorfarm.trace.diagram import ARROWS_MAX
from mirrorfarm.trace.export import Options, export


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
    assert text.index("was ordered to prim") < text.index("became ALONE in term 1")
    assert text.index("became PRIM in term 2") < text.index("became ALONE in term 2")
