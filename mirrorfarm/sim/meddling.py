"""Single messages that do not arrive, or late: what a story needs a network's chance for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

EVERY: Final = 1 << 62  # So many never come.


@dataclass(slots=True)
class Meddling:
    """Messages of one kind, on one way, are lost or held back."""

    message: str  # Name of its class.
    source: str
    to: str
    count: int  # So many more.
    late_ns: int = 0  # 0: they are lost.
    kept: list[Callable[[], None]] | None = None  # Instead: has each of them arrive, if called.

    @property
    def about(self) -> tuple[str, str, str]:
        """Which messages it is about: sender, receiver, name of the class."""
        return self.source, self.to, self.message

    def end(self) -> None:
        """Leave those alone that are still to come."""
        self.count = 0
