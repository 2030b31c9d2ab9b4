"""All acts: importing this has every one of them known."""

from mirrorfarm.sim.acts import cables, disks, farm, people, phases, processes
from mirrorfarm.sim.acts.act import FARM, MIRROR

__all__ = ["FARM", "MIRROR", "cables", "disks", "farm", "people", "phases", "processes"]
