"""What a sweep came by: phases × events of the mirror, things that must happen sometimes.

A collector is fed with steps, whichever simulator or recording they come from; `watching` feeds
it with every step of every mirror of this process. Percentages of lines say little about a
protocol: a cell that no run ever hits is a row of docs/protocols/mirror.md that nobody tried.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.mirror.core import Mirror
from mirrorfarm.actors.module.mirror.phases import Phase
from mirrorfarm.sim.seldom import SOMETIMES
from mirrorfarm.transport import messages as msg

PHASES = tuple(phase.value for phase in Phase)
# An order that was replaced by another one may be answered when all is over.
_LEAVING = ("resetting", "leaving", "demoting", "stopping", "stopped", "starting", "waiting")
# In which phases alone the results of these orders can come; everything else can come in all.
ONLY_IN: dict[str, tuple[str, ...]] = {
    "Started": ("stopped",),
    "ApplicationGone": _LEAVING,
    "VipIsDown": _LEAVING,
    "VipIsUp": ("taking", "leaving", "demoting", "stopping"),
}
# What a mirror can be given. A sweep may hit others as well; these are missed when it does not.
EVENTS = (
    *("Started", "Tick", "PeerHeard", "PeerSilent", "NetworkSilent", "NetworkHeard", "Stalled"),
    *("RegisterKnown", "ArbiterSilent", "ArbiterHeard", "RegisterNews", "Stored", "StoreFailed"),
    *("SequenceEnded", "ApplicationGone", "VipIsUp", "VipIsDown", "GuardActed"),
    *("SyncOffer", "SyncAccepted", "SyncRefused", "Synced", "Leave", "SwapWanted"),
    *("PlaneIs", "SessionUp", "SessionBroken", "CopyComplete", "WriteHeld", "StorageFailed"),
    *(f"Command {verb}" for verb in ("start", "stop", "swap", "restart", "stopstart", "prim")),
)
GROWTH_FIRST = 1_000  # Steps; then twice as many, and so on.


class Taken(Protocol):
    """What a collector needs to know of a step."""

    @property
    def node(self) -> str:
        """Name of the node."""

    @property
    def event(self) -> Any:
        """What its mirror was given."""

    @property
    def effects(self) -> Any:
        """What it asked for, in order."""


class TakenStep(msgspec.Struct, frozen=True):
    """A step as `watching` makes it."""

    node: str
    actor: str
    now: int  # Nanoseconds.
    event: Any
    effects: Any


@dataclass(slots=True)
class Coverage:
    """Counts of many runs. `see` takes them in the order in which they happen on a node."""

    steps: int = 0
    cells: Counter[tuple[str, str]] = field(default_factory=Counter)  # Phase before, event.
    sometimes: Counter[str] = field(default_factory=Counter)
    growth: list[tuple[int, int]] = field(
        default_factory=list
    )  # Steps, abstract states until then.
    states: set[tuple[tuple[str, ...], ...]] = field(default_factory=set)
    _phases: dict[str, str] = field(default_factory=dict)
    _nodes: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def begin(self) -> None:
        """Another run begins: its nodes are new."""
        self._phases, self._nodes = {}, {}

    def see(self, step: Taken, phase: Phase) -> None:
        """Take a step of a mirror, which is in `phase` after it."""
        fresh = isinstance(step.event, ev.Started)
        before = "stopped" if fresh else self._phases.get(step.node, phase.value)
        self._phases[step.node] = phase.value
        self.steps += 1
        self.cells[before, kind_of(step.event)] += 1
        for name, happens in SOMETIMES.items():
            if happens(step, before, phase.value):
                self.sometimes[name] += 1
        self._note_state(step, phase)
        if self.steps == (self.growth[-1][0] * 2 if self.growth else GROWTH_FIRST):
            self.growth.append((self.steps, len(self.states)))

    def _note_state(self, step: Taken, phase: Phase) -> None:
        """Note what the nodes look like from outside: phase, data plane, what they announce."""
        plane, about = self._nodes.get(step.node, ("", "", ""))[1:]
        for effect in step.effects:
            match effect:
                case fx.Send(_, msg.PlaneWish() as wish):
                    plane = f"{wish.role} {wish.gate} {wish.plan} {bool(wish.sid)}"
                case fx.Tell(_, ev.Announce(said)):
                    about = f"{said.role} {said.status} {said.was} {said.cons} {said.lone}"
                case _:
                    pass
        node = (phase.value, plane, about)
        if self._nodes.get(step.node) != node:
            self._nodes[step.node] = node
            self.states.add(tuple(self._nodes[name] for name in sorted(self._nodes)))

    def never(self) -> list[tuple[str, str]]:
        """Return the cells that could have been hit, and were not."""
        return [
            (phase, event)
            for event in EVENTS
            for phase in PHASES
            if (phase, event) not in self.cells and is_possible(phase, event)
        ]

    def impossible_but_hit(self) -> list[tuple[str, str]]:
        """Return the cells that were hit although `ONLY_IN` says that they cannot be."""
        return [cell for cell in sorted(self.cells) if not is_possible(*cell)]

    def missed(self) -> list[str]:
        """Return what should happen sometimes, and never did."""
        return [name for name in SOMETIMES if not self.sometimes[name]]


def kind_of(event: Any) -> str:
    """Return an event's name; of a message that came in, that message's, of a command its verb."""
    if isinstance(event, ev.Received):
        if isinstance(event.message, msg.Command):
            return f"Command {event.message.verb}"
        return type(event.message).__name__
    return type(event).__name__


def is_possible(phase: str, event: str) -> bool:
    """Return whether an event can come in a phase."""
    return phase in ONLY_IN.get(event, PHASES)


@contextmanager
def watching(coverage: Coverage) -> Iterator[None]:
    """Feed the collector with every step of every mirror that runs meanwhile in this process."""
    honest: Callable[[Mirror, Any, int], list[fx.ANY_EFFECT]] = Mirror.handle

    def handle(mirror: Mirror, event: Any, now: int) -> list[fx.ANY_EFFECT]:
        effects = honest(mirror, event, now)
        state = mirror.state
        step = TakenStep(state.settings.node, state.module.name, now, event, effects)
        coverage.see(step, state.phase)
        return effects

    setattr(Mirror, "handle", handle)  # noqa: B010 - the checker takes it for a field.
    try:
        yield
    finally:
        setattr(Mirror, "handle", honest)  # noqa: B010


def report(coverage: Coverage) -> str:
    """Return the tables as text: `.` impossible, `-` never hit, else how often."""
    kinds = sorted({*EVENTS, *(event for _, event in coverage.cells)})
    lines = [" " * 20 + "".join(f"{phase[:7]:>8}" for phase in PHASES)]
    for kind in kinds:
        lines.append(f"{kind:20.20}" + "".join(_cell(coverage, phase, kind) for phase in PHASES))
    hit = sum(1 for cell in coverage.cells if cell[1] in EVENTS)
    never = coverage.never()
    lines += ["", f"{hit} cells hit, {len(never)} never (-), others impossible (.)", ""]
    lines += [f"{coverage.sometimes[name]:10} {name}" for name in SOMETIMES]
    lines += ["", "     steps  distinct abstract states"]
    end = (coverage.steps, len(coverage.states))
    lines += [f"{steps:10} {states:10}" for steps, states in (*coverage.growth, end)]
    return "\n".join(lines)


def _cell(coverage: Coverage, phase: str, event: str) -> str:
    count = coverage.cells.get((phase, event), 0)
    if not is_possible(phase, event):
        return f"{'!' + _short(count) if count else '.':>8}"
    return f"{_short(count) if count else '-':>8}"


def _short(count: int) -> str:
    return str(count) if count < 100_000 else f"{count // 1_000}k"
