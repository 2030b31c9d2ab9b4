"""State machine and filter of every node together: what an administrator sees of a farm."""

from typing import Any

import msgspec

from mirrorfarm.actors import events as ev
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import FarmTiming
from mirrorfarm.sim.acts.act import perform
from mirrorfarm.sim.acts.farm import Weight
from mirrorfarm.sim.farm import MODULE, FarmWorld
from mirrorfarm.sim.farm_clients import Clients
from mirrorfarm.transport import messages as msg
from mirrorfarm.transport.address import Address

TIMING = FarmTiming(scan_ns=100 * MILLISECOND_NS)


class Farmers(FarmWorld):
    """A farm whose nodes are ordered about by their state machines."""

    def __init__(self, count: int = 3) -> None:
        super().__init__(1, count, TIMING, machines=True, drain_ns=5 * SECOND_NS)
        self.states: dict[str, dict[str, Any]] = {}
        self.answers_to = self._note
        for name in self.names:
            self.start(name, wish="away")
        self.run(50)

    def _note(self, node: str, message: Any) -> None:
        if isinstance(message, msg.StateAnswer):
            self.states[node] = msgspec.json.decode(message.json)

    def see(self, name: str) -> dict[str, Any]:
        source = Address(name, "cli-9", "cli")
        self.ask(name, MODULE, ev.Received(source, msg.StateQuery("q")))
        self.run(1)
        return self.states[name]

    def words(self, name: str) -> str:
        state = self.see(name)
        return f"{state['state']} {state['status']}"


def serving(count: int = 3) -> Farmers:
    world = Farmers(count)
    for name in world.names:
        world.command(name, "start")
    assert world.run_until(lambda: world.settled(*world.names), 3_000)
    world.run(50)
    return world


def test_a_farm_is_started_and_every_node_is_up_with_its_share() -> None:
    world = serving()
    for name in world.names:
        state = world.see(name)
        assert (state["state"], state["status"], state["reason"]) == ("UP", "Ready", "")
        assert state["farm"]["members"] == ["n1", "n2", "n3"]
        assert state["farm"]["view"] == 1
        assert [fact["text"] for fact in state["facts"]][-1] == "farm membership: n1 n2 n3"
    shares = {n["name"]: n["buckets"]["default"] for n in world.see("n2")["farm"]["nodes"]}
    assert shares == world.shares()


def test_a_stop_keeps_live_connections_shows_how_many_and_ends_with_the_last() -> None:
    world = serving()
    clients = Clients(world)
    while len(clients.flows) < 60:
        clients.connect()
    mine = [flow for flow, (_, _, at, _) in clients.flows.items() if at == "n3"]
    world.command("n3", "stop")
    world.run(600)
    state = world.see("n3")
    assert (state["state"], state["status"]) == ("UP", "Transient")
    assert state["reason"] == f"drains: {len(mine)} connections live, no new ones"
    assert world.shares()["n3"] == 0
    assert {clients.talk(flow) for flow in list(clients.flows)} == {"kept"}
    for flow in mine:
        clients.end(flow)
    world.run(800)
    assert world.words("n3") == "STOP NotReady"
    assert world.results[-1][1:] == ("n3", "done", "n3 is STOP NotReady")
    assert world.settled("n1", "n2")
    left_out = world.see("n1")["farm"]["nodes"][2]
    assert (left_out["member"], left_out["reason"]) == (False, "its module does not take part")
    assert world.words("n1") == "UP Ready"  # What another node does is no change of state here.


def test_a_connection_that_does_not_end_is_cut_at_the_limit() -> None:
    world = serving(2)
    clients = Clients(world)
    while not any(at == "n2" for _, _, at, _ in clients.flows.values()):
        clients.connect()
    world.command("n2", "stop")
    world.run(4_900)
    assert world.words("n2") == "UP Transient"
    world.run(600)
    assert world.words("n2") == "STOP NotReady"
    texts = [fact["text"] for fact in world.see("n2")["facts"]]
    assert "1 connections are cut: the time limit is over" in texts


def test_power_and_drain_act_live_and_are_told() -> None:
    world = serving()
    world.command("n1", "power", "2")
    world.run(500)
    assert world.shares() == {"n1": 512, "n2": 256, "n3": 256}
    world.command("n2", "drain")
    world.run(500)
    assert world.shares()["n2"] == 0
    assert world.see("n2")["reason"].startswith("drains by order")
    world.command("n2", "resume")
    world.run(500)
    assert world.shares()["n2"] == 256
    assert {outcome for _, _, outcome, _ in world.results} == {"accepted", "done"}


def test_a_weight_is_an_order_to_the_module_and_holds_until_it_stops() -> None:
    world = serving()
    perform(world, Weight("n3", 2))
    world.run(50)
    assert world.shares() == {"n1": 256, "n2": 256, "n3": 512}
    world.command("n3", "stop")
    assert world.run_until(lambda: world.words("n3") == "STOP NotReady", 3_000)
    world.command("n3", "start")
    assert world.run_until(lambda: world.settled(*world.names), 3_000)
    world.run(50)
    assert sorted(world.shares().values()) == [341, 341, 342]


def test_a_restart_changes_nothing_at_the_other_nodes_but_their_shares() -> None:
    world = serving()
    world.command("n1", "restart")
    assert world.run_until(lambda: world.shares()["n1"] == 0, 30, 1)
    assert world.run_until(lambda: sum(world.shares().values()) == 1_024, 20, 1)
    world.run(1_500)
    assert world.settled(*world.names)
    assert world.words("n1") == "UP Ready"
    assert world.shares()["n1"] in {341, 342}


def test_a_dead_node_is_named_with_the_reason_in_the_chain_of_facts() -> None:
    world = serving()
    world.kill("n2")
    world.run(1_500)
    texts = [fact["text"] for fact in world.see("n1")["facts"]]
    assert texts[-2:] == [
        "farm membership: n1 n3",
        "n2: it is silent on every network of the farm",
    ]
