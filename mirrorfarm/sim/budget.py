"""Which outcomes the faults of a run allow: for as long as one acts, and never to all runs."""

import re
from typing import Any, Final

from mirrorfarm.limits import SECOND_NS
from mirrorfarm.modules.settings import PROFILES
from mirrorfarm.sim.acts.kinds import duration_ns
from mirrorfarm.sim.monitors.seen import Fault

STANDS: Final = "nothing stops a machine that does not run, and its guard with it"
# By the name of the act: invariants that it may break, and why.
ALLOWS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "suspend": (("X1", "X2", "X3", "X4"), STANDS),
    "stand_still": (("X1", "X2", "X3", "X4"), STANDS),
}
AFTERWARDS_NS: Final = 10 * SECOND_NS  # Until what went on meanwhile has been ended.
# Whose clocks stood still holds its lease to be young: only when that ends, its guard acts.
KEEP_THEIR_LEASE: Final = frozenset({"stand_still"})
LONGEST_LEASE_NS: Final = max(timing.lease_ns for timing in PROFILES.values())

_LENGTH: Final = re.compile(r", for: ([^,]+)")  # Of an act in words.
Allowed = dict[str, tuple[int, str]]  # By invariant: until when it may be broken, and why.


def excuse(world: Any, act: Any) -> None:
    """Note what an act that is done now may break, and until when."""
    lease_ns = world.timing.lease_ns if act.name in KEEP_THEIR_LEASE else 0
    _allow(world.watch.allowed, act.name, world.now, getattr(act, "for_ns", 0) + lease_ns)


def excuse_told(allowed: Allowed, fault: Fault, at_ns: int) -> None:
    """Note the same of a fault that a recording tells of."""
    length = _LENGTH.search(fault.what)
    lease_ns = LONGEST_LEASE_NS if fault.kind in KEEP_THEIR_LEASE else 0
    try:
        for_ns = duration_ns(length[1]) if length else 0
    except ValueError:  # A redacted one: how long it acted is not known.
        for_ns = 0
    _allow(allowed, fault.kind, at_ns, for_ns + lease_ns)


def _allow(allowed: Allowed, name: str, now: int, for_ns: int) -> None:
    invariants, why = ALLOWS.get(name, ((), ""))
    until = now + for_ns + AFTERWARDS_NS
    for invariant in invariants:
        before, _ = allowed.get(invariant, (until, ""))
        allowed[invariant] = (max(until, before), f"{name}: {why}")
