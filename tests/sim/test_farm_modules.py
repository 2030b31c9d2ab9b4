"""State machine and filter of every node together: what an administrator sees of a farm."""

from typing import Any

import msgspec

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.farm.core import FarmModule
from mirrorfarm.actors.module.farm.state import Settings
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import Farm, FarmTiming, Module
from mirrorfarm.sim.farm import FarmNode, FarmWorld
from mirrorfarm.sim.farm_clients import Clients
from mirrorfarm.transport import messages as msg
from mirrorfarm.transport.address import MODULE_ACTOR, Address

ADMIN = Address("n1", "cli-1", "cli")
TIMING = FarmTiming(scan_ns=100 * MILLISECOND_NS)


class Farmers(FarmWorld):
    """A farm whose nodes are ordered about by their state machines."""

    def __init__(self, count: int = 3) -> None:
        super().__init__(1, count, TIMING)
        self.machines: dict[str, FarmModule] = {}
        self.results: list[tuple[str, str, str]] = []
        self.states: dict[str, dict[str, Any]] = {}
        for name in self.names:
            self.start(name, wish="away")
            farm = Farm(timing=TIMING, drain_ns=5 * SECOND_NS)
            module = Module("web", 1, self.names, "farm", has_scripts=True, farm=farm)
            settings = Settings("c" * 16, name, module, 1, "boot", "bpf")
            self.machines[name] = FarmModule.build(settings, None)
            self.tell(name, ev.Started())
        self.run(50)

    def tell(self, name: str, event: Any, delay_ns: int = MILLISECOND_NS) -> None:
        def give() -> None:
            node = self.nodes[name]
            for effect in self.machines[name].handle(event, node.clock(self.now)):
                self._obey(name, node, effect)

        self.at(self.now + delay_ns, give)

    def order(self, name: str, verb: str, *words: str) -> None:
        request = f"{name}{self.now}"
        self.tell(name, ev.Received(ADMIN, msg.Command(request, verb, "test", words)))

    def see(self, name: str) -> dict[str, Any]:
        self.tell(name, ev.Received(ADMIN, msg.StateQuery("q")), 0)
        self.run(1)
        return self.states[name]

    def words(self, name: str) -> str:
        state = self.see(name)
        return f"{state['state']} {state['status']}"

    def _perform(self, node: FarmNode, effect: Any) -> None:
        super()._perform(node, effect)
        if isinstance(effect, fx.Tell) and effect.actor == MODULE_ACTOR:
            self.tell(node.name, effect.event)

    def _obey(self, name: str, node: FarmNode, effect: Any) -> None:
        match effect:
            case fx.Tell("farm_filter", event):
                self.soon(node, event)
            case fx.Tell(_, ev.RunSequence(run)):
                self.tell(name, ev.SequenceEnded(run), 20 * MILLISECOND_NS)
            case fx.Tell(_, ev.KillApplication(run)):
                self.tell(name, ev.ApplicationGone(run))
            case fx.Tell(_, ev.VipUp(run)):
                self.tell(name, ev.VipIsUp(run))
            case fx.Tell(_, ev.VipDown(run)):
                self.tell(name, ev.VipIsDown(run))
            case fx.Later(at_ns, event):
                self.tell(name, event, max(0, node.moment(at_ns) - self.now))
            case fx.Send(_, msg.CommandResult(_, outcome, text)):
                self.results.append((name, outcome, text))
            case fx.Send(_, msg.StateAnswer(_, data)):
                self.states[name] = msgspec.json.decode(data)
            case _:
                pass


def serving(count: int = 3) -> Farmers:
    world = Farmers(count)
    for name in world.names:
        world.order(name, "start")
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
    world.order("n3", "stop")
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
    assert world.results[-1] == ("n3", "done", "n3 is STOP NotReady")
    assert world.settled("n1", "n2")
    left_out = world.see("n1")["farm"]["nodes"][2]
    assert (left_out["member"], left_out["reason"]) == (False, "its module does not take part")
    assert world.words("n1") == "UP Ready"  # What another node does is no change of state here.


def test_a_connection_that_does_not_end_is_cut_at_the_limit() -> None:
    world = serving(2)
    clients = Clients(world)
    while not any(at == "n2" for _, _, at, _ in clients.flows.values()):
        clients.connect()
    world.order("n2", "stop")
    world.run(4_900)
    assert world.words("n2") == "UP Transient"
    world.run(600)
    assert world.words("n2") == "STOP NotReady"
    texts = [fact["text"] for fact in world.see("n2")["facts"]]
    assert "1 connections are cut: the time limit is over" in texts


def test_power_and_drain_act_live_and_are_told() -> None:
    world = serving()
    world.order("n1", "power", "2")
    world.run(500)
    assert world.shares() == {"n1": 512, "n2": 256, "n3": 256}
    world.order("n2", "drain")
    world.run(500)
    assert world.shares()["n2"] == 0
    assert world.see("n2")["reason"].startswith("drains by order")
    world.order("n2", "resume")
    world.run(500)
    assert world.shares()["n2"] == 256
    assert {outcome for _, outcome, _ in world.results} == {"accepted", "done"}


def test_a_restart_changes_nothing_at_the_other_nodes_but_their_shares() -> None:
    world = serving()
    world.order("n1", "restart")
    world.run(12)
    assert world.shares()["n1"] == 0
    assert sum(world.shares().values()) == 1_024
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
