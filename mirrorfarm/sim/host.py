"""Machines, their processes, and the actors in them: threads with inboxes, in virtual time.

An actor takes one event at a time, in the order in which they came. What actors of one process
tell each other waits for a turn, which comes as the seed says; a timer, a frame or a result finds
an actor that has nothing to do, and is taken at once. A process may crash between any two effects
of one step, pause, or be slow; what it holds in memory goes with it.
"""

from collections import deque
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from heapq import heappush
from typing import Any

import msgspec

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors.shell import Core
from mirrorfarm.limits import MICROSECOND_NS
from mirrorfarm.sim.engine import ODD, Clocks, Engine, Entry
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.link.core import Window

TURN_NS = 12 * MICROSECOND_NS  # Between two events of a busy actor, and up to 16 more.

Doors = dict[type, Callable[["Actor", Any], None]]  # What performs each kind of effect.
Record = Callable[["Actor", int, Any, list[Any]], None]


class Call(msgspec.Struct, frozen=True):
    """An event of a thread that is no core: call this."""

    function: Any


class Calls:
    """A thread that does what it is told, in order: it pauses and dies with its process."""

    def handle(self, event: Any, now: int) -> list[fx.ANY_EFFECT]:
        """Do one thing."""
        del now
        event.function()
        return []


class Actor:
    """One core with its inbox."""

    __slots__ = ("address", "boot", "busy", "core", "engine", "inbox", "name", "process", "turn")

    def __init__(self, process: "Process", name: str, core: Core) -> None:
        self.process, self.name, self.core = process, name, core
        host = process.host
        self.address = Address(host.name, process.name.removesuffix(".replica"), name)
        self.engine, self.boot = host.engine, host.clocks.boot
        self.inbox: deque[Any] = deque()
        self.busy = False  # A turn is on the agenda.
        self.turn = self._turn  # Bound once: it is put on the agenda all the time.

    def give(self, event: Any) -> None:
        """Put an event into the inbox."""
        self.inbox.append(event)
        if not self.busy:
            self.busy = True
            self._wait()

    def _wait(self) -> None:
        """Put the next turn on the agenda: as `Engine.at` does, without its detours."""
        engine = self.engine
        engine.number = number = engine.number + 1
        spread = (number + engine.salt) * ODD
        when = engine.now + TURN_NS + (spread >> 8 & 0x3FFF) + self.process.slow_ns
        entry = (when, spread & 0xFFFFF, number, self.turn, ())
        if engine.next_turn is None:
            engine.next_turn = entry
        else:
            heappush(engine.heap, entry)

    def _turn(self) -> None:
        process = self.process
        if not process.alive:
            return
        if process.paused:
            process.parked.append(self)
            return
        inbox = self.inbox
        self.handle(inbox.popleft())
        if inbox and process.alive:
            self._wait()
        else:
            self.busy = False

    def handle(self, event: Any) -> None:
        """Give one event to the core, note the step, and do what it asks for, in order."""
        process, engine = self.process, self.engine
        engine.turns += 1
        now = self.boot(engine.now)
        effects = self.core.handle(event, now)
        if process.record is not None:
            process.record(self, now, event, effects)
        doors = process.doors
        for effect in effects:
            if process.doom >= 0 and process.doomed():
                return
            doors[effect.__class__](self, effect)


@dataclass(slots=True, eq=False)
class Process:
    """One process of a machine: it lives, pauses and dies as a whole."""

    host: "Host"
    name: str
    incarnation: int
    doors: Doors
    record: Record | None
    died: Callable[["Process"], None]
    actors: dict[str, Actor] = field(default_factory=dict)
    alive: bool = True
    paused: bool = False
    parked: list[Actor] = field(default_factory=list)
    slow_ns: int = 0  # That much longer takes every event.
    doom: int = -1  # Effects that it still performs before it crashes; -1: it does not.
    sequence: int = 0  # Of its last frame.

    def add(self, name: str, core: Core) -> Actor:
        """Begin to run a core."""
        actor = self.actors[name] = Actor(self, name, core)
        return actor

    def doomed(self) -> bool:
        """Count one effect; crash if that was the last one."""
        if self.doom > 0:
            self.doom -= 1
            return False
        if self.doom == 0 and self.alive:
            self.die()
        return not self.alive

    def die(self) -> None:
        """End at once, as by SIGKILL."""
        if self.alive:
            self.alive = False
            self.died(self)

    def pause(self) -> None:
        """Take no event any more, for now."""
        self.paused = True

    def go_on(self) -> None:
        """Take what came meanwhile."""
        self.paused = False
        parked, self.parked = self.parked, []
        engine = self.host.engine
        for actor in parked:
            engine.after(engine.jitter(), actor.turn)

    def later(self, actor: Actor, boot: int, event: Any) -> None:
        """Give an event to an actor when the machine's boot clock shows this time."""
        host = self.host
        host.engine.at(host.clocks.moment(boot), self.due, actor, event)

    def due(self, actor: Actor, event: Any) -> None:
        """Have an actor take an event, unless the process has ended: at once if it is idle.

        For the agenda alone: what comes while another actor takes an event is given (`Actor.give`).
        """
        if not self.alive:
            return
        if actor.busy or self.paused or self.slow_ns:
            actor.give(event)
        else:
            actor.handle(event)

    def call(self, thread: Actor, function: Callable[..., None], *arguments: Any) -> None:
        """Have a thread that is no core (`Calls`) call something: as `due`, without an event."""
        if not self.alive:
            return
        if thread.busy or self.paused or self.slow_ns:
            thread.give(Call(partial(function, *arguments)))
        else:
            thread.engine.turns += 1
            function(*arguments)


