"""X1 to X4: one application, one set of addresses, and how long a lost primary goes on."""

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.sim.monitors import seen
from mirrorfarm.sim.monitors.monitor import Monitor
from mirrorfarm.sim.monitors.watch import Watch
from mirrorfarm.sim.steps import Step


class OneApplication(Monitor):
    """X1. Without observations: by scripts, on clocks that the nodes share (one kernel)."""

    id = "X1"
    statement = "The application runs on one node at a time."
    events = (seen.AppRuns, fx.StartScript, ev.ScriptEnded, ev.ApplicationGone)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._running: dict[str, dict[str, bool]] = {}

    def on(self, step: Step) -> None:  # noqa: D102
        facts = self.facts.of(step)
        running = self._running.setdefault(step.process, {})
        if step.event.__class__ is seen.AppRuns:
            running[step.node] = step.event.runs
        elif not self.facts.simulated:
            self._by_scripts(step, running)
        others = [name for name, runs in running.items() if runs and name != step.node]
        if running.get(step.node) and others and not facts.advisory:
            self.fail(f"the application runs on {step.node} and {others[0]} at {self.watch.at}")

    @staticmethod
    def _by_scripts(step: Step, running: dict[str, bool]) -> None:
        event = step.event
        ended = event.__class__ is ev.ScriptEnded and event.name == "stop_prim"
        if ended or event.__class__ is ev.ApplicationGone:
            running[step.node] = False
        if any(e.__class__ is fx.StartScript and e.name == "start_prim" for e in step.effects):
            running[step.node] = True


class OneAddress(Monitor):
    """X2. Without observations: by the results of the address doors."""

    id = "X2"
    statement = "The virtual addresses are on one node at a time."
    events = (seen.VipIs, ev.VipIsUp, fx.AddressRemove)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._up: dict[str, dict[str, bool]] = {}

    def on(self, step: Step) -> None:  # noqa: D102
        up = self._up.setdefault(step.process, {})
        if step.event.__class__ is seen.VipIs:
            up[step.node] = step.event.up
        elif not self.facts.simulated and step.actor == "vip":
            up[step.node] = step.event.__class__ is ev.VipIsUp
        others = [name for name, there in up.items() if there and name != step.node]
        if up.get(step.node) and others and not self.facts.of(step).advisory:
            self.fail(f"the addresses are on {step.node} and {others[0]} at {self.watch.at}")


class ClosesInTime(Monitor):
    """X3. Without observations: nothing, for steps do not tell of writes."""

    id = "X3"
    statement = "Nothing is told after the deadline that the guard was given."
    events = (seen.Told,)

    def on(self, step: Step) -> None:  # noqa: D102
        side = self.facts.of(step).side(step.node)
        if side.guard_ns and step.now > side.guard_ns + MILLISECOND_NS:
            self.fail(f"{step.node} told write {step.event.write} after its guard's deadline")


class StaleReads(Monitor):
    """X4: a number, `longest_ns`; a violation only where it exceeds the bound.

    Without observations: from the register to the scripts, on clocks that the nodes share. A
    register that is gone names nobody: if its holder served by then, X1 sees both.
    """

    id = "X4"
    statement = "A superseded primary's application answers reads no longer than the guard allows."
    events = (seen.RegisterDurable, seen.RegisterGone, seen.AppRuns)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self.longest_ns = 0
        self.bound_ns = 2 * SECOND_NS
        self._superseded: dict[tuple[str, str], int] = {}

    def on(self, step: Step) -> None:  # noqa: D102
        event = step.event
        if event.__class__ is seen.RegisterDurable and not event.own:
            facts = self.facts.module(event.module)
            for name, side in facts.sides.items():
                if side.runs and name != event.register.holder:
                    self._superseded.setdefault((event.module, name), self.watch.at)
        elif event.__class__ is seen.RegisterGone:
            for key in [key for key in self._superseded if key[0] == event.module]:
                del self._superseded[key]
        elif event.__class__ is seen.AppRuns and not event.runs:
            since = self._superseded.pop((event.module, step.node), None)
            if since is not None:
                self.longest_ns = max(self.longest_ns, self.watch.at - since)
                if self.watch.at - since > self.bound_ns:
                    late = (self.watch.at - since) // MILLISECOND_NS
                    self.fail(f"{step.node} answered reads for {late} ms after it was superseded")
