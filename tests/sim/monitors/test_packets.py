"""F6: fragments and ICMP errors on a simulated farm, and what happens when a filter errs."""

from collections.abc import Callable
from typing import Any

import pytest

from mirrorfarm.netfilter import packet as packets
from mirrorfarm.netfilter import rules
from mirrorfarm.netfilter.packet import Kind, Packet
from mirrorfarm.sim import farm_packets
from mirrorfarm.sim.farm import FarmWorld
from mirrorfarm.sim.farm_clients import Clients
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.monitors.packets import Fragments, IcmpError


def farm() -> tuple[FarmWorld, Clients]:
    world = FarmWorld(3, 3)
    for name in world.names:
        world.start(name, "in")
    assert world.run_until(lambda: world.settled(*world.names), 5_000)
    return world, Clients(world)


def sent(world: FarmWorld, kind: type) -> list[Any]:
    return [step.event for step in world.watch.recent if step.event.__class__ is kind]


def repeat(act: Callable[[], None]) -> None:
    for _ in range(20):
        act()


def tell(clients: Clients, flows: dict[str, int]) -> None:
    for node, flow in flows.items():
        clients.packets.error(flow, node)


def test_every_fragment_of_a_datagram_goes_to_one_node() -> None:
    world, clients = farm()
    repeat(clients.packets.datagram)
    found = [who for one in sent(world, Fragments) for who in one.accepted]
    assert all(len(who) == 1 for who in found)
    assert len(set(found)) == 3, "every node has some"


def test_a_filter_that_looks_at_the_ports_of_a_first_fragment_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, clients = farm()

    def hasty(data: bytes) -> Packet:
        found = packets.parse(data)
        offset = (data[6] & 0x1F) << 8 | data[7]
        if found.kind is not Kind.FRAGMENT or offset:
            return found
        port = int.from_bytes(data[20:22], "big")
        return found._replace(kind=Kind.UDP, source_port=port, destination_port=53)

    monkeypatch.setattr(farm_packets, "parse", hasty)
    with pytest.raises(Violation, match="F6: the first fragment of datagram"):
        repeat(clients.packets.datagram)


def test_an_icmp_error_reaches_the_node_of_its_connection() -> None:
    world, clients = farm()
    flow = clients.connect()
    clients.packets.error(flow, clients.flows[flow][2])
    (error,) = sent(world, IcmpError)
    assert set(error.accepted) == set(world.names), "only its node knows the connection"


def test_a_filter_that_places_icmp_errors_by_their_sender_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, clients = farm()
    flows = [flow for flow in (clients.connect() for _ in range(20)) if flow]
    flow = {clients.flows[flow][2]: flow for flow in flows}

    def balanced(packet: Packet, *_: object) -> rules.Placement:
        return rules.Placement(0, rules.xxhash_bucket(packet.source, 7))

    monkeypatch.setattr(farm_packets, "bucket", balanced)
    with pytest.raises(Violation, match=r"F6: n[123] has connection"):
        tell(clients, flow)


def test_a_node_that_answers_nobody_owes_nothing() -> None:
    world, clients = farm()
    flow = clients.connect()
    at = clients.flows[flow][2]
    world.freeze(at, 5_000)
    world.run(3_000)
    clients.packets.error(flow, at)
    assert at not in sent(world, IcmpError)[0].accepted
