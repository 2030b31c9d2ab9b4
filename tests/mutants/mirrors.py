"""Small mirrors of their own, for rules that the great sweep has no fault for.

Each takes a seed and raises Violation; most leave that to the monitors.
"""

from random import Random

import msgspec

from mirrorfarm.actors.module.mirror.phases import Session
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import PROFILES
from mirrorfarm.sim import sweep
from mirrorfarm.sim.acts.people import WitnessReplaced
from mirrorfarm.sim.meddling import Meddling
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.monitors.seen import PowerLost
from mirrorfarm.sim.storage import Latency
from mirrorfarm.sim.witness import WITNESS
from mirrorfarm.sim.world import World
from tests.mutants.worlds import NAMES, bring_up, pair, work


def late_words(seed: int) -> None:
    """A target says that it has everything; that arrives when the next session copies already."""
    random = Random(seed)
    world = pair(seed)
    for _ in range(4):
        prim = next((name for name in NAMES if world.role(name).startswith("PRIM")), "n1")
        other = "n2" if prim == "n1" else "n1"
        world.kill(other, power=random.random() < 0.5)
        world.run(random.randint(300, 800))
        work(world, random, random.randint(2, 8))
        world.nodes[other].latency = Latency(random.randint(1, 10) * MILLISECOND_NS)
        late_ns = random.randint(100, 900) * MILLISECOND_NS
        world.meddle(Meddling("Synced", other, prim, 9, late_ns))
        world.start(other, again=True)
        for _ in range(random.randint(2, 6)):
            work(world, random, random.randint(1, 4))
            world.break_stream(prim)
        world.meddle_no_more()
        world.nodes[other].mend_disk()
        work(world, random, 10)
        world.run(3_000)
    sweep.calm(world)


def forgotten(seed: int) -> None:
    """A witness is restored to a copy of the same term, from before the secondary last joined.

    It names the secondary as well, which lacks what its primary wrote alone since; but it knows
    of a newer register than that (R15).
    """
    random = Random(seed)
    world = pair(seed)
    witness = world.witness_node
    old = dict(witness.registers)  # Both are in the set, in term 1.
    for _ in range(random.randint(1, 2)):
        world.kill("n2", power=random.random() < 0.5)
        work(world, random, random.randint(3, 10))
        await_role(world, "n1", "ALONE Ready")
        work(world, random, random.randint(0, 5))
        world.start("n2", again=True)
        await_role(world, "n2", "SECOND Ready")
        work(world, random, random.randint(0, 5))
        if random.random() < 0.3:
            old = dict(witness.registers)
    world.run(500)
    if witness.registers == old:
        return
    world.kill("n2")
    world.run(600)
    work(world, random, random.randint(3, 10))
    world.kill("n1")
    witness.registers = old
    world.restart_witness()
    world.run(random.randint(0, 500))
    world.start("n2", again=True)
    for _ in range(3):
        world.run(random.randint(500, 1_500))
        world.write()


def await_role(world: World, name: str, role: str) -> None:
    """Let time pass until a node is what it must become."""
    if not world.run_until(lambda: world.role(name) == role, 8_000):
        raise Violation(f"L: {name} is {world.role(name)}, not {role}: {world.reason(name)}")


def rolled_back(seed: int) -> None:
    """The disk of a stopped secondary is restored from a copy made before it was last in the set.

    Its record says that its data are whole, and of which generation they are: an older one than
    what its primary's change map begins with.
    """
    random = Random(seed)
    world = pair(seed)
    node = world.nodes["n2"]
    for round_ in range(4):
        world.command("n2", "stop")
        await_role(world, "n2", "STOP NotReady")
        world.kill("n2", power=False)
        disk, record = node.disk, node.record
        if round_ == 0 or random.random() < 0.3:
            copy = dict(disk.memory), dict(disk.platter), set(disk.kept), record
        elif random.random() < 0.7:
            disk.memory, disk.platter, disk.kept = dict(copy[0]), dict(copy[1]), set(copy[2])
            disk.dirty.clear()
            node.records.record = copy[3]
            world.monitors.facts.side("n2").record = copy[3]
            pairs = tuple(n for item in sorted(disk.memory.items()) for n in item)
            node.seen(PowerLost(pairs, node.host.boot))
        work(world, random, random.randint(2, 8))
        world.start("n2")
        world.run(random.randint(100, 600))
        world.command("n2", "start")
        work(world, random, random.randint(1, 5))
        await_role(world, "n2", "SECOND Ready")
        work(world, random, random.randint(1, 5))
        world.run(12_000)  # Until then its primary's change map may name more than it must.
    sweep.calm(world)


