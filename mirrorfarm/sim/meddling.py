"""Single messages that do not arrive, or late: what a story needs a network's chance for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Meddling:
    """Messages of one kind, on one way, are lost or held back."""

    message: str  # Name of its class.
    source: str
    to: str
    count: int  # So many more.
    late_ns: int = 0  # 0: they are lost.
    kept: list[Callable[[], None]] | None = None  # Instead: has each of them arrive, if called.

    def takes(self, source: str, to: str, message: Any) -> bool:
        """Return whether this message is one of them; then it counts."""
        if not self.count or (source, to) != (self.source, self.to):
            return False
        if message.__class__.__name__ != self.message:
            return False
        self.count -= 1
        return True
