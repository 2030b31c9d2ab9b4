"""A node with valid keys of another cluster talks to a running one."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirrorfarm.paths import Paths
from mirrorfarm.transport.address import AGENT, Address
from mirrorfarm.transport.keys import Keys, create_cluster, load_keys
from mirrorfarm.transport.messages import AgentCommand, Command, Leave, Register, RegisterNews
from mirrorfarm.transport.sockets import Link, endpoint
from mirrorfarm.transport.zmq import Hub, HubSettings
from tests.live.fault_work import MODULE, Client, Lab, until

pytestmark = pytest.mark.live
BUS = 4800


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(module=MODULE, profile="fast") as built:
        built.begin("n1", "n2")
        yield built


@pytest.fixture
def client(lab: Lab) -> Iterator[Client]:
    client = Client(lab)
    with client.writing():
        yield client
        client.go_on(60)
    client.check()


def counts(lab: Lab, node: str) -> dict[str, int]:
    with lab._ask(node) as asking:
        found: dict[str, int] = json.loads(asking.agent(node, "stats").json)["bus"]
    return found


@pytest.mark.parametrize(
    ("knows_the_key", "reason"), [(False, "stranger"), (True, "foreign_cluster")]
)
def test_a_node_of_another_cluster_is_refused(
    lab: Lab, client: Client, tmp_path: Path, knows_the_key: bool, reason: str
) -> None:
    """It has valid keys of its own cluster; even with n2's key it would not belong here."""
    here = load_keys(lab.paths("n2"))
    foreign = create_cluster("<c/>", ("n1", "n2"), ("w",), "n2", Paths(tmp_path), tmp_path / "b")
    pair = here if knows_the_key else foreign
    peers = foreign.peers | {"n1": here.peers["n1"]}
    keys = Keys(foreign.cluster, "n2", pair.secret, pair.public, peers)
    link = Link("n1", "default", endpoint(lab.wiring.address("n1", "default"), BUS))
    before, state = counts(lab, "n1"), lab.state("n1")
    term = state["record"]["term"] + 100
    heard = []
    with lab.as_client():
        hub = Hub(HubSettings(keys, 10**9, (), (link,)))
        hub.register(AGENT, "agent", lambda *told: heard.append(told))
        hub.start()
        try:
            until(lambda: talk(hub, term) and counts(lab, "n1")[reason] > before[reason], 60)
        finally:
            hub.close()
    after = counts(lab, "n1")
    assert after["handler_failed"] == before["handler_failed"]
    assert heard == [], "nobody of this cluster answers"
    now = lab.state("n1")
    assert [now[key] for key in ("state", "status", "term", "ver", "isr")] == [
        state[key] for key in ("state", "status", "term", "ver", "isr")
    ]
    assert lab.role("n2") == "SECOND Ready"
    client.go_on(60, more=20)


def talk(hub: Hub, term: int) -> bool:
    """Say what would end the role of n1 if it were believed."""
    mirror = Address("n1", MODULE, "module")
    taken = Register(term, 10**6, "n2", ("n2",), "0" * 32, "1")
    for message in (RegisterNews(taken), Leave(term), Command("f", "stop", "SYSTEM/stranger")):
        hub.send(mirror, "module", message, module=MODULE)
    hub.send(Address("n1", AGENT, "agent"), "agent", AgentCommand("g", "modules", "stranger"))
    return True
