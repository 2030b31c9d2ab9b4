"""Acts on machines and their processes: power, crashes, pauses, slowness."""

from dataclasses import dataclass
from typing import Any, Final

from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.modules.settings import DIVERGENCE_POLICIES
from mirrorfarm.sim.acts.act import FARM, MIRROR, OnModule, OnNode, argument, length, named
from mirrorfarm.sim.acts.kinds import DURATION, SWITCH, number, words

PROCESS: Final = words("module", "replica")
EFFECTS_MAX: Final = 10_000


def process_of(world: Any, act: Any, which: str) -> Any:
    """Return a process of the module that an act is about, on its node; None: it does not run."""
    name = act.module_name(world)
    return world.hosts[act.node].processes.get(name if which == "module" else f"{name}.{which}")


@named("start", MIRROR)
@dataclass(frozen=True)
class Start(OnNode):
    """The processes of a node start."""

    again: bool = argument(SWITCH, "its module starts by itself", key="again", default=True)

    def do(self, world: Any) -> None:  # noqa: D102
        if not world.hosts[self.node].up:
            world.start(self.node, again=self.again)


@named("power", MIRROR)
@dataclass(frozen=True)
class Power(OnNode):
    """A node loses power: only what is durable is left. It starts again when that is over."""

    for_ns: int = length("left out: it stays off")

    def do(self, world: Any) -> None:  # noqa: D102
        if world.hosts[self.node].up:
            world.kill(self.node)
            self.comes_back(world, self.for_ns, self.node)


@named("kill_processes", MIRROR, FARM)
@dataclass(frozen=True)
class KillProcesses(OnNode):
    """Every process of a node is killed; its kernel runs on."""

    for_ns: int = length("left out: they stay away")

    def do(self, world: Any) -> None:  # noqa: D102
        if world.hosts[self.node].up:
            world.kill(self.node, power=False)
            self.comes_back(world, self.for_ns, self.node)


@named("kill_module", MIRROR)
@dataclass(frozen=True)
class KillModule(OnModule):
    """The module's process is killed; the agent starts another one."""

    def do(self, world: Any) -> None:  # noqa: D102
        process = process_of(world, self, "module")
        if process is not None:
            process.die()


@named("kill_replica", MIRROR)
@dataclass(frozen=True)
class KillReplica(OnModule):
    """The replicator is killed, and the mounts with it; the agent starts another one."""

    def do(self, world: Any) -> None:  # noqa: D102
        self.here(world).kill_replica()


@named("kill_agent", MIRROR)
@dataclass(frozen=True)
class KillAgent(OnNode):
    """The agent dies alone: nothing passes between processes until it is back."""

    for_ns: int = length("left out: it stays away")

    def do(self, world: Any) -> None:  # noqa: D102
        host = world.hosts[self.node]
        host.agent = False
        host.windows.clear()
        self.ends(world, self.for_ns, setattr, host, "agent", True)


@named("crash", MIRROR, FARM)
@dataclass(frozen=True)
class Crash(OnModule):
    """A process crashes after so many effects, perhaps between two of one step."""

    process: str = argument(PROCESS, "which one", key="process", default="module")
    effects: int = argument(
        number(0, EFFECTS_MAX), "how many it still performs", key="after_effects", default=0
    )

    def do(self, world: Any) -> None:  # noqa: D102
        process = process_of(world, self, self.process)
        if process is not None and process.alive:
            process.doom = self.effects


@named("pause", MIRROR, FARM)
@dataclass(frozen=True)
class Pause(OnNode):
    """The processes of a node do not run for a while; its guard and its kernel do."""

    for_ns: int = argument(DURATION, "how long", key="for")

    def do(self, world: Any) -> None:  # noqa: D102
        if world.hosts[self.node].up:
            world.freeze(self.node, self.for_ns // MILLISECOND_NS)


@named("pause_module", MIRROR)
@dataclass(frozen=True)
class PauseModule(OnModule):
    """The module's process does not run for a while; the others do."""

    for_ns: int = argument(DURATION, "how long", key="for")

    def do(self, world: Any) -> None:  # noqa: D102
        if world.hosts[self.node].up:
            world.freeze(self.node, self.for_ns // MILLISECOND_NS, only=self.module_name(world))


@named("slow", MIRROR, FARM)
@dataclass(frozen=True)
class Slow(OnModule):
    """A process takes so long for every event."""

    by_ns: int = argument(DURATION, "how long for one event", key="by")
    process: str = argument(PROCESS, "which one", key="process", default="module")
    for_ns: int = length()

    def do(self, world: Any) -> None:  # noqa: D102
        process = process_of(world, self, self.process)
        if process is not None:
            process.slow_ns = self.by_ns
            self.ends(world, self.for_ns, setattr, process, "slow_ns", 0)


@named("suspend", MIRROR)
@dataclass(frozen=True)
class Suspend(OnNode):
    """A machine stands still with its guard, and so does its monotonic clock."""

    for_ns: int = argument(DURATION, "how long", key="for")

    def do(self, world: Any) -> None:  # noqa: D102
        server = world.servers[self.node]
        if server.host.up:
            world.freeze(self.node, self.for_ns // MILLISECOND_NS, stands=True)
            server.host.clocks.suspended(world.now, self.for_ns)
            server.suspend(world.now + self.for_ns)


@named("stand_still", MIRROR)
@dataclass(frozen=True)
class StandStill(OnNode):
    """A machine stands still with its guard and all of its clocks, as a paused virtual one."""

    for_ns: int = argument(DURATION, "how long", key="for")

    def do(self, world: Any) -> None:  # noqa: D102
        if world.hosts[self.node].up:
            world.freeze(self.node, self.for_ns // MILLISECOND_NS, stands=True)
            world.change_clocks(self.node, lambda clocks: clocks.stood(world.now, self.for_ns))


@named("reconfigured", MIRROR)
@dataclass(frozen=True)
class Reconfigured(OnModule):
    """A node's processes end, and start with another configuration: the peer has the old one."""

    failover: bool = argument(SWITCH, "it takes over by itself", key="failover", default=True)
    divergence: str = argument(
        words(*DIVERGENCE_POLICIES), "after a split", key="divergence", default="keep-primary"
    )
    for_ns: int = length("how long they are away; left out: they stay away")
    shorter: bool = argument(
        SWITCH, "lease and detection are shorter by a third", key="shorter", default=False
    )

    def do(self, world: Any) -> None:  # noqa: D102
        if world.hosts[self.node].up:
            world.kill(self.node, power=False)
            self.whole(world).reconfigure(
                self.node,
                failover=self.failover,
                divergence=self.divergence,
                shorter=self.shorter,
            )
            self.comes_back(world, self.for_ns, self.node)
