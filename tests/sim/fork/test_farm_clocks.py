"""The filter of a recorded farm goes on with other clocks, as if they had always been there."""

import pytest

from mirrorfarm.actors.effects import Later
from mirrorfarm.actors.farm_filter.core import FarmDue, FarmFilter
from mirrorfarm.actors.farm_filter.state import Proposal, Settings, View
from mirrorfarm.modules.farmclocks import with_pulse
from mirrorfarm.modules.settings import FarmTiming
from mirrorfarm.sim.fork.farm_clocks import resettle
from mirrorfarm.sim.fork.settings import retimed

MS = 1_000_000
NODES = ("n1", "n2", "n3")
LONGER = with_pulse(FarmTiming(), 100 * MS, 10)
FASTER = with_pulse(FarmTiming(), 20 * MS, 4)
NOW = 60_000 * MS


@pytest.fixture(name="core")
def fixture_core() -> FarmFilter:
    """A member of a farm of three whose nodes have heard each other 60 ms ago."""
    settings = Settings("n1", "web", NODES, ("lan",), 1, "bpf", 7, "digest")
    core = FarmFilter.build(settings)
    s = core.state
    s.view = View(1, "n1", 1, NODES, ((1, 1, 1),), (bytes(1024),))
    s.wish, s.pulse_ns, s.beaten_ns = "in", NOW + 40 * MS, NOW - 60 * MS
    s.sent.append((9, NOW - 60 * MS, NOW - 60 * MS))
    s.wake_ns = s.due_ns = NOW + 40 * MS
    for peer in s.peers.values():
        peer.silent, peer.heard_ns, peer.echoed_ns = False, NOW - 60 * MS, NOW - 60 * MS
    s.lease_ns = NOW + 590 * MS
    return core


def test_the_same_clocks_change_nothing(core: FarmFilter) -> None:
    before = str(core)
    resettle(core, FarmTiming(), NOW)
    assert str(core) == before
    timer = Later(NOW + 90 * MS, FarmDue())
    assert retimed("farm_filter", timer, core, NOW) is timer


def test_a_longer_silence_lengthens_the_lease_that_runs(core: FarmFilter) -> None:
    resettle(core, LONGER, NOW)
    s = core.state
    assert s.t.silent_ns == 1_000 * MS
    assert s.lease_ns == NOW - 60 * MS + LONGER.lease_ns
    assert (s.wake_ns, s.due_ns, s.pulse_ns) == (0, 0, NOW + 40 * MS)
    timer = Later(NOW + 40 * MS, FarmDue())
    assert retimed("farm_filter", timer, core, NOW).at_ns == NOW
    assert {peer.heard_ns for peer in s.peers.values()} == {NOW - 60 * MS}


def test_a_lease_that_is_over_stays_over(core: FarmFilter) -> None:
    core.state.lease_ns = core.state.wake_ns = NOW - MS  # It is frozen; others have taken over.
    resettle(core, LONGER, NOW)
    assert core.state.lease_ns == NOW - MS
    assert core.state.wake_ns == NOW - MS  # So that it notices that it was away.
    core.handle(FarmDue(), NOW)
    assert core.state.view is None


def test_with_a_faster_pulse_nobody_is_silent_before_it_could_beat(core: FarmFilter) -> None:
    resettle(core, FASTER, NOW)
    s = core.state
    assert {peer.heard_ns for peer in s.peers.values()} == {NOW - 12 * MS}
    assert list(s.sent) == [(9, NOW - 12 * MS, NOW - 12 * MS)]
    assert s.pulse_ns == NOW + 8 * MS
    assert s.stalls.pulse_ns == 20 * MS
    assert s.lease_ns == NOW - 12 * MS + FASTER.lease_ns
    assert s.peers["n2"].excluded_ns == 0  # It is not, and 0 is no time.
    core.handle(FarmDue(), NOW)
    assert [peer.silent for peer in s.peers.values()] == [False, False]
    assert s.view is not None


def test_a_proposal_that_knows_how_long_old_leases_run_is_made_anew(core: FarmFilter) -> None:
    s = core.state
    assert s.view is not None
    s.proposal = Proposal(s.view, (), NOW - MS, NOW - MS, NOW - MS, quiet={"n2": NOW + 9 * MS})
    resettle(core, LONGER, NOW)
    assert s.proposal is None


def test_a_node_that_begins_is_mute_for_as_long_as_the_new_lease(core: FarmFilter) -> None:
    s = core.state
    s.mute_ns = NOW + 100 * MS
    old_ns = s.settings.wait_ns
    resettle(core, LONGER, NOW)
    assert s.mute_ns == NOW + 100 * MS + s.settings.wait_ns - old_ns
