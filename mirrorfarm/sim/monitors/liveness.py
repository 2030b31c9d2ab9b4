"""L1 to L8: what must happen, and how soon. Bounds count only while one fault at most is active.

`Calm` opens such a time, naming the fault, and the next `Fault` ends it. Without observations
L8 is complete, L7 sees orders that are answered late, L5 counts moves against orders; the others
need to know of faults.
"""

from typing import Any, ClassVar

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.sim.monitors import seen
from mirrorfarm.sim.monitors.limits import Limits
from mirrorfarm.sim.monitors.monitor import Monitor
from mirrorfarm.sim.monitors.watch import Watch
from mirrorfarm.sim.steps import Step
from mirrorfarm.transport.messages import Command, CommandResult

SERVING = ("PRIM", "ALONE")
FINAL = ("done", "refused", "failed")
COMMAND_NS = 900 * SECOND_NS  # Three time limits of scripts.
SETTLED_NS = 10 * SECOND_NS  # Where all is in service nothing is left to wait for.
MOVES_MAX = 3  # Into the service of one node, within one hold-down.
HOLD_NS = 60 * SECOND_NS


class WhenCalm(Monitor):
    """Base: looks while no fault is active but one, from a `Calm` on to the next `Fault`.

    `but` names that fault; None: whatever it is.
    """

    but: ClassVar[str | None] = None
    frame: ClassVar[tuple[type, ...]] = (seen.Calm, seen.Fault)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self.calm = False

    def on(self, step: Step) -> None:  # noqa: D102
        event = step.event
        if event.__class__ not in self.frame:
            self.look(step)
            return
        self.calm = event.__class__ is seen.Calm and self.but in (None, event.but)
        self.turns(step)

    def turns(self, step: Step) -> None:
        """It became calm (`calm`), or not any more."""

    def look(self, step: Step) -> None:
        """Take a step that is neither."""
        raise NotImplementedError


class Bounded(WhenCalm):
    """Base: a deadline that opens and closes, and is not looked at after the next fault."""

    opens_at_once: ClassVar[bool] = True  # When it becomes calm.

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self.bound_ns = 0  # Set by whoever knows the module's clocks; 0: not checked.
        self.worst_ns = 0  # What was seen.
        self.since: int | None = None  # When it was opened.

    def turns(self, step: Step) -> None:  # noqa: D102
        self.since = self.watch.at if self.calm and self.opens_at_once else None

    def close(self, what: str) -> None:
        """Note that it happened, and whether in time."""
        if self.since is not None:
            took, self.since = self.watch.at - self.since, None
            self.worst_ns = max(self.worst_ns, took)
            if self.bound_ns and took > self.bound_ns:
                bound = self.bound_ns // MILLISECOND_NS
                self.fail(f"{what} after {took // MILLISECOND_NS} ms instead of {bound}")

    def ready(self, step: Step, role: str, what: str) -> None:
        """Close it if the node is ready in a role."""
        about = self.facts.of(step).side(step.node).about
        if about.role == role and about.status == "Ready":
            self.close(f"{step.node} {what}")

    def finish(self) -> None:  # noqa: D102
        if self.since is not None and self.bound_ns:
            if self.watch.at - self.since > self.bound_ns:
                self.fail(f"it has not happened {self.bound_ns // MILLISECOND_NS} ms later")


class Failover(Bounded):
    """L1. Without observations nothing."""

    id = "L1"
    statement = "When one node dies, its peer in the set serves alone within the bound."
    events = (seen.Calm, seen.Fault, seen.Settled, ev.Announce)
    but = "power"
    frame = (seen.Calm, seen.Fault, seen.Settled)

    def look(self, step: Step) -> None:  # noqa: D102
        self.ready(step, "ALONE", "serves alone")


class Failback(Bounded):
    """L2. Without observations nothing."""

    id = "L2"
    statement = "A node that returns is ready again within the bound, and nobody is interrupted."
    events = (seen.Calm, seen.Fault, seen.AppRuns, ev.Announce)
    but = "return"

    def look(self, step: Step) -> None:  # noqa: D102
        if step.event.__class__ is not seen.AppRuns:
            self.ready(step, "SECOND", "is ready")
        elif self.since is not None and not step.event.runs:
            self.fail(f"the application of {step.node} is stopped because its peer returns")


class WitnessLoss(WhenCalm):
    """L3. Without observations nothing."""

    id = "L3"
    statement = "Loss of the arbiter alone changes no role."
    events = (seen.Calm, seen.Fault, ev.Announce)
    but = "witness"

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._roles: dict[str, str] = {}

    def turns(self, step: Step) -> None:  # noqa: D102
        sides = self.facts.of(step).sides
        self._roles = {n: s.about.role for n, s in sides.items()} if self.calm else {}

    def look(self, step: Step) -> None:  # noqa: D102
        role = self.facts.of(step).side(step.node).about.role
        if self._roles.get(step.node, role) != role:
            self.fail(f"{step.node} became {role} because the arbiter is away")


