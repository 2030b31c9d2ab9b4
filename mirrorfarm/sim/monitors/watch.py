"""Feeds steps to monitors: each hears of the kinds of events that it asked for."""

from collections import deque
from collections.abc import Iterable
from typing import Any

from mirrorfarm.actors.effects import Send, Tell
from mirrorfarm.actors.events import Received
from mirrorfarm.sim.monitors.causes import story
from mirrorfarm.sim.monitors.facts import Facts
from mirrorfarm.sim.monitors.monitor import Monitor, Violation
from mirrorfarm.sim.steps import Step

STEPS_KEPT = 4_000  # For the story of a violation.


class Watch:
    """All monitors of one run, or of one set of recorded traces."""

    def __init__(
        self,
        kinds: Iterable[type[Monitor]],
        *,
        simulated: bool = False,
        strict: bool = False,
        keeps: int = STEPS_KEPT,
        farm: Any = None,
    ) -> None:
        """`simulated`: observations are fed as well; `strict`: the first violation raises.

        `farm`: the `FarmFacts` that monitors of a farm share.
        """
        self.at = 0  # Time of the present step: global in a simulation, else its node's.
        self.step_now: Step | None = None
        self.strict = strict
        self.allowed: dict[str, tuple[int, str]] = {}  # Until when faults break what, and why.
        self.excused = 0
        self.stories: dict[str, list[str]] = {}  # What led to each violation.
        self.facts = Facts(simulated=simulated)
        self.farm = farm
        self.monitors = {kind.id: kind(self) for kind in kinds}
        self.recent: deque[Step] = deque(maxlen=keeps)
        self._wanted: dict[type, list[Any]] = {}
        about: type
        self._folds = [self.facts] if farm is None else [farm]
        for fold in self._folds:
            for about in fold.events:
                self._wanted.setdefault(about, []).append(fold)
        for monitor in self.monitors.values():
            for about in monitor.events:
                self._wanted.setdefault(about, []).append(monitor)

    @property
    def violations(self) -> list[str]:
        """Everything that was found."""
        return [text for monitor in self.monitors.values() for text in monitor.violations]

    def step(self, step: Step, at: int | None = None) -> None:
        """Take one step; `at`: the time by which nodes are compared, if there is one."""
        self.recent.append(step)
        wanted = self._wanted
        event = step.event
        first = wanted.get(event.__class__)
        hearers = first
        if event.__class__ is Received:
            other = wanted.get(event.message.__class__)
            if other is not None:
                hearers = other if first is None else [*first, *other]
        for effect in step.effects:
            kind = effect.__class__
            if kind is Send:
                kind = effect.message.__class__
            elif kind is Tell:
                kind = effect.event.__class__
            other = wanted.get(kind)
            if other is not None:
                hearers = other if hearers is None else [*hearers, *other]
        if hearers is None:
            return
        self.at = step.now if at is None else at
        self.step_now = step
        if self.farm is not None:
            self.farm.at = self.at
        if len(hearers) > 1:
            hearers = list({id(one): one for one in hearers}.values())  # Each once,
            for fold in self._folds:  # the facts first.
                if fold in hearers:
                    hearers.remove(fold)
                    fold.on(step)
        for hearer in hearers:
            hearer.on(step)

    def finish(self) -> list[str]:
        """End; return all violations."""
        for monitor in self.monitors.values():
            monitor.finish()
        return self.violations

    def found(self, monitor: Monitor, text: str) -> None:
        """Note a violation, unless the faults of this run allow it."""
        until, _ = self.allowed.get(monitor.id, (-1, ""))
        if self.at <= until:
            self.excused += 1
            return
        monitor.violations.append(text)
        told = story(list(self.recent))
        self.stories[text] = told
        if self.strict:
            raise Violation(text, told)
