"""The present random sweeps of mirrors and farms, played so that their faults are counted."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from mirrorfarm.limits import MICROSECOND_NS
from mirrorfarm.modules.settings import PROFILES
from mirrorfarm.sim import farm_sweep, sweep
from mirrorfarm.sim.farm import FarmWorld
from mirrorfarm.sim.farm_clients import Clients
from mirrorfarm.sim.sweeps.result import Moment
from mirrorfarm.sim.world import World
from mirrorfarm.transport.address import MODULE_ACTOR

# Methods of the worlds -> the kind of fault, unless they are called to end one.
KINDS = {
    "kill": "crash",
    "freeze": "freeze",
    "set_link": "cut",
    "cut_one_way": "one-way cut",
    "partition": "partition",
    "restart_witness": "witness restart",
    "kill_plane": "replica crash",
    "hang": "agent hang",
    "command": "command",
    "wish": "command",
    "power": "power change",
}
SETTINGS = {  # Attributes that a fault changes.
    "loss_percent": "loss",
    "repeat_percent": "duplicate",
    "late_percent": "reorder",
}
PHASE = "phase "
VIEW = "farm membership: "


@dataclass(slots=True)
class Run:
    """A world under way, and what was seen of it; whole also after a violation."""

    world: Any
    finish: Callable[["Run"], None]
    faults: Counter[str] = field(default_factory=Counter)
    moments: list[Moment] = field(default_factory=list)
    _injecting: bool = False  # What is called at other times ends faults, or repairs.

    def watch(self) -> None:
        """See what happens from now on."""
        for method, kind in KINDS.items():
            if hasattr(self.world, method):
                setattr(self.world, method, self._counted(getattr(self.world, method), kind))

    def _counted(self, method: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if (self._injecting or kind == "crash") and named.get("up") is not True:
                self._fault(kind, " ".join(str(word) for word in arguments), str(arguments[:1]))
            return method(*arguments, **named)

        return call

    def _fault(self, kind: str, text: str, node: str = "") -> None:
        self.faults[kind] += 1
        name = next((name for name in self.world.nodes if f"'{name}'" in node), "")
        self.moments.append(Moment(self.world.now, name, "fault", f"{kind} {text}".strip()))
        if kind == "crash":
            self.moments.append(Moment(self.world.now, name, "state", "down"))

    def step(self, fault: Callable[[], None]) -> None:
        """Inject one fault, and note what it changed."""
        before = {name: getattr(self.world, name) for name in SETTINGS}
        self._injecting = True
        fault()
        self._injecting = False
        for name, kind in SETTINGS.items():
            now = getattr(self.world, name)
            if now > before[name]:
                self._fault(kind, f"{now} %")

    def timeline(self) -> list[Moment]:
        """Return faults and states, in the order of time."""
        states = [moment for line in self.world.story if (moment := _state_of(line))]
        return sorted([*self.moments, *states], key=lambda moment: moment.time_ns)

    def end_state(self) -> str:
        """Return the abstract state: what every node is, and which links are cut."""
        world = self.world
        if isinstance(world, World):
            nodes = [f"{name} {world.role(name)}/{_phase(world, name)}" for name in world.nodes]
            cuts = sorted("-".join(sorted(pair)) for pair in world.cut)
            return ", ".join([*nodes, *(f"cut {pair}" for pair in cuts)])
        up = [name for name in world.names if world.nodes[name].core is not None]
        answering = [name for name in world.names if world.answers(name)]
        return f"{len(world.names)} nodes, {len(up)} up, {len(answering)} answering"


def mirror(seed: int, options: Mapping[str, Any]) -> Run:
    """Return a mirror that is about to play a seed."""
    steps = options.get("steps", 40)
    words = {name: value for name, value in options.items() if name not in {"steps", "profile"}}
    world = World(seed, PROFILES[options.get("profile", "fast")], **words)

    def finish(run: Run) -> None:
        random = Random(seed ^ 0x5EED)
        sweep._begin(world)
        run.watch()
        for _ in range(steps):
            run.step(lambda: sweep._fault(world, random))
            for _ in range(random.randint(1, 8)):
                world.write()
                world.run(random.randint(1, 120))
        sweep._calm(world)

    return Run(world, finish)


def farm(seed: int, options: Mapping[str, Any]) -> Run:
    """Return a farm that is about to play a seed."""
    random = Random(seed ^ 0xFA12)
    count = options.get("nodes", 0) or random.choice((2, 3, 3, 3, 4, 5))
    timing = random.choice((farm_sweep.TIMING, farm_sweep.SLOW, farm_sweep.LARGE))
    world = FarmWorld(seed, count, timing, random.choice((1, 1, 2)))
    lossy = options.get("lossy", bool(seed % 2))

    def finish(run: Run) -> None:
        clients = Clients(world)
        for name in world.names:
            if random.random() < 0.8:
                world.start(name)
        clients.flow_for(random.choice((50, 800, 1_500)))
        run.watch()
        for _ in range(options.get("steps", 25)):
            run.step(lambda: farm_sweep._fault(world, random, lossy))
            clients.flow_for(random.randint(20, 700), every=20)
        farm_sweep._calm(world, clients)

    return Run(world, finish)


def failovers(timeline: list[Moment]) -> tuple[int, ...]:
    """Return how long nobody led, each time that another node than the last one led next."""
    found = []
    leader, ended_ns = "", -1
    for moment in timeline:
        if moment.kind != "state":
            continue
        leads = moment.text == "leading"
        if leads and ended_ns >= 0 and moment.node != leader:
            found.append(moment.time_ns - ended_ns)
        if leads:
            leader, ended_ns = moment.node, -1
        elif moment.node == leader and ended_ns < 0:
            ended_ns = moment.time_ns
    return tuple(found)


def _phase(world: World, name: str) -> str:
    node = world.nodes[name]
    return str(node.cores[MODULE_ACTOR].state.phase.value) if node.up else "-"


def _state_of(line: str) -> Moment | None:
    """Return the state that a line of a story says; None if it says something else."""
    microseconds, node, text = line.split(" ", 2)
    time_ns = int(microseconds) * MICROSECOND_NS
    if text.startswith(f"> {PHASE}"):
        return Moment(time_ns, node, "state", text[len(PHASE) + 2 :].split(":")[0])
    if text.startswith(VIEW):
        return Moment(time_ns, node, "state", f"with {text.removeprefix(VIEW).split(' (')[0]}")
    return None
