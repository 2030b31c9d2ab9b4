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
from mirrorfarm.sim.mirrored import Mirrored
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.monitors.seen import Calm, Seen, Settled
from mirrorfarm.sim.storage import Latency
from mirrorfarm.sim.swarm import Swarm
from mirrorfarm.sim.trap import trap
from mirrorfarm.sim.tricks import Tricks
from mirrorfarm.sim.witness import WITNESS
from mirrorfarm.sim.world import GATEWAY, NODES, World

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
    for module in world.modules.values():
        module.command(module.prim, "prim")
        _expect(world, module, module.prim, "ALONE Ready", "the first start does not end")
        module.command(module.second, "start")
        text = "the first resynchronisation does not end"
        _expect(world, module, module.second, "SECOND Ready", text)


def _expect(world: World, module: Mirrored, name: str, role: str, text: str) -> None:
    limit = 10_000 + 4 * world.timing.lease_ns // MILLISECOND_NS
    if not world.run_until(lambda: module.role(name) == role, limit, 20):
        raise unsettled(world, text)


def _tell(world: World, observation: Seen) -> None:
    """Tell the monitors of all modules."""
    for module in world.modules.values():
        module.seen("", observation)


# --- phase one: safety ---------------------------------------------------------------------


def trouble(world: World, plan: Swarm) -> None:
    """Let faults and writes come at random times.

    They come between two entries of the agenda, never as entries: one more or less of them
    changes nothing but what it does.
    """
    interval = plan.interval_ms * MILLISECOND_NS
    end = world.now + (plan.minutes * 60 * SECOND_NS or DENSE_FAULTS * interval)
    series = []
    for module in world.modules.values():
        times = Draws(plan.seed, world.concern("writes", module.name))
        series.append(_Series(world.now, times, plan.write_ms * MILLISECOND_NS, module.write))
    usual = [name for name in plan.faults if name not in faults.IN_PHASE]
    if usual:
        inject = _injection(world, plan.seed, "kinds", usual)
        series.append(_Series(world.now, Draws(plan.seed, "times"), interval, inject))
    waiting = [name for name in plan.faults if name in faults.IN_PHASE]
    if waiting:
        times = Draws(plan.seed, "times in phase")
        inject = _injection(world, plan.seed, "kinds in phase", waiting)
        series.append(_Series(world.now, times, 2 * interval, inject))
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
    """Return what does one fault of one of these kinds, to one of the modules if it is to one."""
    kinds, whose = Draws(seed, stream), Draws(seed, f"modules of {stream}")
    streams = {name: Draws(seed, f"fault {name}") for name in names}
    modules = ("", *list(world.modules)[1:])

    def inject() -> None:
        name = kinds.choice(names)
        faults.inject(world, name, streams[name], whose.choice(modules))

    return inject


# --- phase two: liveness -------------------------------------------------------------------


def heal(world: World) -> None:
    """End every fault of cables, disks, clocks and processes; nobody is started.

    A machine that stands still goes on at its time: its clocks know how long that takes.
    """
    world.mend_network()
    for server in world.servers.values():
        server.host.agent = True
        server.end_pauses()
        for node in server.modules:
            node.records.failures, node.store_crashes = 0, ""
            node.mend_disk()
            node.disk.mend()
            node.hands.mend()
        for process in server.host.processes.values():
            process.slow_ns, process.doom = 0, -1
    witness = world.witness_node
    witness.latency, witness.loses_answers, witness.failures = Latency(), 0, 0
    if witness.up and witness.refuses:
        witness.restart()


def _all_go_on(world: World) -> None:
    """Wait until no machine stands still: only then the faults have ended."""
    world.run_to(max(server.stands_until for server in world.servers.values()))


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
        if name not in parts and world.hosts[name].up:
            world.kill(name)
    _all_go_on(world)
    for name in [name for name in NODES if name in parts]:
        world.begin(name)
    _tell(world, Calm(core))
    _await_core(world, [name for name in NODES if name in parts])


def _await_core(world: World, names: list[str]) -> None:
    limit = 20_000 + 8 * world.timing.lease_ns // MILLISECOND_NS

    def explained(module: Mirrored, name: str) -> bool:
        role = module.role(name)
        return (role.endswith("Ready") and "NotReady" not in role) or bool(module.reason(name))

    placed = [(module, name) for module in world.modules.values() for name in names]
    if not world.run_until(lambda: all(explained(*one) for one in placed), limit, 100):
        raise unsettled(world, "a node neither serves nor says why")


