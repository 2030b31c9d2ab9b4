"""Until when a process was what it said last: only until its last step, if nothing follows it.

A process that is killed does not say so, and what the next start of it is, the one before was not.
So whatever lasts, as a role does, ends with the last step of its start of the process.
"""

from dataclasses import dataclass, field

from mirrorfarm.trace.step import Placed


@dataclass(slots=True)
class Lives:
    """The last step of each process: as much memory as there are processes."""

    _last: dict[int, tuple[int, int]] = field(default_factory=dict)  # By lane: start, time.

    def add(self, placed: Placed) -> int | None:
        """Take the next step of all; return when the start before ended if it is of a new one."""
        incarnation, at_ns = self._last.get(placed.lane, (placed.step.incarnation, 0))
        self._last[placed.lane] = (placed.step.incarnation, placed.at_ns)
        return at_ns if incarnation != placed.step.incarnation else None

    def end_ns(self, lane: int) -> int:
        """Return when a process made its last step so far."""
        return self._last[lane][1]
