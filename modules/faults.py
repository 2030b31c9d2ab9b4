"""What is wrong with a file: everything, in one go, so that it is mended in one go."""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from mirrorfarm.errors import ConfigInvalid

FAULTS_MAX: Final = 100
SHOWN_CHARACTERS_MAX: Final = 60


@dataclass(slots=True)
class Faults:
    """Collects `file:line: key: reason`, each fault once, in the order of the lines."""

    file: str
    found: list[tuple[int, str]] = field(default_factory=list)
    _seen: set[tuple[int, str, str]] = field(default_factory=set)  # Bounded by the file's size.

    def __len__(self) -> int:
        return len(self.found)

    def add(self, line: int, key: str, reason: str, cure: Callable[[], str] | None = None) -> None:
        """Note one fault; line 0: it belongs to the file as a whole.

        `cure` is asked how to mend it, which may take long, only if the fault will be told.
        """
        fault = (line, key, reason)
        if fault in self._seen:
            return
        self._seen.add(fault)
        if len(self.found) < FAULTS_MAX:
            where = f"{self.file}:{line}" if line else self.file
            told = f"{reason}; {cure()}" if cure else reason
            self.found.append((line, f"{where}: {key}: {told}"))

    def raise_if_any(self) -> None:
        """Raise ConfigInvalid with all of them; those without room are counted."""
        if self.found:
            ordered = sorted(self.found, key=lambda fault: fault[0])
            more = len(self._seen) - len(self.found)
            rest = (f"{self.file}: {_counted(more)}: mend those above first",) if more else ()
            raise ConfigInvalid((*(text for _, text in ordered), *rest))


def _counted(more: int) -> str:
    return f"{more} more faults are not told" if more > 1 else "one more fault is not told"


def shown(text: str) -> str:
    """Return text from a file such that it cannot harm a terminal or flood a log."""
    short = text if len(text) <= SHOWN_CHARACTERS_MAX else text[:SHOWN_CHARACTERS_MAX] + "…"
    return "".join(character if character.isprintable() else "?" for character in short)


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return how to mend a word: the nearest known one, else the known ones."""
    words = sorted(known)
    near = difflib.get_close_matches(word[:SHOWN_CHARACTERS_MAX], words, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"known here: {', '.join(words)}" if words else "nothing is known here"
