"""Which step led to which: the sending of a message, the order for what was answered, a timer.

Fed all steps in their merged order; remembers for each of them two numbers, and for each silence
what the silent side did meanwhile. Everything else is bounded.
"""

from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.trace.facts import Fact, name_of, said
from mirrorfarm.trace.step import Placed

KEPT_MAX: Final = 256  # Of one kind, that are awaited by one actor.
SENDINGS_KEPT: Final = 64  # Of one node to another, to count what did not arrive.

NONE, MESSAGE, TOLD, TIMER, ANSWER = range(5)
LINKS: Final = ("none", "message", "told", "timer", "answer")

# What comes all the time, and is news to nobody.
ROUTINE: Final = frozenset(
    [
        "Heartbeat",
        "Probe",
        "FarmBeat",
        "PeerHeard",
        "RegisterRead",
        "RegisterRenew",
        "RegisterAnswer",
        "SyncProgress",
        "PlaneProgress",
        "FilterCounted",
        "SocketsCounted",
        "StateQuery",
        "LogQuery",
        "Announce",
        "Promise",
    ]
)
_SILENCES: Final = (ev.PeerSilent, ev.NetworkSilent, ev.ArbiterSilent)

# Orders to the outside, and their answers: by what number both are known.
ASKS: Final[dict[type, Callable[[Any], tuple[Any, ...]]]] = {
    fx.Store: lambda one: ("Stored", one.record.counter),
    fx.RegisterStore: lambda one: ("RegisterStored", one.counter),
    fx.StartScript: lambda one: ("ScriptEnded", one.run, one.name),
    fx.KillScripts: lambda one: ("ApplicationGone", one.run),
    fx.AddressProbe: lambda one: ("VipProbed", one.run),
    fx.AddressAdd: lambda one: ("VipIsUp", one.run),
    fx.AddressRemove: lambda one: ("VipIsDown", one.run),
    fx.GuardOrder: lambda one: ("GuardActed", one.deadline_ns),
    fx.PingProbe: lambda one: ("PingAnswered", one.request),
    fx.CountSockets: lambda one: ("SocketsCounted", one.number),
    fx.Watch: lambda one: ("ProcessesSeen", one.number),
    fx.PlaneOrder: lambda one: ("Plane",),
}
ANSWERS: Final[dict[str, Callable[[Any], tuple[Any, ...]]]] = {
    "Stored": lambda one: ("Stored", one.counter),
    "StoreFailed": lambda one: ("Stored", one.counter),
    "RegisterStored": lambda one: ("RegisterStored", one.counter),
    "ScriptEnded": lambda one: ("ScriptEnded", one.run, one.name),
    "ApplicationGone": lambda one: ("ApplicationGone", one.run),
    "VipProbed": lambda one: ("VipProbed", one.run),
    "VipIsUp": lambda one: ("VipIsUp", one.run),
    "VipIsDown": lambda one: ("VipIsDown", one.run),
    "GuardActed": lambda one: ("GuardActed", one.deadline_ns),
    "PingAnswered": lambda one: ("PingAnswered", one.request),
    "SocketsCounted": lambda one: ("SocketsCounted", one.number),
    "ProcessesSeen": lambda one: ("ProcessesSeen", one.number),
    "ProcessGone": lambda one: ("ProcessesSeen", one.number),
    **{
        name: lambda one: ("Plane",)
        for name in ["PlaneDone", "PlaneFault", "PlaneGated", "PlaneCopied", "PlaneSessionUp"]
    },
}


@dataclass(slots=True)
class Absence:
    """A silence, and what the silent side did meanwhile, as far as its traces say."""

    by: str  # Node that heard nothing,
    peer: str  # of this one; "": nobody was ever heard or spoken to.
    heard: int  # Step that received the last message; -1: none ever came.
    heard_ns: int
    unheard: int  # Messages that the peer sent since, and that did not arrive.
    traced: bool  # The peer's traces are there.
    last: int = -1  # The peer's last step before, and
    last_ns: int = 0
    next_ns: int = 0  # its next one; 0: there is none.
    restarted: bool = False  # That one is of another start of the process.


@dataclass(slots=True)
class _Actor:
    """What one actor waits for, and heard last."""

    notable: int = -1
    told: dict[str, deque[tuple[Any, int]]] = field(default_factory=dict)
    timers: dict[str, list[tuple[int, int, Any]]] = field(default_factory=dict)
    asked: dict[tuple[Any, ...], int] = field(default_factory=dict)
    heard: tuple[int, int, str, int] = (-1, 0, "", -1)  # Step, time, from whom, its sending.
    spoke_to: str = ""


