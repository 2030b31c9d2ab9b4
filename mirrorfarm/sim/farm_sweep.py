"""Random faults on a farm from a seed, then a calm end in which everybody must serve again.

`python -m mirrorfarm.sim.farm_sweep FIRST COUNT` plays many seeds and tells those that fail.
"""

import sys

import msgspec

from mirrorfarm.actors.farm_filter.bitmaps import SOFT
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import LARGE_FARM_TIMING, FarmTiming
from mirrorfarm.sim.engine import Draws
from mirrorfarm.sim.farm import FarmWorld
from mirrorfarm.sim.farm_clients import Clients
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.monitors.seen import Settled
from mirrorfarm.sim.network import Quality

# As the default, but what is only a matter of patience is short.
TIMING = FarmTiming(
    hold_ns=500 * MILLISECOND_NS, hold_max_ns=2 * SECOND_NS, scan_ns=300 * MILLISECOND_NS
)
SLOW = FarmTiming(
    hold_ns=500 * MILLISECOND_NS,
    hold_max_ns=2 * SECOND_NS,
    scan_ns=300 * MILLISECOND_NS,
    slow_start_ns=SECOND_NS,
)

LARGE = msgspec.structs.replace(
    LARGE_FARM_TIMING,
    hold_ns=500 * MILLISECOND_NS,
    hold_max_ns=2 * SECOND_NS,
    scan_ns=300 * MILLISECOND_NS,
)


def play(seed: int, steps: int = 25, *, lossy: bool = True, nodes: int = 0) -> FarmWorld:
    """Play one seed to its end; raise Violation when an invariant does not hold."""
    random = Draws(seed, "plan")
    count = nodes or random.choice((2, 3, 3, 3, 4, 5))
    world = FarmWorld(seed, count, random.choice((TIMING, SLOW, LARGE)), random.choice((1, 1, 2)))
    clients = Clients(world)
    for name in world.names:
        if random.chance(800):
            world.start(name)
    clients.flow_for(random.choice((50, 800, 1_500)))
    for _ in range(steps):
        _fault(world, random, lossy)
        clients.flow_for(random.between(20, 700), every=20)
    _calm(world, clients)
    return world


def _fault(world: FarmWorld, random: Draws, lossy: bool) -> None:
    if random.chance(550):
        _node_fault(world, random)
    else:
        _network_fault(world, random, lossy)


def _node_fault(world: FarmWorld, random: Draws) -> None:
    """A node dies, starts, freezes, or is told something by its administrator."""
    name = random.choice(world.names)
    node = world.nodes[name]
    if node.core is None:
        if random.chance(600):
            world.start(name)
        return
    match random.between(0, 5):
        case 0 | 1:
            world.kill(name, machine=random.chance(500))
        case 2 | 3:
            world.freeze(name, random.choice((80, 300, 500, 700, 1_500)))
        case 4:
            world.wish(name, random.choice(("in", "in", "away", "drain")))
        case _:
            world.power(name, random.choice((0, 1, 1, 2, 3)))


def _network_fault(world: FarmWorld, random: Draws, lossy: bool) -> None:
    """Links are cut and mended, in one or both directions; messages are lost, late, repeated."""
    name, other = random.shuffled(world.names)[:2]
    match random.between(0, 8):
        case 0:
            world.set_link(name, other, up=False)
        case 1:
            world.cut_one_way(name, other)
        case 2:
            _split(world, random)
        case 3 | 4 | 5:
            world.heal()
        case 6:
            world.network.quality.repeat = random.choice((0, 100, 300))
        case 7:
            world.hang(name, random.choice((200, 450, 800, 1_500)), alone=True)
        case _ if lossy:
            quality = world.network.quality
            quality.loss = random.choice((0, 0, 50, 200))
            quality.late = random.choice((0, 0, 20, 100))
            world.links_changed()
        case _:
            pass


def _split(world: FarmWorld, random: Draws) -> None:
    """Part the farm into two or three sides; or let one node be deaf, or mute."""
    kind = random.below(1_000)
    if kind < 200:
        name = random.choice(world.names)
        for other in world.names:
            if other != name:
                world.cut_one_way(*((other, name) if kind < 100 else (name, other)))
        return
    sides: list[list[str]] = [[], [], []]
    for name in world.names:
        sides[random.below(2 if kind < 700 else 3)].append(name)
    world.partition(*(tuple(side) for side in sides if side))


def _calm(world: FarmWorld, clients: Clients) -> None:
    """End every fault; every node must be in one view, with one owner for each bucket."""
    world.heal()
    world.network.quality = Quality()
    world.links_changed()
    clients.flow_for(2_000, every=20)
    for name in world.names:
        node = world.nodes[name]
        if node.core is None:
            world.start(name)
        world.power(name, max(1, node.powers[0]))
        world.wish(name, "in")
    clients.flow_for(1_000, every=50)
    if not world.run_until(lambda: world.settled(*world.names), 12_000):
        reasons = {
            name: (node.picture.reason, [(n.name, n.reason) for n in node.picture.nodes])
            for name, node in world.nodes.items()
            if node.picture is not None
        }
        raise Violation(f"L: not one farm after the faults ended: {reasons}")
    clients.flow_for(500)
    for flow in list(clients.flows):
        clients.end(flow)
    for node in world.nodes.values():
        node.sockets.clear()
    world.run(3_000)
    world.seen("", Settled())
    if any(SOFT in row for node in world.nodes.values() for row in node.filter.rows):
        raise Violation("F5: buckets stay SOFT although no connection is left")
    world.watch.finish()


def main(arguments: list[str]) -> int:
    """Play COUNT seeds from FIRST; print each that fails."""
    first, count = (int(word) for word in arguments)
    failed = 0
    for seed in range(first, first + count):
        try:
            play(seed, lossy=bool(seed % 2))
        except Violation as violation:
            failed += 1
            sys.stdout.write(f"seed {seed}: {violation}\n")
    sys.stdout.write(f"{count} seeds, {failed} failed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