class Converges(Monitor):
    """L4. Without observations nothing."""

    id = "L4"
    statement = "When the faults end, everything is in service again, or says why not."
    events = (seen.Settled,)

    def on(self, step: Step) -> None:  # noqa: D102
        if step.event.why:
            self.fail(step.event.why)


class NoFlapping(WhenCalm):
    """L5. Without observations: orders are known from steps, faults are not."""

    id = "L5"
    statement = "Without a new fault or an order a module does not change its role again and again."
    events = (seen.Calm, seen.Fault, Command, ev.Announce)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._moves: dict[tuple[str, str], list[int]] = {}
        self._roles: dict[tuple[str, str], str] = {}

    def turns(self, step: Step) -> None:  # noqa: D102
        self._moves.clear()

    def look(self, step: Step) -> None:  # noqa: D102
        event, key = step.event, (step.node, step.process)
        if event.__class__ is ev.Received and event.message.__class__ is Command:
            self._moves.clear()
        role = self.facts.of(step).side(step.node).about.role
        before = self._roles.get(key)
        self._roles[key] = role
        if self.calm and before is not None and role in SERVING and before not in SERVING:
            moves = [at for at in self._moves.get(key, []) if self.watch.at - at < HOLD_NS]
            self._moves[key] = [*moves, self.watch.at]
            if len(moves) >= MOVES_MAX:
                self.fail(f"{step.node} came into service {len(moves) + 1} times in a minute")


class NoWedge(Bounded):
    """L6. Without observations nothing."""

    id = "L6"
    statement = "A slow or stopped peer delays writes no longer than the bound."
    events = (seen.Calm, seen.Fault, seen.Invoked, seen.Told, seen.Failed)
    but = "peer stops"
    opens_at_once = False

    def look(self, step: Step) -> None:  # noqa: D102
        if step.event.__class__ is not seen.Invoked:
            self.close("a write is answered")
        elif self.calm and self.since is None:
            self.since = self.watch.at


class CommandsEnd(Monitor):
    """L7. Without observations: of the orders that are answered, for a process may have ended."""

    id = "L7"
    statement = "Every command gets one final result, in time; repeating it changes nothing."
    events = (Command, CommandResult, ev.Started, seen.Died, seen.PowerLost, seen.Settled)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._open: dict[tuple[str, str, str], int] = {}

    def on(self, step: Step) -> None:  # noqa: D102
        event = step.event
        match event:
            case ev.Started():
                self._owes_nothing(step.node, step.process)
                return
            case seen.Died(process):
                self._owes_nothing(step.node, process)
                return
            case seen.PowerLost():
                self._owes_nothing(step.node)
                return
            case seen.Settled():
                self._look(SETTLED_NS if not event.why else COMMAND_NS)
                return
        if event.__class__ is ev.Received and event.message.__class__ is Command:
            self._open.setdefault((step.node, step.process, event.message.request), self.watch.at)
        for effect in step.effects:
            if effect.__class__ is fx.Send and effect.message.__class__ is CommandResult:
                self._answered(step, effect.message)

    def finish(self) -> None:  # noqa: D102
        if self.facts.simulated:  # A process that ended without a word owes nothing either.
            self._look(COMMAND_NS)

    def _look(self, limit_ns: int) -> None:
        for (node, _, request), since in self._open.items():
            late = self.watch.at - since
            if late > limit_ns:
                self.fail(f"{node} has not ended command {request} after {late // SECOND_NS} s")

    def _owes_nothing(self, node: str, process: str = "") -> None:
        """Forget the orders of a process that is gone, or of all of a node."""
        for key in [key for key in self._open if key[0] == node and process in ("", key[1])]:
            del self._open[key]

    def _answered(self, step: Step, result: CommandResult) -> None:
        if result.outcome not in FINAL:
            return
        since = self._open.pop((step.node, step.process, result.request), None)
        if since is not None and self.watch.at - since > COMMAND_NS:
            late = (self.watch.at - since) // SECOND_NS
            self.fail(f"{step.node} ended command {result.request} after {late} s")


LIVENESS: tuple[type[Monitor], ...] = (
    Failover,
    Failback,
    WitnessLoss,
    Converges,
    NoFlapping,
    NoWedge,
    CommandsEnd,
    Limits,
)


def set_bounds(watch: Watch, timing: Any, start_ns: int) -> None:
    """Give the monitors the bounds that follow from a module's clocks (`Timing`)."""
    lease = timing.lease_ns + 2 * timing.lease_ns // 1_000
    silent = timing.detection_ns + 2 * timing.heartbeat_ns
    bounds = {
        "L1": max(silent, lease) + SECOND_NS + start_ns,
        "L2": 10 * SECOND_NS,
        "L6": timing.replication_timeout_ns * 5 // 4 + timing.detection_ns + 50 * MILLISECOND_NS,
    }
    for name, bound in bounds.items():
        monitor = watch.monitors.get(name)
        if isinstance(monitor, Bounded):
            monitor.bound_ns = bound
