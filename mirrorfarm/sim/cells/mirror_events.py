"""What a mirror is given in each of its phases: orders, news that is late, and faults."""

import errno
from typing import Any, Final

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.mirror.phases import Phase
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.sim.acts import people
from mirrorfarm.sim.cells.ground import (
    Give,
    fault,
    hang_next_stop,
    late,
    news,
    refuse_addresses,
    refuse_late,
    refuse_records,
)
from mirrorfarm.sim.cells.probe import Probe
from mirrorfarm.sim.host import Actor
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.storage import Latency
from mirrorfarm.sim.world import MODULE, World
from mirrorfarm.transport import messages as msg
from mirrorfarm.transport.address import MODULE_ACTOR, Address

PEERS: Final = (
    *("SyncOffer", "SyncAccepted", "SyncRefused", "Synced", "RegisterNews", "Leave", "SwapWanted"),
)
PLANES: Final = ("PlaneIs", "SessionUp", "SessionBroken", "CopyComplete", "WriteHeld")
RESULTS: Final = (
    *("Stored", "SequenceEnded", "ApplicationGone", "VipIsUp", "VipIsDown", "VipProbed"),
    *("RegisterKnown",),
)


def _from_peer(actor: Actor, message: Any) -> None:
    peer = "n2" if actor.process.host.name == "n1" else "n1"
    actor.give(ev.Received(Address(peer, MODULE, MODULE_ACTOR), message))


def _term(actor: Actor) -> int:
    core: Any = actor.core
    return int(core.state.record.term)


def _refused(probe: Probe, actor: Actor) -> bool:
    del probe
    _from_peer(actor, msg.SyncRefused(_term(actor), 0, "that session is already over here"))
    return True


def _leaves(probe: Probe, actor: Actor) -> bool:
    del probe
    _from_peer(actor, msg.Leave(_term(actor)))
    return True


def _wants_swap(probe: Probe, actor: Actor) -> bool:
    del probe
    _from_peer(actor, msg.SwapWanted(_term(actor), "test"))
    return True


def _swap_refused(probe: Probe, actor: Actor) -> bool:
    del probe
    _from_peer(actor, msg.SwapRefused(_term(actor), "test"))
    return True


def _held(probe: Probe, actor: Actor) -> bool:
    """A modification waited at the gate, in a term that is over."""
    del probe
    name = actor.process.host.name
    actor.give(ev.Received(Address(name, MODULE, "replicator"), msg.WriteHeld(_term(actor) - 1)))
    return True


def _guard(probe: Probe, actor: Actor) -> bool:
    """The guard acts; for whoever watches, its deadline is over at that moment."""
    world: Any = probe.world
    host = actor.process.host
    side = world.modules[MODULE].monitors.facts.side(host.name)
    deadline_ns, side.guard_ns = side.guard_ns, host.clocks.boot(host.engine.now)
    world.nodes[host.name].hands.fence()
    side.guard_ns = deadline_ns
    actor.give(ev.GuardActed(0))
    return True


def _serves(world: World, name: str) -> bool:
    node = world.nodes[name]
    heard = world.network.both_ways(name, _peer_of(name))
    return node.up and bool(node.cores) and heard and node.machine.state.phase is Phase.LEADING


def _expect_to_serve(world: World, name: str) -> None:
    """Who serves and is heard keeps its role: such an order is refused."""
    if not _serves(world, name):
        raise Violation(f"R14: an order to its peer took the role from {name}, which served")


def _order(verb: str) -> Give:
    def give(probe: Probe, actor: Actor) -> bool:
        world: Any = probe.world
        name = actor.process.host.name
        act = people.Command(verb, name)
        if verb == "primforce":
            world.monitors.forget()
        if verb in {"prim", "primforce"} and _serves(world, _peer_of(name)):
            world.after(300 * MILLISECOND_NS, _expect_to_serve, world, _peer_of(name))
        actor.give(world.ordered(name, *act.words()))
        return True

    return give


def _resource(action: str) -> Give:
    return news(ev.ResourceChanged("proc.app", "down", action, "test"))


def _peer_of(name: str) -> str:
    return "n2" if name == "n1" else "n1"


