"""Acts that wait until a node enters a phase: most phases are too short to be hit by chance."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.acts import cables, disks, people, processes
from mirrorfarm.sim.acts import farm as farms
from mirrorfarm.sim.acts.act import (
    FARM,
    MIRROR,
    Act,
    OfModule,
    OnModule,
    argument,
    carry_out,
    length,
    meant,
    named,
    tell,
)
from mirrorfarm.sim.acts.kinds import DURATION, NODE, PAIR, number, words
from mirrorfarm.sim.coverage import machines
from mirrorfarm.sim.host import Actor
from mirrorfarm.sim.meddling import Meddling
from mirrorfarm.sim.phases import Waiting
from mirrorfarm.transport.address import MODULE_ACTOR

MIRROR_PHASES: Final = machines.MIRROR.states
MODULE_PHASES: Final = machines.FARM.states
# Of its module, and what it is for the others: `draining` is both.
FARM_PHASES: Final = tuple(dict.fromkeys((*MODULE_PHASES, *machines.FILTER.states)))
# Where an order to be primary counts, now or soon; elsewhere it is refused.
TAKES_ROLES: Final = ("stopped", "resetting", "starting", "waiting")
Ways = dict[str, Callable[[Any], Act]]


def _phase(*phases: str) -> Any:
    return argument(words(*phases), "which phase", key="phase")


def _within(what: str = "how long it waits for the phase") -> Any:
    return argument(DURATION, what, key="within", default=60 * SECOND_NS)


def _after(what: str = "how long after the node entered it") -> Any:
    return argument(DURATION, what, key="after", default=0)


def wait(world: Any, act: Any, node: str, happens: Callable[[Actor], None], **more: Any) -> None:
    """Have something happen when the module of an act enters the act's phase on a node."""
    one = Waiting(node, act.module_name(world), act.phase, happens, **more)
    world.phases.wait(one)
    world.after(act.within_ns, world.phases.give_up, one)


def later(world: Any, after_ns: int, act: Act) -> None:
    """Do an act after the present step, or later, unless all was mended before."""
    world.after(after_ns, lambda: None if world.healed else carry_out(world, act))


@named("command_in_phase", MIRROR)
@dataclass(frozen=True)
class CommandInPhase(OfModule):
    """An administrator gives an order once a node enters a phase."""

    order: ClassVar[type[Any]] = people.Command
    verb: str = argument(people.ORDER)
    node: str = argument(NODE, "to which node", key="node")
    phase: str = _phase(*MIRROR_PHASES)
    after_ns: int = _after("how long after that; 0: it is there at once")
    within_ns: int = _within()

    def do(self, world: Any) -> None:  # noqa: D102
        wait(world, self, self.node, lambda actor: self._enters(world, actor))

    def _enters(self, world: Any, actor: Actor) -> None:
        act = meant(self.order(self.verb, self.node), self.module)
        if self.after_ns or self.phase in TAKES_ROLES:
            later(world, self.after_ns, act)
            return
        module = actor.process.actors.get(MODULE_ACTOR)
        if module is not None:
            # At once: an order that is refused here may count in the next phase.
            tell(world, act)
            module.give(world.ordered(self.node, *act.words()))


@named("command_in_phase", FARM)
@dataclass(frozen=True)
class FarmCommandInPhase(CommandInPhase):
    """An administrator gives an order once a node enters a phase; only with `whole`."""

    order: ClassVar[type[Any]] = farms.Command
    verb: str = argument(farms.ORDER)
    phase: str = _phase(*MODULE_PHASES)


@dataclass(frozen=True)
class _Strikes(OnModule):
    ways: ClassVar[Ways]
    phase: str = _phase()  # Which ones there are, and which ways, each kind says.
    how: str = argument(words())
    after_ns: int = _after()
    within_ns: int = _within()

    def do(self, world: Any) -> None:
        wait(world, self, self.node, lambda actor: self._enters(world, actor))

    def _enters(self, world: Any, actor: Actor) -> None:
        act = meant(self.ways[self.how](self), self.module)
        if isinstance(act, processes.Crash) and not self.after_ns:
            tell(world, act)
            actor.process.doom = act.effects  # Counted from the first one of this step.
        else:
            later(world, self.after_ns, act)


