"""Which outcomes the faults of a run allow: for as long as one acts, and never to all runs."""

import re
from typing import Any, Final

from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.acts.kinds import duration_ns
from mirrorfarm.sim.monitors.seen import Fault

STANDS: Final = "nothing stops a machine that does not run, and its guard with it"
# By the name of the act: invariants that it may break, and why.
ALLOWS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "suspend": (("X1", "X2", "X3", "X4"), STANDS),
    "stand_still": (("X1", "X2", "X3", "X4"), STANDS),
}
AFTERWARDS_NS: Final = 10 * SECOND_NS  # Until what went on meanwhile has been ended.


_LENGTH: Final = re.compile(r", for: ([^,]+)")  # Of an act in words.
Allowed = dict[str, tuple[int, str]]  # By invariant: until when it may be broken, and why.


def excuse(world: Any, act: Any) -> None:
    """Note what an act that is done now may break, and until when."""
    _allow(world.watch.allowed, act.name, world.now, getattr(act, "for_ns", 0))


def excuse_told(allowed: Allowed, fault: Fault, at_ns: int) -> None:
    """Note the same of a fault that a recording tells of."""
    length = _LENGTH.search(fault.what)
    try:
        _allow(allowed, fault.kind, at_ns, duration_ns(length[1]) if length else 0)
    except ValueError:  # A redacted one: how long it acted is not known.
        _allow(allowed, fault.kind, at_ns, 0)


def _allow(allowed: Allowed, name: str, now: int, for_ns: int) -> None:
    invariants, why = ALLOWS.get(name, ((), ""))
    until = now + for_ns + AFTERWARDS_NS
    for invariant in invariants:
        before, _ = allowed.get(invariant, (until, ""))
        allowed[invariant] = (max(until, before), f"{name}: {why}")
