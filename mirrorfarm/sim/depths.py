"""How full the queues of a simulated cluster are, looked at once in each simulated second.

Looking costs: a core is looked through in each eighth second only, by turns.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, Final

from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.host import Host
from mirrorfarm.sim.monitors.seen import Depths

LOOK_NS: Final = SECOND_NS
PLANE: Final = "plane"  # Threads and connections of a replicator: what is sent waits in sockets.
TURNS: Final = 8  # Looks at inboxes, for one at a core.
_GROWING: Final = (list, dict, deque, set)


class Gauge:
    """Looks at all inboxes, and each time at what one of the cores holds: the next one's turn."""

    def __init__(self) -> None:
        self.next_ns = 0
        self._turn = 0
        self._told: dict[str, Depths] = {}

    def look(self, now: int, hosts: Iterable[Host]) -> list[tuple[str, Depths]]:
        """Return, by node, what is deeper than it ever was."""
        self.next_ns = now + LOOK_NS
        self._turn += 1
        return [(host.name, told) for host in hosts if (told := self._of(host)) is not None]

    def _of(self, host: Host) -> Depths | None:
        # What is sent to a process that stands still waits in its sockets, which are bounded.
        running = [one for one in host.processes.values() if one.alive and not one.paused]
        actors = [actor for process in running for actor in process.actors.values()]
        if not actors:
            return None
        inbox = max(len(actor.inbox) for actor in actors if actor.name != PLANE)
        held = 0
        if not self._turn % TURNS:
            held = longest(actors[self._turn // TURNS % len(actors)].core)
        before = self._told.get(host.name, Depths(0, 0))
        told = Depths(max(inbox, before.inbox), max(held, before.held))
        if told == before:
            return None
        self._told[host.name] = told
        return told


def longest(state: Any) -> int:
    """Return the length of the longest collection that can grow, in a core or a part of one."""
    if isinstance(state, _GROWING):
        if not state:
            return 0
        parts = state.values() if isinstance(state, dict) else state
        kind: Any = type(next(iter(parts)))  # All are of one type.
        if not _has_parts(kind):
            return len(state)
        return max(len(state), *(longest(part) for part in parts))
    whole: Any = type(state)
    return max((longest(getattr(state, name)) for name in _fields(whole)), default=0)


@lru_cache(maxsize=256)
def _has_parts(kind: Any) -> bool:
    return issubclass(kind, _GROWING) or is_dataclass(kind)


@lru_cache(maxsize=256)
def _fields(kind: Any) -> tuple[str, ...]:
    """Return the names of the fields of a dataclass; of anything else, none."""
    return tuple(one.name for one in fields(kind)) if is_dataclass(kind) else ()