def half_copied(seed: int) -> None:
    """The source of a copy is gone: the half copied node must not serve, whoever names it.

    An administrator does (`primforce` would override that), or a witness that was restored to
    when this node was in the set: it knows of no newer register.
    """
    random = Random(seed)
    world = pair(seed)
    witness = world.witness_node
    old = dict(witness.registers)
    world.kill("n2", power=random.random() < 0.5)
    await_role(world, "n1", "ALONE Ready")
    work(world, random, random.randint(10, 25))
    node = world.nodes["n2"]
    node.latency = node.flushes = Latency(random.randint(10, 60) * MILLISECOND_NS)
    world.start("n2", again=True)
    _await_copy(world, "n2")
    world.run(random.randint(0, 60))
    world.kill("n1")
    node.mend_disk()
    world.run(1_500)
    if world.monitors.acked <= node.disk.data:
        return  # It has everything.
    if random.random() < 0.5:
        world.command("n2", "stop")
        world.run(1_500)
        world.command("n2", "prim")
    else:
        world.kill("n2", power=random.random() < 0.5)
        witness.registers = old
        world.restart_witness()
        world.start("n2", again=True)
    world.run(3_000)


def decided(seed: int) -> None:
    """A split is decided; before the loser is resynchronised, both are restarted.

    What was decided is not decided again, perhaps otherwise: the same node goes on (R13).
    """
    random = Random(seed)
    policy = ("keep-primary", "keep-newer", "manual")[seed % 3]
    world = World(seed, PROFILES["fast"], arbiter="none", divergence=policy)
    bring_up(world)
    _split(world)
    world.set_link("n1", "n2", up=True)
    if policy == "manual":
        world.run(3_000)
        world.command(random.choice(NAMES), "prim")
    before = {name: _forced(world, name) for name in NAMES}
    ours = tuple(
        (f"split: data of {name} kept", f"prim by an administrator on {name}") for name in NAMES
    )
    chosen = ""
    for _ in range(4_000):
        for name, texts in zip(NAMES, ours, strict=True):
            new = _forced(world, name)
            done = new != before[name] and "ordered" not in new[0]  # Only asked for, as yet.
            if done and new[0].startswith(texts):
                chosen = name
        if chosen:
            break
        world.run(1)
    else:
        raise Violation("L: a split is not decided")
    world.set_link("n1", "n2", up=False)  # At once: the other has nothing of it yet.
    for name in NAMES:
        world.kill(name)
    world.set_link("n1", "n2", up=True)
    first, second = random.sample(NAMES, 2)
    world.start(first, again=True)
    world.run(random.randint(0, 200))
    world.start(second, again=True)
    world.run(6_000)
    other = "n2" if chosen == "n1" else "n1"
    if world.role(other) in {"PRIM Ready", "ALONE Ready"}:
        raise Violation(f"R13: the data of {chosen} were to be kept, and {other} goes on")
    await_role(world, other, "SECOND Ready")


def returned(seed: int) -> None:
    """After a split: whoever was away returns, and its source dies before it is copied.

    The half copied node is no side of the split any more, whatever the policy says.
    """
    random = Random(seed)
    policy = ("keep-primary", "keep-newer", "keep-more-changes")[seed % 3]
    world = World(seed, PROFILES["fast"], arbiter="none", divergence=policy)
    bring_up(world)
    _split(world)
    away, other = random.sample(NAMES, 2)
    world.kill(away)
    world.set_link("n1", "n2", up=True)
    for _ in range(10):
        world.write()
        world.run(5)
    world.run(600)
    node = world.nodes[away]
    node.latency = node.flushes = Latency(random.randint(10, 60) * MILLISECOND_NS)
    world.start(away, again=True)
    _await_copy(world, away)
    world.run(random.randint(0, 60))
    world.kill(other)
    names = [other]
    if random.random() < 0.5:
        world.kill(away)
        names = random.sample(NAMES, 2)
    node.mend_disk()
    for name in names:
        world.run(random.randint(0, 1_000))
        world.start(name, again=True)
    world.run(4_000)
    if {world.role(name) for name in NAMES} != {"PRIM Ready", "SECOND Ready"}:
        raise Violation(f"L: {[(world.role(name), world.reason(name)) for name in NAMES]}")


def _await_copy(world: World, name: str) -> None:
    """Let time pass until a node is being copied to."""
    node = world.nodes[name]
    for _ in range(5_000):
        world.run(1)
        if node.machine.state.target.step in {"copying", "done"}:
            return
    raise Violation(f"L: {name} is not resynchronised: {world.reason(name)}")


def _own(world: World, name: str) -> set[int]:
    other = "n2" if name == "n1" else "n1"
    return world.nodes[name].disk.data - world.nodes[other].disk.data


