"""Which script runs next. One sequence at a time, one script of it at a time.

Invariant: no script starts while another of the module runs, nor between the order to end the
application and the news that it is gone: else the new script would be ended with the old ones.
The exit code decides nothing here: a failure is listed, the sequence goes on, the mirror judges.
"""

from dataclasses import dataclass
from typing import Final

from mirrorfarm.actors.effects import (
    ANY_EFFECT,
    EndScript,
    KillScripts,
    Log,
    StartScript,
    Tell,
)
from mirrorfarm.actors.events import (
    ApplicationGone,
    Event,
    KillApplication,
    RunSequence,
    ScriptEnded,
    ScriptStep,
    SequenceEnded,
)
from mirrorfarm.limits import SECOND_NS, Nanoseconds
from mirrorfarm.modules.settings import Module
from mirrorfarm.transport.address import MODULE_ACTOR

MISSING: Final = "missing"  # ScriptEnded.failure of a script that the module does not have.
STEPS_MAX: Final = 32


@dataclass(slots=True)
class Scripts:
    """The sequences of one module on one node."""

    settings: Module
    sequence: RunSequence | None = None  # None: whatever still runs was abandoned.
    position: int = 0
    failed: tuple[str, ...] = ()
    running: tuple[int, ScriptStep] | None = None  # With the run that started it.
    ending: bool = False  # The running script was told to end.
    waiting: RunSequence | None = None  # Starts when the old script has ended.
    killing: int | None = None  # Run of the latest order to end the application.

    def handle(self, event: Event, now: Nanoseconds) -> list[ANY_EFFECT]:
        """Apply one event."""
        del now  # Time limits are kept where the processes are.
        match event:
            case RunSequence():
                return self._replace(event)
            case ScriptEnded():
                return self._ended(event)
            case KillApplication(run=run):
                self.sequence = self.waiting = None
                self.killing = run
                return [KillScripts(run)]
            case ApplicationGone(run=run):
                return self._gone(run)
            case _:
                return []

    def _replace(self, order: RunSequence) -> list[ANY_EFFECT]:
        assert len(order.steps) <= STEPS_MAX
        if not self.settings.has_scripts:
            return [Tell(MODULE_ACTOR, SequenceEnded(order.run))]
        self.sequence = None
        self.waiting = order
        if self.running and not self.ending and self.killing is None:
            self.ending = True
            run, step = self.running
            text = f"Script {step.name} is ended: another sequence takes its place"
            return [Log("S", text), EndScript(run, step.name)]
        return self._begin()

    def _begin(self) -> list[ANY_EFFECT]:
        if self.running or self.killing is not None or self.waiting is None:
            return []
        self.sequence, self.waiting = self.waiting, None
        self.position, self.failed = 0, ()
        return self._next()

    def _next(self) -> list[ANY_EFFECT]:
        assert self.sequence is not None
        order = self.sequence
        if self.position == len(order.steps):
            self.sequence = None
            return [Tell(MODULE_ACTOR, SequenceEnded(order.run, self.failed))]
        step = order.steps[self.position]
        self.position += 1
        self.running, self.ending = (order.run, step), False
        force = ("force",) if step.force else ()
        words = (*force, order.state, order.next_state, order.action)
        return [StartScript(order.run, step.name, words, time_limit(self.settings, step))]

    def _ended(self, news: ScriptEnded) -> list[ANY_EFFECT]:
        if self.running is None or (self.running[0], self.running[1].name) != (news.run, news.name):
            return []  # Of a process of this module's past.
        step = self.running[1]
        self.running = None
        if self.sequence is None:
            return self._begin()
        if news.failure == MISSING:
            return [Log("D", f"Script {news.name} does not exist: skipped"), *self._next()]
        fault = fault_of(self.settings, step, news)
        if not fault:
            return self._next()
        self.failed += (f"{step.name}{' force' if step.force else ''}: {fault}",)
        return [Log("E", f"Script {self.failed[-1]}"), *self._next()]

    def _gone(self, run: int) -> list[ANY_EFFECT]:
        told: list[ANY_EFFECT] = [Tell(MODULE_ACTOR, ApplicationGone(run))]
        if run == self.killing:
            self.killing = None
        return told + self._begin()


def time_limit(settings: Module, step: ScriptStep) -> Nanoseconds:
    """Return how long a script may take."""
    if not step.name.startswith("stop_"):
        return settings.start_ns
    return settings.force_stop_ns if step.force else settings.nice_stop_ns


def fault_of(settings: Module, step: ScriptStep, news: ScriptEnded) -> str:
    """Return what went wrong in words; empty: nothing."""
    if news.failure:
        return news.failure
    if news.timed_out:
        return f"no end within {time_limit(settings, step) // SECOND_NS} s, killed"
    if news.code < 0:
        return f"killed by signal {-news.code}"
    return f"exit {news.code}" if news.code else ""
