"""One mirror module of a simulated cluster: on both nodes, with its application that writes."""

from dataclasses import dataclass
from typing import Any

import msgspec

from mirrorfarm.actors.module.mirror.describe import explanation
from mirrorfarm.modules.settings import Module
from mirrorfarm.sim.cluster import Cluster
from mirrorfarm.sim.host import Call
from mirrorfarm.sim.monitors.all import Mirror
from mirrorfarm.sim.monitors.seen import Accepts
from mirrorfarm.sim.pair import MirrorNode
from mirrorfarm.sim.streams import Streams


def shortened(module: Module) -> Module:
    """Return a module that notices a silence, and whose leases end, sooner by a third."""
    timing, replace = module.timing, msgspec.structs.replace
    silent_ns, lease_ns = (ns * 2 // 3 for ns in (timing.detection_ns, timing.lease_ns))
    return replace(
        module,
        timing=replace(timing, detection_ns=silent_ns, lease_ns=lease_ns),
        heartbeats=tuple(replace(one, timeout_ns=silent_ns) for one in module.heartbeats),
    )


@dataclass(eq=False)
class Mirrored:
    """A module, what it has on each node, and who watches it."""

    cluster: Cluster
    module: Module
    nodes: dict[str, MirrorNode]
    streams: Streams
    monitors: Mirror
    extents: int  # How many are written in turn; 0: one for each write.
    prim: str  # The node that is to be primary first.
    written: int = 0  # How often its application was asked to write.

    def __post_init__(self) -> None:
        for node in self.nodes.values():
            node.hands.modify = self.modify

    @property
    def name(self) -> str:
        """Its name."""
        return self.module.name

    @property
    def second(self) -> str:
        """The node that is to be secondary first."""
        return self.nodes[self.prim].peer

    def seen(self, node: str, observation: Any) -> None:
        """Tell the monitors of this module what cores cannot know."""
        self.cluster.seen(node, observation, self.name)

    def reconfigure(self, name: str, *, failover: bool, divergence: str, shorter: bool) -> None:
        """Give a node another configuration than its peer; it counts when its processes start.

        `shorter`: also clocks that are.
        """
        node = self.nodes[name]
        replication = msgspec.structs.replace(node.module.replication, divergence=divergence)
        module = msgspec.structs.replace(
            node.module,
            failover=failover,
            replication=replication,
            timing=self.module.timing,
            heartbeats=self.module.heartbeats,
        )
        node.module = shortened(module) if shorter else module

    @property
    def fails_over(self) -> bool:
        """Whether either node takes over by itself."""
        return all(node.module.failover for node in self.nodes.values())

    # --- administrator and application -----------------------------------------------------

    def command(self, name: str, verb: str, *arguments: str) -> str:
        """Give an administrator's order; return its request."""
        return self.cluster.order(name, self.name, verb, *arguments)

    def write(self) -> int:
        """Let the application, wherever it runs, modify something; return the write's number."""
        return self.modify()

    def modify(self) -> int:
        """Do as `write`, which others may listen to: what an act of its own tells of."""
        cluster = self.cluster
        cluster.writes = number = cluster.writes + 1
        self.written += 1
        running = [one for one in self.nodes.values() if one.hands.app.runs and one.host.up]
        if running:
            node = running[0]
            if len(running) > 1:
                clients = cluster.stream(cluster.concern("clients", self.name))
                node = clients.choice(running)
            node.write(number, self.written % self.extents if self.extents else self.written)
        return number

    def break_stream(self, name: str, reason: str = "its connection was reset") -> None:
        """Have the session that a node leads break."""
        process = self.nodes[name].host.processes.get(f"{self.name}.replica")
        if process is not None and process.alive:

            def give_up() -> None:
                plane = self.nodes[name].plane
                if plane is not None:
                    plane.break_session(reason)

            process.actors["plane"].give(Call(give_up))

    def accept_loss(self, *writes: int) -> None:
        """Note that an administrator gives up these writes."""
        self.seen("", Accepts(writes))

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
