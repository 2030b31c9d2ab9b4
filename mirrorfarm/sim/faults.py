"""The faults of a simulated mirror: a draw for each, of what is done to the world, for how long.

A swarm keeps each kind with one half. What a kind does, its act says; `budget.ALLOWS` says which
invariants an act may break, and why: nothing else is ever excused.
"""

from collections.abc import Iterator
from typing import Final

from mirrorfarm.limits import MICROSECOND_NS, MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import DIVERGENCE_POLICIES
from mirrorfarm.sim.acts import cables, disks, people, phases, processes
from mirrorfarm.sim.acts.act import Act, meant, perform
from mirrorfarm.sim.chances import Chance, Draw, drawn
from mirrorfarm.sim.engine import RATE_MILLIONTHS, Draws
from mirrorfarm.sim.host import Process
from mirrorfarm.sim.pair import MirrorNode
from mirrorfarm.sim.witness import WITNESS
from mirrorfarm.sim.world import GATEWAY, NODES, World

COMMANDS = ("swap", "stop", "start", "restart", "stopstart", "forcestop")
LONG_NS = 3_600 * SECOND_NS
# What matters most when it arrives late: after it was overtaken, or when its receiver, or the
# one that it answers, was started again.
HELD = ("Heartbeat", "SyncOffer", "SyncAccepted", "Synced", "Leave", "SwapWanted")
LATE = ("SyncOffer", "SyncAccepted", "SyncRefused", "Synced", "RegisterNews", "Leave", "SwapWanted")
ASKED = ("RegisterCas", "RegisterRenew")
# Those that last for milliseconds.
SHORT = (
    *("resetting", "starting", "asking", "syncing", "taking", "restarting", "leaving"),
    *("demoting", "stopping"),
)
FORCING = ("prim", "second", "primforce")  # Only where they are refused: they give up data.


class MirrorChance(Chance):
    """One fault of a mirror."""

    world: World

    @property
    def here(self) -> MirrorNode:
        """Whom it is done to: what the module has on the node."""
        return self.world.placed(self.node, self.module)

    @property
    def processes(self) -> dict[str, Process]:
        """The processes of the module on the node."""
        found, own = self.here.host.processes.items(), self.here.module.name
        return {name: one for name, one in found if name.removesuffix(".replica") == own}

    def while_(self, leases: int = 0) -> int:
        """Return a duration: mostly of the order of the module's own clocks, rarely much longer.

        `leases`: so many leases at the most.
        """
        lease = self.world.timing.lease_ns
        times = self.draws.choice((1, 2, 4, 8, 16, 64, 400))
        length = lease * times * self.draws.between(1, 1_000) // 2_000
        return min(length, leases * lease) if leases else length

    def pair(self) -> tuple[str, str]:
        """Return two machines: the node and its peer, or whom it asks."""
        peer = self.here.peer
        other = self.draws.choice((peer, peer, WITNESS, GATEWAY))
        return (self.node, other) if self.draws.chance(500) else (other, self.node)

    def after(self) -> int:
        """Return how long after a phase began something happens: mostly at once."""
        return self.draws.choice((0, 0, 200, 1_000, 3_000)) * MICROSECOND_NS

    def within(self) -> int:
        """Return how long to wait for a phase."""
        return 64 * self.world.timing.lease_ns

    def process(self, names: list[str]) -> str:
        """Return one of these processes, as acts call it."""
        return "module" if self.draws.choice(names) == self.here.module.name else "replica"


def inject(world: World, name: str, draws: Draws, module: str = "") -> None:
    """Do one fault of a kind to a node of the draw's choice; of a module, to this one."""
    chance = MirrorChance(world, draws, draws.choice(NODES), module)
    if chance.here.up or name not in NEEDS_POWER:
        for act in drawn(FAULTS[name], chance):
            perform(world, meant(act, module))


def _hold(one: MirrorChance) -> Act:
    kind, node, peer = one.among(*HELD, *ASKED, "RegisterAnswer"), one.node, one.here.peer
    way = (peer, node)
    if kind in ASKED:
        way = (node, WITNESS)
    elif kind == "RegisterAnswer":
        way = (WITNESS, node)
    return cables.Hold(kind, way, one.while_(16), one.draws.between(1, 3))


