"""Random faults on a farm from a seed, then a calm end in which everybody must serve again.

`python -m mirrorfarm.sim.farm_sweep FIRST COUNT` plays many seeds and tells those that fail.
"""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from mirrorfarm.actors.farm_filter.bitmaps import SOFT
from mirrorfarm.actors.module.farm.phases import Phase
from mirrorfarm.limits import BUCKETS, MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import LARGE_FARM_TIMING, FarmTiming
from mirrorfarm.sim import farm_faults
from mirrorfarm.sim.acts.act import perform
from mirrorfarm.sim.acts.farm import Start, Weight
from mirrorfarm.sim.chances import kept
from mirrorfarm.sim.engine import Draws
from mirrorfarm.sim.farm import FarmWorld
from mirrorfarm.sim.farm_clients import Clients
from mirrorfarm.sim.farm_faults import FAULTS, IN_PHASE, LOSSY, OF_THE_MODULE
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.monitors.asserted import asserted
from mirrorfarm.sim.monitors.seen import Settled
from mirrorfarm.sim.sweep import uncollected
from mirrorfarm.sim.trap import trap

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


TIMINGS = {"default": TIMING, "slow": SLOW, "large": LARGE}


@dataclass(frozen=True, slots=True)
class FarmSwarm:
    """The options of one run."""

    seed: int
    nodes: int
    timing: str
    groups: int
    networks: int = 1
    steps: int = 25  # Faults.
    faults: tuple[str, ...] = ()
    machines: bool = True  # All cores of each node, not only its filter's.
    minutes: int = 0

    def describe(self) -> str:
        """Return the options as one line."""
        return (
            f"nodes={self.nodes} timing={self.timing} groups={self.groups} "
            f"networks={self.networks} steps={self.steps} faults={','.join(self.faults)}"
        )


def draw(seed: int, minutes: int) -> FarmSwarm:
    """Return what a seed makes: about so many simulated minutes."""
    draws = Draws(seed, "swarm")
    return FarmSwarm(
        seed,
        draws.choice((2, 3, 3, 4, 5, 8)),
        draws.choice(tuple(TIMINGS)),
        draws.choice((1, 1, 2)),
        draws.choice((1, 1, 2, 3)),
        minutes * 150,
        _some(kept(seed, FAULTS)),
        minutes=minutes,
    )


def _some(faults: tuple[str, ...]) -> tuple[str, ...]:
    """Return the faults; with those that wait for a phase alone nothing would happen."""
    return faults if set(faults).difference(IN_PHASE) else (*faults, "mended")


def dense(seed: int, steps: int = 25, *, lossy: bool = True, nodes: int = 0) -> FarmSwarm:
    """Return a short run of filters alone, for tests."""
    draws = Draws(seed, "plan")
    without = OF_THE_MODULE if lossy else (*OF_THE_MODULE, *LOSSY)
    faults = tuple(name for name in FAULTS if name not in (*without, *IN_PHASE))
    waiting = tuple(name for name in IN_PHASE if name not in without)
    return FarmSwarm(
        seed,
        nodes or draws.choice((2, 3, 3, 3, 4, 5)),
        draws.choice(tuple(TIMINGS)),
        draws.choice((1, 1, 2)),
        steps=steps,
        faults=(*faults, *("mended",) * 2, *kept(seed, waiting)),
        machines=False,
    )


def play(seed: int, steps: int = 25, *, lossy: bool = True, nodes: int = 0) -> FarmWorld:
    """Play a short run of filters alone; raise Violation when an invariant does not hold."""
    plan = dense(seed, steps, lossy=lossy, nodes=nodes)
    world = build(plan)
    play_out(world, plan)
    return world


def build(plan: FarmSwarm, *, digest: bool = False) -> FarmWorld:
    """Return the world that a plan describes."""
    return FarmWorld(
        plan.seed,
        plan.nodes,
        TIMINGS[plan.timing],
        plan.groups,
        machines=plan.machines,
        networks=plan.networks,
        drain_ns=2 * SECOND_NS,
        digest=digest,
    )


