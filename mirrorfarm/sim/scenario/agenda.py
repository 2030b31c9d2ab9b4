"""Has events happen at their times: as entries of the simulation's agenda, or between them."""

from collections.abc import Callable, Sequence

from mirrorfarm.sim.engine import Engine
from mirrorfarm.sim.scenario.record import Event

Do = Callable[[Event], None]


class Chain:
    """Events of which each puts the next one on the agenda, as chance does in a sweep."""

    def __init__(self, engine: Engine, events: Sequence[Event], do: Do) -> None:
        self._engine, self._do, self._begun = engine, do, engine.now
        self._events = sorted(events, key=lambda event: event.at_ns)
        self._next = 0

    def begin(self) -> None:
        """Do what is due at once; put the next event on the agenda."""
        while self._next < len(self._events) and not self._events[self._next].at_ns:
            self._next += 1
            self._do(self._events[self._next - 1])
        self._await()

    def _await(self) -> None:
        if self._next < len(self._events):
            self._engine.at(self._begun + self._events[self._next].at_ns, self._due)

    def _due(self) -> None:
        self._next += 1
        self._do(self._events[self._next - 1])
        self._await()


class List:
    """Events that happen when whoever drives the simulation says so."""

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
        while self._next < len(self._events) and self.next_ns(0) <= now:
            self._next += 1
            self._do(self._events[self._next - 1])
