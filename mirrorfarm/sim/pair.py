"""One module on one node of a simulated mirror: the cores of production, and its disks."""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.mirror.core import Mirror
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.actors.replicator.core import Replicator
from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.module_cores import Here, cores
from mirrorfarm.modules.settings import Module
from mirrorfarm.sim.cluster import Cluster
from mirrorfarm.sim.engine import Draws
from mirrorfarm.sim.hands import Hands
from mirrorfarm.sim.host import Actor, Call, Calls, Doors, Host, Process
from mirrorfarm.sim.monitors.seen import (
    Begun,
    Died,
    Failed,
    Invoked,
    Kept,
    PowerLost,
    RecordDurable,
    Told,
    Wrote,
)
from mirrorfarm.sim.replica import SimPlane
from mirrorfarm.sim.server import Server
from mirrorfarm.sim.storage import Extents, Latency, Records, loaded
from mirrorfarm.sim.streams import Inbox, Streams
from mirrorfarm.sim.surroundings import Surroundings
from mirrorfarm.transport.address import MODULE_ACTOR

REPLICATOR = "replicator"


class Around(Surroundings):
    """What one replica process has around it."""

    def __init__(self, node: "MirrorNode", process: Process) -> None:
        self._node, self._process = node, process
        self.node, self.peer, self.disk = node.name, node.peer, node.disk
        self._cluster = node.cluster
        self.clock = node.host.clocks.monotonic(node.cluster)
        # What threads of the replicator do: it waits, pauses and ends with the process.
        self._call = partial(process.call, process.add("plane", Calls()))
        self.timeout_ns = node.module.timing.replication_timeout_ns
        self.received_suffices = node.module.replication.ack_mode == "received"

    def tell(self, event: Any) -> None:  # noqa: D102
        self._process.actors[REPLICATOR].give(event)

    def after(self, delay_ns: int, call: Callable[[], None]) -> None:  # noqa: D102
        cluster = self._cluster
        cluster.at(cluster.now + delay_ns, self._call, call)

    def disk_ns(self) -> int:  # noqa: D102
        return self._node.latency.draw(self._node.draws)

    def flush_ns(self) -> int:  # noqa: D102
        return self._node.flushes.draw(self._node.draws)

    def nonce(self) -> int:  # noqa: D102
        return self._node.draws.word() >> 1 | 1

    def dial(self, inbox: Inbox) -> Any:  # noqa: D102
        return self._node.streams.dial(self.node, self.peer, partial(self._call, inbox))

    def listen(self, inbox: Inbox) -> Any:  # noqa: D102
        return self._node.streams.listen(self.node, partial(self._call, inbox))

    def wrote(self, extent: int, write: int, term: int, sid: int) -> None:  # noqa: D102
        self._node.seen(Wrote(extent, write, term, sid))

    def kept(self, extent: int, write: int) -> None:  # noqa: D102
        self._node.seen(Kept(extent, write))

    def exits(self) -> None:  # noqa: D102
        self._process.die()


