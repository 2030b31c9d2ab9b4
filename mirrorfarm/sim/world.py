"""Two nodes, an arbiter and an application in one thread: same seed, same story.

The cores are those of production, composed as production composes them. Every fault that the
world can do is a method; monitors watch. What is a model: scripts, addresses, the guard's
process, the file system, mounts and sockets (`hands`, `replica`, `streams`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from mirrorfarm.actors import events as ev
from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.modules.settings import (
    Arbiter,
    HeartbeatNetwork,
    Module,
    Process,
    Replicated,
    Replication,
    Timing,
    VirtualAddress,
)
from mirrorfarm.sim.cluster import Cluster
from mirrorfarm.sim.engine import Draws
from mirrorfarm.sim.mirrored import Mirrored, shortened
from mirrorfarm.sim.monitors.all import MIRROR, Mirror
from mirrorfarm.sim.monitors.liveness import set_bounds
from mirrorfarm.sim.monitors.monitor import Monitor
from mirrorfarm.sim.monitors.watches import together
from mirrorfarm.sim.network import NETWORKS
from mirrorfarm.sim.pair import MirrorNode
from mirrorfarm.sim.server import Server
from mirrorfarm.sim.streams import Streams
from mirrorfarm.sim.witness import WITNESS, Witness

MODULE = "app"
GATEWAY = "gw"  # What an arbiter of the kind `ping` asks.
NODES = ("n1", "n2")
SHORTER = ("none", *NODES)  # Whose lease and detection are shorter than the other one's.
PREFERRED = (*NODES, "itself", "other")  # The node that is to lead if both could.


class World(Cluster):
    """Mirror modules on two nodes, mostly one, their arbiter, and applications that write.

    What is not said of a certain module is the first one's.
    """

    module_name = MODULE

    def __init__(
        self,
        seed: int,
        timing: Timing,
        *,
        monitors: Iterable[type[Monitor]] = MIRROR,
        digest: bool = False,
        **options: Any,
    ) -> None:
        """`options` are fields of `Options`."""
        self.options = chosen = Options(**options)
        names, kinds = module_names(chosen.modules), tuple(monitors)
        checks = {name: Mirror(kinds, name) for name in names}
        watches = {name: one.watch for name, one in checks.items()}
        super().__init__(seed, together(watches), digest=digest)
        self.timing = timing
        self.network.names = NETWORKS[: chosen.networks]
        self.witness_node = Witness(
            self, self.machine(WITNESS, apart=chosen.apart), Draws(seed, "witness")
        )
        self.witness_backup: dict[str, Any] = {}  # A copy of the witness's disk.
        self.servers = {name: Server(self.machine(name, apart=chosen.apart)) for name in NODES}
        self.modules = {
            name: self._mirrored(number, name, checks[name]) for number, name in enumerate(names)
        }

    def _mirrored(self, number: int, name: str, monitors: Mirror) -> Mirrored:
        """Make a module; the first one is primary on the first node, the next on the other."""
        chosen, prim = self.options, NODES[number % len(NODES)]
        monitors.facts.advisory = chosen.arbiter != "witness"
        monitors.facts.directories = chosen.directories
        module = _module(number, name, self.timing, chosen)
        set_bounds(monitors.watch, self.timing, module.start_ns)
        streams = Streams(self, self.network, self.stream(self.concern("streams", name)))
        nodes = {node: self._node(node, module, streams) for node in NODES}
        return Mirrored(self, module, nodes, streams, monitors, chosen.extents, prim)

    def _node(self, name: str, module: Module, streams: Streams) -> MirrorNode:
        peer = NODES[1 - NODES.index(name)]
        wanted = self.options.defaultprim
        prefers = {"itself": name, "other": peer}.get(wanted, wanted)
        module = msgspec.structs.replace(module, defaultprim=prefers)
        if self.options.shorter == name:
            module = shortened(module)
        draws = Draws(self.seed, self.concern(name, module.name))
        node = MirrorNode(self, self.servers[name], peer, module, streams, draws)
        node.hands.conflicts = lambda: self.other_users(module, name, peer)
        node.hands.pinged = lambda asked: asked if self.network.both_ways(name, GATEWAY) else ()
        return node

    def other_users(self, module: Module, name: str, peer: str) -> tuple[str, ...]:
        """Return who answers when a node asks whether the addresses of a module are free."""
        there = self.modules[module.name].nodes[peer].hands.vip
        there = there and self.network.both_ways(name, peer)
        return tuple(f"{one.addr}={peer}" for one in module.vips if there)

    # --- the first module ------------------------------------------------------------------

    @property
    def first(self) -> Mirrored:
        """The first module: whom those mean who know of no other."""
        return self.modules[self.module_name]

    @property
    def module(self) -> Module:
        """Its configuration."""
        return self.first.module

    @property
    def nodes(self) -> dict[str, MirrorNode]:
        """What it has on each node."""
        return self.first.nodes

    @property
    def streams(self) -> Streams:
        """The connections of its replicators."""
        return self.first.streams

    @property
    def monitors(self) -> Mirror:
        """Who watches it."""
        return self.first.monitors

    def placed(self, node: str, module: str = "") -> MirrorNode:
        """Return what a module has on a node."""
        return self.modules[module or self.module_name].nodes[node]

    # --- nodes -----------------------------------------------------------------------------

    def start(self, name: str, *, again: bool = False) -> None:
        """Start the processes of a node; `again`: its module starts by itself."""
        self.servers[name].start(again=again)

    def begin(self, name: str) -> None:
        """Start a node that is off; its module starts by itself."""
        if not self.hosts[name].up:
            self.start(name, again=True)

    def kill(self, name: str, *, power: bool = True) -> None:
        """Power off: everything but the disk is gone at once. Else only the processes are."""
        self.servers[name].stop(power=power)

    @property
    def fails_over(self) -> bool:
        """Whether either node takes over by itself, whichever module."""
        return all(one.fails_over for one in self.modules.values())

    def freeze(self, name: str, milliseconds: int, *, only: str = "", stands: bool = False) -> None:
        """Stop the processes of a node for a while, or only a module's; guards go on.

        `stands`: what stops the whole machine says the same to its clocks.
        """
        server, until = self.servers[name], self.now + milliseconds * MILLISECOND_NS
        server.freeze(until, only=only, stands=stands)
        self.at(until, self._thaw, server)  # Whatever the clocks of the machine do meanwhile.

    def _thaw(self, server: Server) -> None:
        server.thaw()

    def kill_plane(self, name: str) -> None:
        """End the replicator's process; a new one starts and knows of no wish."""
        self.nodes[name].kill_replica()

    # --- cables ----------------------------------------------------------------------------

    def set_link(self, a: str, b: str, *, up: bool) -> None:
        """Cut or mend the link between two machines (`w1` is the witness)."""
        self.network.set_link(a, b, up=up)

    def cut_one_way(self, source: str, to: str) -> None:
        """Lose everything from one machine to another; answers still pass."""
        self.network.set_way(source, to, up=False)

    def passes(self, source: str, to: str) -> bool:
        """Return whether a datagram arrives."""
        return self.network.passes(source, to)

    @property
    def machine_names(self) -> tuple[str, ...]:
        """Everybody who has links."""
        return (*NODES, WITNESS, GATEWAY)

    # --- the witness -----------------------------------------------------------------------

    @property
    def witness_up(self) -> bool:
        """Whether the witness answers; set False: it hangs until it is set True or restarted."""
        return self.witness_node.up

    @witness_up.setter
    def witness_up(self, up: bool) -> None:
        process = self.witness_node.process
        if not up:
            process.pause()
        for actor in process.actors.values() if process.paused else ():
            own = [event for event in actor.inbox if not isinstance(event, ev.Received)]
            actor.inbox.clear()  # But what its disk says comes when it goes on.
            actor.inbox.extend(own)
            if up and not own:
                actor.busy = False
                process.parked = [one for one in process.parked if one is not actor]
        if up and process.paused:
            process.go_on()

    def restart_witness(self) -> None:
        """End the witness's process and start another one, which knows what the disk holds."""
        self.witness_node.restart()

    # --- administrator and application -----------------------------------------------------

    def command(self, name: str, verb: str, *arguments: str) -> str:
        """Give an administrator's order; return its request."""
        return self.first.command(name, verb, *arguments)

    def write(self) -> int:
        """Let the application, wherever it runs, modify something."""
        return self.first.write()

    def soon(self, name: str, actor: str, event: ev.Event) -> None:
        """Give an event to an actor of a node, as if a door had."""
        process = self.nodes[name].host.processes[MODULE]
        process.actors[actor].give(event)

    def break_stream(self, name: str, reason: str = "its connection was reset") -> None:
        """Have the session that a node leads break."""
        self.first.break_stream(name, reason)

    def accept_loss(self, *writes: int) -> None:
        """Note that an administrator gives up these writes."""
        self.first.accept_loss(*writes)

    # --- looking ---------------------------------------------------------------------------

    def role(self, name: str) -> str:
        """Return `PRIM Ready` and the like; `down` when the node is."""
        return self.first.role(name)

    def reason(self, name: str) -> str:
        """Return why a node is where it is; "" when it is down."""
        return self.first.reason(name)

    def explanation(self, name: str) -> tuple[str, str]:
        """Return why a node is where it is, and what would change that; "" when it is down."""
        return self.first.explanation(name)


