"""Plays a scenario: events at their times, expectations as they are due, then the calm end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.sim.acts.act import perform, words
from mirrorfarm.sim.acts.kinds import duration_text
from mirrorfarm.sim.acts.people import Write
from mirrorfarm.sim.coverage.collector import Collector, watching
from mirrorfarm.sim.monitors.asserted import asserted
from mirrorfarm.sim.monitors.causes import backwards
from mirrorfarm.sim.monitors.seen import Calm
from mirrorfarm.sim.recording.recorder import Recorder
from mirrorfarm.sim.scenario.outcome import Moment, Outcome
from mirrorfarm.sim.scenario.record import Event, Expectation, Scenario
from mirrorfarm.sim.scenario.stage import stage_of
from mirrorfarm.sim.sweep import uncollected
from mirrorfarm.sim.trap import trap
from mirrorfarm.sim.tricks import Tricks

LOOK_NS: Final = 5 * MILLISECOND_NS
# What is tried of a mirror in its calm end, which no event of the file says; by `Calm.but`.
ONE_BY_ONE: Final = {
    "witness": "one fault alone: the arbiter is away for a while",
    "peer stops": "one fault alone: the secondary loses power",
    "return": "it starts again",
    "power": "one fault alone: the primary loses power",
}
Play = Callable[[Scenario], Outcome]


def play(scenario: Scenario, *, tells: bool = True, trace: Path | None = None) -> Outcome:
    """Play a scenario to its end, or to the first violation; it never raises one.

    `tells`: note what happens, for a reader; without it the run is faster and otherwise the same.
    `trace`: record it in this folder. Raises UsageInvalid if that holds traces.
    """
    run = _Run(scenario, tells=tells)
    cluster = run.cluster
    recorder = Recorder(cluster, trace) if trace is not None else None
    cluster.tricks = Tricks(scenario.seed, on=scenario.tricks)
    with uncollected(), trap(), cluster.tricks, watching(Collector()):  # As seeds are played.
        try:
            run.play()
        except AssertionError as error:  # A violation; or a core's own: it is wrong.
            violation = asserted(error)
            run.failed(str(violation), tuple(violation.story))
        finally:
            if recorder is not None:
                recorder.close()
    run.outcome.turns = cluster.turns
    return run.outcome


class _Run:
    def __init__(self, scenario: Scenario, *, tells: bool) -> None:
        self.outcome = Outcome(scenario)
        self._scenario, self._tells = scenario, tells
        self._stage = stage_of(scenario)
        self.cluster = self._stage.cluster
        self.cluster.tells_story = tells or any(one.told for one in scenario.expectations)
        self._begun = 0
        self._states: dict[str, str] = {}
        self._waiting = list(scenario.expectations)

    def play(self) -> None:
        """Play to the end; raises what goes wrong."""
        scenario, cluster = self._scenario, self.cluster
        self._begun = cluster.now
        self._stage.begin()
        self._begun = begun = cluster.now
        moment = cluster.watch.moment  # Stories count from there, too.
        cluster.watch.moment = lambda node, now: moment(node, now) - begun
        self._stage.schedule(scenario.events, self._do)
        self._advance(self._begun + scenario.end_ns)
        if scenario.converges:
            self._note("", "everything is mended")
            self.outcome.mended = True
            if self._tells:
                self._watch_the_end()
            self._stage.end()
            self._look()
        self.outcome.at_ns = cluster.now - self._begun

    def failed(self, text: str, story: tuple[str, ...]) -> None:
        """The run ended with a violation."""
        outcome = self.outcome
        outcome.violation, outcome.story = text, story
        outcome.at_ns = self.cluster.now - self._begun
        if text in self.cluster.watch.stories:  # Not only the reasons of nodes.
            outcome.chain = tuple(backwards(list(self.cluster.watch.recent)))
        for wanted in self._waiting:
            outcome.unmet.append(f"{_where(wanted)}: the run ended before")
        self._look()
        self._note("", text)

    def _do(self, event: Event) -> None:
        if self._tells:
            self._look()
            if not isinstance(event.act, Write):
                self._note(event.act.about, f"! {words(event.act)}")
        perform(self.cluster, event.act)

    # --- time ------------------------------------------------------------------------------

    def _advance(self, end: int) -> None:
        """Let time pass and look at what is expected."""
        if not self._tells and not self._waiting:
            self._stage.advance(end)
            return
        while True:
            self._look()
            self._expect()
            now = self.cluster.now
            if now >= end:
                return
            moments = [now + LOOK_NS, end]
            if self._waiting:
                moments.append(max(now + 1, self._begun + self._waiting[0].at_ns))
            self._stage.advance(min(moments))

    def _expect(self) -> None:
        """Take off what is met, or what can no longer be."""
        now = self.cluster.now - self._begun
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

    def _watch_the_end(self) -> None:
        """Look while the end goes on, which lets time pass by itself, and tell what is tried."""
        cluster = self.cluster
        run_to, seen = cluster.run_to, cluster.seen

        def looking(end: int) -> None:
            while True:
                run_to(min(cluster.now + LOOK_NS, end))
                self._look()
                if cluster.now >= end:
                    return

        def telling(node: str, observation: Any, module: str = "") -> None:
            # Each module hears what is a fault of its own then; names are of the first one.
            if isinstance(observation, Calm) and module == cluster.module_name:
                self._look()
                tried = ONE_BY_ONE.get(observation.but)
                if tried:
                    self._note("", tried)
            seen(node, observation, module)

        cluster.run_to = looking  # type: ignore[method-assign]
        cluster.seen = telling  # type: ignore[method-assign]

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
            at_ns = self.cluster.now - self._begun
            self.outcome.moments.append(Moment(at_ns, node, text))


def _where(wanted: Expectation) -> str:
    when = f"{'by' if wanted.by else 'at'} {duration_text(wanted.at_ns)}"
    return f"line {wanted.line}, {when}" if wanted.line else when