@dataclass(slots=True, eq=False)
class MirrorNode:
    """What a mirror module has on one node of the pair; several of them share its server."""

    cluster: Cluster
    server: Server
    peer: str
    module: Module
    streams: Streams
    draws: Draws  # Of its disks and its application.
    host: Host = field(init=False)  # The machine.
    name: str = field(init=False)  # Of the node.
    hands: Hands = field(init=False)
    disk: Extents = field(default_factory=Extents)
    latency: Latency = field(default_factory=Latency)
    flushes: Latency = field(default_factory=Latency)  # Of what its primary wants flushed.
    records: Records = field(init=False)
    register: ev.RegisterLoaded | None = None  # Its own copy, where no witness keeps it.
    plane: SimPlane | None = None
    store_crashes: str = ""  # Power fails at the next record: before after it is durable.
    restarts: bool = True  # The agent starts anew what died.
    stored_own: Callable[["MirrorNode", fx.RegisterStore], None] = lambda node, effect: None
    told: Callable[[str, int, int, int], None] = lambda node, write, extent, result: None

    def __post_init__(self) -> None:
        self.host = self.server.host
        self.name = self.host.name
        self.server.modules.append(self)
        self.records = Records(Latency())
        self.mend_disk()
        self.hands = Hands(
            self.cluster, self.host, self.module.name, MODULE_ACTOR, self.draws, self._store
        )
        self.hands.store_register = self._store_register
        self.hands.end_replica = self.kill_replica
        self.hands.noted = self._noted

    def mend_disk(self) -> None:
        """Have the disk take as long as it usually does."""
        self.latency, self.flushes = Latency(), Latency()
        if self.module.replication.ack_mode == "received":
            self.flushes = Latency(300 * MILLISECOND_NS)  # Nobody waits for it.

    # --- names that stories use --------------------------------------------------------------

    @property
    def up(self) -> bool:
        """Whether its processes run."""
        return self.host.up

    @property
    def record(self) -> NodeRecord | None:
        """Its durable record."""
        return self.records.record

    @property
    def application(self) -> bool:
        """Whether the application runs here."""
        return self.hands.app.runs

    @property
    def cores(self) -> dict[str, Any]:
        """The cores of the module's process, by the names of their actors."""
        process = self.host.processes.get(self.module.name)
        return {name: actor.core for name, actor in process.actors.items()} if process else {}

    @property
    def machine(self) -> Mirror:
        """The state machine."""
        core: Mirror = self.cores[MODULE_ACTOR]
        return core

    def seen(self, observation: Any) -> None:
        """Tell the monitors what cores cannot know."""
        self.cluster.seen(self.name, observation, self.module.name)

    # --- processes -------------------------------------------------------------------------

    def start(self, *, again: bool) -> None:
        """Start the processes; `again`: the module starts by itself."""
        self.start_module(again=again)
        self.start_replica()

    def start_module(self, *, again: bool) -> None:
        """Start the process of the module with the cores that production runs in it."""
        host, module = self.host, self.module
        if self.hands.guard.deadline_ns:
            self.hands.guard.deadline_ns = 0  # An earlier process left it: it acts at once.
            self.hands.fence()
        process = self._process(module.name, self.hands.doors)
        here = Here(
            self.cluster.identity,
            host.name,
            module,
            process.incarnation,
            host.boot_id,
            self.records.record,
            self.draws.word(),
            self.records.damaged,
            start=again,
        )
        actors = {name: process.add(name, core) for name, core in cores(here, None).items()}
        self.seen(Begun(module.name, process.incarnation, host.boot_id))
        if module.arbiter.kind != "witness":
            known = self.register or ev.RegisterLoaded(self.cluster.identity, module.name, None)
            actors["arbiter"].give(known)
        for actor in actors.values():
            actor.give(ev.Started())

    def start_replica(self) -> None:
        """Start the process of the replicator."""
        module = self.module
        if not module.replication.directories:
            return
        process = self._process(f"{module.name}.replica", self.replica_doors)
        process.add(REPLICATOR, Replicator(self.name, module.name, process.incarnation))
        self.plane = SimPlane(Around(self, process))
        self.seen(Begun(process.name, process.incarnation, self.host.boot_id))
        process.actors[REPLICATOR].give(ev.Started())

    @property
    def replica_doors(self) -> Doors:
        """What the core of the replicator asks for, and what does it."""
        return {
            fx.PlaneOrder: self._order_plane,
            fx.Send: self.hands.doors[fx.Send],
            fx.Log: self.hands.doors[fx.Log],
        }

    def _process(self, name: str, doors: Doors) -> Process:
        host = self.host
        record = self.cluster.record if self.cluster.records else None
        process = Process(host, name, host.next_incarnation(), doors, record, self._died)
        host.processes[name] = process
        if self.server.is_frozen(name):
            process.pause()
        return process

    def _died(self, process: Process) -> None:
        """A process ended without a decision: the agent starts another one."""
        if not self.host.up:
            return
        self.seen(Died(process.name))
        if process.name == self.module.name:
            self.hands.app.script = None  # What it ran goes on, but nobody hears of its end.
            self.hands.app.number += 1
        elif self.plane is not None:
            self.plane.carrier.gate.end()  # The mount is gone: every write gets an error.
            self.plane = None
            self.streams.reset(self.name, self.peer)
            self.streams.listening.pop(self.name, None)
        if self.restarts:
            delay = 200 * MILLISECOND_NS + self.draws.below(300) * MILLISECOND_NS
            self.cluster.after(delay, self._restart, process)

    def _restart(self, process: Process) -> None:
        if self.host.up and self.host.processes.get(process.name) is process:
            if process.name == self.module.name:
                self.start_module(again=True)
            else:
                self.start_replica()

    def kill_replica(self) -> None:
        """End the replicator's process."""
        process = self.host.processes.get(f"{self.module.name}.replica")
        if process is not None:
            process.die()

    def ended(self, *, power: bool) -> None:
        """All processes of the server have ended at once; with `power`, memory is lost as well."""
        if self.plane is not None:
            self.plane.carrier.gate.end()
            self.plane = None
        self.streams.reset(self.name, self.peer)
        self.streams.listening.pop(self.name, None)
        self.store_crashes = ""
        self.records.failures, self.records.free_ns = 0, 0
        if power:
            self.disk.power_fails(self.draws)
        self.hands.power_fails()
        pairs = tuple(n for item in sorted(self.disk.memory.items()) for n in item)
        self.seen(PowerLost(pairs, self.host.boot))

    # --- effects ---------------------------------------------------------------------------

    def _order_plane(self, actor: Actor, effect: fx.PlaneOrder) -> None:
        del actor
        assert self.plane is not None, "it lives as long as its process"
        self.plane.order(effect.verb, effect.arguments)

    def _noted(self, level: str, text: str) -> None:
        del level
        if self.cluster.tells_story:
            place = self.cluster.place(self.name, self.module.name)
            self.cluster.story.add(self.cluster.now, place, ">", text)

    def _store(self, actor: Actor, effect: fx.Store) -> None:
        self._write(partial(self._stored, actor, effect.record))

    def _write(self, write: Callable[[], None]) -> None:
        self.cluster.at(self.records.order(self.cluster.now, self.draws, write), self._written)

    def _written(self) -> None:
        self.records.done()

    def _stored(self, actor: Actor, record: NodeRecord) -> None:
        process = actor.process
        if not process.alive:
            return
        refusal = self.records.failure()
        if refusal is not None:
            process.due(actor, ev.StoreFailed(record.counter, *refusal))
            return
        if self.store_crashes == "before":
            self.server.stop(power=True)
            return
        self.records.record, self.records.damaged = record, ""
        self.seen(RecordDurable(self.module.name, record))
        if self.store_crashes:
            self.server.stop(power=True)
            return
        process.due(actor, ev.Stored(record.counter))

    def _store_register(self, actor: Actor, effect: fx.RegisterStore) -> None:
        self._write(partial(self._register_stored, actor, effect))

    def _register_stored(self, actor: Actor, effect: fx.RegisterStore) -> None:
        if not actor.process.alive:
            return
        refusal = self.records.failure()
        if refusal is not None:
            actor.process.due(actor, ev.StoreFailed(effect.counter, *refusal))
            return
        self.register = loaded(effect)
        self.stored_own(self, effect)
        actor.process.due(actor, ev.RegisterStored(effect.counter))

    # --- writes ----------------------------------------------------------------------------

    def write(self, write: int, extent: int) -> None:
        """Let the application here write to a file and flush it."""
        self.seen(Invoked(write, extent))
        asker = self.hands.app.number_run
        process = self.host.processes.get(f"{self.module.name}.replica")
        plane = self.plane
        if process is None or plane is None or not process.alive:
            self._told(write, extent, errno.ENOTCONN, 0)
            return

        def answer(result: int) -> None:
            gone = not self.hands.app.runs or self.hands.app.number_run != asker
            self._told(write, extent, errno.EPIPE if gone else result, plane.term)

        process.actors["plane"].give(Call(lambda: plane.write(extent, write, answer)))

    def _told(self, write: int, extent: int, result: int, term: int) -> None:
        if result:
            self.seen(Failed(write, extent))
        else:
            self.seen(Told(write, extent, term))
        self.told(self.name, write, extent, result)
