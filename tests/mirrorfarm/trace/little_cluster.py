"""A pair of nodes and a witness in one thread, with the cores of production, and their traces.

Clocks of the machines may differ by hours. What the world around a core answers is as simple as
can be: it is the trace that is of interest, not the protocol.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors import snapshot
from mirrorfarm.actors.arbiter.witness import WitnessCore
from mirrorfarm.limits import MICROSECOND_NS, MILLISECOND_NS, SECOND_NS
from mirrorfarm.module_cores import Here, cores
from mirrorfarm.modules.settings import Arbiter, HeartbeatNetwork, Module
from mirrorfarm.transport import messages as msg
from mirrorfarm.transport import trace_ring
from mirrorfarm.transport.address import Address

CLUSTER = "c" * 16
LEDGER = "ledger"
EPOCH_NS = 1_800_000_000 * SECOND_NS  # When the true time was 0.
HOUR_NS = 3_600 * SECOND_NS


@dataclass(slots=True)
class Machine:
    """Its clock since it was booted, and what it believes the time of day to be."""

    name: str
    boot_ns: int = 0  # The boot clock when the true time is 0.
    wrong_ns: int = 0  # How much the time of day is wrong.
    fast_millionths: int = 0
    incarnation: int = 0
    sequence: int = 0
    cores: dict[str, Any] = field(default_factory=dict)
    record: Any = None
    ring: Any = None
    process: str = LEDGER
    lamport: int = 0
    stored_ns: int = 0  # When the last record was durable.

    def clock(self, now: int) -> int:
        return self.boot_ns + now + now * self.fast_millionths // 1_000_000

    def moment(self, clock: int) -> int:
        return (clock - self.boot_ns) * 1_000_000 // (1_000_000 + self.fast_millionths) + 1


class LittleCluster:
    """n1 and n2 with the module `ledger`, and the witness w; `folder` gets their traces."""

    def __init__(self, folder: Path, *machines: Machine, seed: int = 1) -> None:
        self.folder = folder
        self.random = Random(seed)
        self.now = SECOND_NS
        self.cut: set[frozenset[str]] = set()
        self.steps = 0
        self._agenda: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0
        given = {machine.name: machine for machine in machines}
        self.machines = {
            name: given.get(name, Machine(name, 100 * SECOND_NS)) for name in ("n1", "n2", "w")
        }
        self.module = Module(
            LEDGER,
            1,
            ("n1", "n2"),
            boot="on",
            heartbeats=(HeartbeatNetwork("red", "red", 250 * MILLISECOND_NS, 2 * SECOND_NS),),
            arbiter=Arbiter("witness", "w"),
            has_scripts=True,
        )
        witness = self.machines["w"]
        witness.process = "witness"
        self._begin(witness, {"register": WitnessCore(CLUSTER, 1)})

    def start(self, name: str) -> None:
        machine = self.machines[name]
        number = machine.incarnation + 1
        here = Here(CLUSTER, name, self.module, number, "boot", machine.record, seed=number)
        self._begin(machine, dict(cores(here, None)))

    def kill(self, name: str) -> None:
        machine = self.machines[name]
        machine.cores = {}
        machine.ring.flush(ends=True)

    def command(self, name: str, verb: str) -> None:
        order = msg.Command(f"r-{verb}", verb, "anna", ())
        source = Address(name, "cli-7", "cli")
        self._tell(self.machines[name], "module", ev.Received(source, order, "", 99, 1))

    def shut_down(self, name: str) -> None:
        """Have the node's process order what it does when its machine goes down."""
        order = msg.Command("r-shutdown", "shutdown", "SYSTEM", ())
        own = Address(name, LEDGER, "process")
        self._tell(self.machines[name], "module", ev.Received(own, order))

    def close(self) -> None:
        for machine in self.machines.values():
            if machine.cores:
                self.kill(machine.name)

    def run(self, milliseconds: int) -> None:
        end = self.now + milliseconds * MILLISECOND_NS
        while self._agenda and self._agenda[0][0] <= end:
            self.now, _, what, arguments = heapq.heappop(self._agenda)
            what(*arguments)
        self.now = end

    def _at(self, when: int, what: Callable[..., None], *arguments: Any) -> None:
        self._order += 1
        heapq.heappush(self._agenda, (max(when, self.now), self._order, what, arguments))

    def _begin(self, machine: Machine, actors: dict[str, Any]) -> None:
        machine.incarnation += 1
        machine.cores = actors
        self._open(machine, birth=True)
        for actor in actors:
            self._tell(machine, actor, ev.Started())

    def _open(self, machine: Machine, *, birth: bool) -> None:
        origin = trace_ring.Origin(
            "1.0", CLUSTER, machine.name, machine.process, machine.incarnation, "boot"
        )
        header = trace_ring.header_of(origin)
        header["epoch_real_ns"] = EPOCH_NS - machine.boot_ns + machine.wrong_ns
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trace_ring, "header_of", lambda _: header)
            machine.ring = trace_ring.Ring(
                self.folder / machine.name / machine.process, origin, 1 << 30, 8
            )
            machine.ring.ready(machine.clock(self.now), machine.lamport + 1)
        for actor, core in machine.cores.items():
            kind = type(core).__name__
            machine.ring.encoder.checkpoint(actor, kind, snapshot.take(core), birth)

    def lose(self, name: str) -> None:
        """Have the oldest files of a process gone; what follows begins with the cores' states."""
        machine = self.machines[name]
        machine.ring.flush(ends=True)
        for path in (self.folder / name / machine.process).iterdir():
            path.unlink()
        self._open(machine, birth=False)

    def _tell(self, machine: Machine, actor: str, event: Any, delay: int = 0) -> None:
        delay = delay or self.random.randint(10, 40) * MICROSECOND_NS
        self._at(self.now + delay, self._step, machine, machine.incarnation, actor, event)

    def _step(self, machine: Machine, incarnation: int, actor: str, event: Any) -> None:
        core = machine.cores.get(actor)
        if core is None or incarnation != machine.incarnation:
            return
        now = machine.clock(self.now)
        effects = list(core.handle(event, now))
        sent = []
        for effect in effects:
            if isinstance(effect, fx.Send):
                machine.sequence += 1
                sent.append(machine.sequence)
                self._send(machine, actor, effect, machine.sequence)
            else:
                self._perform(machine, actor, effect)
        self.steps += 1
        machine.lamport += 1
        machine.ring.ready(now, machine.lamport)
        machine.ring.encoder.step(actor, now, event, effects, sent)
        if machine.lamport % 100 == 0:  # In pieces, as a process does it every second.
            machine.ring.flush()

    def _send(self, machine: Machine, actor: str, effect: fx.Send, number: int) -> None:
        module = effect.to.module if machine.name == "w" else LEDGER
        source = Address(machine.name, module, actor)
        to = self.machines.get(effect.to.node)
        if to is None or frozenset((machine.name, to.name)) in self.cut:
            return
        event = ev.Received(source, effect.message, "red", machine.incarnation, number)
        delay = self.random.randint(100, 900) * MICROSECOND_NS
        self._tell(to, effect.to.actor, event, delay)

    def _perform(self, machine: Machine, actor: str, effect: Any) -> None:
        quick = self.random.randint(500, 5_000) * MICROSECOND_NS
        match effect:
            case fx.Tell(target, event):
                self._tell(machine, target, event)
            case fx.Later(at_ns, event):
                due = machine.moment(at_ns)
                self._tell(machine, actor, event, max(1, due - self.now))
            case fx.Store(record):
                machine.record = record
                machine.stored_ns = max(machine.stored_ns + 1, self.now + quick)  # In their order.
                self._tell(machine, actor, ev.Stored(record.counter), machine.stored_ns - self.now)
            case fx.RegisterStore(counter=counter):
                self._tell(machine, actor, ev.RegisterStored(counter), quick)
            case fx.StartScript(run, name):
                self._tell(machine, actor, ev.ScriptEnded(run, name, 0), quick)
            case fx.KillScripts(run):
                self._tell(machine, actor, ev.ApplicationGone(run), quick)
            case fx.AddressProbe(run):
                self._tell(machine, actor, ev.VipProbed(run), quick)
            case fx.AddressAdd(run):
                self._tell(machine, actor, ev.VipIsUp(run), quick)
            case fx.AddressRemove(run):
                self._tell(machine, actor, ev.VipIsDown(run), quick)
            case _:
                pass


def takeover(folder: Path, *machines: Machine) -> LittleCluster:
    """Record how n1 leads, n2 follows, n1 loses its power, and n2 takes over."""
    cluster = LittleCluster(folder, *machines)
    cluster.start("n1")
    cluster.run(2_500)  # Before that it waits whether it hears another primary.
    cluster.command("n1", "prim")
    cluster.run(2_000)
    cluster.start("n2")
    cluster.run(20_000)
    cluster.kill("n1")
    cluster.run(10_000)
    cluster.close()
    return cluster


__all__ = ("HOUR_NS", "LittleCluster", "Machine", "takeover")
