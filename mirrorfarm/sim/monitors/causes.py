"""Why it came to a violation: the shortest chain of steps that led to it, in words, not a log.

The same slice backwards as `mirrorfarm trace why` takes (`mirrorfarm.trace.causes`): an event was
sent, told or timed by an earlier step, or answers an order that one gave. What only a simulation
sees follows from the last order that could have made it so, and the chain of a silence begins
with the fault that silenced the peer. Where two nodes contradict each other, both are told.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.sim.monitors import seen
from mirrorfarm.sim.steps import Step
from mirrorfarm.trace.causes import NONE, TIMER, Causes
from mirrorfarm.trace.facts import Fact, Facts
from mirrorfarm.trace.step import Placed, Sending
from mirrorfarm.trace.step import Step as RecordedStep
from mirrorfarm.trace.words import absent, given

STEPS_MAX: Final = 64  # Of a chain; most of them only carry on, and are not told.
OTHERS_MAX: Final = 8  # Of the chain at a node that is contradicted.
WORDS_MAX: Final = 160
WORLD: Final = "world"

# At which time of the whole a node's clock showed something, and a time as text.
Moment = Callable[[str, int], int]
Clock = Callable[[int], str]


def seconds(at_ns: int) -> str:
    """Return a time of a simulation as text."""
    return f"{at_ns / 1e9:.6f}"


# By which orders it came to what a simulation sees: the last one on the same node counts.
_ORDERS: Final[dict[type, tuple[type, ...]]] = {
    seen.AppRuns: (fx.StartScript, fx.KillScripts, fx.GuardOrder),
    seen.VipIs: (fx.AddressAdd, fx.AddressRemove, fx.GuardOrder),
    seen.Told: (fx.PlaneOrder,),
    seen.Failed: (fx.PlaneOrder,),
    seen.Wrote: (fx.PlaneOrder,),
    seen.Kept: (fx.PlaneOrder,),
    seen.RecordDurable: (fx.Store,),
    seen.RegisterDurable: (fx.RegisterStore,),
    seen.FilterIs: (fx.ApplyTable, fx.RenewLease),
}
_SILENCES: Final = (ev.PeerSilent, ev.NetworkSilent, ev.ArbiterSilent)
_FAULTS: Final = (seen.Fault, seen.PowerLost, seen.Died)


class _Lane(NamedTuple):
    """One process of one node."""

    node: str
    process: str


@dataclass(slots=True)
class Chains:
    """Some steps, in their order, and what led to each."""

    steps: Sequence[Step]
    moment: Moment = lambda node, now: now
    clock: Clock = seconds
    facts: list[list[Fact]] = field(default_factory=list)
    _placed: list[Placed] = field(default_factory=list)
    _causes: Causes = field(init=False)

    def __post_init__(self) -> None:
        lanes: dict[tuple[str, str], int] = {}
        self._causes = Causes([])
        sendings: dict[Any, Sending] = {}
        incarnations: dict[tuple[str, str], int] = {}
        facts = Facts()
        for number, step in enumerate(self.steps):
            observed = isinstance(step.event, seen.Seen)
            key = (step.node, WORLD if observed else step.process)
            if key not in lanes:
                lanes[key] = len(lanes)
                self._causes.lanes.append(_Lane(*key))
            if step.event.__class__ is seen.Begun:
                start = (step.node, step.event.process)
                incarnations[start] = incarnations.get(start, 0) + 1
            placed = self._place(number, step, lanes[key], incarnations.get(key, 0), sendings)
            self._placed.append(placed)
            self.facts.append(facts.of(placed.step))
            self._causes.add(placed, self.facts[-1])

    def _place(
        self,
        number: int,
        step: Step,
        lane: int,
        incarnation: int,
        sendings: dict[Any, Sending],
    ) -> Placed:
        at_ns = self.moment(step.node, step.now)
        effects = list(step.effects)
        whole = RecordedStep(
            *(step.node, step.actor, step.now, step.event, effects),
            WORLD if isinstance(step.event, seen.Seen) else step.process,
            incarnation,
        )
        sending = None
        if step.event.__class__ is ev.Received:
            event = step.event
            named = (event.source.node, event.incarnation, event.sequence)
            sending = sendings.get(named) or sendings.get(id(event.message))
        sent = iter(step.sent)
        for effect in effects:
            if effect.__class__ is fx.Send:
                one = Sending(number, at_ns, 0, (), lane, step.actor, effect)
                frame = next(sent, None)
                sendings[id(effect.message) if frame is None else (step.node, *frame)] = one
        return Placed(whole, lane, number, at_ns, 0, sending, ())

    # --- the slice -------------------------------------------------------------------------

    def chain(self, number: int) -> list[int]:
        """Return the numbers of the steps that led to one, oldest first; it is the last."""
        found, causes = [number], self._causes
        while len(found) < STEPS_MAX and number not in causes.absences:
            cause = self._cause(number)
            if not 0 <= cause < number:
                break
            number = cause
            found.append(number)
        if number in causes.absences:
            fault = self._fault(number)
            found += [fault] if fault >= 0 else []
        return found[::-1]

    def _cause(self, number: int) -> int:
        if isinstance(self.steps[number].event, seen.Seen):
            return self._order(number)
        link = self._causes.links[number]
        if link == TIMER:  # It only says when: go on with the last news of the actor.
            return self._causes.earlier[number]
        return -1 if link == NONE else self._causes.causes[number]

    def _order(self, number: int) -> int:
        """Return the last step whose order may have led to what was seen."""
        step = self.steps[number]
        wanted = _ORDERS.get(step.event.__class__, ())
        for before in range(number - 1, -1, -1 if wanted else -number - 1):
            one = self.steps[before]
            if one.node == step.node and any(e.__class__ in wanted for e in one.effects):
                return before
        return -1

    def _fault(self, number: int) -> int:
        """Return the fault that may have silenced the peer; -1: none is known."""
        absence = self._causes.absences[number]
        names = {absence.peer, absence.by}
        for before in range(number - 1, max(absence.heard, 0) - 1, -1):
            event = self.steps[before].event
            if event.__class__ not in _FAULTS:
                continue
            named = isinstance(event, seen.Fault) and names & set(event.what.split())
            if self.steps[before].node == absence.peer or named:
                return before
        return -1

    def contradicting(self, node: str) -> int:
        """Return the last step of another node that is of the kind of the last one; -1: none."""
        last = self.steps[-1]
        for before in range(len(self.steps) - 2, -1, -1):
            one = self.steps[before]
            if one.node == node and one.event.__class__ is last.event.__class__:
                return before
        return -1

    # --- words -----------------------------------------------------------------------------

    def line(self, number: int, *, whole: bool = False) -> str:
        """Return a step as one line; "" if it only carries on. `whole`: with all it asked for."""
        step, facts = self.steps[number], self.facts[number]
        text = self._words(number)
        absence = self._causes.absences.get(number)
        if absence is not None:
            heard = "\n".join(fact.text for fact in facts if fact.kind in {"silent", "arbiter"})
            text = f"{step.node} {heard or 'heard nothing'}: {absent(absence, self.clock)}"
        if whole:
            asked = [_short(_meant(e)) for e in step.effects if e.__class__ is not fx.Later]
            text = text or f"{step.node}'s {step.actor} was given {_short(_carried(step.event))}"
            text += f" -> {'; '.join(asked)}" if asked else ""
        return f"{self.clock(self._placed[number].at_ns)}  {text}" if text else ""

    def _words(self, number: int) -> str:
        step, facts = self.steps[number], self.facts[number]
        if isinstance(step.event, seen.Seen):
            told = facts[0].text if facts else _short(step.event)
            return f"{step.node or 'the cluster'} {told}" if facts else f"{step.node}: {told}"
        if self._causes.links[number] == TIMER or step.event.__class__ in _SILENCES:
            return ""  # Who noticed the silence has told of it.
        return given(self._placed[number].step, facts)


def backwards(steps: Sequence[Step]) -> list[Step]:
    """Return the chain that ends in the last of `steps`, oldest first."""
    return [steps[number] for number in Chains(steps).chain(len(steps) - 1)]


def story(
    steps: Sequence[Step],
    moment: Moment = lambda node, now: now,
    clock: Clock = seconds,
    other: str = "",
) -> list[str]:
    """Return the causal story of the last of `steps`, one line for each step.

    `other`: a node that this contradicts; what led there is told first.
    """
    chains, last = Chains(steps, moment, clock), len(steps) - 1
    numbers = chains.chain(last)
    contradicted = chains.contradicting(other) if other else -1
    there = chains.chain(contradicted)[-OTHERS_MAX:] if contradicted >= 0 else []
    lines: list[str] = []
    for number in sorted({*numbers, *there}):
        line = chains.line(number, whole=number in {last, contradicted})
        if line and (not lines or line.partition("  ")[2] != lines[-1].partition("  ")[2]):
            lines.append(line)
    return lines


def _carried(event: Any) -> Any:
    return event.message if event.__class__ is ev.Received else event


def _meant(effect: Any) -> Any:
    if effect.__class__ is fx.Send:
        return effect.message
    return effect.event if effect.__class__ is fx.Tell else effect


def _short(what: Any) -> str:
    if not isinstance(what, msgspec.Struct):
        return repr(what)[:WORDS_MAX]
    shown = []
    for one in msgspec.structs.fields(what):
        value = getattr(what, one.name)
        if value != one.default and not _opaque(value):
            shown.append(f"{one.name}={_value(value)}")
    return f"{type(what).__name__}({', '.join(shown)})"[:WORDS_MAX]


def _opaque(value: Any) -> bool:
    """Return whether a value is, or holds, bytes: nothing to read."""
    if isinstance(value, tuple):
        return any(_opaque(one) for one in value)
    return isinstance(value, bytes)


def _value(value: Any) -> str:
    if isinstance(value, msgspec.Struct):
        about = [getattr(value, name, "") for name in ("role", "status", "term", "ver", "isr")]
        return type(value).__name__ + "(" + " ".join(str(one) for one in about if one != "") + ")"
    return repr(value)
