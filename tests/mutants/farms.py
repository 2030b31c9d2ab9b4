"""Small farms of their own, for rules that the great sweep has no fault for.

Each takes a seed and raises Violation; most leave that to the monitors.
"""

from random import Random

from mirrorfarm.limits import BUCKETS, CLOCK_RATE_ERROR_DIVISOR, MICROSECOND_NS, MILLISECOND_NS
from mirrorfarm.modules.settings import FarmTiming
from mirrorfarm.sim.farm import FarmWorld
from mirrorfarm.sim.farm_clients import Clients
from mirrorfarm.sim.meddling import Meddling
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.network import Quality

_RATE_MILLIONTHS = 1_000_000 // CLOCK_RATE_ERROR_DIVISOR  # What a clock may be wrong by.


def _farm(seed: int, count: int, quality: Quality | None = None) -> FarmWorld:
    """Return a farm in which all nodes are in one view."""
    world = FarmWorld(seed, count)
    world.network.quality = quality or Quality()
    for name in world.names:
        world.start(name)
    _together(world)
    return world


def _together(world: FarmWorld) -> None:
    if not world.run_until(lambda: world.settled(*world.names), 6_000):
        raise Violation("L: the farm does not come together")


def merging(seed: int) -> None:
    """Two parts of a farm meet again: the weaker one gives way, the stronger goes on all the time.

    Nothing else of the farm's monitors sees it when both give way.
    """
    random = Random(seed)
    world = _farm(seed, random.choice((3, 4, 5)))
    weaker = tuple(random.sample(world.names, (len(world.names) - 1) // 2))
    stronger = tuple(name for name in world.names if name not in weaker)
    world.partition(weaker, stronger)
    if not world.run_until(lambda: world.settled(*weaker) and world.settled(*stronger), 9_000):
        raise Violation("L: the parts of the farm do not come together")
    world.run(random.randint(0, 500))
    world.heal()
    for _ in range(300):
        world.run(10)
        if not any(world.answers(name) for name in stronger):
            raise Violation("F7: the stronger of two views that met does not answer any more")


def clocks(seed: int) -> None:
    """A process dies and leaves its filter open; its clock is as slow as allowed, others as fast.

    In a fast network nothing but the rule is left between the end of its lease and the others.
    """
    random = Random(seed)
    world = FarmWorld(seed, random.choice((2, 3, 4)))
    world.network.quality = Quality(delay_ns=50 * MICROSECOND_NS)
    slow = random.choice(world.names)
    for name, host in world.hosts.items():
        host.clocks.drift(world.now, -_RATE_MILLIONTHS if name == slow else _RATE_MILLIONTHS)
        world.start(name)
    for _ in range(3):
        _together(world)
        world.run(random.randint(0, 150))
        world.kill(slow, power=False)
        world.run(1_500)
        world.start(slow)


def overtaken(seed: int) -> None:
    """A node leaves and comes back; what it said when it was away arrives after that."""
    random = Random(seed)
    world = _farm(seed, random.choice((2, 3, 4)))
    for _ in range(3):
        name, other = random.sample(world.names, 2)
        world.wish(name, "away")
        world.run(random.randint(1, 300))
        late_ns = random.randint(400, 2_500) * MILLISECOND_NS
        world.meddle(Meddling("FarmBeat", name, other, random.randint(1, 3), late_ns))
        world.run(random.randint(100, 300))
        world.wish(name, "in")
        world.run(3_500)


def triangle(seed: int) -> None:
    """Two nodes do not hear each other, for good, and both hear the others: one is left out.

    The others serve, without a gap.
    """
    random = Random(seed)
    world = _farm(seed, random.choice((3, 3, 4, 5)))
    one, other = random.sample(world.names, 2)
    if random.random() < 0.5:
        world.set_link(one, other, up=False)
    else:
        world.cut_one_way(one, other)
    world.run(4_000)
    for _ in range(300):
        world.run(10)
        if sum(world.shares().values()) != BUCKETS:
            raise Violation(f"F3: {one} and {other} are cut apart: buckets {world.shares()}")


def stalls(seed: int) -> None:
    """A node does not hear who serves, promises a view of its own, and its machine stands still.

    What it said before got lost; then it has to be said for long enough. Where that is over when
    the machine goes on, nothing that the own agent hands back can tell the node in time.
    """
    random = Random(seed)
    world = FarmWorld(seed, random.choice((2, 2, 3)))
    deaf = random.choice(world.names)
    serving = tuple(name for name in world.names if name != deaf)
    for name in serving:
        world.start(name)
    if not world.run_until(lambda: world.settled(*serving), 6_000):
        raise Violation("L: the farm does not come together")
    for name in serving:
        world.cut_one_way(name, deaf)
    world.start(deaf)
    world.drops = lambda source, *_: source == deaf
    if not world.run_until(lambda: _promised(world, deaf), 4_000, every=1):
        raise Violation(f"L: {deaf} hears nobody and does not go on alone")
    world.run(random.randint(0, 800))
    world.freeze(deaf, random.randint(200, 640))
    world.run(10)
    world.drops = None
    world.run(3_000)


def hangs(seed: int) -> None:
    """The agent of a node hangs while it serves, or while a node that hears nobody begins.

    Clients reach it all the time, and what it said meanwhile gets out all at once.
    """
    random = Random(seed)
    if random.random() < 0.5:
        world = _farm(seed, random.choice((2, 2, 3)))
        name = random.choice(world.names)
    else:
        world, name = FarmWorld(seed, 2), "n2"
        world.start("n1")
        world.cut_one_way("n1", name)
        world.start(name)
        world.run(random.randint(600, 1_100))
    world.hang(name, random.randint(500, 1_500))
    world.run(3_000)


def unheard(seed: int) -> None:
    """The agent of a node that serves hangs when one begins that cannot hear it, or it freezes.

    It goes on just before its lease ends, and hears only then that it is left out.
    """
    random = Random(seed)
    world = FarmWorld(seed, 2)
    server, deaf = random.sample(world.names, 2)
    world.start(server)
    if not world.run_until(lambda: world.settled(server), 6_000):
        raise Violation("L: one node of a farm does not serve alone")
    world.cut_one_way(server, deaf)
    world.start(deaf)
    world.run(random.randint(900, 1_010))
    fault = random.choice((world.hang, world.freeze))
    fault(server, random.randint(480, 660))
    world.run(3_000)


def hangs_in_turn(seed: int) -> None:
    """The agent of a node hangs when one returns that stays left out, and is told so by itself."""
    random = Random(seed)
    world = _farm(seed, 3)
    first, second, third = random.sample(world.names, 3)
    world.hang(first, 800)
    world.cut_one_way(third, first)
    world.run(800 + random.randint(0, 150))
    world.hang(second, random.randint(700, 1_500))
    world.run(3_000)


def promised_and_gone(seed: int) -> None:
    """One that comes is deaf before it hears that it is in; others promise to go on with it."""
    random = Random(seed)
    world = _farm(seed, 3)
    world.kill("n3")
    world.run(900)
    world.start("n3")
    for name in ("n2", "n3"):
        world.meddle(Meddling("ViewCommit", "n1", name, 40))

    def taken_in() -> bool:
        core = world.nodes["n1"].core
        return core is not None and core.state.view is not None and "n3" in core.state.view.members

    world.run_until(taken_in, 3_000)
    for name in ("n1", "n2"):
        world.cut_one_way(name, "n3")
    world.run(random.randint(0, 20))
    world.power("n1", 2)
    world.run(3_000)


def _promised(world: FarmWorld, name: str) -> bool:
    core = world.nodes[name].core
    return core is not None and core.state.bid is not None


def ring(seed: int) -> None:
    """A node hears one that serves and is not heard by it; another one that serves hears it.

    It must not claim what it cannot open: the one that hears that would give way for nothing.
    """
    random = Random(seed)
    world = FarmWorld(seed, 3)
    for name in ("n2", "n3"):
        world.start(name)
    world.partition(("n1",), ("n2",), ("n3",))
    if not world.run_until(lambda: world.settled("n2") and world.settled("n3"), 6_000):
        raise Violation("L: a node that is cut off does not serve those who reach it")
    for network in world.network.names:
        world.network.set_way("n3", "n1", up=True, network=network)
        world.network.set_way("n1", "n2", up=True, network=network)
    world.run(random.randint(0, 200))
    world.start("n1")
    for _ in range(400):
        world.run(10)
        if not world.answers("n2"):
            raise Violation("F7: n2 gives way to n1, which cannot serve beside n3")


def reborn(seed: int) -> None:
    """A process is killed while a view is proposed to it, and started again at once.

    What its predecessor left in the kernel is still open: the new process cannot promise for it.
    """
    random = Random(seed)
    world = _farm(seed, random.choice((2, 3, 4)))
    for _ in range(3):
        name = random.choice(world.names[1:])
        late_ns = random.randint(60, 300) * MILLISECOND_NS
        world.meddle(Meddling("ViewProposal", "n1", name, 9, late_ns))
        world.power("n1", random.randint(1, 3))
        world.run(random.randint(1, 40))
        world.kill(name, power=False)
        world.run(random.randint(0, 20))
        world.start(name)
        world.run(2_000)
        world.meddle_no_more()
        _together(world)


def counts(seed: int) -> None:
    """Buckets move again and again while nodes take long to find out where connections are."""
    random = Random(seed)
    world = FarmWorld(seed, 3, FarmTiming(scan_ns=200 * MILLISECOND_NS))
    clients = Clients(world)
    for name in world.names:
        world.start(name)
        world.nodes[name].filter.slow_ns = random.randint(100, 600) * MILLISECOND_NS
    _together(world)
    for _ in range(12):
        world.power(random.choice(world.names), random.randint(0, 3))
        clients.flow_for(random.randint(50, 500), every=4)


def outnumbered(seed: int) -> None:
    """Less than half of a farm is cut off: it closes, and only a second later it begins anew.

    Each of those cut off hears another one, so that its lease does not end for its agent's sake.
    """
    random = Random(seed)
    world = _farm(seed, random.choice((5, 6, 7)))
    few = tuple(random.sample(world.names, random.randint(2, (len(world.names) - 1) // 2)))
    world.partition(few, tuple(name for name in world.names if name not in few))
    world.run(world.timing.lease_ns // MILLISECOND_NS + 10)
    for _ in range(90):
        for name in few:
            if world.answers(name):
                raise Violation(f"F7: {name} is cut off from most of its farm, and answers clients")
        world.run(10)


def led_by_another(seed: int) -> None:
    """Who made a view loses the lead by it, and its commit is lost: it is repeated all the same."""
    random = Random(seed)
    count = random.choice((3, 4, 5))
    world = FarmWorld(seed, count)
    maker = random.choice(world.names[1:-1])
    world.start(maker)
    if not world.run_until(lambda: world.settled(maker), 6_000):
        raise Violation("L: one node of a farm does not serve alone")
    late = world.names[-1]
    world.meddle(Meddling("ViewCommit", maker, late, random.randint(1, 3)))
    for name in world.names:
        if name != maker:
            world.start(name)
    if not world.run_until(lambda: world.settled(*world.names), 4_000):
        raise Violation(f"L: {late} waits for ever for the commit of the view of {maker}")


def parting(seed: int) -> None:
    """A node is cut off until it has promised itself a view of its own: the others go on.

    They promised to go on without it as well, and none of these promises is used yet.
    """
    random = Random(seed)
    world = _farm(seed, random.choice((3, 4, 5)))
    name = random.choice(world.names)
    others = tuple(other for other in world.names if other != name)
    world.partition((name,), others)
    world.run(random.randint(440, 480))
    world.heal()
    for _ in range(60):
        world.run(10)
        if not any(world.answers(other) for other in others):
            raise Violation(f"F7: {name} was cut off shortly, and all others close for it")
