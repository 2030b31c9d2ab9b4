"""Why it came to a violation: the shortest chain of steps that led to it, not a log.

Backwards from the step in question: an event was sent, told or timed by an earlier step, or is
the answer to an order that one gave; what has no such origin follows from what its actor did
before, or is a fault of the simulation.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from mirrorfarm.actors.effects import Later, Send, Tell
from mirrorfarm.actors.events import Received
from mirrorfarm.sim.monitors.seen import Fault, Seen
from mirrorfarm.sim.steps import Step

STEPS_MAX = 24
WORDS_MAX = 160
_NUMBERS = ("run", "counter", "request", "number")


def backwards(steps: Sequence[Step]) -> list[Step]:
    """Return the chain that ends in the last of `steps`, oldest first."""
    chain = [steps[-1]]
    at = len(steps) - 1
    while len(chain) < STEPS_MAX:
        found = _origin(steps, at)
        if found < 0 or _rhythm(steps[found], steps[at]):
            break
        at = found
        chain.append(steps[at])
    return chain[::-1]


def _origin(steps: Sequence[Step], at: int) -> int:
    """Return the index of the step that made this one's event; -1: none is known."""
    step = steps[at]
    if isinstance(step.event, Fault):
        return -1
    weaker = -1
    for index in range(at - 1, -1, -1):
        before = steps[index]
        if _sent(before, step):
            return index
        same = (before.node, before.process, before.actor) == (step.node, step.process, step.actor)
        if same and _ordered(before, step.event):
            return index
        telling = before.effects or isinstance(before.event, Seen)
        if weaker < 0 and before.node == step.node and telling:
            weaker = index
    return weaker


def _rhythm(before: Step, step: Step) -> bool:
    """Return whether a timer only goes on: that explains nothing."""
    same = before.event.__class__ is step.event.__class__
    return same and any(e.__class__ is Later and e.event is step.event for e in before.effects)


def _sent(before: Step, step: Step) -> bool:
    event = step.event
    if event.__class__ is Received:
        if event.source.node != before.node or event.source.actor != before.actor:
            return False
        return any(e.__class__ is Send and e.message is event.message for e in before.effects)
    if before.node != step.node:
        return False
    return any(e.__class__ in (Tell, Later) and e.event is event for e in before.effects)


def _ordered(before: Step, event: Any) -> bool:
    """Return whether an earlier step of the actor gave the order whose answer this is."""
    name = next((name for name in _NUMBERS if hasattr(event, name)), "")
    if not name:
        return False
    value = getattr(event, name)
    for effect in before.effects:
        inner = getattr(effect, "record", effect)
        if getattr(inner, name, None) == value:
            return True
        arguments = getattr(effect, "arguments", ())
        if name == "run" and arguments and arguments[0] == value:
            return True
    return False


def words(step: Step) -> str:
    """Return a step as one line."""
    event = step.event
    what = event.message if event.__class__ is Received else event
    source = f" from {event.source.node}" if event.__class__ is Received else ""
    text = f"{step.now / 1e9:.6f} {step.node}/{step.process}/{step.actor}: {_short(what)}{source}"
    asked = [_short(_meant(effect)) for effect in step.effects if effect.__class__ is not Later]
    return text + (f" -> {'; '.join(asked)}" if asked else "")


def _meant(effect: Any) -> Any:
    if effect.__class__ is Send:
        return effect.message
    return effect.event if effect.__class__ is Tell else effect


def _short(what: Any) -> str:
    if not isinstance(what, msgspec.Struct):
        return repr(what)[:WORDS_MAX]
    shown = []
    for field in msgspec.structs.fields(what):
        value = getattr(what, field.name)
        if value != field.default and not isinstance(value, bytes):
            shown.append(f"{field.name}={_value(value)}")
    return f"{type(what).__name__}({', '.join(shown)})"[:WORDS_MAX]


def _value(value: Any) -> str:
    if isinstance(value, msgspec.Struct):
        about = [getattr(value, name, "") for name in ("role", "status", "term", "ver", "isr")]
        return type(value).__name__ + "(" + " ".join(str(one) for one in about if one != "") + ")"
    return repr(value)


def story(steps: Sequence[Step]) -> list[str]:
    """Return the causal story of the last of `steps`, one line for each step."""
    return [words(step) for step in backwards(steps)]