@dataclass(frozen=True, slots=True)
class Options:
    """What a simulated mirror is like."""

    failover: bool = True
    directories: bool = True
    arbiter: str = "witness"  # witness ping none
    divergence: str = "keep-primary"  # The policy after a split.
    ack_mode: str = "durable"
    networks: int = 1
    apart: bool = False  # The clocks of the nodes differ.
    extents: int = 0  # How many there are; 0: one for each write.
    checked: str = ""  # The checker's action when the application ends by itself.
    modules: int = 1  # How many there are on the same machines.
    defaultprim: str = "alone"  # Or one of `PREFERRED`: each node may name its own one.
    shorter: str = "none"  # One of `SHORTER`.


def module_names(count: int) -> tuple[str, ...]:
    """Return the names of so many modules."""
    return (MODULE, *(f"{MODULE}{number}" for number in range(2, count + 1)))


def _module(number: int, name: str, timing: Timing, options: Options) -> Module:
    """Return the configuration of a simulated module."""
    pulse, silent, networks = timing.heartbeat_ns, timing.detection_ns, options.networks
    return Module(
        name,
        number + 1,
        NODES,
        timing=timing,
        failover=options.failover,
        heartbeats=tuple(HeartbeatNetwork(n, n, pulse, silent) for n in NETWORKS[:networks]),
        vips=(VirtualAddress(f"198.18.0.{10 + number}"),),
        replication=Replication(
            (Replicated("/data"),) if options.directories else (),
            divergence=options.divergence,
            ack_mode=options.ack_mode,
        ),
        processes=(Process("app", action=options.checked),) if options.checked else (),
        has_scripts=True,
        start_ns=4 * timing.lease_ns,
        nice_stop_ns=2 * timing.lease_ns,
        force_stop_ns=timing.lease_ns,
        arbiter=Arbiter(
            options.arbiter,
            WITNESS if options.arbiter == "witness" else "",
            (GATEWAY,) if options.arbiter == "ping" else (),
        ),
    )
