"""The lease of a filter of nftables: an element with a time limit, which the daemon prolongs.

Used by both doors of nftables; nothing here depends on what they filter.
"""

from mirrorfarm.actors.timers import boot_clock_ns
from mirrorfarm.limits import (
    LEASE_ROUNDING_NS,
    LEASE_SLACK_MAX_NS,
    LEASE_SLACK_MIN_NS,
    MILLISECOND_NS,
    Nanoseconds,
)
from mirrorfarm.netfilter.libnftables import Nftables, TransactionRefused
from mirrorfarm.netfilter.nft_rules import lease_begin, lease_end, lease_renew

_TRIES = 3


class Lease:
    """The lease of one module's tables."""

    def __init__(self, tables: Nftables, module: str) -> None:
        self._tables = tables
        self._module = module
        self._held = False
        self._slack_ns = LEASE_SLACK_MIN_NS

    def renew(self, deadline_ns: Nanoseconds) -> bool:
        """Make the lease end at `deadline_ns` of the boot clock, or a little earlier.

        False: it had run out before, or cannot be kept; it is ended then. Limits in the kernel
        are durations, counted from when it gets them: that is at most as much later than our
        look at the clock as the call took. So much is left out before, and what took longer
        (the process may have been frozen) is done again.
        """
        for _ in range(_TRIES):
            begin = boot_clock_ns()
            left_ms = (deadline_ns - LEASE_ROUNDING_NS - self._slack_ns - begin) // MILLISECOND_NS
            if left_ms <= 0 or not self._set(left_ms):
                break
            spent_ns = boot_clock_ns() - begin
            if spent_ns <= self._slack_ns:
                self._slack_ns = max(LEASE_SLACK_MIN_NS, self._slack_ns * 3 // 4)
                return True
            self._slack_ns = min(2 * spent_ns, LEASE_SLACK_MAX_NS)
        self._slack_ns = LEASE_SLACK_MIN_NS
        self.end()
        return False

    def end(self) -> None:
        """End the lease now: nothing is taken until it begins again."""
        self._held = False
        self._tables.run(lease_end(self._module))

    def _set(self, left_ms: int) -> bool:
        """Begin or prolong; False if there was nothing to prolong any more."""
        try:
            if self._held:
                self._tables.run(lease_renew(self._module, left_ms))
            else:
                self._tables.run(lease_begin(self._module, left_ms))
                self._held = True
        except TransactionRefused:
            return False
        return True
