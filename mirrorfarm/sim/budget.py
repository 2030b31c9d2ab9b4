"""Which outcomes the faults of a run allow: computed from them, never given to all runs."""

from collections.abc import Iterable

from mirrorfarm.sim.faults import ALLOWS


def allowed(faults: Iterable[str]) -> dict[str, str]:
    """Return the invariants that these kinds of faults may break, and why."""
    found: dict[str, str] = {}
    for name in faults:
        invariants, why = ALLOWS.get(name, ((), ""))
        found.update(dict.fromkeys(invariants, f"{name}: {why}"))
    return found
