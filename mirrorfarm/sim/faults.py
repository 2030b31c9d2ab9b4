"""The faults of a simulated mirror: each draws what is done to the world, and for how long.

`FAULTS` names them. A swarm keeps each kind with one half; `ALLOWS` says which invariants a
kind may break, and why: nothing else is ever excused.
"""

from collections.abc import Callable

from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.sim.acts import cables, disks, people, processes
from mirrorfarm.sim.acts.act import Act, perform
from mirrorfarm.sim.engine import Draws
from mirrorfarm.sim.pair import MirrorNode
from mirrorfarm.sim.witness import WITNESS
from mirrorfarm.sim.world import GATEWAY, MODULE, NODES, World

COMMANDS = ("swap", "stop", "start", "restart", "stopstart", "forcestop")
LONG_NS = 3_600 * SECOND_NS

Draw = Callable[[World, Draws, MirrorNode], Act | None]
FAULTS: dict[str, Callable[[World, Draws, MirrorNode], None]] = {}
ALLOWS: dict[str, tuple[tuple[str, ...], str]] = {
    "suspend": (("X1", "X2", "X3", "X4"), "nothing stops a machine that does not run"),
}


def fault(draw: Draw) -> Draw:
    """Make a function that draws one act known as a fault."""

    def inject_one(world: World, draws: Draws, node: MirrorNode) -> None:
        act = draw(world, draws, node)
        if act is not None:
            perform(world, act)

    FAULTS[draw.__name__] = inject_one
    return draw


def inject(world: World, name: str, draws: Draws) -> None:
    """Do one fault of a kind, to a node of the draw's choice."""
    FAULTS[name](world, draws, world.nodes[draws.choice(NODES)])


def a_while(world: World, draws: Draws, longest_ns: int = 0) -> int:
    """Return a duration: mostly of the order of the module's own clocks, rarely much longer."""
    scale = world.timing.lease_ns
    times = draws.choice((1, 2, 4, 8, 16, 64, 400))
    length = scale * times * draws.between(1, 1_000) // 2_000
    return min(length, longest_ns) if longest_ns else length


# --- cables --------------------------------------------------------------------------------


def _pair(draws: Draws, node: MirrorNode) -> tuple[str, str]:
    other = draws.choice((node.peer, node.peer, WITNESS, GATEWAY))
    return (node.name, other) if draws.chance(500) else (other, node.name)


@fault
def cut(world: World, draws: Draws, node: MirrorNode) -> Act:
    """A link is cut, on one network or on all of them."""
    pair = _pair(draws, node)
    network = draws.choice(("", "", *world.network.names))
    return cables.Cut(pair, network, a_while(world, draws))


@fault
def one_way(world: World, draws: Draws, node: MirrorNode) -> Act:
    """One direction of a link is cut."""
    return cables.OneWay(_pair(draws, node), a_while(world, draws))


@fault
def isolate(world: World, draws: Draws, node: MirrorNode) -> Act:
    """A node loses every link."""
    return cables.Isolate(node.name, a_while(world, draws))


@fault
def flap(world: World, draws: Draws, node: MirrorNode) -> Act:
    """A link comes and goes."""
    pair, lease_ns = _pair(draws, node), world.timing.lease_ns
    away_ns, back_ns = (a_while(world, draws, lease_ns) for _ in range(2))
    return cables.Flap(pair, away_ns, back_ns, draws.between(2, 8))


@fault
def clog(world: World, draws: Draws, node: MirrorNode) -> Act:
    """A direction holds everything back, then lets it all through."""
    pair = _pair(draws, node)
    return cables.Clog(pair, a_while(world, draws, 8 * world.timing.lease_ns))


@fault
def network_down(world: World, draws: Draws, node: MirrorNode) -> Act:
    """A whole network is down."""
    del node
    name = draws.choice(world.network.names)
    return cables.NetworkDown(name, a_while(world, draws))


@fault
def loss(world: World, draws: Draws, node: MirrorNode) -> Act:
    """Datagrams get lost."""
    del node
    return cables.Loss(draws.choice((10, 50, 200, 500)), a_while(world, draws))


@fault
def repeat(world: World, draws: Draws, node: MirrorNode) -> Act:
    """Datagrams arrive twice."""
    del node
    return cables.Repeat(draws.choice((20, 100, 300)), a_while(world, draws))


