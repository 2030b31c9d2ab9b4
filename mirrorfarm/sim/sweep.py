"""A run of a seed: faults while invariants are watched, then a calm end that must converge.

Phase one is safety. In phase two the links and machines of a chosen core are mended while the
others stay away: whoever may serve must, everybody else must say why not and what would help.
Then all are mended, and both nodes must be in service with the same data.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import PROFILES
from mirrorfarm.sim import faults, swarm
from mirrorfarm.sim.administrator import Administrator
from mirrorfarm.sim.engine import Draws, exponential
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.monitors.seen import Calm, Settled
from mirrorfarm.sim.storage import Latency
from mirrorfarm.sim.swarm import Swarm
from mirrorfarm.sim.trap import trap
from mirrorfarm.sim.tricks import Tricks
from mirrorfarm.sim.witness import WITNESS
from mirrorfarm.sim.world import GATEWAY, MODULE, NODES, World

DENSE_FAULTS = 30
FACTS_TOLD = 6  # Of each node that is not where it should be.


@contextmanager
def uncollected() -> Iterator[None]:
    """Look for no garbage meanwhile: a run makes little of it that has cycles.

    Around `trap`, not in it: others, such as Dask, look at the machine whenever garbage is looked
    for.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def play(seed: int, profile: str = "fast", **options: object) -> World:
    """Play a short, dense run; raise Violation when an invariant does not hold."""
    return run(swarm.dense(seed, profile, **options))


def build(plan: Swarm, *, digest: bool = False, story: bool = True) -> World:
    """Return the world that a plan describes."""
    world = World(
        plan.seed,
        PROFILES[plan.profile],
        digest=digest,
        **dict(plan.world),
    )
    world.tells_story = story
    world.network.quality = replace(plan.quality)  # Faults change it.
    return world


def run(plan: Swarm, *, digest: bool = False, story: bool = True) -> World:
    """Run a plan to its end."""
    world = build(plan, digest=digest, story=story)
    play_out(world, plan)
    return world


def play_out(
    world: World,
    plan: Swarm,
    begins: Callable[[], None] = lambda: None,
    ends: Callable[[], None] = lambda: None,
) -> None:
    """Let everything happen that the plan says; tell when faults begin, and when they end."""
    world.tricks = Tricks(plan.seed, on=plan.buggify)
    with uncollected(), trap(), world.tricks:
        first_start(world)
        begins()
        trouble(world, plan)
        ends()
        heal_core(world, plan.core)
        world.tricks.end()
        calm(world)


def first_start(world: World) -> None:
    """Bring both nodes into service."""
    for name in NODES:
        world.start(name)
    world.run(100)
    world.command("n1", "prim")
    _expect(world, "n1", "ALONE Ready", "the first start does not end")
    world.command("n2", "start")
    _expect(world, "n2", "SECOND Ready", "the first resynchronisation does not end")


def _expect(world: World, name: str, role: str, text: str) -> None:
    limit = 10_000 + 4 * world.timing.lease_ns // MILLISECOND_NS
    if not world.run_until(lambda: world.role(name) == role, limit, 20):
        raise unsettled(world, text)


# --- phase one: safety ---------------------------------------------------------------------


def trouble(world: World, plan: Swarm) -> None:
    """Let faults and writes come at random times.

    They come between two entries of the agenda, never as entries: one more or less of them
    changes nothing but what it does.
    """
    interval = plan.interval_ms * MILLISECOND_NS
    end = world.now + (plan.minutes * 60 * SECOND_NS or DENSE_FAULTS * interval)
    writes = Draws(plan.seed, "writes"), plan.write_ms * MILLISECOND_NS
    series = [_Series(world.now, *writes, world.write)]
    usual = [name for name in plan.faults if name not in faults.IN_PHASE]
    if usual:
        times = Draws(plan.seed, "times"), interval
        series.append(_Series(world.now, *times, _injection(world, plan.seed, "kinds", usual)))
    waiting = [name for name in plan.faults if name in faults.IN_PHASE]
    if waiting:
        times = Draws(plan.seed, "times in phase"), 2 * interval
        inject = _injection(world, plan.seed, "kinds in phase", waiting)
        series.append(_Series(world.now, *times, inject))
    while True:
        one = min(series, key=lambda one: one.next_ns)  # Of several the first.
        if one.next_ns >= end:
            break
        world.run_to(one.next_ns)
        one.do()
        one.next_ns += exponential(one.times.word(), one.mean_ns)
    world.run_to(end)


@dataclass(slots=True)
class _Series:
    """What happens again and again, at random times."""

    next_ns: int
    times: Draws
    mean_ns: int
    do: Callable[[], object]


def _injection(world: World, seed: int, stream: str, names: list[str]) -> Callable[[], None]:
    """Return what does one fault of one of these kinds."""
    kinds = Draws(seed, stream)
    streams = {name: Draws(seed, f"fault {name}") for name in names}

    def inject() -> None:
        name = kinds.choice(names)
        faults.inject(world, name, streams[name])

    return inject


