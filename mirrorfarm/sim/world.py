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
from mirrorfarm.actors.module.mirror.describe import explanation
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
from mirrorfarm.sim.cluster import Call, Cluster
from mirrorfarm.sim.engine import Draws
from mirrorfarm.sim.monitors.all import MIRROR, Mirror
from mirrorfarm.sim.monitors.liveness import set_bounds
from mirrorfarm.sim.monitors.monitor import Monitor
from mirrorfarm.sim.monitors.seen import Accepts
from mirrorfarm.sim.network import NETWORKS
from mirrorfarm.sim.pair import MirrorNode
from mirrorfarm.sim.streams import Streams
from mirrorfarm.sim.witness import WITNESS, Witness

MODULE = "app"
GATEWAY = "gw"  # What an arbiter of the kind `ping` asks.
NODES = ("n1", "n2")


class World(Cluster):
    """A mirror module on two nodes, its arbiter, and the application that writes."""

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
        self.checks = Mirror(monitors)
        super().__init__(seed, self.checks.watch, digest=digest)
        self.timing = timing
        self.network.names = NETWORKS[: chosen.networks]
        facts = self.checks.watch.facts.module(MODULE)
        facts.advisory, facts.directories = chosen.arbiter != "witness", chosen.directories
        self.module = _module(timing, chosen)
        set_bounds(self.watch, timing, self.module.start_ns)
        self.streams = Streams(self, self.network, self.stream("streams"))
        self.witness_node = Witness(
            self, self.machine(WITNESS, apart=chosen.apart), Draws(seed, "witness")
        )
        self.nodes = {name: self._node(name, apart=chosen.apart) for name in NODES}
        self._next_write = 0
        self.monitors = self.checks
        self.witness_backup: dict[str, Any] = {}  # A copy of the witness's disk.

    def _node(self, name: str, *, apart: bool) -> MirrorNode:
        peer = NODES[1 - NODES.index(name)]
        host = self.machine(name, apart=apart)
        node = MirrorNode(self, host, peer, self.module, self.streams, Draws(self.seed, name))
        node.hands.conflicts = lambda: self._other_users(name, peer)
        node.hands.pinged = lambda asked: asked if self.passes(name, GATEWAY) else ()
        return node

    def _other_users(self, name: str, peer: str) -> tuple[str, ...]:
        """Return who answers when a node asks whether its addresses are free."""
        there = self.nodes[peer].hands.vip and self.network.both_ways(name, peer)
        return (f"198.18.0.10={peer}",) if there else ()

    # --- nodes -----------------------------------------------------------------------------

    def start(self, name: str, *, again: bool = False) -> None:
        """Start the processes of a node; `again`: its module starts by itself."""
        self.nodes[name].start(again=again)

    def begin(self, name: str) -> None:
        """Start a node that is off; its module starts by itself."""
        if not self.nodes[name].up:
            self.start(name, again=True)

    def kill(self, name: str, *, power: bool = True) -> None:
        """Power off: everything but the disk is gone at once. Else only the processes are."""
        self.nodes[name].stop(power=power)

    def reconfigure(self, name: str, *, failover: bool, divergence: str) -> None:
        """Give a node another configuration than its peer; it counts when its processes start."""
        node = self.nodes[name]
        replication = msgspec.structs.replace(self.module.replication, divergence=divergence)
        node.module = msgspec.structs.replace(
            self.module, failover=failover, replication=replication
        )

    @property
    def fails_over(self) -> bool:
        """Whether either node takes over by itself."""
        return all(node.module.failover for node in self.nodes.values())

    def freeze(self, name: str, milliseconds: int, *, module_only: bool = False) -> None:
        """Stop the processes of a node (or one of them) for a while; the guard goes on."""
        node = self.nodes[name]
        node.module_only = module_only
        node.frozen_until = self.now + milliseconds * MILLISECOND_NS
        for process in node.host.processes.values():
            if not module_only or process.name == self.module_name:
                process.pause()
        self.at(node.frozen_until, self._thaw, node)

    def _thaw(self, node: MirrorNode) -> None:
        if self.now >= node.frozen_until:
            for process in list(node.host.processes.values()):
                if process.paused:
                    process.go_on()

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
            for actor in process.actors.values():
                actor.inbox.clear()
        elif process.paused:
            for actor in process.actors.values():
                actor.inbox.clear()
                actor.busy = False
            process.parked.clear()
            process.go_on()

    def restart_witness(self) -> None:
        """End the witness's process and start another one, which knows what the disk holds."""
        self.witness_node.restart()

    # --- administrator and application -----------------------------------------------------

    def command(self, name: str, verb: str, *arguments: str) -> str:
        """Give an administrator's order; return its request."""
        return self.order(name, self.module_name, verb, *arguments)

    def write(self) -> int:
        """Let the application, wherever it runs, modify something."""
        return self.modify()

    def modify(self) -> int:
        """Do as `write`, which others may listen to: what an act of its own tells of."""
        self._next_write += 1
        number = self._next_write
        running = [node for node in self.nodes.values() if node.application and node.up]
        extents = self.options.extents
        if running:
            node = running[0] if len(running) == 1 else self.stream("clients").choice(running)
            node.write(number, number % extents if extents else number)
        return number

    def soon(self, name: str, actor: str, event: ev.Event) -> None:
        """Give an event to an actor of a node, as if a door had."""
        process = self.nodes[name].host.processes[MODULE]
        process.actors[actor].give(event)

    def break_stream(self, name: str, reason: str = "its connection was reset") -> None:
        """Have the session that a node leads break."""
        process = self.nodes[name].host.processes.get(f"{MODULE}.replica")
        if process is not None and process.alive:

            def give_up() -> None:
                plane = self.nodes[name].plane
                if plane is not None:
                    plane.break_session(reason)

            process.actors["plane"].give(Call(give_up))

    def accept_loss(self, *writes: int) -> None:
        """Note that an administrator gives up these writes."""
        self.seen("", Accepts(writes), MODULE)

    # --- looking ---------------------------------------------------------------------------

    def role(self, name: str) -> str:
        """Return `PRIM Ready` and the like; `down` when the node is."""
        node = self.nodes[name]
        if not node.up or not node.cores:
            return "down"
        about = node.machine.state.announced
        return f"{about.role} {about.status}" if about else "?"

    def reason(self, name: str) -> str:
        """Return why a node is where it is; "" when it is down."""
        return self.explanation(name)[0]

    def explanation(self, name: str) -> tuple[str, str]:
        """Return why a node is where it is, and what would change that; "" when it is down."""
        node = self.nodes[name]
        return explanation(node.machine.state)[:2] if node.up and node.cores else ("", "")


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


def _module(timing: Timing, options: Options) -> Module:
    """Return the configuration of the simulated module."""
    pulse, silent, networks = timing.heartbeat_ns, timing.detection_ns, options.networks
    return Module(
        MODULE,
        1,
        NODES,
        timing=timing,
        failover=options.failover,
        heartbeats=tuple(HeartbeatNetwork(n, n, pulse, silent) for n in NETWORKS[:networks]),
        vips=(VirtualAddress("198.18.0.10"),),
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
