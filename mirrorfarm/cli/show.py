"""What the commands print: text of other nodes made harmless, tables, ages."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from mirrorfarm.limits import SECOND_NS

WORD_CHARACTERS = 10  # Longer ones may be divided.
GAP = 3  # Between two columns.
COLOURS = {"NotReady": "red", "Transient": "yellow", "Ready": "green"}


def clean(text: str, lines: bool = False) -> str:
    """Return text with control characters escaped; with `lines`, line ends stay."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or (lines and character == "\n")
        else character.encode("unicode_escape").decode("ascii", "replace")
        for character in text
    )


def age(nanoseconds: int) -> str:
    """Return a duration as a person says it: 0.4 s, 12 s, 3 min 5 s, 2 h 7 min, 4 d 1 h."""
    seconds = max(0, nanoseconds) / SECOND_NS
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for unit, length, smaller, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60)):
        if whole >= length:
            return f"{whole // length} {unit} {whole % length // part} {smaller}"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


def since(state: dict[str, Any]) -> str:
    """Return how long a module has been in its state."""
    return age(int(state.get("now_ns", 0)) - int(state.get("since_ns", 0)))


def label(state: dict[str, Any]) -> str:
    """Return the second label of a state: degraded, uptodate, not uptodate."""
    if "uptodate" not in state:
        return "unknown"  # Its process does not run.
    if state.get("degraded"):
        return "degraded"
    return "uptodate" if state.get("uptodate") else "not uptodate"


def as_json(value: Any) -> str:
    """Return indented JSON; control characters are escaped by the format itself."""
    return json.dumps(value, indent=2, ensure_ascii=True)


def _width(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Return the least width of a table that is read: its words are in one piece, but for long."""
    columns = [[head, *(row[number] for row in rows)] for number, head in enumerate(heads)]
    words = ([len(word) for cell in column for word in cell.split()] for column in columns)
    return sum(min(WORD_CHARACTERS, max(lengths, default=0)) + GAP for lengths in words)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], colours: Sequence[str] = ()) -> None:
    """Print a table; `colours` holds one style per row, or nothing.

    On a terminal that is too narrow each cell has a line.
    """
    import rich.box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal or console.width < 1:
        console = Console(highlight=False, width=200)
    rows = [[clean(cell) for cell in row] for row in rows]
    styles = [*colours, *[""] * len(rows)]
    if _width(heads, rows) > console.width:
        for row, style in zip(rows, styles, strict=False):
            for head, cell in zip(heads, row, strict=True):
                if cell:
                    console.print(Text(f"{head}: {cell}" if head else cell, style=style))
            console.print()
        return
    drawn = Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for head in heads:
        drawn.add_column(head, overflow="fold")
    for row, style in zip(rows, styles, strict=False):
        drawn.add_row(*(Text(cell, style=style) for cell in row))
    console.print(drawn)
