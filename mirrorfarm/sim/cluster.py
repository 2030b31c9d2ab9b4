"""Machines with their buses on one agenda: what simulated mirrors and farms have in common."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import msgspec
import xxhash

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.limits import MICROSECOND_NS, QUEUE_MESSAGES_MAX, SECOND_NS
from mirrorfarm.sim.acts.act import Act
from mirrorfarm.sim.depths import Gauge
from mirrorfarm.sim.engine import RATE_MILLIONTHS, Clocks, Draws, Engine
from mirrorfarm.sim.host import Actor, Call, Host, Process
from mirrorfarm.sim.meddling import Meddling
from mirrorfarm.sim.monitors.watch import Watch
from mirrorfarm.sim.monitors.watches import Watches
from mirrorfarm.sim.network import Network, Quality
from mirrorfarm.sim.phases import Phases
from mirrorfarm.sim.steps import Step
from mirrorfarm.sim.tricks import Tricks
from mirrorfarm.transport import messages as msg
from mirrorfarm.transport.address import MODULE_ACTOR, WITNESS_PROCESS, Address

CLUSTER = "c" * 16
LOCAL_NS = 60 * MICROSECOND_NS  # Through the agent, from one process of a node to another.
FRAME_BYTES = 60  # Around a message.
DOWN = "down"  # What a node is whose process is gone.
_DIGEST_BYTES = 8_192  # Hashed at once.


class Digest:
    """A running hash over all steps: two runs with the same digest took the same steps."""

    __slots__ = ("_buffer", "_encode", "_hash", "steps")

    def __init__(self) -> None:
        self._hash = xxhash.xxh3_64()
        self._encode = msgspec.msgpack.Encoder().encode_into
        self._buffer = bytearray()
        self.steps = 0

    def add(self, step: Step) -> None:
        """Take one step in."""
        self.steps += 1
        self._encode(step, self._buffer, -1)  # Behind what is there.
        if len(self._buffer) > _DIGEST_BYTES:
            self._take_in()

    def _take_in(self) -> None:
        self._hash.update(self._buffer)
        self._buffer.clear()

    def __str__(self) -> str:
        self._take_in()
        return f"{self._hash.intdigest():016x}"


class Story(Sequence[str]):
    """What was noted, put into words only when somebody reads it."""

    def __init__(self) -> None:
        self._notes: list[tuple[int, str, str, object]] = []

    def add(self, now: int, node: str, sign: str, what: object) -> None:
        """Note something."""
        self._notes.append((now, node, sign, what))

    def clear(self) -> None:
        """Forget everything."""
        self._notes.clear()

    def __len__(self) -> int:
        return len(self._notes)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._line(note) for note in self._notes[index]]
        return self._line(self._notes[index])

    def __iter__(self) -> Iterator[str]:
        return (self._line(note) for note in self._notes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Story) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    @staticmethod
    def _line(note: tuple[int, str, str, object]) -> str:
        now, node, sign, what = note
        return f"{now // 1_000} {node} {sign} {what}"


class Cluster(Engine):
    """The agenda, the machines, the network between them, and who watches."""

    module_name: str = ""  # Of the module that the cluster has.
    identity: str = CLUSTER

    def __init__(self, seed: int, watch: Watch | Watches, *, digest: bool = False) -> None:
        super().__init__(seed)
        self.seed = seed
        self.draws = {"faults": Draws(seed, "faults")}
        self.network = Network(self, Draws(seed, "network"))
        self.hosts: dict[str, Host] = {}
        self.watch = watch
        watch.moment = self._moment
        self.digest = Digest() if digest else None
        self.story = Story()
        self.tells_story = True
        self.results: list[tuple[int, str, str, str]] = []
        self.answers_to: Callable[[str, Any], None] = lambda node, message: None
        self.drops: Callable[[str, str, Any], bool] | None = None  # By source, target, message.
        self.tricks = Tricks(seed, on=False)
        self.healed = False  # No fault is to come any more.
        self._orders = 0
        self.writes = 0  # That applications asked for, whichever module's: no two have a number.
        self._gauge = Gauge()
        self._meddlings: dict[tuple[str, str, str], list[Meddling]] = {}  # By what they are about.
        self.phases = Phases(self.hosts)
        self.tape: list[tuple[int, Act]] | None = None  # Acts and their times, if wanted.

    def stream(self, concern: str) -> Draws:
        """Return the random numbers of one concern."""
        draws = self.draws.get(concern)
        if draws is None:
            draws = self.draws[concern] = Draws(self.seed, concern)
        return draws

    def concern(self, what: str, module: str) -> str:
        """Return the name of a stream of random numbers that a module has for itself."""
        return what if module == self.module_name else f"{what} {module}"

    def machine(self, name: str, *, apart: bool = False) -> Host:
        """Return a new machine; `apart`: its clocks differ from the others'."""
        draws = self.stream("clocks")
        clocks = Clocks()
        if apart:
            start = draws.below(1_000_000) * SECOND_NS // 1_000
            rate = draws.between(-RATE_MILLIONTHS, RATE_MILLIONTHS)
            clocks = Clocks(start, draws.below(1 << 40), rate)
        host = self.hosts[name] = Host(self, name, clocks)
        return host

    def _moment(self, node: str, boot: int) -> int:
        host = self.hosts.get(node)
        return boot if host is None else host.clocks.moment(boot)

    def placed(self, node: str, module: str = "") -> Any:
        """Return what a module has on a node; of a farm there is one only."""
        del module
        nodes: dict[str, Any] = getattr(self, "nodes", {})
        return nodes[node]

    def place(self, node: str, module: str) -> str:
        """Return how stories call a module on a node: the first one is not named."""
        return node if module in ("", self.module_name) else f"{node}/{module}"

    @property
    def machine_names(self) -> tuple[str, ...]:
        """Everybody who has links."""
        return tuple(self.hosts)

    def isolate(self, name: str, *, up: bool = False, but: tuple[str, ...] = ()) -> None:
        """Cut (or mend) every link of a machine, but those to some others."""
        for other in self.machine_names:
            if other != name and other not in but:
                self.network.set_link(name, other, up=up)

    def change_clocks(self, name: str, change: Callable[[Clocks], None]) -> None:
        """Change the clocks of a machine."""
        self.hosts[name].change_clocks(change)

    def mend_network(self) -> None:
        """End what is wrong with cables and messages; no fault is to come any more."""
        self.healed = True
        self.network.quality = Quality()
        self.network.heal()
        self.meddle_no_more()
        self.phases.end()

    @property
    def records(self) -> bool:
        """Whether anybody wants to know of steps."""
        return self.tells_story or self.digest is not None or bool(self.watch.monitors)

    def run_to(self, end: int) -> None:
        """Do everything up to a time; now and then look how full the queues are."""
        super().run_to(end)
        if self.now >= self._gauge.next_ns:
            for node, depths in self._gauge.look(self.now, self.hosts.values()):
                self.seen(node, depths, self.module_name)

    # --- steps -----------------------------------------------------------------------------

    def record(self, actor: Actor, now: int, event: Any, effects: list[Any]) -> None:
        """Note one step: for the digest, and for whoever watches."""
        if event.__class__ is Call:
            return
        process = actor.process
        if actor.name == MODULE_ACTOR and self.tells_story:
            self.story.add(self.now, self.place(process.host.name, process.name), "<", event)
        step = Step(process.host.name, process.name, actor.name, now, event, effects)
        if self.digest is not None:
            self.digest.add(step)
        self.watch.step(step, self.now)
        if self.phases.waiting:
            self.phases.look(actor)

    def seen(self, node: str, observation: Any, module: str = "") -> None:
        """Tell the monitors what only a simulation can know."""
        if self.digest is None and not self.watch.monitors:
            return
        host = self.hosts.get(node)
        now = self.now if host is None else host.clocks.boot(self.now)
        step = Step(node, module, "world", now, observation)
        if self.digest is not None:
            self.digest.add(step)
        self.watch.step(step, self.now)

    # --- the bus ---------------------------------------------------------------------------

    def send(self, actor: Actor, effect: fx.Send) -> None:
        """Carry a message as the bus of the actor's machine does."""
        to, message, network = effect.to, effect.message, effect.network
        process = actor.process
        process.sequence = sequence = process.sequence + 1
        host = process.host
        if to.module.startswith("cli-"):
            self._answered(host.name, message)
            return
        if not host.agent:
            return
        source, node = actor.address, to.node
        if " " not in node and node != host.name:
            self.forward(process, source, to, message, name=node, network=network)
            return
        for name in to.nodes:
            if name == host.name:
                event = ev.Received(source, message, "", process.incarnation, sequence)
                when = self.now + LOCAL_NS + self.jitter()
                when = max(when, self.network.clogs.get((name, name), 0))
                self.at(when, self._local, host, to.process, to.actor, event)
            else:
                self.forward(process, source, to, message, name=name, network=network)

    def forward(
        self,
        process: Process,
        source: Address,
        to: Address,
        message: Any,
        *,
        name: str,
        network: str,
    ) -> None:
        """Send the process's last frame to another machine, by one network or by all of them."""
        late_ns, incarnation, sequence = 0, process.incarnation, process.sequence
        stamp = (process.name, incarnation, sequence)
        meddlings: Sequence[Meddling] = ()
        if self._meddlings:
            about = (source.node, name, message.__class__.__name__)
            meddlings = self._meddlings.get(about, ())
        for meddling in meddlings:
            if meddling.count:
                meddling.count -= 1
                if meddling.kept is not None:
                    way = network or self.network.names[0]
                    event = ev.Received(source, message, way, incarnation, sequence)
                    meddling.kept.append(partial(self._arrived, name, to, event, stamp))
                    return
                late_ns = meddling.late_ns
                if not late_ns:
                    return
        narrow = self.network.narrow
        if narrow and self.network.too_long(source.node, name, _length(message)):
            return
        carry, arrived = self.network.carry, self._arrived
        for way in (network,) if network else self.network.names:
            event = ev.Received(source, message, way, incarnation, sequence)
            if late_ns:
                self.after(late_ns, arrived, name, to, event, stamp)
            elif carry(source.node, name, way, arrived, name, to, event, stamp):
                carry(source.node, name, way, arrived, name, to, event, None)

    def meddle(self, meddling: Meddling) -> None:
        """Have single messages lost or held back."""
        self._meddlings.setdefault(meddling.about, []).append(meddling)

    def meddle_no_more(self) -> None:
        """Have messages arrive as the network will, again; those under way stay late."""
        self._meddlings.clear()

    def _local(self, host: Host, process: str, actor: str, event: ev.Received) -> None:
        found = host.processes.get(process)
        if found is not None and host.agent:
            target = found.actors.get(actor)
            if target is not None:
                found.due(target, event)

    def _arrived(
        self, name: str, to: Address, event: ev.Received, stamp: tuple[str, int, int] | None
    ) -> None:
        """A frame came in: at most once, unless `stamp` None says that the bus is fooled."""
        source = event.source.node
        if self.drops is not None and self.drops(source, name, event.message):
            return
        host = self.hosts.get(name)
        if host is None or not host.up or not host.agent:
            return
        if stamp is not None and not host.is_news(source, stamp):
            return
        processes = host.processes
        process = processes.get(WITNESS_PROCESS) or processes.get(to.process)
        if process is not None:
            actor = process.actors.get(to.actor)
            if actor is not None and len(actor.inbox) < QUEUE_MESSAGES_MAX:
                process.due(actor, event)

    def _answered(self, node: str, message: Any) -> None:
        if isinstance(message, msg.CommandResult):
            self.results.append((self.now, node, message.outcome, message.text))
        self.answers_to(node, message)

    # --- administrators --------------------------------------------------------------------

    def order(self, name: str, module: str, verb: str, *arguments: str, request: str = "") -> str:
        """Give an administrator's order to the module of a node; return its request."""
        self.ask(name, module, self.ordered(name, verb, *arguments, request=request))
        return request or f"r{self._orders}"

    def ordered(self, name: str, verb: str, *arguments: str, request: str = "") -> ev.Received:
        """Return an administrator's order as the module of a node receives it."""
        self._orders += 1
        request = request or f"r{self._orders}"
        source = Address(name, f"cli-{self._orders}", "cli")
        return ev.Received(source, msg.Command(request, verb, "test", arguments))

    def ask(self, name: str, module: str, event: ev.Received) -> None:
        """Give the state machine of a module what a command line sent."""
        process = self.hosts[name].processes.get(module)
        if process is not None and process.alive:
            self.after(LOCAL_NS, self._local, self.hosts[name], module, MODULE_ACTOR, event)


def _length(message: Any) -> int:
    """Return about how many bytes the frame of a message has."""
    return FRAME_BYTES + len(msgspec.msgpack.encode(message))