# --- phase two: liveness -------------------------------------------------------------------


def heal(world: World) -> None:
    """End every fault of cables, disks, clocks and processes; nobody is started."""
    world.mend_network()
    for node in world.nodes.values():
        node.records.failures, node.store_crashes, node.host.agent = 0, "", True
        node.mend_disk()
        node.disk.mend()
        node.hands.mend()
        for process in node.host.processes.values():
            process.slow_ns, process.doom = 0, -1
    witness = world.witness_node
    witness.latency, witness.loses_answers = Latency(), 0


def heal_core(world: World, core: str) -> None:
    """Mend a part of the cluster; its nodes serve, or say why they do not."""
    heal(world)
    if core == "all":
        return
    parts = core.split("+")
    witness = world.witness_node
    if WITNESS in parts and (not witness.host.up or witness.process.paused):
        witness.restart()
    elif WITNESS not in parts and witness.host.up:
        witness.stop()
    for name in NODES:
        if name not in parts and world.nodes[name].up:
            world.kill(name)
    for name in [name for name in NODES if name in parts]:
        world.begin(name)
    world.seen("", Calm(core), MODULE)
    _await_core(world, [name for name in NODES if name in parts])


def _await_core(world: World, names: list[str]) -> None:
    limit = 20_000 + 8 * world.timing.lease_ns // MILLISECOND_NS

    def explained() -> bool:
        for name in names:
            serves = world.role(name).endswith("Ready") and "NotReady" not in world.role(name)
            if not serves and not world.reason(name):
                return False
        return True

    if not world.run_until(explained, limit, 100):
        raise unsettled(world, "a node neither serves nor says why")


def calm(world: World) -> None:
    """End every fault; both nodes must be in service, with everything acknowledged on both."""
    heal(world)
    witness = world.witness_node
    if not witness.host.up or witness.process.paused:
        witness.restart()
    lease = world.timing.lease_ns // MILLISECOND_NS
    world.run(3 * lease + 2_000)
    for name in NODES:
        world.begin(name)
    world.seen("", Calm(), MODULE)
    world.run(3 * lease + 2_000)
    heal(world)  # A fault may have been on its way.
    settled = Administrator(world)
    limit = 20_000 + 10 * lease
    for _ in range(40):
        if world.run_until(settled, limit // 40, 50):
            break
    else:
        raise unsettled(world, "not in service after the faults ended")
    world.run(1_000)
    world.seen("", Settled(), MODULE)
    if world.options.arbiter == "witness" and world.fails_over:
        one_by_one(world)
    world.watch.finish()


def one_by_one(world: World) -> None:
    """One fault alone, each time: the bounds of L1, L2, L3 and L6."""
    prim = next(name for name in NODES if world.role(name).startswith("PRIM"))
    second = NODES[1 - NODES.index(prim)]
    lease = world.timing.lease_ns // MILLISECOND_NS
    world.seen("", Calm("witness"), MODULE)
    world.witness_node.stop()
    world.run(2 * lease)
    world.witness_node.start()
    world.run(lease + 1_000)
    world.seen("", Calm("peer stops"), MODULE)
    world.kill(second)
    world.write()
    _expect(world, prim, "ALONE Ready", "the primary does not go on alone")
    world.run(2 * lease)
    world.seen("", Calm("return"), MODULE)
    world.begin(second)
    _expect(world, second, "SECOND Ready", "the node that returned is not resynchronised")
    world.run(2 * lease)
    # A question of before may have left it behind once more.
    _expect(world, second, "SECOND Ready", "the node that returned is not resynchronised again")
    world.seen("", Calm("power"), MODULE)
    world.kill(prim)
    _expect(world, second, "ALONE Ready", "nobody takes over")


def unsettled(world: World, text: str) -> Violation:
    """Return the violation that the nodes are not where they should be, with all their reasons."""
    names = [f"{name} is {world.role(name)}" for name in NODES]
    whys = [world.reason(name) for name in NODES]
    told = [f"{name}, because: {why or '-'}" for name, why in zip(names, whys, strict=True)]
    return Violation(f"L4: {text}: {' | '.join(told)}", reasons(world))


def reasons(world: World) -> list[str]:
    """Return the chain of reasons of every node, what happened first first."""
    told = []
    for name in NODES:
        node = world.nodes[name]
        if node.up and node.cores:
            state = node.machine.state
            reason, would_change = world.explanation(name)
            told += [f"{name}: {text}" for _, text in list(state.facts)[-FACTS_TOLD:]]
            told.append(f"{name} is {world.role(name)}, because: {reason or '-'}")
            told.append(f"{name} would change: {would_change or '-'}")
        else:
            told.append(f"{name} is {world.role(name)}")
    return told


__all__ = ["GATEWAY", "Violation", "build", "play", "run"]
