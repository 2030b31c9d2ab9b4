"""Who puts a simulated mirror in order after its faults, by what the reasons of its nodes say."""

from typing import Final

from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.world import NODES, World

LEADS: Final = ("PRIM", "ALONE")
PATIENCE_NS: Final = 2 * SECOND_NS


class Administrator:
    """Does what the reasons of the nodes ask for; called, returns whether both are in service."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._orders: dict[str, tuple[str, ...]] = {}  # How a node that is stopped is started.
        self._asked: dict[str, tuple[str, int]] = {}  # What a node waits for, and since when.

    def __call__(self) -> bool:
        """Look once."""
        world = self._world
        for name in NODES:
            node = world.nodes[name]
            if node.up and node.cores:
                self._help(name)
        asked = any("administrator" in world.explanation(name)[1] for name in NODES)
        roles = {world.role(name) for name in NODES}
        return roles == {"PRIM Ready", "SECOND Ready"} and not asked

    def _help(self, name: str) -> None:
        world = self._world
        reason, would_change = world.explanation(name)
        if world.role(name).startswith("STOP"):
            world.command(name, *self._order(name))
        elif "accepts the loss" in would_change:
            self._choose(name)
        elif "SPLIT" in reason:  # Its administrator says whose data are kept.
            self._decide(name)
        elif world.nodes[name].machine.state.failed:
            world.command(name, "forcestop")  # Its administrator repaired the disk.
        elif not self._patiently(name, reason, would_change):
            pass
        elif "failover is off" in reason:
            self._stop(name, "prim")
        elif "discards this node's data" in would_change:
            self._stop(name, "second", "fullsync")
        else:
            self._choose(self._best())

    def _order(self, name: str) -> tuple[str, ...]:
        """Return how a node that is stopped is started: not as primary beside another one."""
        order = self._orders.get(name, ("start",))
        other = "n2" if name == "n1" else "n1"
        beside = self._world.role(other).startswith(LEADS)
        return ("start",) if beside and order[0] in ("prim", "primforce") else order

    def _patiently(self, name: str, reason: str, would_change: str) -> bool:
        """Return whether a node has been waiting for a decision for some time."""
        now = self._world.now
        before, since = self._asked.get(name, ("", now))
        since = since if reason == before else now
        self._asked[name] = (reason, since)
        asks = "an administrator" in would_change or "failover is off" in reason
        return asks and now - since > PATIENCE_NS

    def _best(self) -> str:
        """Return the node that serves, or else the one that lacks the least."""
        world = self._world

        def rank(name: str) -> tuple[bool, int, str]:
            serves = world.role(name).startswith(LEADS)
            return not serves, len(self._lacking(name)), name

        return min(NODES, key=rank)

    def _lacking(self, name: str) -> list[int]:
        data = self._world.nodes[name].disk.data
        return [write for write in self._world.monitors.acked if write not in data]

    def _choose(self, name: str) -> None:
        """What this node has is all there is."""
        self._asked.clear()
        if self._orders.get(name) != ("primforce",):
            self._stop(name, "primforce")
            self._world.accept_loss(*self._lacking(name))

    def _stop(self, name: str, *order: str) -> None:
        """Stop a node and have it started by another order than `start`."""
        self._world.command(name, "stop")
        self._orders[name] = order

    def _decide(self, name: str) -> None:
        """End a split: the node that serves is right, or else n1."""
        world = self._world
        other = "n2" if name == "n1" else "n1"
        if world.role(other).startswith(LEADS):
            world.command(name, "second", "fullsync")
        elif name == "n1":
            world.command(name, "prim")
