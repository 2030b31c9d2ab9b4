"""A farm in one thread: N nodes with their filters, a network, and clients; same seed, same story.

Real cores on clocks whose rates differ; a filter stays as the kernel has it while the processes
of its node are frozen or gone. Faults are methods; monitors watch.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.farm_filter.core import FarmFilter
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.limits import BUCKETS, MILLISECOND_NS
from mirrorfarm.module_cores import Here, cores
from mirrorfarm.modules.settings import Farm, FarmAddress, FarmGroup, FarmTiming, Module
from mirrorfarm.netfilter.filter import Choice
from mirrorfarm.sim import farm_beats
from mirrorfarm.sim.cluster import DOWN, Cluster
from mirrorfarm.sim.engine import Clocks, Draws
from mirrorfarm.sim.filters import SimFilter
from mirrorfarm.sim.hands import Hands
from mirrorfarm.sim.host import Actor, Host, Process
from mirrorfarm.sim.monitors.farm import FARM, FarmFacts
from mirrorfarm.sim.monitors.monitor import Monitor
from mirrorfarm.sim.monitors.seen import Apart, Begun
from mirrorfarm.sim.monitors.watch import Watch
from mirrorfarm.sim.network import NETWORKS
from mirrorfarm.sim.storage import Latency, Records
from mirrorfarm.transport.address import MODULE_ACTOR

MODULE = "web"
FILTER = "farm_filter"
SCRIPT_NS = 2_000 * MILLISECOND_NS  # How long a script may take.


@dataclass(slots=True, eq=False)
class FarmNode:
    """One node: its process while it runs, its filter and sockets while it has power."""

    world: "FarmWorld"
    host: Host
    filter: SimFilter
    draws: Draws
    hands: Hands = field(init=False)
    _tell: Callable[[Actor, fx.Tell], None] = field(init=False)
    records: Records = field(init=False)
    wish: str = "away"
    powers: tuple[int, ...] = (1,)
    changes: dict[str, Any] = field(default_factory=dict)  # Of its configuration.
    picture: ev.FarmPicture | None = None
    thaws_ns: int = 0
    hung_until_ns: int = 0  # Its agent hangs: messages to and from it wait until then.
    hung_alone: bool = False

    def __post_init__(self) -> None:
        self.records = Records(Latency())
        module = self.world.module_name
        self.hands = Hands(self.world, self.host, module, MODULE_ACTOR, self.draws, self._store)
        self.hands.filter = self.filter
        self.hands.noted = self._noted
        self.watch_pictures()

    def watch_pictures(self) -> None:
        """Look at what the filter's core says of the farm."""
        self._tell = self.hands.doors[fx.Tell]
        self.hands.doors[fx.Tell] = self._look_and_tell

    @property
    def name(self) -> str:
        """Its name."""
        return self.host.name

    @property
    def sockets(self) -> dict[int, tuple[int, int]]:
        """Its connections: flow, group and bucket."""
        return self.filter.sockets

    @property
    def process(self) -> Process | None:
        """The module's process, while it runs."""
        found = self.host.processes.get(self.world.module_name)
        return found if found is not None and found.alive else None

    @property
    def core(self) -> FarmFilter | None:
        """The core of its filter, while its process runs."""
        process = self.process
        core: Any = process.actors[FILTER].core if process is not None else None
        assert core is None or isinstance(core, FarmFilter)
        return core

    @property
    def machine(self) -> Any:
        """The state machine, where there is one."""
        process = self.process
        return process.actors[MODULE_ACTOR].core if process is not None else None

    def give(self, event: Any, actor: str = FILTER) -> None:
        """Give an event to an actor."""
        process = self.process
        if process is not None and actor in process.actors:
            process.actors[actor].give(event)

    def _look_and_tell(self, actor: Actor, effect: fx.Tell) -> None:
        if effect.event.__class__ is ev.FarmPicture:
            self.picture = effect.event
        self._tell(actor, effect)

    def _noted(self, level: str, text: str) -> None:
        if level != "D" and self.world.tells_story:
            self.world.story.add(self.world.now, self.name, ">", text)

    def _store(self, actor: Actor, effect: fx.Store) -> None:
        write = partial(self._stored, actor, effect.record)
        self.world.at(self.records.order(self.world.now, self.draws, write), self._written)

    def _written(self) -> None:
        self.records.done()

    def _stored(self, actor: Actor, record: NodeRecord) -> None:
        if not actor.process.alive:
            return
        refusal = self.records.failure()
        if refusal is not None:
            actor.process.due(actor, ev.StoreFailed(record.counter, *refusal))
            return
        self.records.record = record
        actor.process.due(actor, ev.Stored(record.counter))