def _crash(one: MirrorChance) -> Act | None:
    """Perhaps between two effects of one step."""
    alive = [name for name, process in one.processes.items() if process.alive]
    if not alive:
        return None
    effects = one.draws.below(12)
    return processes.Crash(one.node, one.process(alive), effects)


def _slow(one: MirrorChance) -> Act | None:
    names = list(one.processes)
    if not names:
        return None
    which = one.process(names)
    return processes.Slow(one.node, one.ms(1, 5, 20, 60), which, one.while_())


def _witness_away(one: MirrorChance) -> Act | None:
    """For a while, perhaps for hours."""
    if not one.world.witness_node.host.up:
        return None
    return people.WitnessAway(for_ns=one.while_() if one.draws.chance(900) else LONG_NS)


def _operator(one: MirrorChance) -> Iterator[Act]:
    """An order, perhaps twice, perhaps on both nodes."""
    verb = one.draws.choice(COMMANDS)
    names = [one.node, one.here.peer] if one.draws.chance(250) else [one.node]
    return (people.Command(verb, name, one.draws.chance(250)) for name in names)


def _swizzle(one: MirrorChance) -> Act:
    machines = one.draws.shuffled([*NODES, WITNESS])[: one.among(2, 3)]
    back = tuple(one.draws.shuffled(machines))
    return cables.Swizzle(tuple(machines), back, one.while_(2), one.while_(4))


def _bit_rot(one: MirrorChance) -> Act | None:
    """Of what there is."""
    held = sorted(one.here.disk.memory)
    return disks.BitRot(one.node, one.draws.choice(held)) if held else None


def _command_in_phase(one: MirrorChance) -> Act:
    phase = one.among(*SHORT, "following", "leading")
    forces = phase not in phases.TAKES_ROLES and one.draws.chance(300)
    verb = one.draws.choice(FORCING if forces else COMMANDS)
    after = 0 if forces else one.after()
    return phases.CommandInPhase(verb, one.node, phase, after, one.within())


def _crash_in_phase(one: MirrorChance) -> Act:
    how, effects = one.among(*phases.CRASHES), one.draws.below(12)
    phase, length = one.among(*SHORT), one.while_(8)
    return phases.CrashInPhase(
        one.node, phase, how, one.after(), one.within(), effects if how == "crash" else 0, length
    )


def _failure_in_phase(one: MirrorChance) -> Act:
    what, phase, length = one.among(*phases.FAILURES), one.among(*SHORT), one.while_(8)
    return phases.FailureInPhase(one.node, phase, what, one.after(), one.within(), length)


def _late_in_phase(one: MirrorChance) -> Act:
    kind, way = one.among(*LATE, "RegisterAnswer"), (one.here.peer, one.node)
    way = (WITNESS, one.node) if kind == "RegisterAnswer" else way
    phase, count = one.among(*phases.MIRROR_PHASES), one.draws.between(1, 3)
    return phases.LateInPhase(kind, way, phase, count, one.within())


