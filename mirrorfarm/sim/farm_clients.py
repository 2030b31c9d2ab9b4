"""The clients of a simulated farm: new ones, and connections that go on."""

from mirrorfarm.actors.farm_filter.bitmaps import HARD
from mirrorfarm.limits import BUCKETS, MILLISECOND_NS
from mirrorfarm.sim.farm import FarmNode, FarmWorld
from mirrorfarm.sim.farm_packets import Packets
from mirrorfarm.sim.monitors.seen import Packet

FLOWS_MAX = 400


class Clients:
    """Connections to one world: each has a bucket, and a node that it was answered by."""

    def __init__(self, world: FarmWorld) -> None:
        self.world = world
        self.draws = world.stream("clients")
        self.flows: dict[int, tuple[int, int, str, int]] = {}  # group, bucket, node, since
        self._listening: dict[str, list[FarmNode]] | None = None  # At this moment, by anchor.
        self.packets = Packets(world, self.listening)

    def listening(self, anchor: str) -> list[FarmNode]:
        """Return the nodes that see a packet which `anchor` sees, and let anything in."""
        known, world = self._listening, self.world
        if known is not None and anchor in known:
            return known[anchor]
        found = [
            node
            for name, node in world.nodes.items()
            if node.filter.answers() and (name == anchor or not world.apart(name, anchor))
        ]
        if known is not None:
            known[anchor] = found
        return found

    def connect(self) -> int:
        """Send a first packet of a new client, somewhere; return its number, or 0: no answer."""
        world, draws = self.world, self.draws
        group, bucket = draws.below(world.groups), draws.below(BUCKETS)
        accepted = [
            node
            for node in self.listening(draws.choice(world.names))
            if node.filter.rows[group][bucket]
        ]
        world.next_flow = flow = world.next_flow + 1
        world.seen("", Packet(flow, "", 0, tuple(node.name for node in accepted)))
        if len(accepted) != 1 or len(self.flows) >= FLOWS_MAX:
            return 0
        accepted[0].sockets[flow] = (group, bucket)
        self.flows[flow] = (group, bucket, accepted[0].name, world.now)
        return flow

    def talk(self, flow: int) -> str:
        """Send a packet of a connection; return what became of it: kept reset lost."""
        world = self.world
        group, bucket, name, since = self.flows[flow]
        accepted = [
            node
            for node in self.listening(name)
            if flow in node.filter.sockets or node.filter.rows[group][bucket] == HARD
        ]
        world.seen("", Packet(flow, name, since, tuple([node.name for node in accepted])))
        for node in accepted:
            if flow not in node.filter.sockets:
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
        draws = self.draws
        self._listening = {}
        self.connect()
        for flow in list(self.flows):
            if draws.chance(200):
                self.talk(flow)
            elif draws.chance(20):
                self.end(flow)
        self.packets.go_on(self.flows)
        self._listening = None
