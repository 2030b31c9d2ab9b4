"""What one recorded process waited for at a moment: timers, events, answers of its doors.

Fed all steps of a process in their order. A step that is an answer ends its waiting, so what is
left at the moment of a fork is what must still come.
"""

import copy
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.actors.replicator import core as plane
from mirrorfarm.actors.scripts.core import MISSING
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.trace.causes import ANSWERS, ASKS, KEPT_MAX
from mirrorfarm.trace.step import Step
from mirrorfarm.transport.address import MODULE_ACTOR

STALE_NS: Final = SECOND_NS  # What an inbox has held for longer was lost with a part of the trace.
LONG_ORDERS: Final = ("mount_lead", "mount_follow", "unmount", "accept_session")

_ENDS: Final = (fx.StartScript, fx.KillScripts)  # Processes may come and go meanwhile.

Key = tuple[str, tuple[Any, ...]]


class Order(NamedTuple):
    """An order to a door that is not answered yet."""

    actor: str
    effect: Any
    since_ns: int  # By the clock of the recording.


class Answered(NamedTuple):
    """An order that was answered: what took how long."""

    what: str  # The answer's class, or the script's name.
    took_ns: int


@dataclass(slots=True)
class Doors:
    """What a process's doors hold, as far as orders and answers say; None: they do not."""

    runs: bool | None = None  # The application.
    vip: bool | None = None
    guard_ns: int = 0  # Deadline of the guard; 0: none.
    watch: fx.Watch | None = None
    record: NodeRecord | None = None  # Durable.
    table: fx.ApplyTable | None = None  # Of a farm's filter; its core knows until when it answers.
    registers: dict[str, fx.RegisterStore] = field(default_factory=dict)  # Durable, by module.
    exits: int = 0  # How often the application ended by itself.
    sessions: frozenset[tuple[str, int, int]] = frozenset()  # What a plane told of which.


