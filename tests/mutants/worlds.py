"""Small worlds of their own, for rules that the great sweeps have no fault for.

Each takes a seed and raises Violation: an arbiter that is asked at random, one that comes back
with an old copy, and an administrator who forces.
"""

from functools import partial
from random import Random

import msgspec

from mirrorfarm.actors.arbiter.memory import MemoryArbiter
from mirrorfarm.actors.events import RegisterLoaded
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import PROFILES
from mirrorfarm.sim import sweep
from mirrorfarm.sim.explore import search
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.storage import Latency
from mirrorfarm.sim.world import MODULE, World
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import (
    Register,
    RegisterAnswer,
    RegisterCas,
    RegisterRead,
    RegisterRenew,
)

NAMES = ("n1", "n2")


def walk(seed: int) -> None:
    """Walk one way at random through what the explorer could do: late messages, sleeping clocks."""
    random = Random(seed)
    world = (search.pair, search.joining)[seed % 2](random.choice((1, 2, 3, 5, 8)), 12)
    result = search.walk(world, random, 1_000)
    if result.violation:
        raise Violation(result.violation)


def witness(seed: int) -> None:
    """Ask a witness at random; S9: whatever it grants has the next version and is durable."""
    random = Random(seed)
    arbiter = MemoryArbiter("c" * 16)
    now, known, request = SECOND_NS, 0, 0
    current: Register | None = None
    for _ in range(80):
        now += random.choice((1, 50, 400, 3_000)) * MILLISECOND_NS
        if random.random() < 0.05:
            arbiter.restart(now)
        request += 1
        node = random.choice(NAMES)
        question = _question(random, request, node, current)
        for sent in arbiter.ask(Address(node, MODULE, "arbiter"), question, now):
            answer = sent.message
            if not isinstance(answer, RegisterAnswer) or answer.register is None:
                continue
            if isinstance(question, RegisterCas) and answer.outcome == "ok":
                if answer.register.ver != known + 1:
                    raise Violation(
                        f"S9: version {known} was changed, and is {answer.register.ver} now"
                    )
            elif answer.register != current:
                raise Violation(f"S9: {current} became {answer.register} without a question")
            current, known = answer.register, answer.register.ver


def _question(
    random: Random, request: int, node: str, current: Register | None
) -> RegisterRead | RegisterCas | RegisterRenew:
    lease_ns = 400 * MILLISECOND_NS
    if current is None:
        return RegisterCas(request, 0, Register(1, 1, node, (node,), "g", ""), False, lease_ns)
    kind = random.random()
    if kind < 0.2:
        return RegisterRead(request)
    if kind < 0.4:
        return RegisterRenew(request, current.term, lease_ns)
    isr = random.choice((current.isr, (node,), NAMES))
    term = current.term + random.choice((0, 0, 1))
    holder = random.choice((current.holder, node))
    wanted = Register(term, current.ver, holder, isr, current.gen, current.instance)
    expected = current.ver - (random.random() < 0.1)
    return RegisterCas(request, expected, wanted, False, lease_ns)


# --- two nodes -----------------------------------------------------------------------------


def pair(seed: int) -> World:
    """Return a cluster in which n1 is PRIM and n2 SECOND."""
    world = World(seed, PROFILES["fast"])
    bring_up(world)
    return world


def bring_up(world: World) -> None:
    """Have n1 be PRIM and n2 SECOND."""
    for name in NAMES:
        world.start(name)
    world.run(100)
    world.command("n1", "prim")
    if not world.run_until(lambda: world.role("n1") == "ALONE Ready", 5_000):
        raise Violation("L: the first start does not end")
    world.command("n2", "start")
    if not world.run_until(lambda: world.role("n2") == "SECOND Ready", 5_000):
        raise Violation("L: the first resynchronisation does not end")
    world.run(100)


def work(world: World, random: Random, steps: int) -> None:
    """Write so many times, and let some time pass after each."""
    for _ in range(steps):
        world.write()
        world.run(random.randint(1, 120))


def exchanges(seed: int) -> None:
    """Hand the role over again and again while links break, nodes die and writes are under way."""
    random = Random(seed)
    world = pair(seed)
    for _ in range(12):
        name = random.choice(NAMES)
        when = world.now + random.randint(0, 40) * MILLISECOND_NS
        fault = random.choice(("", "cut", "cut", "lose", "kill", "stream", "hang"))
        world.at(when, partial(_break, world, random.choice(NAMES), fault))
        for _ in range(random.randint(0, 4)):
            world.at(world.now + random.randint(0, 60) * MILLISECOND_NS, partial(_write, world))
        world.command(name, random.choice(("swap", "swap", "swap", "stop", "restart")))
        work(world, random, 4)
        world.run(random.choice((50, 300, 1_500)))
        world.isolate("n1", up=True)
        world.isolate("n2", up=True)
        for one in NAMES:
            if not world.nodes[one].up:
                world.start(one, again=True)
        world.run(random.choice((200, 2_500)))
        for one in NAMES:
            if world.role(one).startswith("STOP"):
                world.command(one, "start")
        world.run(1_500)
    sweep.calm(world)


def _write(world: World) -> None:
    world.write()


def _break(world: World, name: str, fault: str) -> None:
    node = world.nodes[name]
    if fault == "cut":
        world.set_link("n1", "n2", up=False)
    elif fault == "lose":
        world.isolate(name)
    elif fault == "kill" and node.up:
        world.kill(name)
    elif fault == "stream" and node.up:
        world.break_stream(name)
    elif fault == "hang":
        node.hands.app.hangs_stop = 1


