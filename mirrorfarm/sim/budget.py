"""Which outcomes the faults of a run allow: for as long as one acts, and never to all runs."""

from typing import Any, Final

from mirrorfarm.limits import SECOND_NS

STANDS: Final = "nothing stops a machine that does not run, and its guard with it"
# By the name of the act: invariants that it may break, and why.
ALLOWS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "suspend": (("X1", "X2", "X3", "X4"), STANDS),
    "stand_still": (("X1", "X2", "X3", "X4"), STANDS),
}
AFTERWARDS_NS: Final = 10 * SECOND_NS  # Until what went on meanwhile has been ended.


def excuse(world: Any, act: Any) -> None:
    """Note what an act that is done now may break, and until when."""
    invariants, why = ALLOWS.get(act.name, ((), ""))
    until = world.now + getattr(act, "for_ns", 0) + AFTERWARDS_NS
    for invariant in invariants:
        before, _ = world.watch.allowed.get(invariant, (0, ""))
        world.watch.allowed[invariant] = (max(until, before), f"{act.name}: {why}")
