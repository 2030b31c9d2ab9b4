"""A Mermaid sequence diagram of some steps: who told whom what, and what came of it.

https://mermaid.js.org/syntax/sequenceDiagram.html
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

ARROWS_MAX: Final = 60
NOTES_MAX: Final = (
    120  # With so many lines a diagram is still drawn: Mermaid takes 50,000 characters.
)
TEXT_MAX: Final = 90


@dataclass(slots=True)
class Diagram:
    """Lines of a diagram; participants appear in the order in which they are first named."""

    arrows: int = 0
    omitted: int = 0
    notes: int = 0
    notes_omitted: int = 0
    _names: dict[str, str] = field(default_factory=dict)
    _lines: list[str] = field(default_factory=list)

    def _alias(self, name: str) -> str:
        return self._names.setdefault(name, f"p{len(self._names)}")

    def arrow(self, source: str, to: str, text: str, *, lost: bool = False) -> None:
        """Draw what one told another; `lost`: it did not arrive."""
        one, other = self._alias(source), self._alias(to)
        if self.arrows >= ARROWS_MAX:
            self.omitted += 1
            return
        self.arrows += 1
        self._lines.append(f"{one}{'-x' if lost else '->>'}{other}: {_safe(text)}")

    def note(self, over: str, text: str) -> None:
        """Write beside a participant what happened there."""
        alias = self._alias(over)
        if self.arrows >= ARROWS_MAX or self.notes >= NOTES_MAX:
            self.notes_omitted += 1
            return
        self.notes += 1
        self._lines.append(f"Note over {alias}: {_safe(text)}")

    def lines(self) -> Sequence[str]:
        """Return the diagram."""
        heads = [f"participant {alias} as {_safe(name)}" for name, alias in self._names.items()]
        omitted = self.omitted + self.notes_omitted
        rest = [f"Note over p0: {omitted} more are left out"] if omitted else []
        return ["sequenceDiagram", *(f"    {line}" for line in (*heads, *self._lines, *rest))]

    def __str__(self) -> str:
        return "\n".join(self.lines()) + "\n"


def _safe(text: str) -> str:
    """Return text that ends no statement of the diagram and is no markup of it."""
    text = " ".join(text.replace(";", ",").replace("#", "no. ").replace(":", " ").split())
    text = text.replace("<", "‹").replace(">", "›")
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"