def _forced(world: World, name: str) -> tuple[str, ...]:
    record = world.nodes[name].record
    return record.forced if record else ()


def _split(world: World) -> None:
    """Cut the nodes apart until each has writes of its own."""
    world.set_link("n1", "n2", up=False)
    world.run(2_000)
    for _ in range(200):
        if all(_own(world, name) for name in NAMES):
            return
        world.write()
        world.run(20)


def dead_planes(seed: int) -> None:
    """The data plane of the secondary dies, again and again: the service goes on (L6)."""
    random = Random(seed)
    world = pair(seed)
    for _ in range(4):
        work(world, random, random.randint(1, 5))
        world.kill_plane("n2")
        world.run(random.randint(0, 50))
        number = world.write()
        if not world.run_until(lambda: number in world.monitors.acked, 2_000):  # noqa: B023
            raise Violation(f"L6: write {number} waits for a secondary whose data plane died")
        await_role(world, "n2", "SECOND Ready")
        await_role(world, "n1", "PRIM Ready")
    sweep.calm(world)


def promisers(seed: int) -> None:
    """A primary leads by what its secondary promised alone, whose process then starts anew (X2)."""
    random = Random(seed)
    world = World(seed, msgspec.structs.replace(PROFILES["fast"], lease_ns=SECOND_NS))
    bring_up(world)
    world.set_link("n1", WITNESS, up=False)
    world.run(random.randint(1_200, 1_600))
    world.kill("n2", power=False)
    world.set_link("n1", "n2", up=False)
    world.run(random.randint(5, 100))
    world.start("n2", again=True)
    world.run(2_000)


def cut_off(seed: int) -> None:
    """The data plane of the primary dies, and with it its directories; then it is cut off.

    Whoever takes over must be the only one: the application may not go on where it was (X1).
    """
    random = Random(seed)
    world = pair(seed)
    for _ in range(3):
        prim = next((name for name in NAMES if world.role(name).startswith("PRIM")), "n1")
        work(world, random, random.randint(1, 5))
        world.kill_plane(prim)
        world.run(random.randint(0, 60))
        world.isolate(prim)
        work(world, random, 12)
        world.run(2_000)
        world.isolate(prim, up=True)
        world.run(3_000)
    sweep.calm(world)


def early_swaps(seed: int) -> None:
    """A swap is ordered while the secondary has no session and the arbiter is silent.

    It is refused: an application that was stopped for it would wait for the arbiter.
    """
    random = Random(seed)
    world = pair(seed)
    for _ in range(4):
        await_role(world, "n1", "PRIM Ready")
        await_role(world, "n2", "SECOND Ready")
        world.witness_up = False
        world.run(random.randint(0, 300))
        if random.random() < 0.5:
            world.break_stream("n1")
        else:
            world.kill_plane("n2")
        state = world.nodes["n1"].machine.state
        world.run(random.randint(1, 400))
        early = state.leading.session is not Session.JOINED
        world.command(random.choice(NAMES), "swap")
        world.run(700)
        if early and not world.nodes["n1"].application:
            raise Violation("L6: the application is stopped for a peer that has no session")
        world.witness_up = True
        world.run(3_000)
        if world.role("n2").startswith("PRIM"):
            world.command("n2", "swap")
            world.run(3_000)


def power_cuts(seed: int) -> None:
    """Both nodes lose power; the secondary confirmed from memory, and comes back first (R12)."""
    random = Random(seed)
    world = World(seed, PROFILES["fast"], ack_mode="received")
    bring_up(world)
    for _ in range(3):
        prim = next((name for name in NAMES if world.role(name).startswith("PRIM")), "n1")
        second = "n2" if prim == "n1" else "n1"
        for _ in range(random.randint(3, 12)):
            world.write()
            world.run(random.randint(1, 20))
        world.kill(second)
        world.kill(prim)
        world.run(random.randint(100, 1_000))
        world.start(second, again=True)
        world.run(random.randint(0, 2_000))
        world.start(prim, again=True)
        world.run(4_000)
    sweep.calm(world)


def replaced_while_asked(seed: int) -> None:
    """Another witness takes the place of one that counted the peer in, whose answer is lost."""
    random = Random(seed)
    world = pair(seed)
    world.kill("n2")
    await_role(world, "n1", "ALONE Ready")
    work(world, random, 3)
    world.start("n2", again=True)
    leading = world.nodes["n1"].machine.state.leading
    if not world.run_until(lambda: leading.session is Session.GROWING, 4_000, 1):
        return
    world.meddle(Meddling("RegisterAnswer", WITNESS, "n1", random.randint(2, 8)))
    world.run(random.randint(5, 80))
    WitnessReplaced().do(world)
    world.run(random.randint(0, 80))
    world.kill("n2")
    work(world, random, 10)
