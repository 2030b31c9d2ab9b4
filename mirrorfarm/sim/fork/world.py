"""A simulated mirror that begins as a recorded one was at a moment.

Before the fork only data planes run, as models: they become what the recorded replicators had
ordered of theirs. At the fork cores, timers, inboxes, orders and messages under way are put in.
"""

from typing import Any, Final

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.replicator import changes
from mirrorfarm.actors.replicator.core import (
    PlaneCopied,
    PlaneSessionBroken,
    PlaneSessionUp,
    Replicator,
)
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.modules.settings import Module
from mirrorfarm.sim.engine import Draws
from mirrorfarm.sim.fork.changes import Change
from mirrorfarm.sim.fork.fork import Fork, fill
from mirrorfarm.sim.fork.measure import Measure
from mirrorfarm.sim.fork.models import ForkedAround, ForkedNode, latency
from mirrorfarm.sim.fork.recording import Recording, Running
from mirrorfarm.sim.fork.resuming import FORK_NS, host_of
from mirrorfarm.sim.fork.settings import Settings, resettle
from mirrorfarm.sim.fork.waiting import LONG_ORDERS
from mirrorfarm.sim.host import Actor
from mirrorfarm.sim.mirrored import Mirrored
from mirrorfarm.sim.monitors.all import Mirror
from mirrorfarm.sim.pair import REPLICATOR
from mirrorfarm.sim.replica import SimPlane
from mirrorfarm.sim.server import Server
from mirrorfarm.sim.storage import loaded
from mirrorfarm.sim.streams import Streams
from mirrorfarm.sim.witness import Witness
from mirrorfarm.sim.world import Options, World
from mirrorfarm.transport.address import MODULE_ACTOR, WITNESS_PROCESS
from mirrorfarm.transport.messages import Register

EXTENTS: Final = 64  # That the client writes, in turn.
_ROOTS: Final = ((1, 1),)  # Of the replicated directory, in a change map.


