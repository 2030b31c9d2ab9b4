"""Every core, event and effect that a trace can name: a closed list.

Nothing is ever imported by a name that was read from a file.
"""

from typing import Any, Final, get_args

import msgspec

from mirrorfarm.actors.arbiter.client import WitnessClient
from mirrorfarm.actors.arbiter.ping import PingArbiter
from mirrorfarm.actors.arbiter.witness import WitnessCore
from mirrorfarm.actors.checker.core import Checker
from mirrorfarm.actors.effects import ANY_EFFECT, Later, Tell
from mirrorfarm.actors.events import Event
from mirrorfarm.actors.farm_filter.core import FarmFilter
from mirrorfarm.actors.guard.core import Guard
from mirrorfarm.actors.heartbeat.core import Heartbeat
from mirrorfarm.actors.module.farm.core import FarmModule
from mirrorfarm.actors.module.mirror.core import Mirror
from mirrorfarm.actors.replicator.core import Replicator
from mirrorfarm.actors.scripts.core import Scripts
from mirrorfarm.actors.vip.core import Vip
from mirrorfarm.transport.messages import ANY_MESSAGE

CORES: Final[dict[str, type[Any]]] = {
    kind.__name__: kind
    for kind in (
        *(Checker, FarmFilter, FarmModule, Guard, Heartbeat, Mirror, PingArbiter),
        *(Replicator, Scripts, Vip, WitnessClient, WitnessCore),
    )
}
EVENTS: Final[dict[str, type[Event]]] = {
    kind.__name__: kind
    for kind in Event.__subclasses__()
    if kind.__module__.startswith("mirrorfarm.actors.")
}
MESSAGES: Final = frozenset(kind.__name__ for kind in get_args(ANY_MESSAGE))
EFFECTS: Final[dict[str, type[Any]]] = {kind.__name__: kind for kind in get_args(ANY_EFFECT)}

assert not EVENTS.keys() & EFFECTS.keys(), "a name stands for one thing"


def class_of(value: Any) -> type[Any] | None:
    """Return the class that a plain value names at its beginning; None: this build has none."""
    if not isinstance(value, list | tuple) or not value or type(value[0]) is not str:
        return None
    return EVENTS.get(value[0]) or EFFECTS.get(value[0])


def typed(value: Any, kind: type[Any]) -> Any:
    """Return the event or effect of class `kind` that a plain value stands for.

    A value that has another form in this build is returned as it is: a list, its name first. The
    event in a Tell or a Later is taken over.
    """
    try:
        if kind is Tell or kind is Later:
            right = type(value[1]) is (str if kind is Tell else int)
            return kind(value[1], value[2]) if right else value
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, IndexError, RecursionError):
        return value