@dataclass(slots=True)
class Waiting:
    """One start of one process."""

    incarnation: int
    app: str = "prim"  # start_prim starts the application, stop_prim ends it; of a farm `both`.
    sequence: int = 0  # Of the last frame that it sent.
    number: int = 0  # Of its last step,
    now_ns: int = 0  # and when that was, by its own clock.
    late_ns: int = 0  # How late the timer was that it was about; 0: it was about none.
    timers: dict[str, list[fx.Later]] = field(default_factory=dict)
    told: dict[str, deque[tuple[int, Any]]] = field(default_factory=dict)
    orders: dict[Key, Order] = field(default_factory=dict)
    doors: Doors = field(default_factory=Doors)
    begun: frozenset[str] = frozenset()  # Actors that have made a step.

    def copied(self) -> "Waiting":
        """Return what is waited for now; later steps do not change it."""
        return Waiting(
            self.incarnation,
            self.app,
            self.sequence,
            self.number,
            self.now_ns,
            0,
            {actor: list(row) for actor, row in self.timers.items()},
            {actor: row.copy() for actor, row in self.told.items()},
            dict(self.orders),
            copy.copy(self.doors),
            self.begun,
        )

    def take(self, step: Step, at_ns: int) -> Answered | None:
        """Take the next step in; tell of the order that it answers."""
        self.number, self.now_ns, self.late_ns = step.number, step.now_ns, 0
        self.sequence = max([self.sequence, *(n for n in step.sent if n is not None)])
        if step.actor not in self.begun:
            self.begun |= {step.actor}
        found = None
        if not isinstance(step.event, ev.Received):
            found = self._came(step.actor, step.event, at_ns)
        for effect in step.effects:
            self._ordered(step, effect, at_ns)
        return found

    # --- what comes ------------------------------------------------------------------------

    def _came(self, actor: str, event: Any, at_ns: int) -> Answered | None:
        told = self.told.get(actor)
        if told and self._from_inbox(told, event):
            return None
        timers = self.timers.get(actor, [])
        due = [timer for timer in timers if timer.event == event]
        if due:
            timer = min(due, key=lambda timer: timer.at_ns)
            timers.remove(timer)
            self.late_ns = self.now_ns - timer.at_ns
            return None
        key = answer_key(event)
        order = self.orders.pop((actor, key), None) if key is not None else None
        if order is None and isinstance(event, ev.StoreFailed):  # It was not the record.
            order = self.orders.pop((actor, ("RegisterStored", event.counter)), None)
        self._learn(event, order)
        if order is None:
            return None
        return Answered(_name(event), at_ns - order.since_ns)

    @staticmethod
    def _from_inbox(told: deque[tuple[int, Any]], event: Any) -> bool:
        for place, (_, other) in enumerate(told):
            if other == event:
                del told[place]
                return True
        return False

    def _learn(self, event: Any, order: Order | None) -> None:
        """Note what an answer says of the doors."""
        doors = self.doors
        match event:
            case ev.Started():
                doors.runs, doors.vip = bool(doors.runs), bool(doors.vip)
            case ev.Stored() if order is not None:
                doors.record = order.effect.record
            case ev.RegisterStored() if order is not None:
                doors.registers = doors.registers | {order.effect.module: order.effect}
            case ev.ScriptEnded(name=name) if name == f"stop_{self.app}":
                doors.runs = False
            case ev.ApplicationGone():
                doors.runs = False
                self._drop(fx.StartScript)
            case plane.PlaneSessionUp(term, sid) | plane.PlaneCopied(term, sid):
                doors.sessions |= {(type(event).__name__, term, sid)}
            case ev.GuardActed():
                doors.runs, doors.vip, doors.guard_ns = False, False, 0
            case ev.ProcessesSeen(count=0) | ev.ProcessGone(count=0):
                ended = any(type(one.effect) in _ENDS for one in self.orders.values())
                if doors.runs is not False and not ended:
                    doors.runs, doors.exits = False, doors.exits + 1

    # --- what is ordered -------------------------------------------------------------------

    def _ordered(self, step: Step, effect: Any, at_ns: int) -> None:
        doors, kind = self.doors, type(effect)
        if kind is fx.Later:
            row = self.timers.setdefault(step.actor, [])
            row.append(effect)
            if len(row) > KEPT_MAX:
                row.remove(min(row, key=lambda timer: timer.at_ns))
            return
        if kind is fx.Tell:
            self._tell(effect.actor, effect.event, step.now_ns)
            return
        match effect:
            case fx.Publish(resource, value):
                self._tell(MODULE_ACTOR, ev.ResourceChanged(resource, value), step.now_ns)
            case fx.StartScript(name=name):
                self._drop(fx.StartScript)  # One runs at a time.
                doors.runs = doors.runs or name == f"start_{self.app}"
            case fx.AddressAdd() | fx.AddressRemove():
                doors.vip = kind is fx.AddressAdd
            case fx.GuardOrder(deadline_ns):
                doors.guard_ns = deadline_ns
            case fx.Watch():
                doors.watch = effect
            case fx.ApplyTable():
                doors.table = effect
        key = order_key(effect)
        if key is not None:
            self.orders[step.actor, key] = Order(step.actor, effect, at_ns)

    def _tell(self, actor: str, event: Any, now_ns: int) -> None:
        row = self.told.get(actor)
        if row is None:
            row = self.told[actor] = deque(maxlen=KEPT_MAX)
        row.append((now_ns, event))

    def _drop(self, kind: type) -> None:
        self.orders = {key: one for key, one in self.orders.items() if type(one.effect) is not kind}

    # --- at a fork -------------------------------------------------------------------------

    def due(self) -> list[tuple[str, fx.Later]]:
        """Return the timers that have not gone off, with their actors."""
        return [
            (actor, timer)
            for actor, row in self.timers.items()
            for timer in row
            if timer.at_ns > self.now_ns - STALE_NS
        ]

    def inboxes(self) -> list[tuple[str, Any]]:
        """Return what actors were told and have not handled, in order."""
        found = [
            (at_ns, actor, event)
            for actor, row in self.told.items()
            for at_ns, event in row
            if at_ns > self.now_ns - STALE_NS
        ]
        return [(actor, event) for _, actor, event in sorted(found, key=lambda one: one[0])]


def order_key(effect: Any) -> tuple[Any, ...] | None:
    """Return by what the answer to an order is known; None: there is none, or many."""
    match effect:
        case fx.PlaneOrder(verb, arguments):
            if verb in LONG_ORDERS:
                return ("PlaneDone", arguments[0])
            return ("PlaneGated", arguments[0]) if verb == "gate" else None
        case fx.Watch() | fx.GuardOrder():
            return None  # Kept in `Doors`.
        case _:
            key = ASKS.get(type(effect))
            return None if key is None else key(effect)


def answer_key(event: Any) -> tuple[Any, ...] | None:
    """Return to which order an event is the answer."""
    match event:
        case plane.PlaneDone(run) | plane.PlaneFault(run):
            return ("PlaneDone", run)
        case plane.PlaneGated(run):
            return ("PlaneGated", run)
        case ev.Event():
            name = type(event).__name__
            return None if name.startswith("Plane") or name not in ANSWERS else ANSWERS[name](event)
        case _:
            return None  # Of another build, or too large to be recorded.


def _name(event: Any) -> str:
    """Return what took the time; "": a script that does not exist took none."""
    if isinstance(event, ev.ScriptEnded):
        return "" if event.failure == MISSING else event.name
    return type(event).__name__