# Only done to a node that is up.
NEEDS_POWER: Final = (
    *("power", "kill_processes", "pause", "pause_module", "suspend", "stand_still"),
    *("reconfigured", "short_write"),
)
CABLES: Final[dict[str, Draw]] = {
    "cut": lambda one: cables.Cut(
        one.pair(), one.among("", "", *one.world.network.names), one.while_()
    ),
    "one_way": lambda one: cables.OneWay(one.pair(), one.while_()),
    "isolate": lambda one: cables.Isolate(one.node, one.while_()),
    "flap": lambda one: cables.Flap(
        one.pair(), one.while_(1), one.while_(1), one.draws.between(2, 8)
    ),
    "clog": lambda one: cables.Clog(one.pair(), one.while_(8)),
    "network_down": lambda one: cables.NetworkDown(
        one.among(*one.world.network.names), one.while_()
    ),
    "loss": lambda one: cables.Loss(one.among(10, 50, 200, 500), one.while_()),
    "repeat": lambda one: cables.Repeat(one.among(20, 100, 300), one.while_()),
    "late": lambda one: cables.Late(one.among(20, 100, 300), one.while_()),
    "corrupt": lambda one: cables.Corrupt(one.among(10, 100), one.while_()),
    "hold": _hold,
    "swizzle": _swizzle,
    "mtu": lambda one: cables.Mtu(one.pair(), one.among(50, 90, 120, 150), one.while_()),
    "address_fails": lambda one: cables.AddressFails(one.node, one.while_()),
    "stream_reset": lambda one: cables.StreamReset(one.node),
    "stream_ends": lambda one: cables.StreamEnds(one.node),
}
PROCESSES: Final[dict[str, Draw]] = {
    "power": lambda one: processes.Power(one.node, one.while_()),
    "kill_processes": lambda one: processes.KillProcesses(one.node, one.while_()),
    "kill_module": lambda one: processes.KillModule(one.node),
    "kill_replica": lambda one: processes.KillReplica(one.node),
    "kill_agent": lambda one: processes.KillAgent(
        one.node, one.draws.between(200, 3_000) * MILLISECOND_NS
    ),
    "crash_between_effects": _crash,
    "pause": lambda one: processes.Pause(one.node, one.while_(8)),
    "pause_module": lambda one: processes.PauseModule(one.node, one.while_(8)),
    "slow": _slow,
    "suspend": lambda one: processes.Suspend(one.node, one.while_(8)),
    "stand_still": lambda one: processes.StandStill(one.node, one.while_(8)),
    "reconfigured": lambda one: processes.Reconfigured(
        one.node,
        one.draws.chance(700),
        one.among(*DIVERGENCE_POLICIES),
        one.while_(8),
        one.draws.chance(300),
    ),
}
DISKS: Final[dict[str, Draw]] = {
    "disk_slow": lambda one: disks.DiskSlow(one.node, one.ms(20, 200, 1_500), one.while_()),
    "disk_error": lambda one: disks.DiskError(one.node, one.while_()),
    "disk_full": lambda one: disks.DiskFull(one.node, one.while_()),
    "disk_fills": lambda one: disks.DiskFills(one.node, one.draws.below(20), one.while_()),
    "short_write": lambda one: disks.ShortWrite(one.node),
    "bit_rot": _bit_rot,
    "flush_error": lambda one: disks.FlushError(one.node),
    "record_fails": lambda one: disks.RecordFails(one.node, one.draws.between(1, 3)),
    "record_crash": lambda one: disks.RecordCrash(
        one.node, one.among("before", "after"), one.while_()
    ),
    "record_rots": lambda one: disks.RecordRots(one.node),
    "clock_drift": lambda one: disks.ClockDrift(
        one.node, one.draws.between(-RATE_MILLIONTHS, RATE_MILLIONTHS)
    ),
    "clock_step": lambda one: disks.ClockStep(
        one.node, one.draws.between(-3_600, 3_600) * SECOND_NS
    ),
}
PEOPLE: Final[dict[str, Draw]] = {
    "witness_restart": lambda one: people.WitnessRestart(),
    "witness_away": _witness_away,
    "witness_slow": lambda one: people.WitnessSlow(
        by_ns=one.ms(50, 300, 2_000), for_ns=one.while_()
    ),
    "witness_replaced": lambda one: people.WitnessReplaced(),
    "witness_fails": lambda one: people.WitnessFails(count=one.draws.between(1, 2)),
    "witness_answers_lost": lambda one: people.WitnessAnswersLost(count=one.draws.between(1, 6)),
    "application_start_fails": lambda one: people.StartFails(one.node, one.draws.between(1, 2)),
    "application_start_hangs": lambda one: people.StartHangs(one.node),
    "application_stop_hangs": lambda one: people.StopHangs(one.node),
    "application_exits": lambda one: people.Exits(one.node),
    "application_writes_at_stop": lambda one: people.WritesAtStop(
        one.node, one.draws.between(1, 9)
    ),
    "checker_lies": lambda one: people.CheckerLies(
        one.node, one.among("gone", "nothing"), one.while_(8)
    ),
    "operator": _operator,
}
# They wait for what is rare, and come in a series of their own beside the others.
IN_PHASE: Final[dict[str, Draw]] = {
    "command_in_phase": _command_in_phase,
    "crash_in_phase": _crash_in_phase,
    "failure_in_phase": _failure_in_phase,
    "late_in_phase": _late_in_phase,
}
FAULTS: Final = CABLES | PROCESSES | DISKS | PEOPLE | IN_PHASE
