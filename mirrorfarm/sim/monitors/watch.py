"""Feeds steps to monitors: each hears of the kinds of events that it asked for."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from mirrorfarm.actors.effects import Send, Tell
from mirrorfarm.actors.events import Received
from mirrorfarm.sim.monitors.causes import Clock, Moment, seconds, story
from mirrorfarm.sim.monitors.facts import Facts
from mirrorfarm.sim.monitors.monitor import Monitor, Violation
from mirrorfarm.sim.steps import Step

STEPS_KEPT = 4_000  # For the story of a violation.
STORIES_MAX = 100  # Of one run.
# In these, what another node does is not compatible: its story belongs to it.
_OF_TWO = ("S1", "X1", "X2", "F1", "F2", "F7")
Hears = Callable[[Step], None]


def _as_it_is(node: str, now: int) -> int:
    del node
    return now


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
        self.about = ""  # Whom violations are about, if there are several modules: "app2: ".
        self.at = 0  # Time of the present step: global in a simulation, else its node's.
        self.step_now: Step | None = None
        self.strict = strict
        self.allowed: dict[str, tuple[int, str]] = {}  # Until when faults break what, and why.
        self.excused = 0
        self.stories: dict[str, list[str]] = {}  # What led to each violation, to the first ones.
        self.moment: Moment = _as_it_is  # For stories: times of the whole,
        self.clock: Clock = seconds  # and as text.
        # Of recorded traces: by how much the times of two nodes may be wrong; None: unknown.
        self.apart_ns: int | None = 0
        self.facts = Facts(simulated=simulated)
        self.farm = farm
        self.monitors = {kind.id: kind(self) for kind in kinds}
        self.recent: deque[Step] = deque(maxlen=keeps)
        self._wanted: dict[type, list[Hears]] = {}
        self._several: dict[tuple[type, ...], list[Hears]] = {}
        about: type
        self._folds = [self.facts] if farm is None else [farm]
        for fold in (*self._folds, *self.monitors.values()):
            for about in fold.events:
                self._wanted.setdefault(about, []).append(fold.on)

    def keep(self, steps: int) -> None:
        """Keep so many steps for stories, from now on."""
        self.recent = deque(self.recent, maxlen=steps)

    @property
    def violations(self) -> list[str]:
        """Everything that was found."""
        return [text for monitor in self.monitors.values() for text in monitor.violations]

    def step(self, step: Step, at: int | None = None) -> None:
        """Take one step; `at`: the time by which nodes are compared, if there is one."""
        self.recent.append(step)
        wanted = self._wanted
        event = step.event
        kind = event.__class__
        if kind is Received:
            kind = event.message.__class__
        about = [kind] if kind in wanted else []
        for effect in step.effects:
            kind = effect.__class__
            if kind is Send:
                kind = effect.message.__class__
            elif kind is Tell:
                kind = effect.event.__class__
            if kind in wanted and kind not in about:
                about.append(kind)
        if not about:
            return
        self.at = step.now if at is None else at
        self.step_now = step
        if self.farm is not None:
            self.farm.at = self.at
        for hears in wanted[about[0]] if len(about) == 1 else self._hearers(tuple(about)):
            hears(step)

    def _hearers(self, about: tuple[type, ...]) -> list[Hears]:
        """Return who hears of a step that has several kinds in it: each once, the facts first."""
        found = self._several.get(about)
        if found is None:
            found = list(dict.fromkeys(hears for kind in about for hears in self._wanted[kind]))
            folds = [fold.on for fold in self._folds]
            found.sort(key=lambda hears: hears not in folds)
            self._several[about] = found
        return found

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
        told = self._story(monitor, text) if len(self.stories) < STORIES_MAX else []
        if told:
            self.stories[text] = told
        if self.strict:
            raise Violation(text, told)

    def _story(self, monitor: Monitor, text: str) -> list[str]:
        recent = list(self.recent)
        others = sorted({step.node for step in recent} - {recent[-1].node, ""})
        named = [name for name in others if name in text.replace(",", " ").split()]
        other = named[0] if named and monitor.id in _OF_TWO else ""
        return story(recent, self.moment, self.clock, other)
