"""Acts on machines and their processes: power, crashes, pauses, slowness."""

from dataclasses import dataclass
from typing import Any, Final

from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.sim.acts.act import Act, argument, length, node_argument
from mirrorfarm.sim.acts.kinds import DURATION, SWITCH, number, words
from mirrorfarm.sim.acts.mirror import MIRROR, MODULE

PROCESS: Final = words("module", "replica")
EFFECTS_MAX: Final = 10_000


def process_of(world: Any, node: str, which: str) -> Any:
    """Return a process of a node; None if it does not run."""
    processes = world.nodes[node].host.processes
    return processes.get(MODULE if which == "module" else f"{MODULE}.{which}")


def begin(world: Any, node: str) -> None:
    """Start a node that is off; its module starts by itself."""
    if not world.nodes[node].up:
        world.start(node, again=True)


@MIRROR.named("start")
@dataclass(frozen=True)
class Start(Act):
    """The processes of a node start."""

    node: str = node_argument()
    again: bool = argument(SWITCH, "its module starts by itself", key="again", default=True)

    def do(self, world: Any) -> None:  # noqa: D102
        if not world.nodes[self.node].up:
            world.start(self.node, again=self.again)


@MIRROR.named("power")
@dataclass(frozen=True)
class Power(Act):
    """A node loses power: only what is durable is left. It starts again when that is over."""

    node: str = node_argument()
    for_ns: int = length("left out: it stays off")

    def do(self, world: Any) -> None:  # noqa: D102
        if world.nodes[self.node].up:
            world.kill(self.node)
            if self.for_ns:
                world.after(self.for_ns, begin, world, self.node)


@MIRROR.named("kill_processes")
@dataclass(frozen=True)
class KillProcesses(Act):
    """Every process of a node is killed; its kernel runs on."""

    node: str = node_argument()
    for_ns: int = length("left out: they stay away")

    def do(self, world: Any) -> None:  # noqa: D102
        if world.nodes[self.node].up:
            world.kill(self.node, power=False)
            if self.for_ns:
                world.after(self.for_ns, begin, world, self.node)


@MIRROR.named("kill_module")
@dataclass(frozen=True)
class KillModule(Act):
    """The module's process is killed; the agent starts another one."""

    node: str = node_argument()

    def do(self, world: Any) -> None:  # noqa: D102
        process = process_of(world, self.node, "module")
        if process is not None:
            process.die()


@MIRROR.named("kill_replica")
@dataclass(frozen=True)
class KillReplica(Act):
    """The replicator is killed, and the mounts with it; the agent starts another one."""

    node: str = node_argument()

    def do(self, world: Any) -> None:  # noqa: D102
        world.nodes[self.node].kill_replica()


@MIRROR.named("kill_agent")
@dataclass(frozen=True)
class KillAgent(Act):
    """The agent dies alone: nothing passes between processes until it is back."""

    node: str = node_argument()
    for_ns: int = length("left out: it stays away")

    def do(self, world: Any) -> None:  # noqa: D102
        host = world.nodes[self.node].host
        host.agent = False
        host.windows.clear()
        if self.for_ns:
            world.after(self.for_ns, lambda: setattr(host, "agent", True))


@MIRROR.named("crash")
@dataclass(frozen=True)
class Crash(Act):
    """A process crashes after so many effects, perhaps between two of one step."""

    node: str = node_argument()
    process: str = argument(PROCESS, "which one", key="process", default="module")
    effects: int = argument(
        number(0, EFFECTS_MAX), "how many it still performs", key="after_effects", default=0
    )

    def do(self, world: Any) -> None:  # noqa: D102
        process = process_of(world, self.node, self.process)
        if process is not None and process.alive:
            process.doom = self.effects


@MIRROR.named("pause")
@dataclass(frozen=True)
class Pause(Act):
    """The processes of a node do not run for a while; its guard does."""

    node: str = node_argument()
    for_ns: int = argument(DURATION, "how long", key="for")

    def do(self, world: Any) -> None:  # noqa: D102
        if world.nodes[self.node].up:
            world.freeze(self.node, self.for_ns // MILLISECOND_NS)


@MIRROR.named("pause_module")
@dataclass(frozen=True)
class PauseModule(Act):
    """The module's process does not run for a while; the others do."""

    node: str = node_argument()
    for_ns: int = argument(DURATION, "how long", key="for")

    def do(self, world: Any) -> None:  # noqa: D102
        if world.nodes[self.node].up:
            world.freeze(self.node, self.for_ns // MILLISECOND_NS, module_only=True)


@MIRROR.named("slow")
@dataclass(frozen=True)
class Slow(Act):
    """A process takes so long for every event."""

    node: str = node_argument()
    by_ns: int = argument(DURATION, "how long for one event", key="by")
    process: str = argument(PROCESS, "which one", key="process", default="module")
    for_ns: int = length()

    def do(self, world: Any) -> None:  # noqa: D102
        process = process_of(world, self.node, self.process)
        if process is not None:
            process.slow_ns = self.by_ns
            if self.for_ns:
                world.after(self.for_ns, lambda: setattr(process, "slow_ns", 0))


@MIRROR.named("suspend")
@dataclass(frozen=True)
class Suspend(Act):
    """A machine stands still with its guard, and so does its monotonic clock."""

    node: str = node_argument()
    for_ns: int = argument(DURATION, "how long", key="for")

    def do(self, world: Any) -> None:  # noqa: D102
        node = world.nodes[self.node]
        if node.up:
            world.freeze(self.node, self.for_ns // MILLISECOND_NS)
            node.hands.guard.late_ns = self.for_ns
            node.host.clocks.suspended(self.for_ns)
            world.after(self.for_ns, lambda: setattr(node.hands.guard, "late_ns", 0))
