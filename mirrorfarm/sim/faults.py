"""The faults of a simulated mirror: each does one thing to the world, and ends it later.

`FAULTS` names them. A swarm keeps each kind with one half; `ALLOWS` says which invariants a
kind may break, and why: nothing else is ever excused.
"""

import errno
from collections.abc import Callable

from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.sim.engine import Draws
from mirrorfarm.sim.monitors.seen import Fault
from mirrorfarm.sim.pair import MirrorNode
from mirrorfarm.sim.storage import Latency
from mirrorfarm.sim.witness import WITNESS
from mirrorfarm.sim.world import GATEWAY, MODULE, NODES, World

COMMANDS = ("swap", "stop", "start", "restart", "stopstart", "forcestop")
LONG_NS = 3_600 * SECOND_NS

Inject = Callable[[World, Draws, MirrorNode], None]
FAULTS: dict[str, Inject] = {}
ALLOWS: dict[str, tuple[tuple[str, ...], str]] = {
    "suspend": (("X1", "X2", "X3", "X4"), "nothing stops a machine that does not run"),
}


def fault(function: Inject) -> Inject:
    """Make a function known as a fault."""
    FAULTS[function.__name__] = function
    return function


def inject(world: World, name: str, draws: Draws) -> None:
    """Do one fault of a kind, to a node of the draw's choice."""
    node = world.nodes[draws.choice(NODES)]
    world.seen(node.name, Fault(name), MODULE)
    FAULTS[name](world, draws, node)


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
def cut(world: World, draws: Draws, node: MirrorNode) -> None:
    """A link is cut, on one network or on all of them."""
    pair = _pair(draws, node)
    network = draws.choice(("", "", *world.network.names))
    world.network.set_link(*pair, up=False, network=network)
    world.after(a_while(world, draws), lambda: world.network.set_link(*pair, up=True))


@fault
def one_way(world: World, draws: Draws, node: MirrorNode) -> None:
    """One direction of a link is cut."""
    pair = _pair(draws, node)
    world.network.set_way(*pair, up=False)
    world.after(a_while(world, draws), lambda: world.network.set_way(*pair, up=True))


@fault
def isolate(world: World, draws: Draws, node: MirrorNode) -> None:
    """A node loses every link."""
    world.isolate(node.name)
    world.after(a_while(world, draws), lambda: world.isolate(node.name, up=True))


@fault
def flap(world: World, draws: Draws, node: MirrorNode) -> None:
    """A link comes and goes."""
    pair, at = _pair(draws, node), world.now
    for number in range(2 * draws.between(2, 8)):
        up = bool(number % 2)
        world.at(at, lambda up=up: world.network.set_link(*pair, up=up))
        at += a_while(world, draws, world.timing.lease_ns)


@fault
def clog(world: World, draws: Draws, node: MirrorNode) -> None:
    """A direction holds everything back, then lets it all through."""
    pair = _pair(draws, node)
    world.network.clog(*pair, world.now + a_while(world, draws, 8 * world.timing.lease_ns))


@fault
def network_down(world: World, draws: Draws, node: MirrorNode) -> None:
    """A whole network is down."""
    del node
    name = draws.choice(world.network.names)
    world.network.down.add(name)
    world.network.changed()
    world.after(a_while(world, draws), lambda: world.network.down.discard(name))


def _quality(world: World, draws: Draws, name: str, value: int) -> None:
    quality = world.network.quality
    setattr(quality, name, value)
    world.after(a_while(world, draws), lambda: setattr(quality, name, 0))


@fault
def loss(world: World, draws: Draws, node: MirrorNode) -> None:
    """Datagrams get lost."""
    del node
    _quality(world, draws, "loss", draws.choice((10, 50, 200, 500)))


@fault
def repeat(world: World, draws: Draws, node: MirrorNode) -> None:
    """Datagrams arrive twice."""
    del node
    _quality(world, draws, "repeat", draws.choice((20, 100, 300)))


@fault
def late(world: World, draws: Draws, node: MirrorNode) -> None:
    """Datagrams are overtaken by others."""
    del node
    _quality(world, draws, "late", draws.choice((20, 100, 300)))


