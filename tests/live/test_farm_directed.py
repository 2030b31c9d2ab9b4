"""One node answers for the address, and passes on at layer 2 what is another node's."""

import socket
import time
from collections.abc import Iterator

import pytest

from mirrorfarm.lab import farm_web, network
from mirrorfarm.lab.cluster import OneMachine
from tests.live.farm_work import (
    ADDRESS,
    ADDRESS6,
    ASK_SECONDS,
    PORT,
    Stream,
    answers,
    ask,
    await_members,
    install,
    up,
    userconfig,
)

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

NODES = ("n1", "n2", "n3")
ARP = '<rule proto="arp" filter="on_addr"/>'


@pytest.fixture(scope="module", params=["", ARP], ids=["one-entry", "entry-by-asker"])
def lab(request: pytest.FixtureRequest) -> Iterator[OneMachine]:
    """Three nodes UP; clients know the real address of one of them."""
    with OneMachine(nodes=NODES, witness=False) as machine:
        text = userconfig(farm='filter="bpf"', delivery="vmac_directed", more=request.param)
        install(machine, text)
        up(machine, *NODES)
        yield machine


def test_all_nodes_answer_although_one_receives(lab: OneMachine) -> None:
    for address in (ADDRESS, ADDRESS6):
        found = answers(lab, 120, address)
        assert set(found) == set(NODES), found
    # Counters are read once a second.
    farm_web.until(lambda: any(relayed(lab, node) for node in NODES), 60, "relayed packets")


def relayed(lab: OneMachine, node: str) -> int:
    told = farm_web.details(lab, node).get("traffic", {}).get("packets", {})
    return int(told.get("relayed", 0))


def test_connections_survive_a_drain_of_their_node(lab: OneMachine) -> None:
    with lab.as_client():
        streams = [Stream() for _ in range(40)]
    try:
        assert {stream.node for stream in streams} == set(NODES)
        lab.mirrorfarm("n1", "farm", "drain", "n2", "-m", "web")
        farm_web.await_buckets(lab, "n1", "n2", lambda own: own == 0)
        assert set(answers(lab, 60)) == {"n1", "n3"}
        assert [stream.ask() for stream in streams] == [stream.node for stream in streams]
        lab.mirrorfarm("n1", "farm", "resume", "n2", "-m", "web")
        farm_web.await_buckets(lab, "n1", "n2", lambda own: own > 0)
        assert [stream.ask() for stream in streams] == [stream.node for stream in streams]
    finally:
        for stream in streams:
            stream.close()


@pytest.mark.parametrize("node", NODES)
def test_the_death_of_any_node_is_survived_the_receiving_one_too(
    lab: OneMachine, node: str
) -> None:
    rest = set(NODES) - {node}
    lab.kill_node(node)
    await_members(lab, min(rest), rest)
    found = answers(lab, 60)
    assert set(found) == rest, found
    lab.start_node(node)
    lab.order(node, "start")
    await_members(lab, min(rest), set(NODES))
    assert set(answers(lab, 90)) == set(NODES)


@pytest.mark.parametrize("node", NODES)
def test_a_node_whose_interface_takes_another_hardware_address_goes_on_answering(
    lab: OneMachine, node: str
) -> None:
    """A bond changes it with the adapter that it uses: what is relayed must go to the new one."""
    await_members(lab, "n1", set(NODES))
    change = ("link", "set", "eth0", "address", f"02:00:5e:00:00:0{node[1]}")
    network.order("ip", "-n", lab.wiring.namespace(node), *change)
    deadline = time.monotonic() + 60
    while set(found := answers(lab, 60, seconds=0.3)) != set(NODES):
        assert time.monotonic() < deadline, found


def test_a_node_whose_module_is_stopped_reaches_the_address_as_any_client(lab: OneMachine) -> None:
    lab.order("n2", "stop")
    await_members(lab, "n1", {"n1", "n3"})
    with network.inside(lab.wiring.namespace("n2")):
        assert {ask() for _ in range(60)} == {"n1", "n3"}
    lab.order("n2", "start")
    await_members(lab, "n1", set(NODES))


def test_a_machine_that_died_and_runs_no_agent_reaches_the_address_as_any_client(
    lab: OneMachine,
) -> None:
    lab.kill_node("n3")
    await_members(lab, "n1", {"n1", "n2"})
    lab.wiring.power("n3", on=True)
    with network.inside(lab.wiring.namespace("n3")):
        deadline = time.monotonic() + 60
        while (found := {ask(seconds=0.3) for _ in range(60)}) != {"n1", "n2"}:
            assert time.monotonic() < deadline, found
    lab.start_node("n3")
    lab.order("n3", "start")
    await_members(lab, "n1", set(NODES))


def test_a_node_that_died_and_whose_module_stays_stopped_reaches_the_address_as_any_client(
    lab: OneMachine,
) -> None:
    lab.kill_node("n3")
    await_members(lab, "n1", {"n1", "n2"})
    lab.start_node("n3")
    with network.inside(lab.wiring.namespace("n3")):
        deadline = time.monotonic() + 60  # Its module first has to say that it takes no part.
        while (found := {ask(seconds=0.3) for _ in range(60)}) != {"n1", "n2"}:
            assert time.monotonic() < deadline, found
    lab.order("n3", "start")
    await_members(lab, "n1", set(NODES))


def ask_from(port: int) -> str:
    """Return who answers a client with this port, which is free again at once: it ends last."""
    with socket.create_connection((ADDRESS, PORT), ASK_SECONDS, ("", port)) as link:
        link.sendall(b"GET /tile HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: link.recv(4_096), b""))
    return answer.rpartition(b"\r\n\r\n")[2].decode()


def test_clients_use_their_ports_again_after_a_node_has_joined(lab: OneMachine) -> None:
    """A node that had their connections before takes nothing of the new ones, which moved."""
    ports = range(21_000, 21_090)
    lab.order("n2", "stop")
    await_members(lab, "n1", {"n1", "n3"})
    with lab.as_client():
        assert {ask_from(port) for port in ports} == {"n1", "n3"}
    lab.order("n2", "start")
    await_members(lab, "n1", set(NODES))
    with lab.as_client():
        assert {ask_from(port) for port in ports} == set(NODES)
