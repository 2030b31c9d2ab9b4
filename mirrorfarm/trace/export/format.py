"""What every format is: it takes one step after the other and writes as it goes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from mirrorfarm.trace.facts import Fact
from mirrorfarm.trace.merge import Merge
from mirrorfarm.trace.step import Placed

Write = Callable[[bytes], Any]


class Format(Protocol):
    """One format, being written."""

    def add(self, placed: Placed, facts: list[Fact]) -> None:
        """Take the next step; it may be written later."""
        ...

    def close(self) -> str:
        """Write the rest; return what a user should know about the output, or nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Subject:
    """What is exported."""

    merge: Merge
    run: str  # Its name: tells it from others in one data base.
    limit: int  # Of events, where the tool that reads them has one.


encode: Final = msgspec.json.Encoder().encode
