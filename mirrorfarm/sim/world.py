"""Two nodes, an arbiter and an application in one thread: same seed, same story.

Real cores (mirror, heartbeat, arbiter client, witness) on a simulated clock, network, disk and
application. Every fault that the world can do is a method; `mirrorfarm.sim.monitors` watches.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.arbiter.client import WitnessClient
from mirrorfarm.actors.arbiter.ping import PingArbiter
from mirrorfarm.actors.arbiter.witness import WitnessCore
from mirrorfarm.actors.heartbeat.core import Heartbeat
from mirrorfarm.actors.module.mirror.core import Mirror
from mirrorfarm.actors.module.mirror.state import Settings
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.limits import MICROSECOND_NS, MILLISECOND_NS
from mirrorfarm.modules.settings import (
    Arbiter,
    HeartbeatNetwork,
    Module,
    Replicated,
    Replication,
    Timing,
)
from mirrorfarm.sim import registers, streams
from mirrorfarm.sim.around import application, perform
from mirrorfarm.sim.disk import SimPlane
from mirrorfarm.sim.monitors import AdvisoryMonitors, Monitors
from mirrorfarm.sim.registers import GATEWAY, MODULE, WITNESS
from mirrorfarm.transport import messages as msg
from mirrorfarm.transport.address import MODULE_ACTOR, Address


@dataclass(slots=True)
class SimNode:
    """One node: its cores while it is up, its disk for ever."""

    name: str
    plane: SimPlane
    cores: dict[str, Any] = field(default_factory=dict)
    record: NodeRecord | None = None
    register: ev.RegisterLoaded | None = None  # Its own copy, where no witness keeps it.
    incarnation: int = 0
    up: bool = False
    frozen_until: int = 0
    application: bool = False
    guard_ns: int = 0
    disk_ns: int = 0
    boot: int = 1
    module_only: bool = False  # Frozen is the module's process; the data plane goes on.
    store_fails: bool = False  # The next record cannot be written.
    store_crashes: str = ""  # Power fails at the next record: before after it is durable.
    backlog: list[Callable[[], None]] = field(default_factory=list)


class World:
    """The agenda of everything that will happen, and the hands that do it."""

    def __init__(
        self,
        seed: int,
        timing: Timing,
        *,
        failover: bool = True,
        directories: bool = True,
        arbiter: str = "witness",
        divergence: str = "keep-primary",
        ack_mode: str = "durable",
    ) -> None:
        """`arbiter`: witness ping none; `divergence`: the policy after a split."""
        self.ack_mode = ack_mode
        self.random = Random(seed)
        self.now = 1_000_000_000
        self.timing = timing
        self.failover = failover
        self.directories = directories
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0
        self.cut: set[frozenset[str]] = set()
        self.one_way: set[tuple[str, str]] = set()  # (from, to): nothing arrives.
        self.arbiter = arbiter
        self.divergence = divergence
        self.monitors = Monitors() if arbiter == "witness" else AdvisoryMonitors()
        self.witness = WitnessCore()
        self.witness_up = True
        self.registers: dict[str, ev.RegisterLoaded] = {}  # What the witness's disk holds.
        self.loss_percent = 0
        self.repeat_percent = 0  # Of messages, which then arrive twice.
        self.late_percent = 0  # Of messages, which are overtaken by others.
        self.results: list[tuple[int, str, str, str]] = []
        self.story: list[str] = []
        self.nodes = {name: self._node(name) for name in ("n1", "n2")}
        self._next_write = 0
        registers.feed(self, ev.Started())

    # --- time ------------------------------------------------------------------------------

    def at(self, when: int, what: Callable[[], None]) -> None:
        """Put something on the agenda."""
        self._order += 1
        heapq.heappush(self._agenda, (max(when, self.now), self._order, what))

    def run(self, milliseconds: int) -> None:
        """Let time pass."""
        end = self.now + milliseconds * MILLISECOND_NS
        while self._agenda and self._agenda[0][0] <= end:
            self.now, _, what = heapq.heappop(self._agenda)
            what()
        self.now = end

    def run_until(self, condition: Callable[[], bool], milliseconds: int) -> bool:
        """Let time pass until the condition holds; return whether it did."""
        for _ in range(milliseconds // 5):
            if condition():
                return True
            self.run(5)
        return condition()

    # --- nodes -----------------------------------------------------------------------------

    def module(self) -> Module:
        """Return the configuration of the simulated module."""
        t = self.timing
        beat = HeartbeatNetwork("default", "default", t.heartbeat_ns, t.detection_ns)
        return Module(
            MODULE,
            1,
            ("n1", "n2"),
            timing=t,
            failover=self.failover,
            heartbeats=(beat,),
            replication=Replication(
                (Replicated("/data"),) if self.directories else (),
                divergence=self.divergence,
                ack_mode=self.ack_mode,
            ),
            has_scripts=True,
            arbiter=Arbiter(
                self.arbiter,
                WITNESS if self.arbiter == "witness" else "",
                (GATEWAY,) if self.arbiter == "ping" else (),
            ),
        )

    def _node(self, name: str) -> SimNode:
        peer = "n2" if name == "n1" else "n1"

        def say(message: msg.ANY_MESSAGE) -> None:
            source = Address(name, MODULE, "replicator")
            self.soon(name, MODULE_ACTOR, ev.Received(source, message))

        def stream(frame: tuple[object, ...]) -> None:
            streams.send(self, name, peer, frame)

        def acknowledge(number: int, term: int) -> None:
            self.monitors.acknowledged(self, name, number, term)

        def applied(term: int, sid: int) -> None:
            self.monitors.applied(self, name, term, sid)

        def flush_later(number: int) -> None:
            delay = self.random.choice((1, 20, 400, 4_000)) * MILLISECOND_NS
            self.at(self.now + delay, lambda: plane.flushed(number))

        plane = SimPlane(name, say, stream, acknowledge, applied)
        if self.ack_mode == "received":
            plane.flush_later = flush_later
        return SimNode(name, plane)

    def start(self, name: str, *, again: bool = False) -> None:
        """Start the processes of a node; `again`: its module starts by itself."""
        node = self.nodes[name]
        assert not node.up
        node.up, node.incarnation = True, node.incarnation + 1
        module = self.module()
        peer = "n2" if name == "n1" else "n1"
        settings = Settings(
            "c" * 16,
            name,
            peer,
            module,
            node.incarnation,
            f"boot-{node.boot}",
            self.random.getrandbits(64),
            start=again,
        )
        node.cores = {
            MODULE_ACTOR: Mirror.build(settings, node.record),
            "heartbeat": Heartbeat(
                name, peer, MODULE, module.heartbeats, module.timing.detection_ns
            ),
            "arbiter": WitnessClient(name, WITNESS, module)
            if self.arbiter == "witness"
            else PingArbiter(name, peer, "c" * 16, module),
        }
        if node.register is not None and self.arbiter != "witness":
            self.soon(name, "arbiter", node.register)
        for actor in ("heartbeat", "arbiter", MODULE_ACTOR):
            self.soon(name, actor, ev.Started())

    def kill(self, name: str, *, power: bool = True) -> None:
        """Power off: everything but the disk is gone at once. Else only the processes are."""
        node = self.nodes[name]
        node.up, node.cores, node.guard_ns, node.backlog = False, {}, 0, []
        node.store_fails, node.store_crashes = False, ""
        node.boot += power
        application(self, node, runs=False)
        node.plane.end(power=power)
        streams.cut(self)

    def freeze(self, name: str, milliseconds: int, *, module_only: bool = False) -> None:
        """Stop the processes of a node (or one of them) for a while; the guard goes on."""
        node = self.nodes[name]
        node.module_only = module_only
        node.frozen_until = self.now + milliseconds * MILLISECOND_NS
        self.at(node.frozen_until, lambda: self._thaw(node))

    def _thaw(self, node: SimNode) -> None:
        if self.now >= node.frozen_until:
            backlog, node.backlog = node.backlog, []
            for what in backlog:
                what()

    def set_link(self, a: str, b: str, *, up: bool) -> None:
        """Cut or mend the link between two machines (`w1` is the witness)."""
        pair = frozenset((a, b))
        if up:
            self.cut.discard(pair)
            self.one_way -= {(a, b), (b, a)}
        else:
            self.cut.add(pair)
            if pair == {"n1", "n2"}:
                streams.cut(self)

    def cut_one_way(self, source: str, to: str) -> None:
        """Lose everything from one machine to another; answers still pass."""
        self.one_way.add((source, to))
        if WITNESS not in {source, to}:
            streams.cut(self)

    def passes(self, source: str, to: str) -> bool:
        """Return whether a datagram arrives."""
        return frozenset((source, to)) not in self.cut and (source, to) not in self.one_way

    def isolate(self, name: str, *, up: bool = False) -> None:
        """Cut (or mend) every link of a machine."""
        for other in ("n1", "n2", WITNESS, GATEWAY):
            if other != name:
                self.set_link(name, other, up=up)

    def command(self, name: str, verb: str, *arguments: str) -> None:
        """Give an administrator's order."""
        self._order += 1
        source = Address(name, f"cli-{self._order}", "cli")
        order = msg.Command(f"r{self._order}", verb, "test", arguments)
        self.soon(name, MODULE_ACTOR, ev.Received(source, order))

    def write(self) -> int:
        """Let the application, wherever it runs, modify something."""
        self._next_write += 1
        number = self._next_write
        nodes = list(self.nodes.values())
        if sum(node.application for node in nodes) > 1:
            self.random.shuffle(nodes)
        for node in nodes:
            if node.application and node.up and not self.stands_still(node):
                node.plane.write(number)
                break
        return number

    def role(self, name: str) -> str:
        """Return `PRIM Ready` and the like; `down` when the node is."""
        node = self.nodes[name]
        if not node.up:
            return "down"
        about = node.cores[MODULE_ACTOR].state.announced
        return f"{about.role} {about.status}" if about else "?"

    def reason(self, name: str) -> str:
        """Return why a node is where it is; "" when it is down."""
        node = self.nodes[name]
        return str(node.cores[MODULE_ACTOR].state.reason) if node.up else ""

    # --- delivery --------------------------------------------------------------------------

    def soon(self, name: str, actor: str, event: Any, delay: int = 20 * MICROSECOND_NS) -> None:
        """Give an event to an actor of a node, unless it is restarted before."""
        node = self.nodes[name]
        incarnation = node.incarnation
        self.at(self.now + delay, lambda: self.feed(node, actor, event, incarnation))

    def feed(self, node: SimNode, actor: str, event: Any, incarnation: int) -> None:
        """Give an event to an actor of this incarnation of a node, and do what it asks for."""
        if not node.up or node.incarnation != incarnation:
            return
        to_plane = isinstance(event, msg.PlaneWish)
        if self.now < node.frozen_until and not (to_plane and node.module_only):
            node.backlog.append(lambda: self.feed(node, actor, event, incarnation))
            return
        if to_plane:
            node.plane.order(event)
            return
        core = node.cores.get(actor)
        if core is None:
            perform(self, node, event)
            return
        if actor == MODULE_ACTOR:
            self.story.append(f"{self.now // 1000} {node.name} < {event}")
        for effect in core.handle(event, self.now):
            self._perform(node, actor, effect)
        if actor == MODULE_ACTOR:
            self.monitors.stepped(self, node)

    def _perform(self, node: SimNode, actor: str, effect: Any) -> None:
        match effect:
            case fx.Send(to, message, network):
                self._send(node, actor, to, message, network)
            case fx.Tell(target, event):
                self.soon(node.name, target, event)
            case fx.Later(at_ns, event):
                self.soon(node.name, actor, event, max(0, at_ns - self.now))
            case fx.Store(record) if node.store_fails:
                node.store_fails = False
                self.soon(node.name, MODULE_ACTOR, ev.StoreFailed(record.counter, 28, "no space"))
            case fx.Store(record):
                delay = self.random.randint(200, 3_000) * MICROSECOND_NS
                node.disk_ns = max(self.now + delay, node.disk_ns)  # One after the other.
                self.at(node.disk_ns, lambda: self._stored(node, record))
            case fx.RegisterStore():
                self.at(self.now + MILLISECOND_NS, lambda: registers.store_own(self, node, effect))
            case fx.PingProbe(request, addresses, timeout_ns):
                answered = addresses if self.passes(node.name, GATEWAY) else ()
                delay = 200 * MICROSECOND_NS if answered else timeout_ns
                self.soon(node.name, actor, ev.PingAnswered(request, answered), delay)
            case fx.Log(_, text):
                self.story.append(f"{self.now // 1000} {node.name} > {text}")
            case _:
                pass

    def _stored(self, node: SimNode, record: NodeRecord) -> None:
        if node.up and node.incarnation == record.inc:
            if node.store_crashes == "before":
                self.kill(node.name)
                return
            self.monitors.recorded(node.name, node.record, record)
            node.record = record
            if node.store_crashes:
                self.kill(node.name)
                return
            self.feed(node, MODULE_ACTOR, ev.Stored(record.counter), node.incarnation)

    def _send(
        self, node: SimNode, actor: str, to: Address, message: msg.ANY_MESSAGE, network: str
    ) -> None:
        if isinstance(message, msg.CommandResult):
            self.results.append((self.now, node.name, message.outcome, message.text))
            return
        if to.node == node.name:
            self.soon(node.name, to.actor, message)
            return
        source = Address(node.name, MODULE, actor)
        event = ev.Received(source, message, network or "default")
        self.deliver(node.name, to, event)
        if self.random.randrange(100) < self.repeat_percent:
            self.deliver(node.name, to, event)

    def deliver(self, source: str, to: Address, event: ev.Received) -> None:
        """Carry a message from one machine to another, or lose it."""
        lost = self.random.randrange(100) < self.loss_percent
        if lost or not self.passes(source, to.node):
            return
        late = self.random.randrange(100) < self.late_percent
        delay = self.random.randint(100, 150_000 if late else 2_000) * MICROSECOND_NS
        if to.node == WITNESS:
            self.at(self.now + delay, lambda: registers.feed(self, event))
        else:
            self.soon(to.node, to.actor, event, delay)

    def restart_witness(self) -> None:
        """End the witness's process and start another one, which knows what the disk holds."""
        self.witness, self.witness_up = WitnessCore(), True
        for event in (ev.Started(), *self.registers.values()):
            registers.feed(self, event)

    def stands_still(self, node: SimNode) -> bool:
        """Return whether even the data plane of a node does not run."""
        return self.now < node.frozen_until and not node.module_only

    def kill_plane(self, name: str) -> None:
        """End the replicator's process; a new one starts and knows of no wish."""
        plane = self.nodes[name].plane
        streams.cut(self)
        plane.end(power=False)
        plane.say(msg.PlaneIs(0, "off", 0, "frozen", 0))
