"""A lease in the kernel, whose limits are durations, kept by a process that may be frozen."""

import pytest

from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.netfilter import lease as lease_module
from mirrorfarm.netfilter.lease import Lease
from mirrorfarm.netfilter.libnftables import TransactionRefused

L = 300 * MILLISECOND_NS


class Kernel:
    """The set `alive` and the clock; `stalls` are how long the next calls are frozen before."""

    def __init__(self) -> None:
        self.now = 1_000 * MILLISECOND_NS
        self.ends = 0
        self.stalls: list[int] = []
        self.forbidden = False

    def run(self, commands: str) -> None:
        if self.forbidden:
            raise TransactionRefused("Operation not permitted")
        self.now += self.stalls.pop(0) if self.stalls else 0
        if "delete" in commands and self.now >= self.ends:
            raise TransactionRefused("No such file or directory")
        if "flush" in commands:
            self.ends = 0
        if "timeout" in commands:
            milliseconds = int(commands.split("timeout ")[1].split("ms", maxsplit=1)[0])
            self.ends = self.now + milliseconds * MILLISECOND_NS


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(lease_module, "boot_clock_ns", lambda: made.now)
    return made


def lease_of(kernel: Kernel) -> Lease:
    return Lease(kernel, "farm")  # type: ignore[arg-type]


def renewed(kernel: Kernel, lease: Lease) -> bool:
    return lease.renew(kernel.now + L)


def test_a_lease_ends_at_its_deadline_or_a_little_before(kernel: Kernel) -> None:
    lease = lease_of(kernel)
    deadline = kernel.now + L
    assert lease.renew(deadline)
    assert deadline - 16 * MILLISECOND_NS <= kernel.ends <= deadline


def test_a_lease_is_prolonged_while_it_lasts(kernel: Kernel) -> None:
    lease = lease_of(kernel)
    for _ in range(10):
        assert renewed(kernel, lease)
        kernel.now += 100 * MILLISECOND_NS
        assert kernel.ends > kernel.now


def test_a_lease_that_ran_out_is_told_and_begins_again_only_by_the_next_order(
    kernel: Kernel,
) -> None:
    lease = lease_of(kernel)
    assert renewed(kernel, lease)
    kernel.now += 400 * MILLISECOND_NS
    assert not renewed(kernel, lease)
    assert kernel.ends == 0
    assert renewed(kernel, lease)


def test_a_deadline_that_has_passed_ends_the_lease(kernel: Kernel) -> None:
    lease = lease_of(kernel)
    assert renewed(kernel, lease)
    assert not lease.renew(kernel.now)
    assert kernel.ends == 0


@pytest.mark.parametrize("stall_ms", [6, 50, 150, 250])
def test_a_process_frozen_between_two_clocks_gets_no_more_than_its_deadline(
    kernel: Kernel, stall_ms: int
) -> None:
    lease = lease_of(kernel)
    assert renewed(kernel, lease)
    deadline = kernel.now + L
    kernel.stalls = [stall_ms * MILLISECOND_NS]
    lease.renew(deadline)
    assert kernel.ends <= deadline


@pytest.mark.parametrize("stalls", [1, 2, 3, 4])
def test_a_process_that_is_frozen_again_and_again_gives_up(kernel: Kernel, stalls: int) -> None:
    lease = lease_of(kernel)
    deadline = kernel.now + L
    kernel.stalls = [40 * MILLISECOND_NS] * stalls
    held = lease.renew(deadline)
    assert kernel.ends <= deadline
    assert held == (kernel.ends > 0)


def test_a_host_on_which_every_renewal_is_slow_keeps_its_lease(kernel: Kernel) -> None:
    lease = lease_of(kernel)
    for _ in range(30):
        deadline = kernel.now + L
        kernel.stalls = [20 * MILLISECOND_NS] * 3
        assert lease.renew(deadline)
        assert kernel.ends <= deadline
        kernel.now += 50 * MILLISECOND_NS


def test_what_the_kernel_refuses_altogether_is_an_error(kernel: Kernel) -> None:
    kernel.forbidden = True
    with pytest.raises(OSError, match="not permitted"):
        renewed(kernel, lease_of(kernel))