@fault
def late(world: World, draws: Draws, node: MirrorNode) -> Act:
    """Datagrams are overtaken by others."""
    del node
    return cables.Late(draws.choice((20, 100, 300)), a_while(world, draws))


@fault
def corrupt(world: World, draws: Draws, node: MirrorNode) -> Act:
    """Bytes flip on the way: the bus refuses and counts such frames."""
    del node
    return cables.Corrupt(draws.choice((10, 100)), a_while(world, draws))


# What matters most when it arrives late: after it was overtaken, or when its receiver, or the
# one that it answers, was started again.
HELD = ("Heartbeat", "SyncOffer", "SyncAccepted", "Synced", "Leave", "SwapWanted")
ASKED = ("RegisterCas", "RegisterRenew")


@fault
def hold(world: World, draws: Draws, node: MirrorNode) -> Act:
    """Single messages of one kind arrive much later, overtaken by others."""
    kind = draws.choice((*HELD, *ASKED, "RegisterAnswer"))
    way = (node.peer, node.name)
    if kind in ASKED:
        way = (node.name, WITNESS)
    elif kind == "RegisterAnswer":
        way = (WITNESS, node.name)
    for_ns = a_while(world, draws, 16 * world.timing.lease_ns)
    return cables.Hold(kind, way, for_ns, draws.between(1, 3))


@fault
def stream_reset(world: World, draws: Draws, node: MirrorNode) -> Act:
    """The connections between the replicators break, with all that is under way."""
    del world, draws
    return cables.StreamReset(node.name)


@fault
def stream_ends(world: World, draws: Draws, node: MirrorNode) -> Act:
    """The source gives its session up."""
    del world, draws
    return cables.StreamEnds(node.name)


# --- processes -----------------------------------------------------------------------------


@fault
def power(world: World, draws: Draws, node: MirrorNode) -> Act | None:
    """A node loses power, and comes back after a while."""
    return processes.Power(node.name, a_while(world, draws)) if node.up else None


@fault
def kill_processes(world: World, draws: Draws, node: MirrorNode) -> Act | None:
    """Every process of a node is killed; its kernel runs on."""
    return processes.KillProcesses(node.name, a_while(world, draws)) if node.up else None


@fault
def kill_module(world: World, draws: Draws, node: MirrorNode) -> Act:
    """The module's process is killed; the agent starts another one."""
    del draws, world
    return processes.KillModule(node.name)


@fault
def kill_replica(world: World, draws: Draws, node: MirrorNode) -> Act:
    """The replicator is killed, and the mounts with it."""
    del draws, world
    return processes.KillReplica(node.name)


@fault
def kill_agent(world: World, draws: Draws, node: MirrorNode) -> Act:
    """The agent dies alone: nothing passes between processes until it is back."""
    del world
    return processes.KillAgent(node.name, draws.between(200, 3_000) * MILLISECOND_NS)


def _which(name: str) -> str:
    return "module" if name == MODULE else "replica"


@fault
def crash_between_effects(world: World, draws: Draws, node: MirrorNode) -> Act | None:
    """A process crashes after so many effects, perhaps between two of one step."""
    del world
    names = [name for name in node.host.processes if node.host.processes[name].alive]
    if not names:
        return None
    effects = draws.below(12)
    return processes.Crash(node.name, _which(draws.choice(names)), effects)


@fault
def pause(world: World, draws: Draws, node: MirrorNode) -> Act | None:
    """The processes of a node do not run for a while; its guard does."""
    if not node.up:
        return None
    return processes.Pause(node.name, a_while(world, draws, 8 * world.timing.lease_ns))


@fault
def pause_module(world: World, draws: Draws, node: MirrorNode) -> Act | None:
    """The module's process does not run for a while."""
    if not node.up:
        return None
    return processes.PauseModule(node.name, a_while(world, draws, 8 * world.timing.lease_ns))


@fault
def slow(world: World, draws: Draws, node: MirrorNode) -> Act | None:
    """A process takes long for every event."""
    names = list(node.host.processes)
    if not names:
        return None
    which = _which(draws.choice(names))
    by_ns = draws.choice((1, 5, 20, 60)) * MILLISECOND_NS
    return processes.Slow(node.name, by_ns, which, a_while(world, draws))


