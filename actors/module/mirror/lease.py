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
    span_ns: int = 0  # Of the lease that ends then; 0: `lease_ns`.

    def granted(self, sent_ns: int, for_ns: int = 0) -> None:
        """Extend: somebody answered, for one lease, what was sent at `sent_ns`.

        `for_ns`: who answers keeps it only for so long, having other clocks; 0: as configured here.
        """
        span_ns = min(self.lease_ns, for_ns or self.lease_ns)
        end_ns = sent_ns + span_ns - span_ns // CLOCK_RATE_ERROR_DIVISOR
        if end_ns - span_ns // MARGIN_DIVISOR > self.gate_closes_ns():
            self.deadline_ns, self.span_ns = end_ns, span_ns

    def gate_closes_ns(self) -> int:
        """Return when the gate must be closed."""
        return self.deadline_ns - self._margin_ns()

    def guard_acts_ns(self) -> int:
        """Return when the guard fences this node's application."""
        return self.deadline_ns - self._margin_ns() // 2

    def _margin_ns(self) -> int:
        return (self.span_ns or self.lease_ns) // MARGIN_DIVISOR

    def valid(self, now: int) -> bool:
        """Return whether the gate may be open."""
        return now < self.gate_closes_ns()


def promise_end(now: int, lease_ns: int) -> int:
    """Return until when a node keeps a promise that it gives at `now`."""
    return now + lease_ns + lease_ns // CLOCK_RATE_ERROR_DIVISOR
