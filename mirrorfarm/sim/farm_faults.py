"""The faults of a simulated farm: each draws what is done to the world."""

from collections.abc import Callable

from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.sim.acts import farm as acts
from mirrorfarm.sim.acts.act import Act, perform
from mirrorfarm.sim.acts.cables import Hold
from mirrorfarm.sim.engine import Draws
from mirrorfarm.sim.farm import FarmWorld

Draw = Callable[[FarmWorld, Draws, str], Act]
FAULTS: dict[str, Draw] = {}
LOSSY = ("lossy", "late")  # With these, two nodes may not hear of each other for long.


def fault(draw: Draw) -> Draw:
    """Make a function that draws one act known as a fault."""
    FAULTS[draw.__name__] = draw
    return draw


def inject(world: FarmWorld, name: str, draws: Draws) -> None:
    """Do one fault of a kind; a node that is off is rather started."""
    node = draws.choice(world.names)
    if world.nodes[node].core is None:
        if draws.chance(600):
            perform(world, acts.Start(node))
        return
    perform(world, FAULTS[name](world, draws, node))


@fault
def power_lost(world: FarmWorld, draws: Draws, node: str) -> Act:
    """A machine goes off, with its filter and its connections."""
    del world, draws
    return acts.PowerOff(node)


@fault
def killed(world: FarmWorld, draws: Draws, node: str) -> Act:
    """The module's process is killed; its filter goes on until its lease ends."""
    del world, draws
    return acts.KillProcesses(node)


@fault
def crash_between_effects(world: FarmWorld, draws: Draws, node: str) -> Act:
    """The process crashes after so many effects, perhaps between two of one step."""
    del world
    return acts.Crash(node, draws.below(12))


@fault
def frozen(world: FarmWorld, draws: Draws, node: str) -> Act:
    """The processes of a node do not run for a while."""
    del world
    return acts.Pause(node, draws.choice((80, 300, 500, 700, 1_500)) * MILLISECOND_NS)


@fault
def slow(world: FarmWorld, draws: Draws, node: str) -> Act:
    """A process takes longer for every event, for two seconds."""
    del world
    return acts.Slow(node, draws.choice((1, 5, 10)) * MILLISECOND_NS, 2 * SECOND_NS)


@fault
def ordered(world: FarmWorld, draws: Draws, node: str) -> Act:
    """An administrator has a node leave, drain or take part."""
    if world.machines:
        verb = draws.choice(("start", "stop", "restart", "drain", "resume"))
        return acts.Command(verb, node)
    return acts.Wish(node, draws.choice(("in", "in", "away", "drain")))


@fault
def powered(world: FarmWorld, draws: Draws, node: str) -> Act:
    """An administrator changes a node's share."""
    del world
    return acts.Weight(node, draws.choice((0, 1, 1, 2, 3)))


@fault
def hung(world: FarmWorld, draws: Draws, node: str) -> Act:
    """A node's agent hangs: what was said meanwhile arrives afterwards, all at once.

    Clients may reach it meanwhile if it is less than half of its view: then it has to give way,
    and answers alone only later than that.
    """
    length = draws.choice((200, 450, 800, 1_500)) * MILLISECOND_NS
    picture = world.nodes[node].picture
    hanging = any(world.now < other.hung_until_ns for other in world.nodes.values())
    minority = picture is not None and len(picture.members) > 2
    reached = minority and not hanging and not world.network.cuts and draws.chance(700)
    return acts.Hang(node, length, alone=not reached)


@fault
def slow_counts(world: FarmWorld, draws: Draws, node: str) -> Act:
    """A node takes long to find out where its connections are, for two seconds."""
    del world
    return acts.SlowCounts(node, draws.choice((50, 200, 600)) * MILLISECOND_NS, 2 * SECOND_NS)


HELD = ("FarmBeat", "ViewProposal", "ViewProposal", "ViewAck", "ViewCommit")


@fault
def hold(world: FarmWorld, draws: Draws, node: str) -> Act:
    """Single messages of one kind arrive much later, perhaps at a process started since."""
    way = (_other(world, draws, node), node)
    for_ns = draws.choice((100, 300, 900, 2_500)) * MILLISECOND_NS
    return Hold(draws.choice(HELD), way, for_ns, draws.between(1, 3))


def _other(world: FarmWorld, draws: Draws, node: str) -> str:
    return draws.choice([name for name in world.names if name != node])


@fault
def cut(world: FarmWorld, draws: Draws, node: str) -> Act:
    """A link is cut."""
    return acts.Cut((node, _other(world, draws, node)))


@fault
def one_way(world: FarmWorld, draws: Draws, node: str) -> Act:
    """One direction of a link is cut."""
    return acts.OneWay((node, _other(world, draws, node)))


@fault
def deaf_or_mute(world: FarmWorld, draws: Draws, node: str) -> Act:
    """A node hears nobody, or nobody hears it."""
    del world
    return acts.Deaf(node) if draws.chance(500) else acts.Mute(node)


@fault
def parted(world: FarmWorld, draws: Draws, node: str) -> Act:
    """The farm is parted into two or three sides."""
    del node
    sides: list[list[str]] = [[], [], []]
    count = draws.choice((2, 2, 3))
    for name in world.names:
        sides[draws.below(count)].append(name)
    return acts.Partition(tuple(tuple(side) for side in sides if side))


@fault
def mended(world: FarmWorld, draws: Draws, node: str) -> Act:
    """All links work again."""
    del world, draws, node
    return acts.Mend()


@fault
def repeated(world: FarmWorld, draws: Draws, node: str) -> Act:
    """Messages arrive twice, from now on or no more."""
    del world, node
    return acts.Repeat(draws.choice((0, 100, 300)))


@fault
def lossy(world: FarmWorld, draws: Draws, node: str) -> Act:
    """Messages get lost, from now on or no more."""
    del world, node
    return acts.Loss(draws.choice((0, 0, 50, 200)))


@fault
def late(world: FarmWorld, draws: Draws, node: str) -> Act:
    """Messages are overtaken, from now on or no more."""
    del world, node
    return acts.Late(draws.choice((0, 0, 20, 100)))