@fault
def suspend(world: World, draws: Draws, node: MirrorNode) -> Act | None:
    """A machine stands still with its guard; its monotonic clock does, too."""
    if not node.up:
        return None
    return processes.Suspend(node.name, a_while(world, draws, 8 * world.timing.lease_ns))


# --- disks and clocks ----------------------------------------------------------------------


@fault
def disk_slow(world: World, draws: Draws, node: MirrorNode) -> Act:
    """A disk takes long for a while."""
    by_ns = draws.choice((20, 200, 1_500)) * MILLISECOND_NS
    return disks.DiskSlow(node.name, by_ns, a_while(world, draws))


@fault
def disk_error(world: World, draws: Draws, node: MirrorNode) -> Act:
    """A disk refuses everything for a while: EIO."""
    return disks.DiskError(node.name, a_while(world, draws))


@fault
def disk_full(world: World, draws: Draws, node: MirrorNode) -> Act:
    """A disk is full for a while: ENOSPC."""
    return disks.DiskFull(node.name, a_while(world, draws))


@fault
def flush_error(world: World, draws: Draws, node: MirrorNode) -> Act:
    """One flush fails; the next one would succeed, and lie."""
    del world, draws
    return disks.FlushError(node.name)


@fault
def record_fails(world: World, draws: Draws, node: MirrorNode) -> Act:
    """The next writings of the durable record fail."""
    del world
    return disks.RecordFails(node.name, draws.between(1, 3))


@fault
def record_crash(world: World, draws: Draws, node: MirrorNode) -> Act:
    """Power fails at the next writing of the record: before or after it is durable."""
    when = draws.choice(("before", "after"))
    return disks.RecordCrash(node.name, when, a_while(world, draws))


@fault
def clock_step(world: World, draws: Draws, node: MirrorNode) -> Act:
    """The time of day is set."""
    del world
    return disks.ClockStep(node.name, draws.between(-3_600, 3_600) * SECOND_NS)


# --- arbiter, application, administrators --------------------------------------------------


@fault
def witness_restart(world: World, draws: Draws, node: MirrorNode) -> Act:
    """The witness is started anew."""
    del world, draws, node
    return people.WitnessRestart()


@fault
def witness_away(world: World, draws: Draws, node: MirrorNode) -> Act | None:
    """The witness is off for a while, perhaps for hours."""
    del node
    if not world.witness_node.host.up:
        return None
    return people.WitnessAway(for_ns=a_while(world, draws) if draws.chance(900) else LONG_NS)


@fault
def witness_slow(world: World, draws: Draws, node: MirrorNode) -> Act:
    """The witness's disk takes long."""
    del node
    by_ns = draws.choice((50, 300, 2_000)) * MILLISECOND_NS
    return people.WitnessSlow(by_ns=by_ns, for_ns=a_while(world, draws))


@fault
def witness_answers_lost(world: World, draws: Draws, node: MirrorNode) -> Act:
    """What was asked of the witness is done, but nobody hears of it."""
    del world, node
    return people.WitnessAnswersLost(count=draws.between(1, 6))


@fault
def application_start_fails(world: World, draws: Draws, node: MirrorNode) -> Act:
    """The next starts of the application fail."""
    del world
    return people.StartFails(node.name, draws.between(1, 2))


@fault
def application_start_hangs(world: World, draws: Draws, node: MirrorNode) -> Act:
    """The next start never ends: it is ended at its time limit."""
    del world, draws
    return people.StartHangs(node.name)


@fault
def application_stop_hangs(world: World, draws: Draws, node: MirrorNode) -> Act:
    """The next stop never ends: it is ended at its time limit."""
    del world, draws
    return people.StopHangs(node.name)


@fault
def application_exits(world: World, draws: Draws, node: MirrorNode) -> Act:
    """The application ends by itself."""
    del world, draws
    return people.Exits(node.name)


def operator(world: World, draws: Draws, node: MirrorNode) -> None:
    """Somebody gives an order: perhaps twice, perhaps on both nodes."""
    verb = draws.choice(COMMANDS)
    names = [node.name, node.peer] if draws.chance(250) else [node.name]
    for name in names:
        perform(world, people.Command(verb, name, draws.chance(250)))


FAULTS["operator"] = operator