class Alarm:
    """A call when a machine's clock shows a time, put off again and again before that comes.

    It comes at the place on the agenda that `Engine.at` would have given it; of the times that
    it was put off from, one at the most is there.
    """

    __slots__ = ("_first", "_newest", "_what", "host")

    def __init__(self, host: "Host", what: Callable[..., None]) -> None:
        self.host, self._what = host, what
        self._newest: Entry | None = None  # When it is to come,
        self._first: Entry | None = None  # and what is on the agenda of it.
        host.alarms.append(self)

    def put_off(self, when: int, *arguments: Any) -> None:
        """Have it come at a time, not at the one before."""
        engine = self.host.engine
        engine.number = number = engine.number + 1
        tie = (number + engine.salt) * ODD & 0xFFFFF
        entry = (max(when, engine.now), tie, number, self._comes, (number, arguments))
        self._newest = entry
        if self._first is None or entry < self._first:
            self._first = entry
            heappush(engine.heap, entry)

    def _comes(self, number: int, arguments: tuple[Any, ...]) -> None:
        first, newest = self._first, self._newest
        if first is None or newest is None or number != first[2]:
            return  # It was put to an earlier time, and came then.
        if number == newest[2]:
            self._first = None
            self._what(*arguments)
        else:
            self._first = newest
            heappush(self.host.engine.heap, newest)

    def move(self, moved: Callable[[Entry], Entry]) -> None:
        """Move with the entries of the agenda: the clock was changed."""
        self._first = self._first and moved(self._first)
        self._newest = self._newest and moved(self._newest)


@dataclass(slots=True, eq=False)
class Host:
    """One machine: what is lost with its power, and what is not."""

    engine: Engine
    name: str
    clocks: Clocks
    processes: dict[str, Process] = field(default_factory=dict)
    incarnation: int = 0  # Of the last process that was started here.
    boot: int = 1  # Which time the kernel runs.
    first_boot_id: str = ""  # The boot id of the first time, if it is known.
    up: bool = False
    agent: bool = True  # The bus: without it nothing passes between processes.
    windows: dict[tuple[str, str], Window] = field(default_factory=dict)
    dropped: int = 0  # Frames that the bus has had already.
    alarms: list[Alarm] = field(default_factory=list)

    @property
    def boot_id(self) -> str:
        """The kernel's boot id."""
        return self.first_boot_id if self.boot == 1 and self.first_boot_id else f"boot-{self.boot}"

    def next_incarnation(self) -> int:
        """Return the number of a process that starts."""
        self.incarnation += 1
        return self.incarnation

    def change_clocks(self, change: Callable[[Clocks], None]) -> None:
        """Change the clocks; what waits until they show a time goes on waiting for just that."""
        clocks, before = self.clocks, copy(self.clocks)
        change(clocks)

        def moved(entry: Entry) -> Entry:
            at, tie, number, what, arguments = entry
            if getattr(getattr(what, "__self__", None), "host", None) is not self:
                return entry
            at = max(clocks.moment(before.boot(at)), self.engine.now)
            return at, tie, number, what, arguments

        self.engine.move(moved)
        for alarm in self.alarms:
            alarm.move(moved)

    def is_news(self, source: str, stamp: tuple[str, int, int]) -> bool:
        """Return whether the bus has not had this frame yet: it came by another network as well.

        `stamp`: of which process of the source it is, of which incarnation, and its number.
        """
        process, incarnation, sequence = stamp
        window = self.windows.get((source, process))
        if window is None:
            self.windows[source, process] = Window(incarnation, sequence)
            return True
        if window.refusal(incarnation, sequence):
            self.dropped += 1
            return False
        return True