class FarmWorld(Cluster):
    """The agenda of everything that will happen to a farm, and the hands that do it."""

    module_name = MODULE
    watch: Watch

    def __init__(
        self,
        seed: int,
        count: int,
        timing: FarmTiming | None = None,
        groups: int = 1,
        *,
        machines: bool = False,
        networks: int = 1,
        drain_ns: int = 60_000 * MILLISECOND_NS,
        monitors: Iterable[type[Monitor]] = FARM,
        digest: bool = False,
    ) -> None:
        """`machines`: all cores of each node run, else only those of the filters."""
        self.timing, self.groups, self.machines = timing or FarmTiming(), groups, machines
        facts = FarmFacts(self.timing, simulated=True)
        watch = Watch(monitors, simulated=True, strict=True, farm=facts)
        super().__init__(seed, watch, digest=digest)
        self.drain_ns = drain_ns
        self.names = tuple(f"n{number}" for number in range(1, count + 1))
        self.network.names = NETWORKS[:networks]
        self.network.changed = self.links_changed
        self.next_flow = 0
        self.nodes = {name: self._node(name) for name in self.names}
        for node in self.nodes.values():
            node.filter.changed()
        self.links_changed()

    def _node(self, name: str) -> FarmNode:
        host = self.machine(name, apart=True)
        draws = Draws(self.seed, name)
        node = FarmNode(self, host, SimFilter(self, host, draws, self.groups), draws)
        node.powers = (1,) * self.groups
        return node

    # --- nodes -----------------------------------------------------------------------------

    def module(self, node: FarmNode) -> Module:
        """Return a node's configuration; `changes` make it differ from the others'."""
        addresses = (FarmAddress("198.18.0.100"),)
        if "rules" in node.changes:
            addresses = (FarmAddress("198.18.0.101"),)
        farm = Farm(
            self.network.names,
            self.timing,
            addresses,
            tuple(FarmGroup(name) for name in self.group_names),
            seed=node.changes.get("seed", 7),
            drain_ns=self.drain_ns,
        )
        return Module(
            MODULE,
            1,
            self.names,
            "farm",
            has_scripts=True,
            start_ns=SCRIPT_NS,
            nice_stop_ns=SCRIPT_NS,
            force_stop_ns=SCRIPT_NS,
            farm=farm,
        )

    @property
    def group_names(self) -> tuple[str, ...]:
        """The names of the load-balancing groups."""
        return ("default",) if self.groups == 1 else tuple(f"g{n}" for n in range(self.groups))

    def start(self, name: str, wish: str = "in", *, again: bool = False, **changes: Any) -> None:
        """Start the process of a node; it wants to take part as `wish` says.

        `again`: with all its cores, its module starts by itself. `changes`: mode, seed, rules.
        """
        node = self.nodes[name]
        assert node.process is None
        host = node.host
        host.up = True
        node.wish, node.changes = wish, changes or node.changes
        incarnation = host.next_incarnation()
        record = self.record if self.records else None
        own = self.module_name
        process = Process(host, own, incarnation, node.hands.doors, record, self._died)
        host.processes[own] = process
        here = Here(
            self.identity,
            name,
            self.module(node),
            incarnation,
            host.boot_id,
            node.records.record,
            node.draws.word(),
            start=again,
        )
        kind = node.changes.get("mode", "bpf")
        for actor, core in cores(here, Choice(kind, "simulated")).items():
            if self.machines or actor == FILTER:
                process.add(actor, core)
        self.seen(name, Begun(MODULE, incarnation, host.boot_id), MODULE)
        for added in process.actors.values():
            added.give(ev.Started())
        self._set_up(node, wish)

    def _set_up(self, node: FarmNode, wish: str) -> None:
        """Without the state machine: say what it would say."""
        for name, power in zip(self.group_names, node.powers, strict=True):
            if power != 1:
                node.give(ev.FarmPower(power, name))
        if wish != "away" and not self.machines:
            node.give(ev.FarmWish(wish))

    def _died(self, process: Process) -> None:
        """Note that a process is gone: it cannot log that itself."""
        if self.tells_story:
            self.story.add(self.now, process.host.name, ">", DOWN)

    def begin(self, name: str) -> None:
        """Start a node whose process does not run; its module starts by itself."""
        if self.nodes[name].process is None:
            self.start(name, again=self.machines)

    def kill(self, name: str, *, power: bool = True) -> None:
        """End a node's process; without power, filter and connections go as well."""
        node = self.nodes[name]
        process = node.process
        if process is not None:
            process.die()
        node.host.processes, node.picture, node.thaws_ns = {}, None, 0
        node.filter.frozen_since = 0
        node.filter.left_behind = not power
        if power:
            node.host.up = False
            node.host.boot += 1
            node.hands.power_fails()
            node.filter.power_fails()

    def freeze(self, name: str, milliseconds: int) -> None:
        """Stop the processes of a node for a while; its filter goes on."""
        node = self.nodes[name]
        node.thaws_ns = max(node.thaws_ns, self.now + milliseconds * MILLISECOND_NS)
        if node.process is not None and not node.process.paused:
            node.process.pause()
            node.filter.frozen_since = self.now
            node.filter.changed()
        self.at(node.thaws_ns, self._thaw, node)

    def _thaw(self, node: FarmNode) -> None:
        process = node.process
        if process is not None and process.paused and self.now >= node.thaws_ns:
            node.filter.frozen_since = 0
            node.filter.changed()
            process.go_on()

    def wish(self, name: str, wish: str) -> None:
        """Have a node leave, drain or take part."""
        self.nodes[name].wish = wish
        self.nodes[name].give(ev.FarmWish(wish))

    def power(self, name: str, power: int) -> None:
        """Change a node's power live."""
        node = self.nodes[name]
        node.powers = (power,) * self.groups
        node.give(ev.FarmPower(power))

    def command(self, name: str, verb: str, *arguments: str) -> str:
        """Give an administrator's order; return its request."""
        return self.order(name, self.module_name, verb, *arguments)

    def hang(self, name: str, milliseconds: int, *, alone: bool = False) -> None:
        """Have the agent of a node hang: no message passes, and all of them pass afterwards.

        `alone`: neither do the packets of the others' clients reach it.
        """
        node = self.nodes[name]
        node.hung_until_ns = max(node.hung_until_ns, self.now + milliseconds * MILLISECOND_NS)
        node.hung_alone = alone
        for other in self.names:  # What it sends to itself waits as well.
            self.network.clog(name, other, node.hung_until_ns)
            self.network.clog(other, name, node.hung_until_ns)
        self.links_changed()
        self.at(node.hung_until_ns, self.links_changed)

    def change_clocks(self, name: str, change: Callable[[Clocks], None]) -> None:
        """Change the clocks of a machine: its filter's lease ends by these."""
        super().change_clocks(name, change)
        self.nodes[name].filter.changed()

    # --- the network -----------------------------------------------------------------------

    def set_link(self, a: str, b: str, *, up: bool) -> None:
        """Cut or mend the link between two nodes, in both directions."""
        self.network.set_link(a, b, up=up)

    def cut_one_way(self, source: str, to: str) -> None:
        """Lose everything from one node to another; the other direction works."""
        self.network.set_way(source, to, up=False)

    def partition(self, *sides: tuple[str, ...]) -> None:
        """Cut every link between the sides, and mend those within each."""
        side_of = {name: number for number, side in enumerate(sides) for name in side}
        self.network.cuts = {
            (network, a, b)
            for network in self.network.names
            for a in self.names
            for b in self.names
            if a != b and side_of[a] != side_of[b]
        }
        self.links_changed()

    def heal(self) -> None:
        """Mend every link."""
        self.network.cuts = set()
        self.links_changed()

    def apart(self, a: str, b: str) -> bool:
        """Return whether nothing passes between two nodes: their clients are different ones."""
        for name in (a, b):
            if self.nodes[name].hung_alone and self.now < self.nodes[name].hung_until_ns:
                return True
        longest = farm_beats.bytes_at_most(len(self.names), self.groups)
        ways = ((a, b), (b, a))
        return not any(farm_beats.pass_always(self.network, *w, longest=longest) for w in ways)

    def links_changed(self) -> None:
        """Tell the monitors which nodes share clients now."""
        names = self.names
        pairs = tuple((a, b) for a in names for b in names if a < b and self.apart(a, b))
        quality = self.network.quality
        # What the bus refuses is lost as well.
        self.seen("", Apart(pairs, bool(quality.loss or quality.late or quality.corrupt)))

    # --- what the filters do ---------------------------------------------------------------

    def answers(self, name: str) -> bool:
        """Return whether a node's filter lets anything in."""
        return self.nodes[name].filter.answers()

    def owners(self, group: int = 0) -> list[tuple[str, ...]]:
        """Return who would answer a new client, for each bucket."""
        able = [n for n in self.nodes.values() if n.filter.answers()]
        return [
            tuple(n.name for n in able if n.filter.rows[group][bucket]) for bucket in range(BUCKETS)
        ]

    def shares(self, group: int = 0) -> dict[str, int]:
        """Return how many buckets are open at each node."""
        return {
            name: int.from_bytes(node.filter.opened[group], "little").bit_count()
            if node.filter.answers()
            else 0
            for name, node in self.nodes.items()
        }

    def settled(self, *names: str) -> bool:
        """Return whether exactly these nodes are in one agreed view and have it in use."""
        views = set()
        for name in names:
            picture = self.nodes[name].picture
            members = tuple(n.name for n in picture.nodes if n.member) if picture else ()
            if picture is None or not picture.settled or set(members) != set(names):
                return False
            views.add(picture.view)
        return len(views) == 1
