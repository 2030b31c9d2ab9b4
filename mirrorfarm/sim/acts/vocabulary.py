"""All acts: importing this has every one of them known."""

from mirrorfarm.sim.acts import cables, disks, people, processes
from mirrorfarm.sim.acts.farm import FARM
from mirrorfarm.sim.acts.mirror import MIRROR

__all__ = ["FARM", "MIRROR", "cables", "disks", "people", "processes"]