@dataclass(slots=True)
class Causes:
    """The links between steps."""

    lanes: list[Any]  # Of the merge.
    links: bytearray = field(default_factory=bytearray)
    causes: "array[int]" = field(default_factory=lambda: array("q"))  # -1: not known.
    earlier: "array[int]" = field(default_factory=lambda: array("q"))  # News of the same actor.
    absences: dict[int, Absence] = field(default_factory=dict)
    _actors: dict[tuple[int, str], _Actor] = field(default_factory=dict)
    _incarnations: dict[int, int] = field(default_factory=dict)
    _sendings: dict[tuple[str, str], deque[int]] = field(default_factory=dict)
    _open: dict[int, list[Absence]] = field(default_factory=dict)  # By lane of the silent side.
    _last: dict[int, tuple[int, int]] = field(default_factory=dict)  # By lane: step, time.

    def add(self, placed: Placed, facts: list[Fact]) -> None:
        """Take the next step in."""
        step, lane = placed.step, placed.lane
        if self._incarnations.get(lane) != step.incarnation:
            self._incarnations[lane] = step.incarnation
            for key in [key for key in self._actors if key[0] == lane]:
                del self._actors[key]
        for absence in self._open.pop(lane, ()):
            absence.next_ns, absence.restarted = placed.at_ns, name_of(step.event) == "Started"
        actor = self._actor(lane, step.actor)
        link, cause = self._cause(actor, placed)
        self.links.append(link)
        self.causes.append(cause)
        self.earlier.append(actor.notable)
        event = step.event
        if type(event) is ev.Received:
            sending = placed.sending.number if placed.sending is not None else -1
            actor.heard = (placed.number, placed.at_ns, event.source.node, sending)
        self._last[lane] = (placed.number, placed.at_ns)
        for effect in step.effects:
            self._note(actor, placed, effect)
        if facts or (link != TIMER and step.effects and name_of(said(event)) not in ROUTINE):
            actor.notable = placed.number

    def _actor(self, lane: int, name: str) -> _Actor:
        actor = self._actors.get((lane, name))
        if actor is None:
            actor = self._actors[lane, name] = _Actor()
        return actor

    # --- backwards -------------------------------------------------------------------------

    def _cause(self, actor: _Actor, placed: Placed) -> tuple[int, int]:
        event = placed.step.event
        if placed.sending is not None:
            return MESSAGE, placed.sending.number
        content = said(event) if type(event) is ev.Received else event
        name = name_of(content)
        for at, (other, number) in enumerate(actor.told.get(name, ())):
            if other == content:
                del actor.told[name][at]
                return TOLD, number
        timers = actor.timers.get(name, [])
        due = min(
            (one for one in timers if one[2] == content), key=lambda one: one[0], default=None
        )
        if due is not None:
            timers.remove(due)
            return TIMER, due[1]
        key = ANSWERS.get(name)
        if key is None or isinstance(event, list):
            return NONE, -1
        number = actor.asked.get(key(event), -1)
        return (ANSWER, number) if number >= 0 else (NONE, -1)

    # --- forwards --------------------------------------------------------------------------

    def _note(self, actor: _Actor, placed: Placed, effect: Any) -> None:
        """Remember what may follow from an effect."""
        kind, number = type(effect), placed.number
        if kind is fx.Later:
            row = actor.timers.setdefault(name_of(effect.event), [])
            row.append((effect.at_ns, number, effect.event))
            if len(row) > KEPT_MAX:
                row.remove(min(row, key=lambda one: one[0]))
        elif kind is fx.Tell:
            self._await(placed, effect.actor, effect.event)
            if isinstance(effect.event, _SILENCES):
                self._silence(actor, placed)
        elif kind is fx.Send:
            here = placed.step.node
            for name in effect.to.nodes:
                if name == here:
                    self._await(placed, effect.to.actor, effect.message)
                    continue
                actor.spoke_to = name
                sendings = self._sendings.get((here, name))
                if sendings is None:
                    sendings = self._sendings[here, name] = deque(maxlen=SENDINGS_KEPT)
                sendings.append(number)
        else:
            key = ASKS.get(kind)
            if key is not None:
                actor.asked[key(effect)] = number
                if len(actor.asked) > KEPT_MAX:
                    del actor.asked[next(iter(actor.asked))]

    def _await(self, placed: Placed, target: str, event: Any) -> None:
        told = self._actor(placed.lane, target).told
        name = name_of(event)
        if name not in told:
            told[name] = deque(maxlen=KEPT_MAX)
        told[name].append((event, placed.number))

    def _silence(self, actor: _Actor, placed: Placed) -> None:
        """Note who was silent, and what is known of that side so far."""
        heard, heard_ns, peer, sending = actor.heard
        peer = peer or actor.spoke_to
        here = placed.step.node
        row = self._sendings.get((peer, here), ())
        unheard = len(row) if heard < 0 else 0
        if sending >= 0:
            unheard = sum(number > sending for number in row)
        own = self.lanes[placed.lane].process
        lanes = [index for index, lane in enumerate(self.lanes) if lane.node == peer]
        lanes = [index for index in lanes if self.lanes[index].process == own] or lanes[:1]
        absence = Absence(here, peer, heard, heard_ns, unheard, bool(lanes))
        for index in lanes:
            absence.last, absence.last_ns = self._last.get(index, (-1, 0))
            self._open.setdefault(index, []).append(absence)
        self.absences[placed.number] = absence
