"""X5 to X7: the guard, the scripts and the addresses of a node are what its role says."""

from collections.abc import Iterator
from typing import Final

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.sim.monitors import seen
from mirrorfarm.sim.monitors.facts import ModuleFacts
from mirrorfarm.sim.monitors.monitor import Monitor
from mirrorfarm.sim.monitors.watch import Watch
from mirrorfarm.sim.steps import Step

# Of whose start scripts something runs in a role.
RUNS_IN: Final = {
    "PRIM": {"both", "prim"},
    "ALONE": {"both", "prim", "sec"},
    "SECOND": {"both", "second", "sec"},
}
BESIDE: Final = {"prim": "second", "second": "prim"}  # What is stopped before another starts.
IDLE: Final = ("stopped", "waiting", "asking", "syncing", "following")  # Phases.


class Guarded(Monitor):
    """X5. Nothing without observations: scripts do not tell when an application has ended."""

    id = "X5"
    statement = "While its peer could be promoted, an application runs under an armed guard."
    events = (fx.GuardOrder, seen.AppRuns, seen.RegisterDurable)

    def on(self, step: Step) -> None:  # noqa: D102
        event, facts = step.event, self.facts.of(step)
        if event.__class__ is seen.RegisterDurable:
            facts = self.facts.module(event.module)
        register = facts.register
        if facts.advisory or register is None or register.ver in facts.forced or facts.lives > 1:
            return  # Where an arbiter forgot, a node may not have heard yet of whom it names.
        for name, side in facts.sides.items():
            if side.runs and not side.guard_ns and set(register.isr) != {name}:
                self.fail(f"the application of {name} runs unguarded; the set is {register.isr}")


class Scripts(Monitor):
    """X6. Nothing without observations: a trace may begin amid a role."""

    id = "X6"
    statement = "What start scripts began, stop scripts end: before the other role's begin, once."
    events = (fx.StartScript, fx.KillScripts, ev.Announce, seen.PowerLost, seen.Settled)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._begun: dict[str, set[str]] = {}  # By node: of which start scripts something runs.

    def on(self, step: Step) -> None:  # noqa: D102
        if step.event.__class__ is seen.PowerLost:
            self._begun.pop(step.node, None)
        elif step.event.__class__ is seen.Settled:
            if not step.event.why:
                self._settled(self.facts.of(step))
        for effect in step.effects:
            if effect.__class__ is fx.StartScript:
                self._runs(step.node, effect.name)
            elif effect.__class__ is fx.KillScripts:
                self._begun.pop(step.node, None)
            elif effect.__class__ is fx.Tell and effect.event.__class__ is ev.Announce:
                begun = self._begun.get(step.node)
                if begun and effect.event.about.phase == "stopped":
                    self.fail(f"{step.node} is stopped, and {_words(begun)} runs on")

    def _runs(self, node: str, name: str) -> None:
        verb, _, whose = name.partition("_")
        begun = self._begun.setdefault(node, set())
        if verb == "stop":
            begun.discard(whose)
        elif verb == "start":
            beside = BESIDE.get(whose)
            if whose in begun or beside in begun:
                self.fail(f"{node} runs {name} while {_words(begun)} runs")
            begun.add(whose)

    def _settled(self, facts: ModuleFacts) -> None:
        for name, side in facts.sides.items():
            begun, meant = self._begun.get(name, set()), RUNS_IN.get(side.about.role, set())
            if begun != meant:
                role = side.about.role
                self.fail(f"{name} is {role}; {_words(begun)} runs instead of {_words(meant)}")


def _words(begun: set[str]) -> str:
    return " ".join(sorted(begun)) or "nothing"


class AsItSays(Monitor):
    """X7. Nothing without observations."""

    id = "X7"
    statement = "Who serves has its addresses; who does not has neither these nor an application."
    events = (ev.Announce, ev.VipIsUp, seen.VipIs, seen.Settled)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._refused: set[tuple[str, str]] = set()  # Not set, and the module was told why.
        self._fenced: set[tuple[str, str]] = set()  # By the guard; the module may not know it yet.

    def on(self, step: Step) -> None:  # noqa: D102
        facts, event = self.facts.of(step), step.event
        if event.__class__ is ev.VipIsUp:
            (self._refused.add if event.failures else self._refused.discard)(
                (step.node, step.process)
            )
            return
        if event.__class__ is seen.VipIs:
            key, side = (step.node, event.module), facts.side(step.node)
            if event.up:
                self._fenced.discard(key)
            elif 0 < side.guard_ns <= step.now:
                self._fenced.add(key)
            return
        names = list(facts.sides) if event.__class__ is seen.Settled else [step.node]
        for name in names:
            if (name, step.process) not in self._fenced:
                for wrong in _wrongs(facts, name, (name, step.process) in self._refused):
                    self.fail(f"{name} is {facts.side(name).about.phase} {wrong}")


def _wrongs(facts: ModuleFacts, name: str, refused: bool) -> Iterator[str]:
    side = facts.side(name)
    if side.about.phase == "leading" and side.about.status == "Ready" and not side.vip:
        if not refused:
            yield "and has no addresses"
    if side.about.phase in IDLE and side.vip:
        yield "with its addresses"
    if side.about.phase in IDLE and side.runs:
        yield "with its application"
