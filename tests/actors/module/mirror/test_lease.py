"""Two clocks of different speed: the holder ends before the granter gives the right away."""

from hypothesis import given
from hypothesis import strategies as st

from mirrorfarm.actors.module.mirror.lease import Lease, promise_end
from mirrorfarm.limits import CLOCK_RATE_ERROR_DIVISOR, MILLISECOND_NS

leases = st.integers(50 * MILLISECOND_NS, 10**12)
moments = st.integers(0, 10**18)


@given(leases, moments, st.integers(0, 10**10), st.integers(-1, 1))
def test_a_right_ends_before_the_promise_that_gave_it(
    lease_ns: int, sent: int, travel_ns: int, drift: int
) -> None:
    lease = Lease(lease_ns)
    lease.granted(sent)
    end = promise_end(sent + travel_ns, lease_ns)
    # The holder's clock may be slower than the granter's by the rate error.
    held_ns = lease.deadline_ns - sent
    lasts_ns = held_ns + drift * held_ns // CLOCK_RATE_ERROR_DIVISOR
    assert sent + lasts_ns <= end


@given(leases, moments, st.lists(st.integers(-(10**9), 10**9), max_size=8))
def test_late_answers_never_shorten_a_right(lease_ns: int, now: int, shifts: list[int]) -> None:
    lease = Lease(lease_ns)
    for shift in shifts:
        before = lease.deadline_ns
        lease.granted(now + shift)
        assert lease.deadline_ns >= before


@given(leases, moments)
def test_the_gate_closes_before_the_guard_and_the_guard_before_the_end(
    lease_ns: int, now: int
) -> None:
    lease = Lease(lease_ns)
    lease.granted(now)
    assert now < lease.gate_closes_ns() < lease.guard_acts_ns() <= lease.deadline_ns
    assert lease.valid(lease.gate_closes_ns() - 1)
    assert not lease.valid(lease.gate_closes_ns())


def test_without_a_grant_nothing_is_valid() -> None:
    assert not Lease(MILLISECOND_NS).valid(1)
