"""What is done to a forked cluster: what came from outside when it was recorded, and changes."""

from collections.abc import Iterable
from typing import Any, Final

from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.sim.fork.changes import Change
from mirrorfarm.sim.fork.incidents import Incident
from mirrorfarm.sim.meddling import EVERY, Meddling
from mirrorfarm.sim.storage import Refusal

# Orders that take the primary role from a node, or give it;
MOVES: Final = frozenset(
    ("stop", "restart", "stopstart", "swap", "forcestop", "second", "prim", "primforce", "shutdown")
)

GIVES: Final = frozenset(("swap", "prim", "primforce"))  # whichever node gets one of these.


class Environment:
    """Does it, in its time; `Measure` asks whether it explains a takeover."""

    def __init__(self, world: Any, given: list[Change], *, keep_faults: bool) -> None:
        self._world, self._given, self._keeps = world, given, keep_faults
        # By direction and network: until when by virtual time; 0: for good.
        self._cut: dict[tuple[str, str, str], int] = {}
        self._late: dict[tuple[str, str], list[Change]] = {}  # Delays that last, the newest last.
        self.moved_ns = -1  # When somebody ordered the role away last, or it had to go,
        self._moved: dict[str, int] = {}  # and from which node.

    def begin(self) -> None:
        """Put everything on the agenda."""
        world = self._world
        recording, now = world.recording, world.now
        if self._keeps:
            for incident in recording.outside:
                if incident.kind == "start_fails":
                    world.nodes[incident.node].hands.app.fails += 1
                else:
                    self._at(now + incident.at_ns - recording.at_ns, self._happens, incident)
        for change in self._given:
            self._at(now + change.after_ns, self._changes, change)

    def _at(self, when: int, what: Any, *arguments: Any) -> None:
        """Do it now, if it is due: before anything else happens."""
        if when <= self._world.now:
            what(*arguments)
        else:
            self._world.at(when, what, *arguments)

    # --- what was recorded -----------------------------------------------------------------

    def _happens(self, incident: Incident) -> None:
        world, name = self._world, incident.node
        node = world.nodes.get(name)
        match incident.kind:
            case "cut":
                lasts_ns = incident.until_ns - incident.at_ns
                end = world.now + lasts_ns if incident.until_ns else 0
                self._cuts(name, incident.other, end, incident.network)
            case "power":
                self._off(name)
            case "process":
                self._ends(name, incident)
            case "replica":
                self._dies(f"{world.module_name}.replica", incident)
                self._moves((name,))
            case "start":
                if not node.host.up or not node.host.processes:
                    world.start(name, again=incident.again)
            case "pause":
                self._pause(name, incident.until_ns - incident.at_ns)
            case "command":
                verb = incident.event.message.verb
                if verb in MOVES:
                    self._moves(world.nodes if verb in GIVES else (name,))
                world.ask(name, world.module_name, incident.event)
            case "cables":
                process = node.host.processes.get(world.module_name)
                if process is not None and process.alive:
                    process.actors["module"].give(incident.event)
            case "exit" | "record_fails" | "storage_fails":
                self._fails(incident)
            case "witness_ends":
                if world.witness_node.host.up:
                    world.witness_node.stop()
            case "witness_starts":
                if not world.witness_node.host.up:
                    world.witness_node.start()
        world.measure.look()

    # --- what is changed -------------------------------------------------------------------

    def _changes(self, change: Change) -> None:
        world, way = self._world, (change.node, change.to)
        end = world.now + change.for_ns
        match change.kind:
            case "crash":
                self._off(change.node)
            case "pause":
                self._pause(change.node, change.for_ns)
            case "delay":
                self._late.setdefault(way, []).append(change)
                world.network.lates[way] = change.late_ns
                world.at(end, self._late_no_more, way, change)
            case _ if change.message:
                lost = Meddling(change.message, *way, EVERY)
                world.meddle(lost)
                world.at(end, lost.end)
            case _:
                self._cuts(*way, end)
        world.measure.look()

    # --- how -------------------------------------------------------------------------------

    def _off(self, name: str) -> None:
        if self._world.nodes[name].host.up:
            self._world.kill(name)

    def _ends(self, name: str, incident: Incident) -> None:
        """End the process of a module. It starts again when it did."""
        world = self._world
        process = world.nodes[name].host.processes.get(world.module_name)
        if process is None or not process.alive:
            return
        if world.recording.module.mode == "farm":
            world.kill(name, power=False)
        else:
            self._dies(world.module_name, incident)

    def _dies(self, name: str, incident: Incident) -> None:
        """End a process of a mirror, and have it back after as long as it was away."""
        world, node = self._world, self._world.nodes[incident.node]
        process = node.host.processes.get(name)
        if process is None or not process.alive:
            return
        usual, node.restarts = node.restarts, not incident.until_ns
        process.die()
        node.restarts = usual
        if incident.until_ns:
            world.after(incident.until_ns - incident.at_ns, node._restart, process)

    def _refuses(self, incident: Incident) -> None:
        """Have a disk refuse every record, of a witness every register, for as long as it did."""
        world, event = self._world, incident.event
        node = world.nodes.get(incident.node)
        disk = world.witness_node if node is None else node.records
        disk.refusal = Refusal(event.error, event.text)
        if incident.until_ns:
            lasts_ns = incident.until_ns - incident.at_ns
            world.at(world.now + lasts_ns, setattr, disk, "refusal", None)

    def _fails(self, incident: Incident) -> None:
        """An application ends by itself, or a disk refuses something: its node may have to go."""
        world, node = self._world, self._world.nodes.get(incident.node)
        if incident.kind == "record_fails":
            self._refuses(incident)
        elif incident.kind == "exit":
            process = node.host.processes.get(world.module_name)
            if process is not None:
                node.hands.set_running(runs=False)
                node.hands.processes_changed(process)
        elif f"{world.module_name}.replica" in node.host.processes and node.plane is not None:
            node.plane.fail_storage(incident.event)
        if node is not None:
            self._moves((incident.node,))

    def _moves(self, names: Iterable[str]) -> None:
        """Note that what these nodes had is taken from them."""
        self.moved_ns = self._world.now
        self._moved |= dict.fromkeys(names, self.moved_ns)

    def _pause(self, name: str, for_ns: int) -> None:
        world = self._world
        if world.nodes[name].host.up and for_ns >= MILLISECOND_NS:
            world.freeze(name, for_ns // MILLISECOND_NS)
            world.after(for_ns + 1, world.measure.look)

    def _late_no_more(self, way: tuple[str, str], change: Change) -> None:
        late = self._late[way]
        late.remove(change)
        if late:
            self._world.network.lates[way] = late[-1].late_ns
        else:
            self._world.network.lates.pop(way, None)

    def _cuts(self, source: str, to: str, end: int, network: str = "") -> None:
        """Cut one direction until a time, or for good (0), unless it is cut for longer.

        Of one network, or (empty) of all.
        """
        names = (network,) if network else self._world.network.names
        for way in ((source, to, name) for name in names):
            until = self._cut.get(way, -1)
            if until == 0 or until >= end > 0:
                continue
            self._world.network.set_way(source, to, up=False, network=way[2])
            self._cut[way] = end
            if end:
                self._world.at(end, self._mends, way, end)

    def _mends(self, way: tuple[str, str, str], end: int) -> None:
        if self._cut.get(way) == end:
            del self._cut[way]
            source, to, network = way
            self._world.network.set_way(source, to, up=True, network=network)

    # --- what others ask -------------------------------------------------------------------

    def moved(self, name: str, since_ns: int) -> bool:
        """Return whether a node was ordered to give something up since, or had to."""
        return self._moved.get(name, -1) > since_ns

    def is_cut_off(self, name: str) -> bool:
        """Return whether a link of a node is cut, on every network, that nobody mends."""
        horizon = self._world.measure.end_ns
        lasting = {way for way, end in self._cut.items() if not end or end >= horizon}
        return any(
            all((source, to, network) in lasting for network in self._world.network.names)
            for source, to, _ in lasting
            if name in {source, to}
        )
