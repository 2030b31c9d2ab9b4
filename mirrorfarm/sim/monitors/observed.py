"""What only a simulation saw, from the rows that its recording has of it (process `world`).

Of these, monitors of recorded traces hear what excuses: that a fault took a record or a register
away, and which fault that was. What a disk held, or an application was told, they do not compare.
"""

from typing import Any, Final

import msgspec

from mirrorfarm.sim.monitors import seen
from mirrorfarm.sim.steps import Step

KINDS: Final[dict[str, type[seen.Seen]]] = {
    kind.__name__: kind for kind in (seen.RecordGone, seen.RegisterGone, seen.Fault)
}


def observed(step: Step) -> Step | None:
    """Return a step of a recorded `world` as a simulation gives it; None: it excuses nothing."""
    row: Any = step.event
    kind = KINDS.get(row[0]) if isinstance(row, list) and row and type(row[0]) is str else None
    if kind is None:
        return None
    try:
        event = msgspec.convert(list(row), kind)
    except msgspec.ValidationError:  # Of a build that tells it otherwise.
        return None
    return Step(step.node, getattr(event, "module", ""), "world", step.now, event)
