"""The clocks of a farm: what follows from its pulse, and from how many beats may be missed.

`FarmTiming` says what each is for, `assert_farm_timing` of the filter's core how they depend on
one another: it holds for every pulse and every count within the bounds.
"""

import msgspec

from mirrorfarm.limits import (
    FARM_PULSE_NS_MIN,
    MILLISECOND_NS,
    SLOST_COUNT_MAX,
    SLOST_COUNT_MIN,
    SMALL_FARM_NODES_MAX,
)
from mirrorfarm.modules.settings import LARGE_FARM_TIMING, FarmTiming


def farm_timing(nodes: int, pulse_ns: int, slost_count: int) -> FarmTiming:
    """Return the clocks of a farm of so many nodes whose file says this; 0: it does not.

    A large farm has its own clocks where the file says neither, else it follows as a small one.
    """
    usual = FarmTiming()
    if not pulse_ns and not slost_count:
        return LARGE_FARM_TIMING if nodes > SMALL_FARM_NODES_MAX else usual
    slost_count = slost_count or usual.silent_ns // usual.pulse_ns
    return with_pulse(usual, pulse_ns or usual.pulse_ns, slost_count)


def with_pulse(timing: FarmTiming, pulse_ns: int, slost_count: int) -> FarmTiming:
    """Return `timing` with what follows from a pulse; `slost_count` pulses are a silence."""
    silent_ns = slost_count * pulse_ns
    return msgspec.structs.replace(
        timing,
        pulse_ns=pulse_ns,
        silent_ns=silent_ns,
        lease_ns=silent_ns + pulse_ns * 5 // 2,
        announce_ns=pulse_ns * 5 // 2,
        tolerate_ns=pulse_ns * 3 // 2,
        settle_ns=3 * pulse_ns,
        retry_ns=pulse_ns // 2,
    )


def pulse_of(timing: FarmTiming, nodes: int) -> tuple[int, int]:
    """Return the pulse and the count that are left where a file is changed in one of them."""
    usual = farm_timing(nodes, 0, 0)
    if (timing.pulse_ns, timing.silent_ns) == (usual.pulse_ns, usual.silent_ns):
        timing = FarmTiming()  # The file says neither.
    return timing.pulse_ns, timing.silent_ns // timing.pulse_ns


def farm_timing_faults(pulse_ns: int, slost_count: int) -> list[tuple[str, str]]:
    """Return what no farm may have, as key and reason."""
    faults: list[tuple[str, str]] = []
    if pulse_ns < FARM_PULSE_NS_MIN:
        reason = f"{_ms(pulse_ns)} is shorter than {_ms(FARM_PULSE_NS_MIN)}"
        faults.append(("farm.pulse", f"{reason}: a filter looks at the clock every 10 ms"))
    if not SLOST_COUNT_MIN <= slost_count <= SLOST_COUNT_MAX:
        reason = f"{slost_count} is not within {SLOST_COUNT_MIN} to {SLOST_COUNT_MAX}"
        faults.append(
            ("farm.slost_count", f"{reason}, in pulses of {_ms(pulse_ns)}: set farm.pulse, too")
        )
    return faults


def _ms(duration_ns: int) -> str:
    return f"{duration_ns // MILLISECOND_NS} ms"