def _disk(world: World, name: str) -> None:
    """The disk refuses everything; the replicator says so."""
    node = world.nodes[name]
    if not node.up:
        return
    node.disk.error = errno.EIO
    process = node.host.processes.get(f"{MODULE}.replica")
    if process is not None and process.alive:
        told = msg.StorageFailed(0, "data", 5, "Input/output error")
        world.soon(name, MODULE_ACTOR, ev.Received(Address(name, MODULE, "replicator"), told))


def _away(world: World, name: str) -> None:
    del name
    if world.witness_node.host.up:
        world.witness_node.stop()


def _slow_witness(world: World, name: str) -> None:
    del name
    world.witness_node.latency = Latency(300 * MILLISECOND_NS)


def _lost_answers(probe: Probe, actor: Actor) -> bool:
    del actor
    world: Any = probe.world
    world.witness_node.loses_answers = 3
    return True


def _off(world: World, name: str) -> None:
    if world.nodes[name].up:
        world.kill(name)


def _replica(world: World, name: str) -> None:
    if world.nodes[name].up:
        world.kill_plane(name)


def _pause(world: World, name: str) -> None:
    if world.nodes[name].up:
        world.freeze(name, 3 * world.timing.lease_ns // MILLISECOND_NS)


def _module(world: World, name: str) -> None:
    process = world.nodes[name].host.processes.get(MODULE)
    if process is not None:
        process.die()


def _in_use(world: World, name: str) -> None:
    """Somebody else answers for the addresses, for a while."""
    hands = world.nodes[name].hands
    before, hands.conflicts = hands.conflicts, lambda: ("198.18.0.10=stranger",)
    world.after(2 * SECOND_NS, setattr, hands, "conflicts", before)


def _cut(world: World, name: str) -> None:
    world.set_link(name, _peer_of(name), up=False)


EVENTS: Final[dict[str, Give]] = {
    **{f"Command {verb}": _order(verb) for verb in people.VERBS},
    **{kind: late(kind, own=False) for kind in PEERS},
    **{f"old {kind}": late(kind, own=False, oldest=True) for kind in PEERS},
    "SyncRefused": _refused,
    "Leave": _leaves,
    "SwapWanted": _wants_swap,
    "SwapRefused": _swap_refused,
    **{kind: late(kind, own=False) for kind in PLANES},
    **{f"old {kind}": late(kind, own=False, oldest=True) for kind in PLANES},
    **{kind: late(kind, own=True) for kind in RESULTS},
    **{f"old {kind}": late(kind, own=True, oldest=True) for kind in RESULTS},
    "PeerSilent": news(ev.PeerSilent(SECOND_NS)),
    "NetworkSilent": news(ev.NetworkSilent("default")),
    "NetworkHeard": news(ev.NetworkHeard("default")),
    "Stalled": news(ev.Stalled(SECOND_NS)),
    "ArbiterSilent": news(ev.ArbiterSilent(1)),
    "ArbiterHeard": news(ev.ArbiterHeard()),
    "GuardActed": _guard,
    "ResourceChanged restart": _resource("restart"),
    "ResourceChanged stopstart": _resource("stopstart"),
    "ResourceChanged stop": _resource("stop"),
    "StoreFailed": refuse_records,
    "old StoreFailed": refuse_late,
    "old VipProbed": news(ev.VipProbed(0)),
    "old WriteHeld": _held,
    "StorageFailed": fault(_disk),
    "the stream breaks": fault(lambda world, name: world.break_stream(name)),
    "its replica dies": fault(_replica),
    "its module dies": fault(_module),
    "its power fails": fault(_off),
    "it is cut off": fault(lambda world, name: world.isolate(name)),
    "it is cut off from its peer": fault(_cut),
    "it does not run": fault(_pause),
    "its next stop hangs": hang_next_stop,
    "its addresses are refused": refuse_addresses,
    "its addresses are in use": fault(_in_use),
    "its peer's power fails": fault(lambda world, name: _off(world, _peer_of(name))),
    "its peer's replica dies": fault(lambda world, name: _replica(world, _peer_of(name))),
    "its peer does not run": fault(lambda world, name: _pause(world, _peer_of(name))),
    "the witness is away": fault(_away),
    "the witness is slow": fault(_slow_witness),
    "the witness's answers are lost": _lost_answers,
}
