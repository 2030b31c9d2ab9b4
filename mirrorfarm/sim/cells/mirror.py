"""The ways of a mirror into each phase, and how it is put in order afterwards."""

from collections.abc import Callable
from typing import Final

from mirrorfarm.actors.module.mirror.phases import Phase
from mirrorfarm.modules.settings import PROFILES
from mirrorfarm.sim import sweep
from mirrorfarm.sim.cells.ground import Do, Ground, ways
from mirrorfarm.sim.cells.mirror_events import EVENTS
from mirrorfarm.sim.coverage import machines
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.world import NODES, World

PATIENCE_MS: Final = 5_000


def _ordered(node: str, verb: str) -> Do:
    return lambda world: world.command(node, verb)


def _stopped(node: str) -> Do:
    def stop(world: World) -> None:
        world.command(node, "stop")
        until(world, lambda: world.role(node).startswith("STOP"))

    return stop


def _second_gone(world: World) -> None:
    """The primary goes on alone, and writes."""
    world.kill("n2")
    until(world, lambda: world.role("n1") == "ALONE Ready")
    for _ in range(3):
        world.write()
        world.run(20)


def restarts_for_long(world: World) -> None:
    """The second is ordered to run its scripts again, twice, and does not come to an end."""
    world.nodes["n2"].hands.app.hangs = 1
    world.command("n2", "restart")
    world.run(100)
    world.command("n2", "restart")
    world.run(10)


def _module_dies(node: str) -> Do:
    def die(world: World) -> None:
        world.nodes[node].host.processes[world.module_name].die()

    return die


_BACK: Final = ("starting", "waiting", "syncing", "following")
_TAKES: Final = ("asking", "taking", "leading")
_STOPS: Final = ("leaving", "stopping", "stopped")
WAYS: Final = ways(
    ("n2 starts", "n2", _BACK, _ordered("n2", "start"), _stopped("n2")),
    ("n2 returns", "n2", ("resetting", *_BACK), lambda w: w.begin("n2"), _second_gone),
    ("n1 dies", "n2", _TAKES, lambda w: w.kill("n1"), None),
    ("n1 dies, n2 restarts", "n2", _TAKES, lambda w: w.kill("n1"), restarts_for_long),
    ("n1 is cut off", "n2", _TAKES, lambda w: w.isolate("n1"), None),
    ("n1 is cut off", "n1", ("demoting", "waiting"), lambda w: w.isolate("n1"), None),
    ("swap", "n1", ("leaving", "waiting", "syncing", "following"), _ordered("n1", "swap"), None),
    ("swap", "n2", ("taking", "leading"), _ordered("n1", "swap"), None),
    ("n1 stops", "n1", _STOPS, _ordered("n1", "stop"), None),
    ("n1 stops", "n2", ("taking", "leading"), _ordered("n1", "stop"), None),
    ("n1 stops alone", "n1", _STOPS, _ordered("n1", "stop"), _second_gone),
    ("n2 stops", "n2", ("stopping", "stopped"), _ordered("n2", "stop"), None),
    ("restart", "n1", ("restarting", "leading"), _ordered("n1", "restart"), None),
    ("replica dies", "n1", ("demoting",), lambda w: w.kill_plane("n1"), None),
    ("replica dies", "n2", ("syncing",), lambda w: w.kill_plane("n2"), None),
    ("module dies", "n1", ("resetting", "starting", "waiting"), _module_dies("n1"), None),
    ("module dies", "n2", ("resetting", "starting", "syncing"), _module_dies("n2"), None),
)


def build(seed: int) -> World:
    """Return a mirror that has not started."""
    return World(seed, PROFILES["fast"])


def begin(world: World) -> None:
    """Bring it into service; both nodes have had both roles, and broken sessions, by then."""
    sweep.first_start(world)
    for prim, second in (NODES, NODES[::-1]):
        _in_service(world, prim, second)
        for _ in range(3):
            world.write()
            world.run(20)
        world.break_stream(prim)
        world.run(200)
        _in_service(world, prim, second)
        world.command(second, "stopstart")
        world.run(50)
        _in_service(world, prim, second)
        world.command(second, "swap")
    _in_service(world, *NODES)


def _in_service(world: World, prim: str, second: str) -> None:
    """Wait until both nodes have these roles, and know it of each other."""
    roles = ["PRIM Ready", "SECOND Ready"]
    until(world, lambda: [world.role(prim), world.role(second)] == roles)
    world.run(100)


def until(world: World, condition: Callable[[], bool]) -> None:
    """Let time pass until something holds. Raises Violation if it does not in time."""
    if not world.run_until(condition, PATIENCE_MS, 2):
        raise sweep.unsettled(world, "what was ordered does not come about")


def end(world: World) -> None:
    """Mend everything; the mirror must be in service, stand single faults, and lose nothing."""
    for _ in range(3):
        world.write()
        world.run(100)
    world.run(2_000)  # Long scripts end.
    for name in NODES:
        _has_application(world, name)
    sweep.calm(world)
    _left_behind(world)


def _has_application(world: World, name: str) -> None:
    """Where the role is, the application is; or its script is known to have failed."""
    node = world.nodes[name]
    if not node.up or not node.cores or node.application:
        return
    state = node.machine.state
    if state.phase is Phase.LEADING and not state.unstarted:
        raise Violation(f"L4: {name} is {world.role(name)}, and its application does not run")


def _left_behind(world: World) -> None:
    """Who was left behind must not lead when the other one dies, whatever was ordered before."""
    sweep.heal(world)
    prim = next(name for name in NODES if world.role(name).startswith("ALONE"))
    other = NODES[1 - NODES.index(prim)]
    world.begin(other)
    until(world, lambda: world.role(other) == "SECOND Ready")
    world.set_link(prim, other, up=False)
    until(world, lambda: world.role(prim) == "ALONE Ready")
    for _ in range(3):
        world.write()
        world.run(20)
    world.kill(prim)
    world.run(3_000)
    if world.role(other) != "WAIT NotReady":
        raise Violation(f"S4: {other}, which was left behind, is {world.role(other)}")


GROUND: Final = Ground(machines.MIRROR, build, begin, end, WAYS, EVENTS)
