"""The ways of a farm's node into each phase, what it is given there, and how it is put in order."""

from typing import Final

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.farm.core import FarmTick
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.sim import farm_sweep
from mirrorfarm.sim.cells.ground import (
    Do,
    Give,
    Ground,
    fault,
    hang_next_stop,
    late,
    news,
    refuse_addresses,
    refuse_late,
    refuse_records,
    ways,
)
from mirrorfarm.sim.cells.probe import Probe
from mirrorfarm.sim.coverage import machines
from mirrorfarm.sim.farm import FarmWorld
from mirrorfarm.sim.farm_clients import Clients
from mirrorfarm.sim.host import Actor
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.transport.address import MODULE_ACTOR

NODES: Final = 2
NODE: Final = "n2"
GATE: Final = "custom.gate"  # A resource that a node waits for.
CABLE: Final = "eth0"
PATIENCE_MS: Final = 10_000
FOR_MS: Final = 1_500  # Longer than a node is missed.
VERBS: Final = (
    *("start", "stop", "restart", "drain", "resume", "forcestop", "stopstart", "shutdown"),
    *("power 2", "stop nodrain"),
)
RESULTS: Final = ("Stored", "SequenceEnded", "ApplicationGone", "VipIsUp", "VipIsDown", "FarmTick")


# --- events --------------------------------------------------------------------------------


def _order(words: str) -> Give:
    def give(probe: Probe, actor: Actor) -> bool:
        verb, *arguments = words.split()
        actor.give(probe.world.ordered(actor.process.host.name, verb, *arguments))
        return True

    return give


def _resource(value: str, action: str = "noaction") -> Give:
    return news(ev.ResourceChanged(GATE, value, action, "test"))


def _off(world: FarmWorld, name: str) -> None:
    world.kill(name)


def _dies(world: FarmWorld, name: str) -> None:
    world.kill(name, power=False)


def _cut(world: FarmWorld, name: str) -> None:
    world.isolate(name)
    world.links_changed()


def _exits(world: FarmWorld, name: str) -> None:
    node = world.nodes[name]
    if node.process is not None and node.hands.app.runs:
        node.hands.set_running(runs=False)


def _other(name: str) -> str:
    return "n1" if name == NODE else NODE


EVENTS: Final[dict[str, Give]] = {
    **{f"Command {words}": _order(words) for words in VERBS},
    **{kind: late(kind, own=True) for kind in (*RESULTS, "FarmPicture")},
    "old FarmPicture": late("FarmPicture", own=True, oldest=True),
    "StoreFailed": refuse_records,
    "old StoreFailed": refuse_late,
    "old FarmTick": news(FarmTick()),
    "ResourceChanged wait": _resource("down", "wait"),
    "ResourceChanged restart": _resource("down", "restart"),
    "ResourceChanged stopstart": _resource("down", "stopstart"),
    "ResourceChanged stop": _resource("down", "stop"),
    "ResourceChanged up": _resource("up"),
    "FilterCounted": news(ev.FilterCounted((("opened", 7),), 3)),
    "CablesOut": news(ev.CablesOut((CABLE,))),
    "StrangersSeen": news(ev.StrangersSeen(("198.18.0.100=02:00:00:00:00:01",))),
    "its next stop hangs": hang_next_stop,
    "its addresses are refused": refuse_addresses,
    "its application ends": fault(_exits),
    "its power fails": fault(_off),
    "its process dies": fault(_dies),
    "it is cut off": fault(_cut),
    "it does not run": fault(lambda world, name: world.freeze(name, FOR_MS)),
    "its agent hangs": fault(lambda world, name: world.hang(name, FOR_MS)),
    "the other node's power fails": fault(lambda world, name: _off(world, _other(name))),
    "the other node does not run": fault(lambda world, name: world.freeze(_other(name), FOR_MS)),
}


# --- ways ----------------------------------------------------------------------------------


def _ordered(verb: str) -> Do:
    return lambda world: world.command(NODE, verb)


def _phase_is(world: FarmWorld, phase: str) -> bool:
    machine = world.nodes[NODE].machine
    return machine is not None and machine.state.phase.value == phase


def _stopped(world: FarmWorld) -> None:
    world.command(NODE, "stop")
    _until(world, "stopped")


def _gate(world: FarmWorld, value: str) -> None:
    world.nodes[NODE].give(ev.ResourceChanged(GATE, value, "wait", "test"), MODULE_ACTOR)


def _closed(world: FarmWorld) -> None:
    _gate(world, "down")
    _until(world, "waiting")


def _returns(world: FarmWorld) -> None:
    world.kill(NODE, power=False)
    world.begin(NODE)


def _until(world: FarmWorld, phase: str) -> None:
    if not world.run_until(lambda: _phase_is(world, phase), PATIENCE_MS):
        raise Violation(f"L: {NODE} does not become {phase}", farm_sweep.reasons(world))


_RISES: Final = ("rising", "up")
WAYS: Final = ways(
    ("it starts", NODE, ("starting", *_RISES), _ordered("start"), _stopped),
    ("it returns", NODE, ("resetting", "starting", *_RISES), _returns, None),
    ("it stops", NODE, ("draining", "falling", "stopping", "stopped"), _ordered("stop"), None),
    ("it is ended", NODE, ("stopping", "stopped"), _ordered("forcestop"), None),
    ("restart", NODE, ("restarting", "up"), _ordered("restart"), None),
    ("gate closes", NODE, ("falling", "waiting"), lambda world: _gate(world, "down"), None),
    ("gate opens", NODE, _RISES, lambda world: _gate(world, "up"), _closed),
    ("stops closed", NODE, ("stopping", "stopped"), _ordered("stop"), _closed),
)


def _build(seed: int) -> FarmWorld:
    return FarmWorld(seed, NODES, farm_sweep.TIMING, machines=True, drain_ns=2 * SECOND_NS)


def _begin(world: FarmWorld) -> None:
    for name in world.names:
        world.start(name, again=True)
    if not world.run_until(lambda: world.settled(*world.names), PATIENCE_MS):
        raise Violation("L: the farm does not begin", farm_sweep.reasons(world))
    clients = Clients(world)
    clients.flow_for(400, every=20)
    world.after(0, _go_on, world, clients)


def _go_on(world: FarmWorld, clients: Clients) -> None:
    """Have clients come and go for as long as the walk lasts."""
    if not world.healed:
        clients.go_on()
        world.after(20 * MILLISECOND_NS, _go_on, world, clients)


def _end(world: FarmWorld) -> None:
    """Mend everything; both nodes must be one farm again."""
    world.healed = True
    for node in world.nodes.values():
        for event in (ev.ResourceChanged(GATE, "up"), ev.CablesOut(()), ev.StrangersSeen(())):
            node.give(event, MODULE_ACTOR)
    farm_sweep.calm(world, Clients(world))


GROUND: Final = Ground(machines.FARM, _build, _begin, _end, WAYS, EVENTS)
