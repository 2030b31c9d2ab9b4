"""The faults of a simulated farm: a draw for each, of what is done to the world.

What a kind does, its act says.
"""

from typing import Final

from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.acts import cables, disks, people, phases, processes
from mirrorfarm.sim.acts import farm as acts
from mirrorfarm.sim.acts.act import Act, perform
from mirrorfarm.sim.chances import Chance, Draw, drawn
from mirrorfarm.sim.coverage.machines import FILTER
from mirrorfarm.sim.engine import RATE_MILLIONTHS, Draws
from mirrorfarm.sim.farm import FarmWorld

LOSSY = ("lossy", "late", "corrupt")  # With these, two nodes may not hear of each other for long.
# Only nodes with all of their cores have what these are about.
OF_THE_MODULE = (
    *("record_fails", "application_exits", "application_start_fails"),
    *("application_start_hangs", "application_stop_hangs"),
    *("command_in_phase", "failure_in_phase"),
)
HELD = ("FarmBeat", "ViewProposal", "ViewProposal", "ViewAck", "ViewCommit")
WITHIN_NS = 5 * SECOND_NS  # So long they wait for a phase.


class FarmChance(Chance):
    """One fault of a farm."""

    world: FarmWorld

    def other(self) -> str:
        """Return one of the other nodes."""
        return self.draws.choice([name for name in self.world.names if name != self.node])


def inject(world: FarmWorld, name: str, draws: Draws) -> None:
    """Do one fault of a kind; a node that is off is rather started."""
    node = draws.choice(world.names)
    if world.nodes[node].core is None:
        if draws.chance(600):
            perform(world, acts.Start(node))
        return
    for act in drawn(FAULTS[name], FarmChance(world, draws, node)):
        perform(world, act)


def _ordered(one: FarmChance) -> Act:
    """An administrator has a node leave, drain or take part."""
    if one.world.machines:
        return acts.Command(one.among("start", "stop", "restart", "drain", "resume"), one.node)
    return acts.Wish(one.node, one.among("in", "in", "away", "drain"))


def _hung(one: FarmChance) -> Act:
    """Mostly clients still reach a node whose agent hangs: it has to stop answering them."""
    return acts.Hang(one.node, one.ms(200, 450, 800, 1_500), alone=one.draws.chance(300))


def _hold(one: FarmChance) -> Act:
    """Perhaps until the process that they are for is another one."""
    way, for_ns = (one.other(), one.node), one.ms(100, 300, 900, 2_500)
    return cables.Hold(one.among(*HELD), way, for_ns, one.draws.between(1, 3))


def _parted(one: FarmChance) -> Act:
    """Two or three sides."""
    sides: list[list[str]] = [[], [], []]
    count = one.among(2, 2, 3)
    for name in one.world.names:
        sides[one.draws.below(count)].append(name)
    return acts.Partition(tuple(tuple(side) for side in sides if side))


def _swizzle(one: FarmChance) -> Act:
    names = one.draws.shuffled(one.world.names)
    some = names[: max(2, one.draws.below(len(names) + 1))]
    back = tuple(one.draws.shuffled(some))
    return cables.Swizzle(tuple(some), back, one.ms(20, 200, 700), one.ms(50, 400, 1_500))


def _phase(one: FarmChance) -> str:
    """Return a phase that there is: filters alone have no module."""
    return one.draws.choice(phases.FARM_PHASES if one.world.machines else FILTER.states)


def _command_in_phase(one: FarmChance) -> Act:
    verb = one.among("start", "stop", "restart", "drain", "resume")
    return phases.FarmCommandInPhase(
        verb, one.node, one.among(*phases.MODULE_PHASES), one.ms(0, 0, 1, 20), WITHIN_NS
    )


