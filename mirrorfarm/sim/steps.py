"""One step of one core: what it was given, when, and what it asked for.

The simulator makes steps as it runs, a reader makes them from recorded files; monitors take
both. Steps of one node come in the order in which they happened there.
"""

from typing import Any

import msgspec

from mirrorfarm.trace.step import Step as RecordedStep


class Step(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A core handled one event. Events and effects are the typed objects, never plain values."""

    node: str  # Or the witness's name.
    process: str  # The module, `MODULE.replica`, `witness`; "" of an observation.
    actor: str
    now: int  # The node's boot clock, nanoseconds.
    event: Any
    effects: tuple[Any, ...] | list[Any] = ()
    # Of a recorded step: incarnation and number of each message that it sent, if known.
    sent: tuple[tuple[int, int] | None, ...] = ()


def recorded(step: RecordedStep) -> Step:
    """Return a step that was read from a trace as monitors take it."""
    sent = tuple(None if one is None else one[1:] for one in step.sent_ids)
    return Step(step.node, step.process, step.actor, step.now_ns, step.event, step.effects, sent)
