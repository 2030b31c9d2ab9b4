"""The doors of a module's process in virtual time: what its cores ask for happens here.

As `mirrorfarm.actors.doors`, effect by effect; scripts, addresses, processes, the guard and the
farm's filter are models, whose faults the simulation sets.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.scripts.core import MISSING
from mirrorfarm.limits import MICROSECOND_NS, MILLISECOND_NS, SECOND_NS
from mirrorfarm.sim.engine import Draws
from mirrorfarm.sim.host import Actor, Alarm, Doors, Host, Process
from mirrorfarm.sim.monitors.seen import AppRuns, VipIs

KILLED = -9
ENDING_SCRIPTS = ("stop_prim", "stop_both")  # Others, such as `stop_sec`, are of something else.


@dataclass(slots=True)
class Application:
    """The application of one module on one node, and its scripts."""

    start_ns: int = 2 * MILLISECOND_NS  # Means.
    stop_ns: int = 2 * MILLISECOND_NS
    runs: bool = False
    number_run: int = 0  # How often it was started.
    fails: int = 0  # So many of the next starts fail.
    hangs: int = 0  # So many of the next starts never end,
    hangs_stop: int = 0  # and so many of the next stops.
    writes_at_stop: int = 0  # So often it writes while it is stopped next.
    script: tuple[int, str] | None = None  # Run and name of the one under way.
    number: int = 0  # Of that script.


@dataclass(slots=True)
class Guard:
    """The guard of one module: a process of its own that goes on when others hang."""

    deadline_ns: int = 0  # By the boot clock; 0: none.
    number: int = 0  # Of the order.
    suspended_until: int = 0  # With its machine, and not before that it acts.


@dataclass(slots=True, eq=False)
class Hands:
    """What one module on one node has outside of its process; it survives the process."""

    cluster: Any
    host: Host
    module: str
    machine: str  # Name of the actor that is the state machine.
    draws: Draws
    store: Callable[[Actor, fx.Store], None]
    app: Application = field(default_factory=Application)
    guard: Guard = field(default_factory=Guard)
    known_scripts: tuple[str, ...] = ("start_prim", "stop_prim", "start_both", "stop_both")
    vip: bool = False
    vip_fault: str = ""  # Why the addresses cannot be configured.
    watched: tuple[int, ...] = ()
    watch_number: int = 0
    deaf: bool = False  # The checker hears of no change.
    conflicts: Callable[[], tuple[str, ...]] = tuple
    pinged: Callable[[tuple[str, ...]], tuple[str, ...]] = tuple
    filter: Any = None  # Of a farm: a `SimFilter`.
    store_register: Callable[[Actor, fx.RegisterStore], None] = lambda actor, effect: None
    end_replica: Callable[[], None] = lambda: None
    modify: Callable[[], int] = lambda: 0  # The application writes.
    noted: Callable[[str, str], None] = lambda level, text: None
    doors: Doors = field(init=False)
    _alarm: Alarm = field(init=False)

    def __post_init__(self) -> None:
        self._alarm = Alarm(self.host, self._guard_acts)
        self.doors = {
            fx.Send: self.cluster.send,
            fx.Tell: self._tell,
            fx.Later: self._later,
            fx.Store: self.store,
            fx.RegisterStore: self._register_store,
            fx.Log: lambda actor, effect: self.noted(effect.level, effect.text),
            fx.Publish: self._publish,
            fx.StartScript: self._start_script,
            fx.EndScript: self._end_script,
            fx.KillScripts: self._kill_scripts,
            fx.AddressProbe: self._probe,
            fx.AddressAdd: self._address_add,
            fx.AddressAnnounce: lambda actor, effect: None,
            fx.AddressRemove: self._address_remove,
            fx.Watch: self._watch,
            fx.GuardOrder: self._guard_order,
            fx.PingProbe: self._ping,
            fx.EndReplica: lambda actor, effect: self.end_replica(),
            fx.ApplyTable: self._filter_apply,
            fx.RenewLease: self._filter_renew,
            fx.CountSockets: self._filter_count,
        }

    def _register_store(self, actor: Actor, effect: fx.RegisterStore) -> None:
        self.store_register(actor, effect)

    def _filter_apply(self, actor: Actor, effect: fx.ApplyTable) -> None:
        self.filter.apply(actor, effect)

    def _filter_renew(self, actor: Actor, effect: fx.RenewLease) -> None:
        self.filter.renew(actor, effect)

    def _filter_count(self, actor: Actor, effect: fx.CountSockets) -> None:
        self.filter.count(actor, effect)

    # --- inside of the process -------------------------------------------------------------

    @staticmethod
    def _tell(actor: Actor, effect: fx.Tell) -> None:
        target = actor.process.actors.get(effect.actor)
        if target is not None:
            target.give(effect.event)

    def _later(self, actor: Actor, effect: fx.Later) -> None:
        process = actor.process
        cluster = self.cluster
        cluster.at(self.host.clocks.moment(effect.at_ns), process.due, actor, effect.event)

    def _publish(self, actor: Actor, effect: fx.Publish) -> None:
        target = actor.process.actors.get(self.machine)
        if target is not None:
            target.give(ev.ResourceChanged(effect.resource, effect.value))

    def _soon(self, actor: Actor, event: Any, mean_ns: int) -> None:
        """Give a result to an actor after about this time, unless its process ends before."""
        delay = self.takes_ns(type(event).__name__, mean_ns)
        self.cluster.after(delay, actor.process.due, actor, event)

    def takes_ns(self, what: str, mean_ns: int) -> int:
        """Return how long a script takes, or until an event says that something is done."""
        del what
        return mean_ns // 4 + self.draws.below(3 * mean_ns // 2)

    # --- scripts and processes -------------------------------------------------------------

    def _start_script(self, actor: Actor, effect: fx.StartScript) -> None:
        app, name = self.app, effect.name
        if name not in self.known_scripts:
            self._soon(actor, ev.ScriptEnded(effect.run, name, 0, failure=MISSING), MILLISECOND_NS)
            return
        app.number += 1
        app.script = (effect.run, name)
        starts = name.startswith("start")
        hangs = app.hangs if starts else app.hangs_stop
        if hangs:
            if starts:
                app.hangs -= 1
            else:
                app.hangs_stop -= 1
            delay = effect.timeout_ns
        else:
            delay = self.takes_ns(name, app.start_ns if starts else app.stop_ns)
        if app.writes_at_stop and not starts:
            delay += self._write_until_stopped()
        if name == "start_prim" or (name == "start_both" and self.filter is not None):
            self.set_running(runs=not app.fails)
        ended = (actor, app.number, effect.run, name, bool(hangs))
        self.cluster.after(delay, self._script_ended, *ended)

    def _write_until_stopped(self) -> int:
        """Have the application write; return for how long."""
        count, self.app.writes_at_stop = self.app.writes_at_stop, 0
        for number in range(count):
            self.cluster.after(number * MILLISECOND_NS, self.modify)
        return count * MILLISECOND_NS

    def _script_ended(
        self, actor: Actor, number: int, run: int, name: str, timed_out: bool
    ) -> None:
        app = self.app
        if app.number != number or app.script is None:
            return
        app.script = None
        code = 0
        if name.startswith("start"):
            if app.fails:
                app.fails -= 1
                code = 1
            elif not timed_out and name == "start_prim":
                self.processes_changed(actor.process)
        elif name in ENDING_SCRIPTS:
            self.set_running(runs=False)
            self.processes_changed(actor.process)
        actor.process.due(actor, ev.ScriptEnded(run, name, code, timed_out))

    def _end_script(self, actor: Actor, effect: fx.EndScript) -> None:
        app = self.app
        if app.script == (effect.run, effect.name):
            app.script = None
            app.number += 1
            self._soon(actor, ev.ScriptEnded(effect.run, effect.name, KILLED), MILLISECOND_NS)

    def _kill_scripts(self, actor: Actor, effect: fx.KillScripts) -> None:
        app = self.app
        if app.script is not None:
            run, name = app.script
            app.script = None
            app.number += 1
            self._soon(actor, ev.ScriptEnded(run, name, KILLED), MILLISECOND_NS)
        self.set_running(runs=False)
        self.processes_changed(actor.process)
        self._soon(actor, ev.ApplicationGone(effect.run), 2 * MILLISECOND_NS)

    def set_running(self, *, runs: bool) -> None:
        """Start or end the application."""
        if runs != self.app.runs:
            self.app.runs = runs
            self.app.number_run += runs
            self.cluster.seen(self.host.name, AppRuns(self.module, runs), self.module)

    def _watch(self, actor: Actor, effect: fx.Watch) -> None:
        self.watched, self.watch_number = effect.entries, effect.number
        for entry in effect.entries:
            seen = ev.ProcessesSeen(entry, int(self.app.runs), effect.number)
            self._soon(actor, seen, MILLISECOND_NS)

    def processes_changed(self, process: Process) -> None:
        """Tell the checker of processes that came or went."""
        if not self.deaf:
            self.tell_checker(process, int(self.app.runs))

    def tell_checker(self, process: Process, count: int) -> None:
        """Tell the checker how many processes of each kind there are, true or not."""
        checker = process.actors.get("checker")
        if checker is None:
            return
        for entry in self.watched:
            kind = ev.ProcessesSeen if count else ev.ProcessGone
            self._soon(checker, kind(entry, count, self.watch_number), MILLISECOND_NS)

    def set_deaf(self, *, deaf: bool) -> None:
        """Have the checker hear of no change; afterwards it hears what there is."""
        was, self.deaf = self.deaf, deaf
        process = self.host.processes.get(self.module)
        if was and not deaf and process is not None and process.alive:
            self.processes_changed(process)

    def mend(self) -> None:
        """End what is wrong with the application and the checker."""
        app = self.app
        app.fails = app.hangs = app.hangs_stop = app.writes_at_stop = 0
        self.vip_fault = ""
        self.set_deaf(deaf=False)

    # --- addresses -------------------------------------------------------------------------

    def _probe(self, actor: Actor, effect: fx.AddressProbe) -> None:
        self._soon(actor, ev.VipProbed(effect.run, self.conflicts()), 2 * MILLISECOND_NS)

    def _address_add(self, actor: Actor, effect: fx.AddressAdd) -> None:
        failures = (self.vip_fault,) if self.vip_fault else ()
        if not failures:  # What was there already stays.
            self.set_vip(up=True)
        self._soon(actor, ev.VipIsUp(effect.run, failures), 2 * MILLISECOND_NS)

    def _address_remove(self, actor: Actor, effect: fx.AddressRemove) -> None:
        self.set_vip(up=False)
        self._soon(actor, ev.VipIsDown(effect.run), 2 * MILLISECOND_NS)

    def set_vip(self, *, up: bool) -> None:
        """Configure or remove the addresses."""
        if up != self.vip:
            self.vip = up
            self.cluster.seen(self.host.name, VipIs(self.module, up), self.module)

    # --- guard and arbiter -----------------------------------------------------------------

    def _guard_order(self, actor: Actor, effect: fx.GuardOrder) -> None:
        self.guard.number += 1
        self.guard.deadline_ns = effect.deadline_ns
        if effect.deadline_ns:
            when = self.host.clocks.moment(effect.deadline_ns)
            self._alarm.put_off(when, self.guard.number)

    def _guard_acts(self, number: int) -> None:
        """Fence the application, whatever the module's process does."""
        guard = self.guard
        if guard.number != number or not guard.deadline_ns or not self.host.up:
            return
        if self.host.engine.now < guard.suspended_until:
            self._alarm.put_off(guard.suspended_until, number)
            return
        deadline, guard.deadline_ns = guard.deadline_ns, 0
        self.fence()
        process = self.host.processes.get(self.module)
        if process is not None and process.alive and "guard" in process.actors:
            process.due(process.actors["guard"], ev.GuardActed(deadline))

    def fence(self) -> None:
        """Remove the addresses and end the application."""
        self.set_vip(up=False)
        app, process = self.app, self.host.processes.get(self.module)
        if app.script is not None and process is not None and process.alive:
            run, name = app.script  # Whatever runs a script sees it die.
            ended = ev.ScriptEnded(run, name, KILLED)
            self._soon(process.actors["scripts"], ended, MILLISECOND_NS)
        app.script = None
        app.number += 1
        self.set_running(runs=False)

    def _ping(self, actor: Actor, effect: fx.PingProbe) -> None:
        answered = self.pinged(effect.addresses)
        delay = 200 * MICROSECOND_NS if answered else min(effect.timeout_ns, 10 * SECOND_NS)
        event = ev.PingAnswered(effect.request, answered)
        self.cluster.after(delay, actor.process.due, actor, event)

    def power_fails(self) -> None:
        """The machine is off."""
        self.guard.number += 1
        self.guard.deadline_ns = self.guard.suspended_until = 0
        self.watched = ()
        self.fence()
