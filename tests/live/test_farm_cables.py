"""A farm with two networks: the cable of one is cut, that of the clients or the other one."""

from collections.abc import Iterator

import pytest

from mirrorfarm.lab import farm_web
from mirrorfarm.lab.cluster import OneMachine
from mirrorfarm.lab.farm_traffic import Count, Traffic

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]
NODES = ("n1", "n2", "n3")


@pytest.fixture(scope="module")
def lab() -> Iterator[OneMachine]:
    with OneMachine(nodes=NODES, networks=("default", "second"), witness=False) as machine:
        # Not one of three nodes is to be taken for silent because it had to wait for its turn.
        farm_web.start(machine, farm='slost_count="12"')
        yield machine


@pytest.fixture
def traffic(lab: OneMachine) -> Iterator[Traffic]:
    # On a busy machine an answer takes its time, and so does a SYN that is sent again.
    with Traffic(lab, streams=60, patience=8) as asking:
        yield asking


def await_reason(lab: OneMachine, node: str, reason: str) -> None:
    """Wait until a node gives this reason for its state."""
    farm_web.until(lambda: lab.state(node).get("reason") == reason, 60, f"{node} to say {reason!r}")


def ended(traffic: Traffic, count: Count) -> Count:
    """Return what became of the connections, at the end of an event."""
    traffic.finish(count, 1.0)
    return count


def test_clients_of_a_node_whose_cable_is_out_go_elsewhere_although_it_is_heard(
    lab: OneMachine, traffic: Traffic
) -> None:
    assert set(traffic.holders()) == set(NODES)
    count = traffic.begin("cut", planned=False)
    lab.cut("n3", "default")
    farm_web.await_members(lab, ("n1", "n2"), 60)
    ended(traffic, count)
    await_reason(lab, "n3", "no client is answered here: no cable at eth0")
    assert set(traffic.holders()) == {"n1", "n2"}
    assert count.kept + count.reset + count.unanswered == 60
    count = traffic.begin("mend", planned=True)
    lab.mend("n3", "default")
    farm_web.await_members(lab, NODES, 60)
    ended(traffic, count)
    assert (count.kept, count.reset, count.unanswered, count.failed, count.twice) == (
        60,
        0,
        0,
        0,
        0,
    )
    await_reason(lab, "n3", "")


def test_a_network_that_carries_heartbeats_alone_may_fail_unnoticed(
    lab: OneMachine, traffic: Traffic
) -> None:
    count = traffic.begin("cut", planned=True)
    lab.cut("n2", "second")
    ended(traffic, count)
    lab.mend("n2", "second")
    ended(traffic, count)
    farm_web.await_members(lab, NODES, 60)
    assert (count.kept, count.reset, count.unanswered, count.failed, count.twice) == (
        60,
        0,
        0,
        0,
        0,
    )