@fault
def corrupt(world: World, draws: Draws, node: MirrorNode) -> None:
    """Bytes flip on the way: the bus refuses and counts such frames."""
    del node
    _quality(world, draws, "corrupt", draws.choice((10, 100)))


@fault
def stream_reset(world: World, draws: Draws, node: MirrorNode) -> None:
    """The connections between the replicators break, with all that is under way."""
    del draws
    world.streams.reset(node.name, node.peer)


@fault
def stream_ends(world: World, draws: Draws, node: MirrorNode) -> None:
    """The source gives its session up."""
    del draws
    world.break_stream(node.name)


# --- processes -----------------------------------------------------------------------------


@fault
def power(world: World, draws: Draws, node: MirrorNode) -> None:
    """A node loses power, and comes back after a while."""
    if node.up:
        world.kill(node.name)
        world.after(a_while(world, draws), begin, world, node)


@fault
def kill_processes(world: World, draws: Draws, node: MirrorNode) -> None:
    """Every process of a node is killed; its kernel runs on."""
    if node.up:
        world.kill(node.name, power=False)
        world.after(a_while(world, draws), begin, world, node)


def begin(world: World, node: MirrorNode) -> None:
    """Start a node that is off."""
    if not node.up:
        world.start(node.name, again=True)


@fault
def kill_module(world: World, draws: Draws, node: MirrorNode) -> None:
    """The module's process is killed; the agent starts another one."""
    del draws, world
    if MODULE in node.host.processes:
        node.host.processes[MODULE].die()


@fault
def kill_replica(world: World, draws: Draws, node: MirrorNode) -> None:
    """The replicator is killed, and the mounts with it."""
    del draws, world
    node.kill_replica()


@fault
def kill_agent(world: World, draws: Draws, node: MirrorNode) -> None:
    """The agent dies alone: nothing passes between processes until it is back."""
    host = node.host
    host.agent = False
    host.windows.clear()
    world.after(draws.between(200, 3_000) * MILLISECOND_NS, lambda: setattr(host, "agent", True))


@fault
def crash_between_effects(world: World, draws: Draws, node: MirrorNode) -> None:
    """A process crashes after so many effects, perhaps between two of one step."""
    del world
    names = [name for name in node.host.processes if node.host.processes[name].alive]
    if names:
        node.host.processes[draws.choice(names)].doom = draws.below(12)


