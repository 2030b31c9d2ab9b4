"""When the right to act ends: lease arithmetic on integer nanoseconds of the boot clock.

A right counts from the *sending* of the request that brought it; a promise counts from the
*receiving* of the request that asked for it. Both are widened by the clock-rate error.
"""

from dataclasses import dataclass

from mirrorfarm.limits import CLOCK_RATE_ERROR_DIVISOR

# This part of a lease before its end the gate closes; half as long before it the guard acts.
MARGIN_DIVISOR = 8


@dataclass(slots=True)
class Lease:
    """The primary's right to act while its peer could be promoted."""

    lease_ns: int
    deadline_ns: int = 0

    def granted(self, sent_ns: int) -> None:
        """Extend: somebody answered, for one lease, what was sent at `sent_ns`."""
        error_ns = self.lease_ns // CLOCK_RATE_ERROR_DIVISOR
        self.deadline_ns = max(self.deadline_ns, sent_ns + self.lease_ns - error_ns)

    def gate_closes_ns(self) -> int:
        """Return when the gate must be closed."""
        return self.deadline_ns - self.lease_ns // MARGIN_DIVISOR

    def guard_acts_ns(self) -> int:
        """Return when the guard fences this node's application."""
        return self.deadline_ns - self.lease_ns // MARGIN_DIVISOR // 2

    def valid(self, now: int) -> bool:
        """Return whether the gate may be open."""
        return now < self.gate_closes_ns()


def promise_end(now: int, lease_ns: int) -> int:
    """Return until when a node keeps a promise that it gives at `now`."""
    return now + lease_ns + lease_ns // CLOCK_RATE_ERROR_DIVISOR
