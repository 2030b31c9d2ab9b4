"""The faults of a simulated farm: each does one thing to the world."""

from collections.abc import Callable

from mirrorfarm.sim.engine import Draws
from mirrorfarm.sim.farm import MODULE, FarmWorld
from mirrorfarm.sim.monitors.seen import Fault

Inject = Callable[[FarmWorld, Draws, str], None]
FAULTS: dict[str, Inject] = {}
LOSSY = ("lossy", "late")  # With these, two nodes may not hear of each other for long.


def fault(function: Inject) -> Inject:
    """Make a function known as a fault."""
    FAULTS[function.__name__] = function
    return function


def inject(world: FarmWorld, name: str, draws: Draws) -> None:
    """Do one fault of a kind; a node that is off is rather started."""
    node = draws.choice(world.names)
    world.seen(node, Fault(name), MODULE)
    if world.nodes[node].core is None:
        if draws.chance(600):
            world.start(node, again=world.machines)
        return
    FAULTS[name](world, draws, node)


@fault
def power_lost(world: FarmWorld, draws: Draws, node: str) -> None:
    """A machine goes off, with its filter and its connections."""
    del draws
    world.kill(node)


@fault
def killed(world: FarmWorld, draws: Draws, node: str) -> None:
    """The module's process is killed; its filter goes on until its lease ends."""
    del draws
    world.kill(node, machine=False)


@fault
def crash_between_effects(world: FarmWorld, draws: Draws, node: str) -> None:
    """The process crashes after so many effects, perhaps between two of one step."""
    process = world.nodes[node].process
    if process is not None:
        process.doom = draws.below(12)


@fault
def frozen(world: FarmWorld, draws: Draws, node: str) -> None:
    """The processes of a node do not run for a while."""
    world.freeze(node, draws.choice((80, 300, 500, 700, 1_500)))


@fault
def slow(world: FarmWorld, draws: Draws, node: str) -> None:
    """A process takes longer for every event, for two seconds."""
    process = world.nodes[node].process
    if process is not None:
        process.slow_ns = draws.choice((1, 5, 10)) * 1_000_000
        world.after(2_000_000_000, lambda: setattr(process, "slow_ns", 0))


@fault
def ordered(world: FarmWorld, draws: Draws, node: str) -> None:
    """An administrator has a node leave, drain or take part."""
    if world.machines:
        world.command(node, draws.choice(("start", "stop", "restart", "drain", "resume")))
    else:
        world.wish(node, draws.choice(("in", "in", "away", "drain")))


@fault
def powered(world: FarmWorld, draws: Draws, node: str) -> None:
    """An administrator changes a node's share."""
    world.power(node, draws.choice((0, 1, 1, 2, 3)))


@fault
def hung(world: FarmWorld, draws: Draws, node: str) -> None:
    """A node's agent hangs: what was said meanwhile arrives afterwards, all at once."""
    world.hang(node, draws.choice((200, 450, 800, 1_500)), alone=True)


def _other(world: FarmWorld, draws: Draws, node: str) -> str:
    return draws.choice([name for name in world.names if name != node])


@fault
def cut(world: FarmWorld, draws: Draws, node: str) -> None:
    """A link is cut."""
    world.set_link(node, _other(world, draws, node), up=False)


@fault
def one_way(world: FarmWorld, draws: Draws, node: str) -> None:
    """One direction of a link is cut."""
    world.cut_one_way(node, _other(world, draws, node))


@fault
def deaf_or_mute(world: FarmWorld, draws: Draws, node: str) -> None:
    """A node hears nobody, or nobody hears it."""
    deaf = draws.chance(500)
    for other in world.names:
        if other != node:
            world.cut_one_way(*((other, node) if deaf else (node, other)))


@fault
def parted(world: FarmWorld, draws: Draws, node: str) -> None:
    """The farm is parted into two or three sides."""
    del node
    sides: list[list[str]] = [[], [], []]
    count = draws.choice((2, 2, 3))
    for name in world.names:
        sides[draws.below(count)].append(name)
    world.partition(*(tuple(side) for side in sides if side))


@fault
def mended(world: FarmWorld, draws: Draws, node: str) -> None:
    """All links work again."""
    del draws, node
    world.heal()


@fault
def repeated(world: FarmWorld, draws: Draws, node: str) -> None:
    """Messages arrive twice, from now on or no more."""
    del node
    world.network.quality.repeat = draws.choice((0, 100, 300))


@fault
def lossy(world: FarmWorld, draws: Draws, node: str) -> None:
    """Messages get lost, from now on or no more."""
    del node
    world.network.quality.loss = draws.choice((0, 0, 50, 200))
    world.links_changed()


@fault
def late(world: FarmWorld, draws: Draws, node: str) -> None:
    """Messages are overtaken, from now on or no more."""
    del node
    world.network.quality.late = draws.choice((0, 0, 20, 100))
    world.links_changed()