_CRASHES: Final[Ways] = {
    "crash": lambda one: processes.Crash(one.node, effects=one.effects),
    "processes": lambda one: processes.KillProcesses(one.node, one.for_ns),
    "pause": lambda one: processes.Pause(one.node, one.for_ns),
    "cut": lambda one: cables.Isolate(one.node, one.for_ns),
}
CRASHES: Final[Ways] = _CRASHES | {
    "replica": lambda one: processes.KillReplica(one.node),
    "power": lambda one: processes.Power(one.node, one.for_ns),
}
FARM_CRASHES: Final[Ways] = _CRASHES | {"power": lambda one: farms.PowerOff(one.node)}
FARM_FAILURES: Final[Ways] = {
    "record": lambda one: disks.RecordFails(one.node),
    "application": lambda one: people.Exits(one.node),
}
FAILURES: Final[Ways] = FARM_FAILURES | {
    "disk": lambda one: disks.DiskError(one.node, one.for_ns),
    "stream": lambda one: cables.StreamReset(one.node),
}


@named("crash_in_phase", MIRROR)
@dataclass(frozen=True)
class CrashInPhase(_Strikes):
    """A node, or a process of it, ends or is cut off once the node enters a phase."""

    ways: ClassVar[Ways] = CRASHES
    phase: str = _phase(*MIRROR_PHASES)
    how: str = argument(words(*CRASHES), "what happens", key="how")
    effects: int = argument(
        number(0, processes.EFFECTS_MAX),
        "of `crash`: how many the module's process still performs",
        key="after_effects",
        default=0,
    )
    for_ns: int = length()


@named("crash_in_phase", FARM)
@dataclass(frozen=True)
class FarmCrashInPhase(CrashInPhase):
    """A node, or its process, ends or is cut off once the node enters a phase."""

    ways: ClassVar[Ways] = FARM_CRASHES
    phase: str = _phase(*FARM_PHASES)
    how: str = argument(words(*FARM_CRASHES), "what happens", key="how")


@named("failure_in_phase", MIRROR)
@dataclass(frozen=True)
class FailureInPhase(_Strikes):
    """Something that a node needs fails once the node enters a phase."""

    ways: ClassVar[Ways] = FAILURES
    phase: str = _phase(*MIRROR_PHASES)
    how: str = argument(
        words(*FAILURES),
        "the next writing of its record; its application ends; its disk refuses everything; the "
        "connections between the replicators break",
        key="what",
    )
    for_ns: int = length("of `disk`; left out: it does not end by itself")


@named("failure_in_phase", FARM)
@dataclass(frozen=True)
class FarmFailureInPhase(_Strikes):
    """Something that a node needs fails once the node enters a phase; only with `whole`."""

    ways: ClassVar[Ways] = FARM_FAILURES
    phase: str = _phase(*FARM_PHASES)
    how: str = argument(
        words(*FARM_FAILURES), "the next writing of its record; its application ends", key="what"
    )


@named("late_in_phase", MIRROR)
@dataclass(frozen=True)
class LateInPhase(OfModule):
    """Messages of one kind arrive only once their receiver enters a phase."""

    message: str = argument(cables.MESSAGE)
    way: tuple[str, str] = argument(PAIR, "sender and receiver", key="way")
    phase: str = _phase(*MIRROR_PHASES)
    count: int = argument(number(1, cables.MESSAGES_MAX), "how many", key="count", default=1)
    within_ns: int = _within("how long it waits; then they arrive all the same")

    def do(self, world: Any) -> None:  # noqa: D102
        kept: list[Callable[[], None]] = []
        meddling = Meddling(self.message, *self.way, self.count, kept=kept)

        def arrive(*_: Actor) -> None:
            meddling.count = 0
            for message in kept:
                world.after(0, message)

        world.meddle(meddling)
        wait(world, self, self.way[1], arrive, ready=lambda: bool(kept), given_up=arrive)


@named("late_in_phase", FARM)
@dataclass(frozen=True)
class FarmLateInPhase(LateInPhase):
    """Messages of one kind arrive only once their receiver enters a phase."""

    phase: str = _phase(*FARM_PHASES)