def calm(world: World) -> None:
    """End every fault; both nodes must be in service, with everything acknowledged on both."""
    heal(world)
    _all_go_on(world)
    witness = world.witness_node
    if not witness.host.up or witness.process.paused:
        witness.restart()
    lease = world.timing.lease_ns // MILLISECOND_NS
    world.run(3 * lease + 2_000)
    for name in NODES:
        world.begin(name)
    _tell(world, Calm())
    world.run(3 * lease + 2_000)
    heal(world)  # A fault may have been on its way.
    helpers = [Administrator(module) for module in world.modules.values()]
    limit = 20_000 + 10 * lease
    for _ in range(40):
        # Each looks every time.
        if world.run_until(lambda: all([helps() for helps in helpers]), limit // 40, 50):
            break
    else:
        raise unsettled(world, "not in service after the faults ended")
    world.run(1_000)
    _tell(world, Settled())
    if world.fails_over:
        one_by_one(world)
    world.watch.finish()


def one_by_one(world: World) -> None:
    """One fault alone, each time: the bounds of L1, L2, L3 and L6.

    The secondary of the first module loses power, later its primary; of another module that may
    be the other way round.
    """
    prim = next(name for name in NODES if world.role(name).startswith("PRIM"))
    second = NODES[1 - NODES.index(prim)]
    lease = world.timing.lease_ns // MILLISECOND_NS
    if world.options.arbiter != "none":
        _arbiter_away(world, 2 * lease)
    world.run(lease + 1_000)
    _one_stays(world, second, prim)
    world.run(2 * lease)
    _tell(world, Calm("return"))
    world.begin(second)
    _all_follow(world, second, "the node that returned is not resynchronised")
    world.run(2 * lease)
    # A question of before may have left it behind once more.
    _all_follow(world, second, "the node that returned is not resynchronised again")
    _one_stays(world, prim, second)


def _arbiter_away(world: World, milliseconds: int) -> None:
    """Have the witness, or what answers to pings, be away for a while."""
    _tell(world, Calm("witness"))
    if world.options.arbiter == "witness":
        world.witness_node.stop()
    else:
        world.isolate(GATEWAY)
    world.run(milliseconds)
    if world.options.arbiter == "witness":
        world.witness_node.start()
    else:
        world.isolate(GATEWAY, up=True)


def _one_stays(world: World, goes: str, stays: str) -> None:
    """Have a node lose power: the other one goes on alone, or takes over."""
    modules = list(world.modules.values())
    goes_on = [module.role(stays).startswith("PRIM") for module in modules]
    for module, leads in zip(modules, goes_on, strict=True):
        module.seen("", Calm("peer stops" if leads else "power"))
    world.kill(goes)
    for module, leads in zip(modules, goes_on, strict=True):
        if leads:
            module.write()
    for module, leads in zip(modules, goes_on, strict=True):
        text = "the primary does not go on alone" if leads else "nobody takes over"
        _expect(world, module, stays, "ALONE Ready", text)


def _all_follow(world: World, name: str, text: str) -> None:
    for module in world.modules.values():
        _expect(world, module, name, "SECOND Ready", text)


def unsettled(world: World, text: str) -> Violation:
    """Return the violation that the nodes are not where they should be, with all their reasons."""
    told = [
        f"{world.place(name, module.name)} is {module.role(name)}, because: "
        f"{module.reason(name) or '-'}"
        for module in world.modules.values()
        for name in NODES
    ]
    return Violation(f"L4: {text}: {' | '.join(told)}", reasons(world))


def reasons(world: World) -> list[str]:
    """Return the chain of reasons of every node, what happened first first."""
    told = []
    for module in world.modules.values():
        for name, node in module.nodes.items():
            place, role = world.place(name, module.name), module.role(name)
            if node.up and node.cores:
                state = node.machine.state
                reason, would_change = module.explanation(name)
                told += [f"{place}: {text}" for _, text in list(state.facts)[-FACTS_TOLD:]]
                told.append(f"{place} is {role}, because: {reason or '-'}")
                told.append(f"{place} would change: {would_change or '-'}")
            else:
                told.append(f"{place} is {role}")
    return told


__all__ = ["GATEWAY", "Violation", "build", "play", "run"]
