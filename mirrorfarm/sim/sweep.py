"""Random faults from a seed, then a calm end in which everything must come up again."""

from random import Random

from mirrorfarm.modules.settings import PROFILES, Timing
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.registers import WITNESS
from mirrorfarm.sim.world import World
from mirrorfarm.transport.address import MODULE_ACTOR

NAMES = ("n1", "n2")
COMMANDS = ("swap", "stop", "start", "restart", "stopstart", "forcestop")


def play(
    seed: int,
    steps: int = 40,
    timing: Timing | None = None,
    *,
    failover: bool = True,
    directories: bool = True,
    arbiter: str = "witness",
    divergence: str = "keep-primary",
    ack_mode: str = "durable",
) -> World:
    """Play one seed to its end; raise Violation when an invariant does not hold."""
    world = World(
        seed,
        timing or PROFILES["fast"],
        failover=failover,
        directories=directories,
        arbiter=arbiter,
        divergence=divergence,
        ack_mode=ack_mode,
    )
    random = Random(seed ^ 0x5EED)
    _begin(world)
    for _ in range(steps):
        _fault(world, random)
        for _ in range(random.randint(1, 8)):
            world.write()
            world.run(random.randint(1, 120))
    _calm(world)
    return world


def _begin(world: World) -> None:
    for name in NAMES:
        world.start(name)
    world.run(100)
    world.command("n1", "prim")
    if not world.run_until(lambda: world.role("n1") == "ALONE Ready", 10_000):
        raise Violation("L: the first start does not end")
    world.command("n2", "start")
    if not world.run_until(lambda: world.role("n2") == "SECOND Ready", 10_000):
        raise Violation("L: the first resynchronisation does not end")


def _fault(world: World, random: Random) -> None:
    name = random.choice(NAMES)
    if random.random() < 0.4:
        _rare_fault(world, random, name)
        return
    match random.randint(0, 11):
        case 0:
            if world.nodes[name].up:
                world.kill(name, power=world.ack_mode == "durable" or random.random() < 0.6)
        case 1 | 2:
            if not world.nodes[name].up:
                world.start(name, again=True)
        case 3:
            if world.nodes[name].up:
                world.freeze(name, random.choice((100, 200, 400, 900, 2_000)))
        case 4:
            world.set_link("n1", "n2", up=False)
        case 5 | 6:
            world.set_link("n1", "n2", up=True)
        case 7:
            world.isolate(name)
        case 8:
            for other in NAMES:
                world.isolate(other, up=True)
        case 9:
            world.set_link(name, WITNESS, up=random.random() < 0.6)
        case 10:
            world.loss_percent = random.choice((0, 0, 0, 5, 20))
        case _:
            if world.nodes[name].up:
                world.command(name, random.choice(COMMANDS))


def _rare_fault(world: World, random: Random, name: str) -> None:
    """Faults of one part of a node, of the witness, and of the order of messages."""
    node = world.nodes[name]
    other = "n2" if name == "n1" else "n1"
    match random.randint(0, 11):
        case 0:
            world.cut_one_way(name, random.choice((other, WITNESS)))
        case 1:
            world.cut_one_way(random.choice((other, WITNESS)), name)
        case 2:
            world.restart_witness()
        case 3:
            world.witness_up = False  # Until the next restart.
        case 4:
            world.repeat_percent = random.choice((0, 10, 30))
        case 5:
            world.late_percent = random.choice((0, 2, 10))
        case _ if not node.up:
            pass
        case 6:
            node.store_crashes = random.choice(("before", "after"))
        case 7:
            node.store_fails = True
        case 8:
            world.kill_plane(name)
        case 9:
            node.plane.fail()
        case 10:
            node.plane.broken("the connection of the stream broke")
        case _:
            world.freeze(name, random.choice((100, 300, 600, 2_000)), module_only=True)


def _decide(world: World, name: str) -> None:
    """End a split: the node that serves is right, or else n1."""
    other = "n2" if name == "n1" else "n1"
    if world.role(other).startswith(("PRIM", "ALONE")):
        world.command(name, "second", "fullsync")
    elif name == "n1":
        world.command(name, "prim")


def _only(world: World, name: str) -> bool:
    """Whether the register counts no other node's data."""
    register = world.monitors.register
    return register is not None and register.isr == (name,)


def _accept_loss(world: World, name: str) -> None:
    """After two failures, with a reason that says so: what this node has is all that counts."""
    world.command(name, "stop")
    for write in [w for w in world.monitors.acked if w not in world.nodes[name].plane.data]:
        del world.monitors.acked[write]


def _calm(world: World) -> None:
    """End every fault; both nodes must be in service, with everything acknowledged on both."""
    world.loss_percent = world.repeat_percent = world.late_percent = 0
    if not world.witness_up:
        world.restart_witness()
    for name in NAMES:
        world.isolate(name, up=True)
        world.nodes[name].store_fails, world.nodes[name].store_crashes = False, ""
    world.run(3_000)
    for name in NAMES:
        if not world.nodes[name].up:
            world.start(name, again=True)
    world.run(3_000)

    accepted: list[str] = []  # Nodes whose administrator accepts that writes are lost.

    def settled() -> bool:
        for name in NAMES:
            if world.role(name).startswith("STOP"):
                world.command(name, "primforce" if name in accepted else "start")
            elif "from memory" in world.reason(name) and _only(world, name):
                _accept_loss(world, name)
                accepted.append(name)
            elif "SPLIT" in world.reason(name):  # Its administrator says whose data are kept.
                _decide(world, name)
            elif world.nodes[name].cores[MODULE_ACTOR].state.failed:
                world.command(name, "forcestop")  # Its administrator repaired the disk.
        return {world.role(name) for name in NAMES} == {"PRIM Ready", "SECOND Ready"}

    for _ in range(40):
        if world.run_until(settled, 500):
            break
    else:
        states = {name: world.role(name) for name in NAMES}
        reasons = {
            name: world.nodes[name].cores[MODULE_ACTOR].state.reason
            for name in NAMES
            if world.nodes[name].up
        }
        raise Violation(f"L4: not in service after the faults ended: {states} {reasons}")
    world.run(1_000)
    _compare(world)


def _compare(world: World) -> None:
    """Everything acknowledged is on both nodes, and nothing but the same."""
    for node in world.nodes.values():
        kept = set().union(*(one.plane.kept for one in world.nodes.values()))
        lost = sorted(w for w in world.monitors.acked if w not in node.plane.data | kept)
        if lost and world.directories:
            raise Violation(f"S13: {node.name} lacks {lost[:5]} after the end")
    one, other = (world.nodes[name].plane.data for name in NAMES)
    if one != other:
        raise Violation(f"S13: the copies differ after the end: {sorted(one ^ other)[:5]}")