def leases(seed: int) -> None:
    """The primary loses its peer, then the witness, then both hear of it again or are restarted.

    Whatever the right to act was counted from: one application at a time.
    """
    random = Random(seed)
    world = pair(seed)
    for _ in range(6):
        names = [name for name in NAMES if world.role(name).startswith("PRIM")]
        prim = names[0] if names else "n1"
        other = "n2" if prim == "n1" else "n1"
        first = world.now + random.randint(0, 100) * MILLISECOND_NS
        second = first + random.randint(0, 350) * MILLISECOND_NS
        if random.random() < 0.5:
            world.freeze(prim, random.randint(100, 450))
        world.at(first, partial(world.set_link, prim, other, up=False))
        world.at(second, partial(world.isolate, prim))
        if random.random() < 0.5:
            restart = first + random.randint(0, 500) * MILLISECOND_NS
            world.at(restart, world.restart_witness)
        work(world, random, 20)
        world.isolate(prim, up=True)
        world.run(2_500)
    sweep.calm(world)


def torn(seed: int) -> None:
    """A slow copy is under way when its source dies; whoever is left may be half copied."""
    random = Random(seed)
    world = pair(seed)
    for _ in range(5):
        prim = next((name for name in NAMES if world.role(name).startswith("PRIM")), "n1")
        other = "n2" if prim == "n1" else "n1"
        slow = Latency(random.randint(2, 40) * MILLISECOND_NS)
        world.nodes[other].latency = world.nodes[other].flushes = slow
        for _ in range(random.randint(5, 40)):
            _write(world)
            world.run(random.randint(0, 8))
        fault = random.choice(("module", "plane", "other plane", "stream", "other"))
        if fault == "module":
            world.nodes[prim].host.processes[MODULE].die()
        elif fault in ("plane", "other plane"):
            world.kill_plane(prim if fault == "plane" else other)
        elif fault == "stream":
            world.break_stream(prim)
        else:
            world.kill(other, power=random.random() < 0.5)
            world.run(random.randint(50, 600))
            work(world, random, 4)
            world.start(other, again=True)
        work(world, random, random.randint(1, 12))
        if random.random() < 0.3:
            world.command(prim, "swap")
            world.run(random.randint(1, 300))
        world.kill(prim)
        world.run(1_500)
        work(world, random, 3)
        world.start(prim, again=True)
        for name in NAMES:
            world.nodes[name].mend_disk()
        world.run(2_500)
    sweep.calm(world)


def restored(seed: int) -> None:
    """Both nodes know the register when the witness comes back with less than that (R15).

    Whoever it names then: nobody may take a term from it, and no change may be asked of it.
    """
    random = Random(seed)
    world = pair(seed)
    witness = world.witness_node
    old = dict(witness.registers)
    for _ in range(random.randint(1, 3)):  # Both see some changes of the register.
        world.command(random.choice(NAMES), "swap")
        world.run(3_000)
        work(world, random, 3)
    if {world.role(name) for name in NAMES} != {"PRIM Ready", "SECOND Ready"}:
        raise Violation(f"L: a swap does not end: {[world.role(name) for name in NAMES]}")
    if random.random() < 0.5:
        term = random.choice((0, 0, 1))
        witness.registers = {} if random.random() < 0.3 else _anew(witness.registers, term)
    else:
        witness.registers = old
    world.restart_witness()
    work(world, random, random.randint(1, 20))
    for _ in range(6):
        name = random.choice(NAMES)
        if not world.nodes[name].up:
            world.start(name, again=True)
        elif random.random() < 0.5:
            world.kill(name)
        else:
            world.set_link("n1", "n2", up=random.random() < 0.5)
        work(world, random, random.randint(1, 30))


def _anew(present: dict[str, RegisterLoaded], terms: int) -> dict[str, RegisterLoaded]:
    """Return registers of another instance, with higher versions and terms than ever before."""
    made = {}
    for name, loaded in present.items():
        assert loaded.register is not None
        term = loaded.register.term + terms
        register = msgspec.structs.replace(loaded.register, instance="f" * 32, ver=90, term=term)
        made[name] = msgspec.structs.replace(loaded, register=register)
    return made


def forced(seed: int) -> None:
    """An administrator forces a node to be primary, whatever it lacks (R14).

    Writes may be lost then, and the set does not count: `Forced` knows which invariants hold.
    """
    random = Random(seed)
    world = pair(seed)
    for _ in range(random.randint(2, 5)):
        name = random.choice(NAMES)
        other = "n2" if name == "n1" else "n1"
        if world.nodes[other].up:
            if random.random() < 0.5:  # In good order: what it has is whole.
                world.command(other, "stop")
                world.run(1_500)
            world.kill(other)
        if not world.nodes[name].up:
            world.start(name)
        world.run(500)
        world.command(name, "stop")
        world.run(1_500)
        _excuse(world, name)
        before = world.nodes[name].record
        term = before.term if before else 0
        world.command(name, "primforce")
        if not world.run_until(lambda: world.role(name) == "ALONE Ready", 8_000):  # noqa: B023
            raise Violation(f"L: primforce does not end: {world.role(name)} {world.reason(name)}")
        record = world.nodes[name].record
        if record is None or record.term <= term:
            raise Violation(f"R14: {name} was forced in term {term}, without a new one")
        if not any(f", term {record.term}" in text for text in record.forced):
            raise Violation(f"R14: the record of {name} does not say that it was forced")
        work(world, random, 5)
    sweep.calm(world)


def _excuse(world: World, name: str) -> None:
    """Forget the writes that the administrator gives up by forcing this node."""
    data = world.nodes[name].disk.data
    world.accept_loss(*(write for write in world.monitors.acked if write not in data))
