"""Which messages of a process are recorded as sent: their numbers, as rows without a hole.

A process numbers what it sends, so it is one row, and one more for each place where steps are
missing or came in another order. Memory is bounded by these, not by the messages.
"""

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Final

ROWS_MAX: Final = 65_536  # Only a trace that lies has more.


@dataclass(slots=True)
class Sequences:
    """The numbers of one process; each is added once, and all before one is looked up."""

    _last: dict[int, int] = field(default_factory=dict)  # By the first number of a row,
    _first: dict[int, int] = field(default_factory=dict)  # and by the last one.
    _sorted: list[int] = field(default_factory=list)

    def add(self, number: int) -> None:
        """Take in one number; beyond the bound it is forgotten."""
        if len(self._last) >= ROWS_MAX and number - 1 not in self._first:
            return
        first = self._first.pop(number - 1, number)
        last = self._last.pop(number + 1, number)
        self._last[first], self._first[last] = last, first

    def __contains__(self, number: int) -> bool:
        if not self._sorted:
            self._sorted = sorted(self._last)
        place = bisect_right(self._sorted, number)
        return place > 0 and number <= self._last[self._sorted[place - 1]]
