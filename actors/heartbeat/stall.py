"""A node that was itself not scheduled must not take its own absence for another one's.

Every timer knows when it was due; one that comes late tells of a local stall.
"""

from dataclasses import dataclass

from mirrorfarm.limits import MILLISECOND_NS, Nanoseconds

# Below this, lateness is the scheduler's ordinary noise.
STALL_FLOOR_NS = 20 * MILLISECOND_NS


@dataclass(slots=True)
class Stalls:
    """The stalls of this process; `pulse_ns` is the shortest period of its timers."""

    pulse_ns: Nanoseconds
    noticed_ns: Nanoseconds = 0  # When the last one was noticed.
    ever: bool = False

    def notice(self, due_ns: Nanoseconds, now: Nanoseconds) -> Nanoseconds:
        """Return how long this process was away; once, though many timers were late."""
        late_ns = now - due_ns
        if late_ns <= max(self.pulse_ns // 2, STALL_FLOOR_NS):
            return 0
        seen = self.ever and due_ns <= self.noticed_ns
        self.ever = True
        self.noticed_ns = now
        return 0 if seen else late_ns

    def recent(self, now: Nanoseconds, within_ns: Nanoseconds) -> bool:
        """Return whether one was noticed less than `within_ns` ago."""
        return self.ever and now - self.noticed_ns < within_ns
