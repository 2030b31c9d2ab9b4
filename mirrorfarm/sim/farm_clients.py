"""The clients of a simulated farm: new ones, and connections that go on."""

from typing import Any

from mirrorfarm.actors.farm_filter.bitmaps import HARD
from mirrorfarm.limits import BUCKETS, MILLISECOND_NS

FLOWS_MAX = 400


class Clients:
    """Connections to one world: each has a bucket, and a node that it was answered by."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.flows: dict[int, tuple[int, int, str, int]] = {}  # group, bucket, node, since

    def reached(self, anchor: str) -> list[Any]:
        """Return the nodes that see a packet which `anchor` sees."""
        world = self.world
        return [
            n for n in world.nodes.values() if n.name == anchor or not world.apart(n.name, anchor)
        ]

    def connect(self) -> int:
        """Send a first packet of a new client, somewhere; return its number, or 0: no answer."""
        world = self.world
        group = world.random.randrange(world.groups)
        bucket = world.random.randrange(BUCKETS)
        accepted = []
        for node in self.reached(world.random.choice(world.names)):
            if world.answers(node.name) and node.filter.rows[group][bucket]:
                world.monitors.accepted(world, node)
                accepted.append(node)
        flow: int = world.next_flow + 1
        world.next_flow = flow
        world.monitors.new_client(world, flow, accepted)
        if len(accepted) != 1 or len(self.flows) >= FLOWS_MAX:
            return 0
        accepted[0].sockets[flow] = (group, bucket)
        self.flows[flow] = (group, bucket, accepted[0].name, world.now)
        return flow

    def talk(self, flow: int) -> str:
        """Send a packet of a connection; return what became of it: kept reset lost."""
        world = self.world
        group, bucket, name, since = self.flows[flow]
        accepted = []
        for node in self.reached(name):
            if not world.answers(node.name):
                continue
            if node.filter.rows[group][bucket] == HARD or flow in node.sockets:
                world.monitors.accepted(world, node)
                accepted.append(node)
        at = world.nodes[name]
        world.monitors.packet(world, flow, at, accepted, since)
        if any(flow not in node.sockets for node in accepted):
            self.end(flow)  # A node that does not know the connection resets it.
            return "reset"
        return "kept" if accepted else "lost"

    def end(self, flow: int) -> None:
        """Close a connection."""
        _, _, name, _ = self.flows.pop(flow)
        self.world.nodes[name].sockets.pop(flow, None)

    def flow_for(self, milliseconds: int, every: int = 10) -> None:
        """Let clients come, talk and go for a while."""
        world = self.world
        end = world.now + milliseconds * MILLISECOND_NS
        while world.now < end:
            world.run(every)
            self.go_on()

    def go_on(self) -> None:
        """Let one client come, and some of the others talk or go."""
        world = self.world
        self.connect()
        for flow in list(self.flows):
            if world.random.random() < 0.2:
                self.talk(flow)
            elif world.random.random() < 0.02:
                self.end(flow)
