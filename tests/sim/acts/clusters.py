"""Clusters in service, for stories about single faults."""

from typing import Any

from mirrorfarm.modules.settings import PROFILES
from mirrorfarm.sim.farm import FarmWorld
from mirrorfarm.sim.sweep import first_start
from mirrorfarm.sim.world import World


def pair(**options: Any) -> World:
    """Return a mirror in which n1 is PRIM and n2 SECOND."""
    world = World(1, PROFILES["fast"], **options)
    first_start(world)
    world.run(200)
    assert world.role("n1") == "PRIM Ready"
    return world


def farm(count: int = 3, *, machines: bool = False, networks: int = 1) -> FarmWorld:
    """Return a farm in which all nodes are in one view."""
    world = FarmWorld(1, count, machines=machines, networks=networks)
    for name in world.names:
        world.start(name, again=machines)
    assert world.run_until(lambda: world.settled(*world.names), 6_000)
    return world


def results(world: World) -> dict[int, int]:
    """Return what the application is told of each write from now on: an errno, 0: it is done."""
    told: dict[int, int] = {}
    for node in world.nodes.values():
        node.told = lambda name, write, extent, result: told.__setitem__(write, result)
    return told
