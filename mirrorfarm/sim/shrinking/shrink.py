"""Shrinks a scenario that fails: each candidate must break the same invariant.

Of an assertion of a core: the same assertion.

The end is cut at the violation, events are left out (delta debugging), then writes, then parts
of the cluster; times and lengths are rounded. All of it again, until nothing changes any more or
the time is over: the best so far is what counts, at any moment.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.sim.acts.people import Write
from mirrorfarm.sim.scenario.outcome import Outcome
from mirrorfarm.sim.scenario.playing import play
from mirrorfarm.sim.scenario.record import Event, Scenario
from mirrorfarm.sim.shrinking import simpler
from mirrorfarm.sim.shrinking.ddmin import ddmin

ENDS_NS: Final = (0, SECOND_NS, 5 * SECOND_NS)
ROUNDS_MAX: Final = 20


class TimeIsOver(Exception):
    """No more candidates are tried."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where shrinking is."""

    doing: str
    tried: int
    events: int


def _untold(progress: Progress) -> None:
    del progress


@dataclass(slots=True)
class Shrinking:
    """A scenario that fails, ever shorter."""

    best: Scenario
    cause: str  # See `Outcome.cause`; what else fails does not count.
    is_over: Callable[[], bool] = lambda: False
    tell: Callable[[Progress], None] = _untold
    tried: int = 0
    accepted: int = 0
    whole: bool = False  # Nothing more can be left out: the time was enough.
    _doing: str = ""
    _known: set[str] = field(default_factory=set)

    def run(self) -> Scenario:
        """Shrink until nothing changes or the time is over; return the best."""
        try:
            for _ in range(ROUNDS_MAX):
                before = self.best
                self._round()
                if self.best == before:
                    self.whole = True
                    break
        except (TimeIsOver, KeyboardInterrupt):
            pass
        return self.best

    def _round(self) -> None:
        self._say("cut the end")
        self._fails(self.best)
        self._say("join writes")
        self._join_writes()
        self._say("leave out events")
        self._leave_out(lambda event: not isinstance(event.act, Write))
        self._say("leave out writes")
        self._leave_out(lambda event: isinstance(event.act, Write))
        self._say("simplify the cluster")
        self._each(lambda: simpler.clusters(self.best))
        self._say("shorten")
        self._each(lambda: (self._with(events) for events in simpler.earlier(self.best.events)))
        self._shorter_end()
        self._say("round times")
        self._round_acts()

    # --- candidates ------------------------------------------------------------------------

    def _say(self, doing: str) -> None:
        self._doing = doing
        self.tell(Progress(doing, self.tried, len(self.best.events)))

    def _fails(self, candidate: Scenario) -> bool:
        """Try one; keep it if the same is broken."""
        if self.is_over():
            raise TimeIsOver
        key = repr(candidate)
        if key in self._known:
            return False
        self._known.add(key)
        self.tried += 1
        outcome = play(candidate, tells=False)
        if self.tried % 10 == 0:
            self._say(self._doing)
        if outcome.cause != self.cause:
            return False
        self.accepted += 1
        self.best = cut(candidate, outcome)
        self._known.add(repr(self.best))
        return True

    def _with(self, events: Iterable[Event]) -> Scenario:
        return replace(self.best, events=tuple(events))

    def _each(self, candidates: Callable[[], Iterable[Scenario]]) -> None:
        """Try all candidates; begin again with the best after each that is kept."""
        while any(self._fails(candidate) for candidate in candidates()):
            pass

    def _leave_out(self, which: Callable[[Event], bool]) -> None:
        """Leave out what is not needed of one sort of events."""
        chosen = [event for event in self.best.events if which(event)]

        def fails(kept: list[Event]) -> bool:
            others = [event for event in self.best.events if not which(event)]
            return self._fails(self._with(simpler.ordered([*others, *kept])))

        ddmin(chosen, fails)

    def _join_writes(self) -> None:
        """Write nothing, or in one row: hundreds of single writes are most of a tape.

        Without them all else is drawn otherwise, so each is tried with several seeds.
        """
        silent = [event for event in self.best.events if not isinstance(event.act, Write)]
        if len(silent) == len(self.best.events):
            return
        joined = [silent, *simpler.writes(self.best.events)]
        for events in joined:
            for seed in (self.best.seed, *simpler.SEEDS):
                if self._fails(replace(self._with(events), seed=seed)):
                    return

    def _round_acts(self) -> None:
        for index in range(len(self.best.events)):
            self._round_act(index)

    def _round_act(self, index: int) -> None:
        """Simplify one event; each argument once."""
        if index >= len(self.best.events):
            return
        event = self.best.events[index]
        done: set[str] = set()
        for candidate in simpler.acts(event):
            changed = changed_part(event, candidate)
            if changed in done:
                continue
            present = self.best.events
            if index >= len(present):
                return
            merged = merge(present[index], event, candidate)
            if self._fails(self._with([*present[:index], merged, *present[index + 1 :]])):
                done.add(changed)

    def _shorter_end(self) -> None:
        """If it fails only after the end: have that come sooner."""
        last = max((event.at_ns for event in self.best.events), default=0)
        for more in ENDS_NS:
            if last + more < self.best.end_ns:
                self._fails(replace(self.best, end_ns=last + more))
        for end in simpler.rounded(self.best.end_ns):
            if end > self.best.end_ns and self._fails(replace(self.best, end_ns=end)):
                break


def changed_part(event: Event, candidate: Event) -> str:
    """Return the name of what differs between an event and a simpler one."""
    if event.at_ns != candidate.at_ns:
        return "at"
    return next(
        name for name in vars(event.act) if getattr(event.act, name) != getattr(candidate.act, name)
    )


def merge(present: Event, event: Event, candidate: Event) -> Event:
    """Return the present event with what a candidate changed of the former one."""
    name = changed_part(event, candidate)
    if name == "at":
        return replace(present, at_ns=candidate.at_ns)
    return replace(present, act=replace(present.act, **{name: getattr(candidate.act, name)}))


def cut(scenario: Scenario, outcome: Outcome) -> Scenario:
    """Return the scenario without what comes after its violation."""
    if outcome.mended:
        return scenario  # It is the calm end that fails, perhaps as soon as it begins.
    end = -(-outcome.at_ns // MILLISECOND_NS) * MILLISECOND_NS
    events: Sequence[Event] = [one for one in scenario.events if one.at_ns <= outcome.at_ns]
    return replace(
        scenario,
        events=tuple(events),
        end_ns=max(min(end, scenario.end_ns), MILLISECOND_NS),
        converges=False,
        core="all",
    )
