"""Plays a scenario: events at their times, expectations as they are due, then the calm end."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.sim.acts.act import words
from mirrorfarm.sim.acts.kinds import duration_text
from mirrorfarm.sim.acts.people import Write
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.monitors.causes import backwards
from mirrorfarm.sim.scenario.outcome import Moment, Outcome
from mirrorfarm.sim.scenario.record import Event, Expectation, Mirror, Scenario
from mirrorfarm.sim.scenario.stage import Stage, stage_of
from mirrorfarm.sim.sweep import uncollected
from mirrorfarm.sim.trap import trap

LOOK_NS: Final = 5 * MILLISECOND_NS


def play(scenario: Scenario, *, tells: bool = True, keeps_steps: bool = False) -> Outcome:
    """Play a scenario to its end, or to the first violation; it never raises one.

    `tells`: note what happens, for a reader; without it the run is faster and otherwise the same.
    """
    run = _Run(scenario, tells=tells, keeps_steps=keeps_steps)
    mirror = isinstance(scenario.cluster, Mirror)
    trapped: AbstractContextManager[None] = trap() if mirror else nullcontext()
    with trapped, uncollected():
        try:
            run.play()
        except Violation as violation:
            run.failed(str(violation), tuple(violation.story))
        except AssertionError as error:  # A core's own: it is wrong.
            run.failed(f"assert: {error}", ())
    return run.outcome


class _Run:
    def __init__(self, scenario: Scenario, *, tells: bool, keeps_steps: bool) -> None:
        self.outcome = Outcome(scenario)
        self._scenario, self._tells = scenario, tells
        self._stage: Stage = stage_of(scenario, tells_story=tells or _needs_story(scenario))
        self._world = self._stage.world
        self._begun = 0
        self._states: dict[str, str] = {}
        self._waiting = list(scenario.expectations)
        if keeps_steps:
            self._keep_steps()

    def _keep_steps(self) -> None:
        watch, steps = getattr(self._world, "watch", None), self.outcome.steps
        if watch is None:
            return
        honest = watch.step

        def step(step: Any, at: int | None = None) -> None:
            steps.append(step)
            honest(step, at)

        watch.step = step

    def play(self) -> None:
        scenario, world = self._scenario, self._world
        self._stage.begin()
        self._begun = self.outcome.begun_ns = world.now
        writes = [event for event in scenario.events if isinstance(event.act, Write)]
        others = [event for event in scenario.events if not isinstance(event.act, Write)]
        self._agenda(writes)
        self._agenda(others)
        self._advance(self._begun + scenario.end_ns)
        if scenario.converges:
            self._note("", "everything is mended")
            self._stage.end()
            self._look()
        self.outcome.at_ns = world.now - self._begun

    def failed(self, text: str, story: tuple[str, ...]) -> None:
        """The run ended with a violation."""
        outcome = self.outcome
        outcome.violation, outcome.story = text, story
        outcome.at_ns = self._world.now - self._begun
        watch = getattr(self._world, "watch", None)
        if story and watch is not None:
            outcome.chain = tuple(backwards(list(watch.recent)))
        for wanted in self._waiting:
            outcome.unmet.append(f"{_where(wanted)}: the run ended before")
        self._look()
        self._note("", text)

    # --- events ----------------------------------------------------------------------------

    def _agenda(self, events: Sequence[Event]) -> None:
        """Put the first event on the agenda, and with each the one after it."""
        ordered = sorted(events, key=lambda event: event.at_ns)

        def next_one(index: int) -> None:
            if index:
                self._do(ordered[index - 1])
            if index < len(ordered):
                when = self._begun + ordered[index].at_ns
                self._world.at(when, lambda: next_one(index + 1))

        while ordered and not ordered[0].at_ns:
            self._do(ordered.pop(0))
        next_one(0)

    def _do(self, event: Event) -> None:
        if self._tells:
            self._look()
            if not isinstance(event.act, Write):
                self._note(event.act.about, f"! {words(event.act)}")
        self._stage.perform(event.act)

    # --- time ------------------------------------------------------------------------------

    def _advance(self, end: int) -> None:
        """Let time pass and look at what is expected."""
        if not self._tells and not self._waiting:
            self._run_to(end)
            return
        while self._world.now < end:
            moments = [self._world.now + LOOK_NS, end]
            if self._waiting:
                moments.append(max(self._world.now + 1, self._begun + self._waiting[0].at_ns))
            self._run_to(min(moments))
            self._look()
            self._expect()

    def _run_to(self, when: int) -> None:
        self._world.run_to(when)

    def _expect(self) -> None:
        """Take off what is met, or what can no longer be."""
        now = self._world.now - self._begun
        while self._waiting:
            wanted = self._waiting[0]
            if not wanted.by and now < wanted.at_ns:
                return
            missing = self._stage.missing(wanted)
            if missing and now < wanted.at_ns:
                return
            if missing:
                self.outcome.unmet.append(f"{_where(wanted)}: {missing}")
            self._waiting.pop(0)

    # --- telling ---------------------------------------------------------------------------

    def _look(self) -> None:
        """Note whose state is another one than before."""
        if not self._tells:
            return
        states = self._stage.states()
        for name, state in states.items():
            if self._states.get(name) != state:
                self._note(name, state)
        self._states = states

    def _note(self, node: str, text: str) -> None:
        if self._tells:
            at_ns = self._world.now - self._begun
            self.outcome.moments.append(Moment(at_ns, node, text))


def _needs_story(scenario: Scenario) -> bool:
    return any(wanted.told for wanted in scenario.expectations)


def _where(wanted: Expectation) -> str:
    when = f"{'by' if wanted.by else 'at'} {duration_text(wanted.at_ns)}"
    return f"line {wanted.line}, {when}" if wanted.line else when


Play = Callable[[Scenario], Outcome]