class Forked(Fork, World):
    """The mirror; `run_to` goes on from `FORK_NS`."""

    def __init__(
        self,
        recording: Recording,
        seed: int,
        settings: Settings,
        given: list[Change],
        *,
        keep_faults: bool = True,
    ) -> None:
        module = self._begin(recording, seed, settings, given, keep_faults=keep_faults)
        self.timing = module.timing
        self.options = Options(extents=EXTENTS)
        self.measure = Measure(self)
        streams = Streams(self, self.network, self.stream("streams"))
        self.servers = {}
        self._forked = {name: self._forked_node(name, module, streams) for name in module.nodes}
        monitors = Mirror((), module.name)  # Asked by acts, of which there are none.
        own = Mirrored(
            self, module, dict(self._forked), streams, monitors, EXTENTS, module.nodes[0]
        )
        self.modules = {module.name: own}
        self.witness_backup = {}
        self._make_witness()
        self._around: dict[str, ForkedAround] = {}
        for name, running in recording.processes.items():
            self._put(name[0], name[1], running)
        self._make_planes()
        self.run_to(FORK_NS)
        self._fill()
        self._go_on()

    # --- machines --------------------------------------------------------------------------

    def _forked_node(self, name: str, module: Module, streams: Streams) -> ForkedNode:
        recording = self.recording
        peer = next(one for one in module.nodes if one != name)
        server = self.servers[name] = Server(host_of(self, self.recording, name))
        node = ForkedNode(
            self,
            server,
            peer,
            module,
            streams,
            Draws(self.seed, name),
            recording=recording,
            settings=self.settings,
        )
        node.records.record = recording.records[name]
        doors = recording.doors.get(name)
        for effect in doors.registers.values() if doors is not None else ():
            node.register = loaded(effect)
        node.hands.conflicts = lambda: self.other_users(module, name, peer)
        node.hands.pinged = lambda asked: asked if self.passes(name, "gw") else ()
        return node

    def _make_witness(self) -> None:
        """Make the witness as its trace has it, else as the nodes knew it."""
        recording, name = self.recording, self.recording.witness or "w"
        draws = Draws(self.seed, "witness")
        disk = latency(recording, self.settings, name, "RegisterStored")
        register = recording.register
        registers = {} if register is None else {self.module_name: _loaded(self, register)}
        doors = recording.doors.get(name)
        if doors is not None:
            registers = {one.module: loaded(one) for one in doors.registers.values()} or registers
        self.now, now = FORK_NS, self.now  # Its lease begins anew then.
        self.witness_node = Witness(
            self, host_of(self, self.recording, name), draws, disk, registers
        )
        self.now = now
        if recording.witness_off:
            self.witness_node.stop()

    # --- processes -------------------------------------------------------------------------

    def _put(self, node: str, process: str, running: Running) -> None:
        """Begin a process with the states of its cores; nothing of it runs before the fork."""
        if process == WITNESS_PROCESS:
            own = self.witness_node.process
            own.incarnation, own.sequence = running.incarnation, running.waiting.sequence
            own.actors["register"].core = running.states["register"].restored()
            return
        found = self.nodes[node]
        doors = found.hands.doors if process == self.module_name else found.replica_doors
        made = self._made(found.host, process, running, doors, found._died)
        for actor, state in running.states.items():
            core = state.restored()
            if self.settings.module:  # Else each node keeps its own clocks.
                resettle(core, self.module)
            made.add(actor, core)
        if process != self.module_name:
            around = self._around[node] = ForkedAround(found, made)
            found.plane = SimPlane(around)

    def _make_planes(self) -> None:
        """Have the models of the planes become what the cores think that theirs are."""
        cores = {name: self._replicator(name) for name in self._around}
        for name in sorted(cores, key=lambda one: cores[one].role == "lead"):  # Who listens first.
            core, plane = cores[name], self.nodes[name].plane
            assert plane is not None, "it was put there"
            order = self._pending(name)
            if core.role == "lead":
                base = core.map_base or core.gate_base[0]
                if base:
                    self.nodes[name].disk.map_file = changes.dump(changes.ChangeMap(), base, _ROOTS)
                self.nodes[name].disk.scope = True
                plane.order("mount_lead", (0, core.term, base))
                self.after(SECOND_NS, plane.order, "gate", (0, core.term, 0, "frozen", base, False))
                if core.sid:
                    plan = core.wish.plan if core.wish is not None else "map"
                    opening = (core.term, core.sid, plan, self.nodes[name].peer)
                    self.after(2 * SECOND_NS, plane.order, "open_session", opening)
                if not order or order[0].verb != "gate":
                    setting = (0, core.term, core.sid, core.gate, *core.gate_base)
                    self.after(3 * SECOND_NS, plane.order, "gate", setting)
            elif core.role == "follow":
                plane.order("mount_follow", (0, core.term))
                if core.sid:
                    accepting = (0, core.term, core.sid, "")
                    self.after(SECOND_NS, plane.order, "accept_session", accepting)

    def _replicator(self, name: str) -> Replicator:
        process = self.nodes[name].host.processes[f"{self.module_name}.replica"]
        core: Any = process.actors[REPLICATOR].core
        assert isinstance(core, Replicator)
        return core

    def _pending(self, name: str) -> list[fx.PlaneOrder]:
        """Return the orders that a plane had not answered."""
        running = self.recording.processes[name, f"{self.module_name}.replica"]
        orders = [one.effect for one in running.waiting.orders.values()]
        return [one for one in orders if isinstance(one, fx.PlaneOrder)]

    # --- the fork --------------------------------------------------------------------------

    def _fill(self) -> None:
        """Have machines and planes be as the recorded ones were."""
        for name, node in self._forked.items():
            node.slow_down()
            doors = self.recording.doors.get(name)
            if doors is not None and node.host.up:
                fill(node.hands, doors)
        for around in self._around.values():
            self._release(around)

    def _release(self, around: ForkedAround) -> None:
        """Tell the core what its plane said meanwhile, where the recorded one had not."""
        held, around.held = around.held or [], None
        name = around.node
        waiting = self.recording.processes[name, f"{self.module_name}.replica"].waiting
        for event in held:
            if isinstance(event, PlaneSessionUp | PlaneCopied):
                if (type(event).__name__, event.term, event.sid) not in waiting.doors.sessions:
                    around.tell(event)
            elif isinstance(event, PlaneSessionBroken):
                around.tell(event)
        plane = self.nodes[name].plane
        for order in self._pending(name):
            assert plane is not None, "it was put there"
            if order.verb == "gate" or order.verb in LONG_ORDERS:
                plane.order(order.verb, order.arguments)

    # --- while it runs ---------------------------------------------------------------------

    def record(self, actor: Actor, now: int, event: Any, effects: list[Any]) -> None:
        """Note one step, for whoever watches."""
        super().record(actor, now, event, effects)
        if actor.name == MODULE_ACTOR:
            self.measure.look()


def _loaded(world: Forked, register: Register) -> ev.RegisterLoaded:
    lease_ns = world.recording.module.timing.lease_ns
    return ev.RegisterLoaded(world.identity, world.module_name, register, register.ver, lease_ns)
