"""The actors around the simulated mirror: scripts, addresses and guard, as simple as can be."""

from typing import Any

from mirrorfarm.actors import events as ev
from mirrorfarm.limits import MICROSECOND_NS
from mirrorfarm.transport.address import MODULE_ACTOR


def perform(world: Any, node: Any, event: Any) -> None:
    """Obey an order of the mirror, a few milliseconds later."""
    quick = world.random.randint(500, 5_000) * MICROSECOND_NS
    match event:
        case ev.RunSequence(run, steps):
            names = [step.name for step in steps]
            if "stop_prim" in names:
                application(world, node, runs=False)
            if "start_prim" in names:
                application(world, node, runs=True)
            world.soon(node.name, MODULE_ACTOR, ev.SequenceEnded(run), quick)
        case ev.KillApplication(run):
            application(world, node, runs=False)
            world.soon(node.name, MODULE_ACTOR, ev.ApplicationGone(run), quick)
        case ev.VipUp(run):
            world.soon(node.name, MODULE_ACTOR, ev.VipIsUp(run), quick)
        case ev.VipDown(run):
            world.soon(node.name, MODULE_ACTOR, ev.VipIsDown(run), quick)
        case ev.VipProbe(run):
            world.soon(node.name, MODULE_ACTOR, ev.VipProbed(run), quick)
        case ev.GuardArm(deadline_ns):
            node.guard_ns = deadline_ns
            world.at(deadline_ns, lambda: _guard(world, node, deadline_ns))
        case ev.GuardDisarm():
            node.guard_ns = 0
        case _:
            pass


def _guard(world: Any, node: Any, deadline_ns: int) -> None:
    """Fence the application, whatever the module's process does."""
    if node.guard_ns == deadline_ns and node.up:
        node.guard_ns = 0
        application(world, node, runs=False)
        world.soon(node.name, MODULE_ACTOR, ev.GuardActed(deadline_ns))


def application(world: Any, node: Any, *, runs: bool) -> None:
    """Start or end the application of a node."""
    node.application = runs
    world.monitors.application(world, node.name, runs=runs)
