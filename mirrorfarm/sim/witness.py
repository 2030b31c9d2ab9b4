"""The witness of a simulated cluster: its process, its disk, and what may happen to it."""

from dataclasses import dataclass, field
from typing import Any

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.arbiter.witness import WitnessCore
from mirrorfarm.sim.cluster import Cluster
from mirrorfarm.sim.engine import Draws
from mirrorfarm.sim.host import Actor, Host, Process
from mirrorfarm.sim.monitors.seen import Begun, RegisterDurable
from mirrorfarm.sim.storage import NO_SPACE, Latency, Refusal, loaded
from mirrorfarm.transport.address import WITNESS_PROCESS, Address
from mirrorfarm.transport.messages import RegisterAnswer

WITNESS = "w1"
ACTOR = "register"


@dataclass(slots=True, eq=False)
class Witness:
    """A third machine that keeps the registers."""

    cluster: Cluster
    host: Host
    draws: Draws
    latency: Latency = field(default_factory=Latency)
    registers: dict[str, ev.RegisterLoaded] = field(default_factory=dict)  # On its disk.
    refusal: Refusal | None = None  # Of its disk: what becomes of every writing.
    failures: int = 0  # So many of the next writings fail.
    loses_answers: int = 0  # So many of the next answers get lost, after what they tell is done.
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    @property
    def core(self) -> WitnessCore:
        """Its core."""
        core: Any = self.process.actors[ACTOR].core
        assert isinstance(core, WitnessCore)
        return core

    @property
    def refuses(self) -> bool:
        """Whether it could not write something: it answers no more until it is started anew."""
        return any(entry.failure for entry in self.core.entries.values())

    @property
    def up(self) -> bool:
        """Whether it answers."""
        return self.host.up and not self.process.paused

    def start(self) -> None:
        """Start its process, which knows what the disk holds."""
        host = self.host
        host.up = True
        host.windows.clear()
        process = Process(
            host,
            WITNESS_PROCESS,
            host.next_incarnation(),
            {fx.Send: self._send, fx.RegisterStore: self._store, fx.Log: lambda *_: None},
            self.cluster.record if self.cluster.records else None,
            _nothing,
        )
        self.process = process
        host.processes[WITNESS_PROCESS] = process
        core = WitnessCore(self.cluster.identity, self.draws.word())
        actor = process.add(ACTOR, core)
        self.cluster.seen(host.name, Begun(WITNESS_PROCESS, process.incarnation, host.boot_id))
        for event in (*self.registers.values(), ev.Started()):
            actor.handle(event)

    def stop(self) -> None:
        """End its process."""
        self.process.die()
        self.host.up = False
        self.host.processes = {}

    def restart(self) -> None:
        """End it and start another one."""
        if self.host.up:
            self.stop()
        self.start()

    def _send(self, actor: Actor, effect: fx.Send) -> None:
        to, message, network = effect.to, effect.message, effect.network
        actor.process.sequence += 1
        if self.loses_answers and message.__class__ is RegisterAnswer:
            self.loses_answers -= 1
            return
        source = Address(self.host.name, to.module, ACTOR)
        self.cluster.forward(actor.process, source, to, message, name=to.node, network=network)

    def _store(self, actor: Actor, effect: fx.RegisterStore) -> None:
        self.cluster.after(self.latency.draw(self.draws), self._stored, actor, effect)

    def _stored(self, actor: Actor, effect: fx.RegisterStore) -> None:
        if not actor.process.alive:
            return  # It was restarted: the writing never happened.
        refusal = self.refusal
        if refusal is None and self.failures:
            self.failures -= 1
            refusal = NO_SPACE
        if refusal is not None:
            actor.process.due(actor, ev.StoreFailed(effect.counter, *refusal))
            return
        self.registers[effect.module] = loaded(effect)
        durable = RegisterDurable(effect.module, effect.register, own=False)
        self.cluster.seen(self.host.name, durable, effect.module)
        actor.process.due(actor, ev.RegisterStored(effect.counter))


def _nothing(process: Process) -> None:
    del process
