"""Random faults on a farm from a seed, then a calm end in which everybody must serve again.

`python -m mirrorfarm.sim.farm_sweep FIRST COUNT` plays many seeds and tells those that fail.
"""

import sys
from random import Random

import msgspec

from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import LARGE_FARM_TIMING, FarmTiming
from mirrorfarm.sim.farm import FarmWorld
from mirrorfarm.sim.farm_clients import Clients
from mirrorfarm.sim.monitors import Violation

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
    random = Random(seed ^ 0xFA12)
    count = nodes or random.choice((2, 3, 3, 3, 4, 5))
    world = FarmWorld(seed, count, random.choice((TIMING, SLOW, LARGE)), random.choice((1, 1, 2)))
    clients = Clients(world)
    for name in world.names:
        if random.random() < 0.8:
            world.start(name)
    clients.flow_for(random.choice((50, 800, 1_500)))
    for _ in range(steps):
        _fault(world, random, lossy)
        clients.flow_for(random.randint(20, 700), every=20)
    calm(world, clients)
    return world


def _fault(world: FarmWorld, random: Random, lossy: bool) -> None:
    if random.random() < 0.55:
        _node_fault(world, random)
    else:
        _network_fault(world, random, lossy)


def _node_fault(world: FarmWorld, random: Random) -> None:
    """A node dies, starts, freezes, or is told something by its administrator."""
    name = random.choice(world.names)
    node = world.nodes[name]
    if node.core is None:
        if random.random() < 0.6:
            world.start(name)
        return
    match random.randint(0, 5):
        case 0 | 1:
            world.kill(name, machine=random.random() < 0.5)
        case 2 | 3:
            world.freeze(name, random.choice((80, 300, 500, 700, 1_500)))
        case 4:
            world.wish(name, random.choice(("in", "in", "away", "drain")))
        case _:
            world.power(name, random.choice((0, 1, 1, 2, 3)))


def _network_fault(world: FarmWorld, random: Random, lossy: bool) -> None:
    """Links are cut and mended, in one or both directions; messages are lost, late, repeated."""
    name, other = random.sample(world.names, 2)
    match random.randint(0, 8):
        case 0:
            world.set_link(name, other, up=False)
        case 1:
            world.cut_one_way(name, other)
        case 2:
            _split(world, random)
        case 3 | 4 | 5:
            world.heal()
        case 6:
            world.repeat_percent = random.choice((0, 10, 30))
        case 7:
            world.hang(name, random.choice((200, 450, 800, 1_500)), alone=True)
        case _ if lossy:
            world.loss_percent = random.choice((0, 0, 5, 20))
            world.late_percent = random.choice((0, 0, 2, 10))
        case _:
            pass


def _split(world: FarmWorld, random: Random) -> None:
    """Part the farm into two or three sides; or let one node be deaf, or mute."""
    kind = random.random()
    if kind < 0.2:
        name = random.choice(world.names)
        for other in world.names:
            if other != name:
                world.cut_one_way(*((other, name) if kind < 0.1 else (name, other)))
        return
    sides: list[list[str]] = [[], [], []]
    for name in world.names:
        sides[random.randrange(2 if kind < 0.7 else 3)].append(name)
    world.partition(*(tuple(side) for side in sides if side))


def calm(world: FarmWorld, clients: Clients) -> None:
    """End every fault; every node must be in one view, with one owner for each bucket."""
    world.heal()
    world.loss_percent = world.late_percent = world.repeat_percent = 0
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
        node.sockets = {}
    world.run(3_000)
    world.monitors.calm(world, world.names)


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