def play_out(world: FarmWorld, plan: FarmSwarm, mended: Callable[[], None] = lambda: None) -> None:
    """Let everything happen that the plan says; `mended` is called when the faults end."""
    draws = Draws(plan.seed, "times")
    streams = {name: Draws(plan.seed, f"fault {name}") for name in plan.faults}
    usual = [name for name in plan.faults if name not in IN_PHASE]
    waiting, phases = [name for name in plan.faults if name in IN_PHASE], Draws(plan.seed, "phases")
    clients = Clients(world)
    with uncollected(), trap():
        for name in world.names:
            if draws.chance(800):
                perform(world, Start(name))
        clients.flow_for(draws.choice((60, 800, 1_500)), every=20)
        for _ in range(plan.steps):
            kind = draws.choice(usual)
            farm_faults.inject(world, kind, streams[kind])
            if waiting and phases.chance(500):
                kind = phases.choice(waiting)
                farm_faults.inject(world, kind, streams[kind])
            clients.flow_for(draws.between(20, 700), every=20)
        mended()
        calm(world, clients)


def calm(world: FarmWorld, clients: Clients) -> None:
    """End every fault; every node must be in one view, with one owner for each bucket."""
    world.mend_network()
    for node in world.nodes.values():
        node.records.failures = 0
        node.hands.mend()
    clients.flow_for(2_000, every=20)
    part = core_of(world)
    if part != world.names:
        for name in world.names:
            if name not in part:
                world.kill(name)
        serve(world, clients, part)
        world.seen("", Settled())
    serve(world, clients, world.names)
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


def core_of(world: FarmWorld) -> tuple[str, ...]:
    """Return the nodes that are in service first, in half of the runs not all of them."""
    draws = world.stream("core")
    some = tuple(draws.some(world.names, 700)) if draws.chance(500) else ()
    return some or world.names


def serve(world: FarmWorld, clients: Clients, names: tuple[str, ...]) -> None:
    """Have these nodes be one farm; what they need is done for them, the others are off."""
    for name in names:
        node = world.nodes[name]
        if node.core is None:
            world.start(name, again=world.machines)
        Weight(name, max(1, node.powers[0])).do(world)
        if not world.machines:
            world.wish(name, "in")
    clients.flow_for(1_000, every=50)
    if world.machines:
        clients.flow_for(3_000, every=50)  # Whoever stops has time to.
        for name in names:
            # Scripts that failed are run again once they are mended.
            again = world.nodes[name].machine.state.unstarted
            world.command(name, "restart" if again else "start")
        world.run(10)  # The orders arrive.
        machines = [world.nodes[name].machine for name in names]
        world.run_until(lambda: all(one.state.phase is Phase.UP for one in machines), 12_000)
        for name in names:
            world.command(name, "resume")  # A node that is not up yet refuses that.
    # In one view is not enough: one that was drained is, until it hears of `resume`.
    if not world.run_until(lambda: world.settled(*names) and answered(world), 12_000):
        raise Violation(f"L: not one farm after the faults ended: {names}", reasons(world))


def answered(world: FarmWorld) -> bool:
    """Return whether there is a node for every bucket of every group."""
    return all(sum(world.shares(group).values()) >= BUCKETS for group in range(world.groups))


def reasons(world: FarmWorld) -> list[str]:
    """Return what every node says of itself and of the others."""
    told = []
    for name, node in world.nodes.items():
        picture = node.picture
        if picture is None:
            told.append(f"{name} is off, or has said nothing yet")
            continue
        why = picture.reason or "-"
        told.append(f"{name} uses view {picture.view}, because: {why}")
        told.append(f"{name} would change: {picture.would_change or '-'}")
        told += [f"{name} says of {one.name}: {one.reason}" for one in picture.nodes if one.reason]
    return told


def main(arguments: list[str]) -> int:
    """Play COUNT seeds from FIRST; print each that fails."""
    if len(arguments) != 2 or not all(re.fullmatch("[0-9]{1,18}", word) for word in arguments):
        sys.stderr.write("write two numbers, FIRST and COUNT, as in 0 5000\n")
        return 2
    first, count = (int(word) for word in arguments)
    failed = 0
    for seed in range(first, first + count):
        try:
            play(seed, lossy=bool(seed % 2))
        except AssertionError as error:  # A violation; or a core's own: it is wrong.
            failed += 1
            sys.stdout.write(f"seed {seed}: {asserted(error)}\n")
    sys.stdout.write(f"{count} seeds, {failed} failed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
