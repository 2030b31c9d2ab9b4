"""Two networks between the nodes: one may fail, and nothing happens."""

import time
from collections.abc import Iterator

import pytest

from mirrorfarm.lab.cluster import OneMachine
from mirrorfarm.lab.network import order

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def lab() -> Iterator[OneMachine]:
    """A ledger whose replication flows over the second network; the witness is on the first."""
    with OneMachine(networks=("default", "repli")) as machine:
        text = machine.userconfig()
        assert text.count('ident="flow"') == 1
        machine.module = "ledger"
        machine.install("ledger", text, folders=("/var/lib/ledger",))
        machine.begin("n1", "n2")
        yield machine


def network_of(lab: OneMachine, node: str, name: str) -> str:
    """Return what the node thinks of a network's heartbeats."""
    return str(lab.state(node).get("peer", {}).get("networks", {}).get(name))


def wait_network(lab: OneMachine, node: str, name: str, wanted: str) -> None:
    """Wait until the node thinks so."""
    deadline = time.monotonic() + 60
    while network_of(lab, node, name) != wanted:
        assert time.monotonic() < deadline, lab.state(node).get("peer")
        time.sleep(0.05)


def test_losing_the_network_of_the_witness_and_the_clients_moves_no_role(lab: OneMachine) -> None:
    term = lab.state("n1")["term"]
    lab.cut("n2", "default")
    wait_network(lab, "n1", "default", "down")
    time.sleep(2)  # Four leases of the profile `fast`.
    assert lab.state("n1")["state"] == "PRIM"
    assert lab.state("n2")["state"] == "SECOND"
    assert lab.state("n1")["term"] == term
    lab.mend("n2", "default")
    wait_network(lab, "n1", "default", "up")


def test_losing_the_replication_network_leaves_the_peer_behind_and_takes_it_back(
    lab: OneMachine,
) -> None:
    lab.cut("n2", "repli")
    lab.wait_state("n1", "ALONE", 60)
    assert "must be left behind" in str(lab.state("n1")["facts"])
    assert lab.state("n2")["state"] in {"SECOND", "WAIT"}
    lab.mend("n2", "repli")
    lab.wait_state("n2", "SECOND", 60)
    lab.wait_state("n1", "PRIM", 60)


def test_the_secondary_takes_over_an_address_that_another_program_removes(lab: OneMachine) -> None:
    lab.wait_state("n1", "PRIM", 60)
    place = lab.wiring.namespace("n1")
    order("ip", "-n", place, "addr", "del", f"{lab.vip}/24", "dev", "eth0")
    lab.wait_state("n2", "PRIM", 60)
    assert f" {lab.vip}/" in order("ip", "-n", lab.wiring.namespace("n2"), "-o", "addr")
    lab.wait_state("n1", "SECOND", 60)
    assert f"another program removed {lab.vip} of eth0" in str(lab.state("n1")["facts"])
