"""Events that come between two entries of a simulation's agenda, never as entries of it.

So does chance in a sweep: an event more or less changes nothing but what it does.
"""

from collections.abc import Callable, Sequence

from mirrorfarm.sim.scenario.record import Event

Do = Callable[[Event], None]


class Agenda:
    """Events that happen when whoever drives the simulation says so, in the order of times."""

    def __init__(self, events: Sequence[Event], do: Do, begun: int) -> None:
        self._events = sorted(events, key=lambda event: event.at_ns)
        self._do, self._begun = do, begun
        self._next = 0

    def next_ns(self, otherwise: int) -> int:
        """Return when the next one is due."""
        if self._next == len(self._events):
            return otherwise
        return self._begun + self._events[self._next].at_ns

    def do_due(self, now: int) -> None:
        """Do what is due."""
        while self._next < len(self._events) and self.next_ns(now) <= now:
            self._next += 1
            self._do(self._events[self._next - 1])
