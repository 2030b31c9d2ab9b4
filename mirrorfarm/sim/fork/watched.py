"""Which monitors watch a cluster on both sides of a fork.

The timeless ones: the recorded steps have the times of a recording, the simulated ones those of a
simulation.
"""

from mirrorfarm.modules.settings import Module
from mirrorfarm.sim.monitors import farm
from mirrorfarm.sim.monitors.all import TIMELESS
from mirrorfarm.sim.monitors.watch import Watch

KEPT = 64  # Steps that a story may go back.
FARM = tuple(kind for kind in farm.FARM if kind.timeless)


def watch_of(module: Module) -> Watch:
    """Return what watches a module."""
    if module.mode == "mirror":
        return Watch(TIMELESS, keeps=KEPT)
    return Watch(FARM, farm=farm.FarmFacts(module.farm.timing), keeps=KEPT)