def _crash_in_phase(one: FarmChance) -> Act:
    how, effects = one.among(*phases.FARM_CRASHES), one.draws.below(12)
    after, length = one.ms(0, 0, 1, 20), one.ms(80, 300, 1_500)
    effects = effects if how == "crash" else 0
    return phases.FarmCrashInPhase(one.node, _phase(one), how, after, WITHIN_NS, effects, length)


def _failure_in_phase(one: FarmChance) -> Act:
    what = one.among(*phases.FARM_FAILURES)
    return phases.FarmFailureInPhase(
        one.node, one.among(*phases.MODULE_PHASES), what, one.ms(0, 0, 1), WITHIN_NS
    )


def _late_in_phase(one: FarmChance) -> Act:
    way, count = (one.other(), one.node), one.draws.between(1, 3)
    return phases.FarmLateInPhase(one.among(*HELD), way, _phase(one), count, WITHIN_NS)


# They wait for what is rare, and come beside the others.
IN_PHASE: Final[dict[str, Draw]] = {
    "command_in_phase": _command_in_phase,
    "crash_in_phase": _crash_in_phase,
    "failure_in_phase": _failure_in_phase,
    "late_in_phase": _late_in_phase,
}
FAULTS: Final[dict[str, Draw]] = {
    "power_lost": lambda one: acts.PowerOff(one.node),
    "killed": lambda one: processes.KillProcesses(one.node),
    "crash_between_effects": lambda one: processes.Crash(one.node, effects=one.draws.below(12)),
    "frozen": lambda one: processes.Pause(one.node, one.ms(80, 300, 500, 700, 1_500)),
    "slow": lambda one: processes.Slow(one.node, one.ms(1, 5, 10), for_ns=2 * SECOND_NS),
    "ordered": _ordered,
    "powered": lambda one: acts.Weight(one.node, one.among(0, 1, 1, 2, 3)),
    "hung": _hung,
    "slow_counts": lambda one: acts.SlowCounts(one.node, one.ms(50, 200, 600), 2 * SECOND_NS),
    "hold": _hold,
    "cut": lambda one: cables.Cut((one.node, one.other())),
    "one_way": lambda one: cables.OneWay((one.node, one.other())),
    "deaf_or_mute": lambda one: (acts.Deaf if one.draws.chance(500) else acts.Mute)(one.node),
    "parted": _parted,
    "mended": lambda one: acts.Mend(),
    # From now on, or no more:
    "repeated": lambda one: cables.Repeat(one.among(0, 100, 300)),
    "lossy": lambda one: cables.Loss(one.among(0, 0, 50, 200)),
    "late": lambda one: cables.Late(one.among(0, 0, 20, 100)),
    "corrupt": lambda one: cables.Corrupt(one.among(0, 10, 50)),
    # They end by themselves:
    "flap": lambda one: cables.Flap(
        (one.node, one.other()), one.ms(50, 200, 500), one.ms(50, 200, 500), one.among(2, 3, 5)
    ),
    "isolate": lambda one: cables.Isolate(one.node, one.ms(100, 500, 2_000)),
    "swizzle": _swizzle,
    # Beats are shorter: nodes that do not hear each other count as parted, and so do clients.
    "mtu": lambda one: cables.Mtu(
        (one.node, one.other()), one.among(500, 700, 1_000), one.ms(200, 1_000, 3_000)
    ),
    "network_down": lambda one: cables.NetworkDown(
        one.among(*one.world.network.names), one.ms(100, 500, 2_000)
    ),
    "clock_drift": lambda one: disks.ClockDrift(
        one.node, one.draws.between(-RATE_MILLIONTHS, RATE_MILLIONTHS)
    ),
    "record_fails": lambda one: disks.RecordFails(one.node, one.draws.between(1, 3)),
    "application_start_fails": lambda one: people.StartFails(one.node, one.draws.between(1, 2)),
    "application_start_hangs": lambda one: people.StartHangs(one.node),
    "application_stop_hangs": lambda one: people.StopHangs(one.node),
    "application_exits": lambda one: people.Exits(one.node),
    **IN_PHASE,
}