@fault
def pause(world: World, draws: Draws, node: MirrorNode) -> None:
    """The processes of a node do not run for a while; its guard does."""
    if node.up:
        length = a_while(world, draws, 8 * world.timing.lease_ns)
        world.freeze(node.name, length // MILLISECOND_NS)


@fault
def pause_module(world: World, draws: Draws, node: MirrorNode) -> None:
    """The module's process does not run for a while."""
    if node.up:
        length = a_while(world, draws, 8 * world.timing.lease_ns)
        world.freeze(node.name, length // MILLISECOND_NS, module_only=True)


@fault
def slow(world: World, draws: Draws, node: MirrorNode) -> None:
    """A process takes long for every event."""
    names = list(node.host.processes)
    if names:
        process = node.host.processes[draws.choice(names)]
        process.slow_ns = draws.choice((1, 5, 20, 60)) * MILLISECOND_NS
        world.after(a_while(world, draws), lambda: setattr(process, "slow_ns", 0))


@fault
def suspend(world: World, draws: Draws, node: MirrorNode) -> None:
    """A machine stands still with its guard; its monotonic clock does, too."""
    if node.up:
        length = a_while(world, draws, 8 * world.timing.lease_ns)
        world.freeze(node.name, length // MILLISECOND_NS)
        node.hands.guard.late_ns = length
        node.host.clocks.suspended(length)
        world.after(length, lambda: setattr(node.hands.guard, "late_ns", 0))


# --- disks and clocks ----------------------------------------------------------------------


@fault
def disk_slow(world: World, draws: Draws, node: MirrorNode) -> None:
    """A disk takes long for a while."""
    honest = node.latency
    node.latency = node.flushes = Latency(draws.choice((20, 200, 1_500)) * MILLISECOND_NS)

    def mend() -> None:
        node.latency = node.flushes = honest

    world.after(a_while(world, draws), mend)


def _disk_fails(world: World, draws: Draws, node: MirrorNode, error: int) -> None:
    node.disk.error = error
    world.after(a_while(world, draws), lambda: setattr(node.disk, "error", 0))


@fault
def disk_error(world: World, draws: Draws, node: MirrorNode) -> None:
    """A disk refuses everything for a while: EIO."""
    _disk_fails(world, draws, node, errno.EIO)


@fault
def disk_full(world: World, draws: Draws, node: MirrorNode) -> None:
    """A disk is full for a while: ENOSPC."""
    _disk_fails(world, draws, node, errno.ENOSPC)


@fault
def flush_error(world: World, draws: Draws, node: MirrorNode) -> None:
    """One flush fails; the next one would succeed, and lie."""
    del world, draws
    node.disk.flush_error = errno.EIO


@fault
def record_fails(world: World, draws: Draws, node: MirrorNode) -> None:
    """The next writings of the durable record fail."""
    del world
    node.records.failures, node.records.error = draws.between(1, 3), errno.ENOSPC


@fault
def record_crash(world: World, draws: Draws, node: MirrorNode) -> None:
    """Power fails at the next writing of the record: before or after it is durable."""
    node.store_crashes = draws.choice(("before", "after"))
    world.after(a_while(world, draws), begin, world, node)


@fault
def clock_step(world: World, draws: Draws, node: MirrorNode) -> None:
    """The time of day is set."""
    del world
    node.host.clocks.step(draws.between(-3_600, 3_600) * SECOND_NS)


# --- arbiter, application, administrators --------------------------------------------------


@fault
def witness_restart(world: World, draws: Draws, node: MirrorNode) -> None:
    """The witness is started anew."""
    del draws, node
    world.restart_witness()


@fault
def witness_away(world: World, draws: Draws, node: MirrorNode) -> None:
    """The witness is off for a while, perhaps for hours."""
    del node
    witness = world.witness_node
    if witness.host.up:
        witness.stop()
        length = a_while(world, draws) if draws.chance(900) else LONG_NS
        world.after(length, lambda: None if witness.host.up else witness.start())


@fault
def witness_slow(world: World, draws: Draws, node: MirrorNode) -> None:
    """The witness's disk takes long."""
    del node
    witness = world.witness_node
    witness.latency = Latency(draws.choice((50, 300, 2_000)) * MILLISECOND_NS)
    world.after(a_while(world, draws), lambda: setattr(witness, "latency", Latency()))


@fault
def witness_answers_lost(world: World, draws: Draws, node: MirrorNode) -> None:
    """What was asked of the witness is done, but nobody hears of it."""
    del node
    world.witness_node.loses_answers = draws.between(1, 6)


@fault
def application_start_fails(world: World, draws: Draws, node: MirrorNode) -> None:
    """The next starts of the application fail."""
    del world
    node.hands.app.fails = draws.between(1, 2)


@fault
def application_start_hangs(world: World, draws: Draws, node: MirrorNode) -> None:
    """The next start never ends: it is ended at its time limit."""
    del world, draws
    node.hands.app.hangs = 1


@fault
def application_stop_hangs(world: World, draws: Draws, node: MirrorNode) -> None:
    """The next stop never ends: it is ended at its time limit."""
    del world, draws
    node.hands.app.hangs_stop = 1


@fault
def application_exits(world: World, draws: Draws, node: MirrorNode) -> None:
    """The application ends by itself."""
    del world, draws
    process = node.host.processes.get(MODULE)
    if process is not None and node.application:
        node.hands.set_running(runs=False)
        node.hands.processes_changed(process)


@fault
def operator(world: World, draws: Draws, node: MirrorNode) -> None:
    """Somebody gives an order: perhaps twice, perhaps on both nodes."""
    verb = draws.choice(COMMANDS)
    names = [node.name, node.peer] if draws.chance(250) else [node.name]
    for name in names:
        request = world.command(name, verb)
        if draws.chance(250):
            world.order(name, MODULE, verb, request=request)
