"""Who puts a simulated module in order after its faults, by what the reasons of its nodes say."""

from typing import Final

from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.mirrored import Mirrored
from mirrorfarm.sim.world import NODES

LEADS: Final = ("PRIM", "ALONE")
PATIENCE_NS: Final = 2 * SECOND_NS


class Administrator:
    """Does what the reasons of the nodes ask for; called, returns whether both are in service."""

    def __init__(self, module: Mirrored) -> None:
        self._module = module
        self._orders: dict[str, tuple[str, ...]] = {}  # How a node that is stopped is started.
        self._asked: dict[str, tuple[str, int]] = {}  # What a node waits for, and since when.

    def __call__(self) -> bool:
        """Look once."""
        module = self._module
        for name in NODES:
            node = module.nodes[name]
            if node.up and node.cores:
                self._help(name)
        asked = any("administrator" in module.explanation(name)[1] for name in NODES)
        roles = {module.role(name) for name in NODES}
        return roles == {"PRIM Ready", "SECOND Ready"} and not asked

    def _help(self, name: str) -> None:
        module = self._module
        reason, would_change = module.explanation(name)
        if module.role(name).startswith("STOP"):
            module.command(name, *self._order(name))
        elif "accepts the loss" in would_change:
            self._choose(name)
        elif "SPLIT" in reason:  # Its administrator says whose data are kept.
            self._decide(name)
        elif module.nodes[name].machine.state.failed:
            module.command(name, "forcestop")  # Its administrator repaired the disk.
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
        beside = self._module.role(other).startswith(LEADS)
        return ("start",) if beside and order[0] in ("prim", "primforce") else order

    def _patiently(self, name: str, reason: str, would_change: str) -> bool:
        """Return whether a node has been waiting for a decision for some time."""
        now = self._module.cluster.now
        before, since = self._asked.get(name, ("", now))
        since = since if reason == before else now
        self._asked[name] = (reason, since)
        asks = "an administrator" in would_change or "failover is off" in reason
        return asks and now - since > PATIENCE_NS

    def _best(self) -> str:
        """Return the node that serves, or else the one that lacks the least."""
        module = self._module

        def rank(name: str) -> tuple[bool, int, str]:
            serves = module.role(name).startswith(LEADS)
            return not serves, len(self._lacking(name)), name

        return min(NODES, key=rank)

    def _lacking(self, name: str) -> list[int]:
        data = self._module.nodes[name].disk.data
        return [write for write in self._module.monitors.acked if write not in data]

    def _choose(self, name: str) -> None:
        """What this node has is all there is."""
        self._asked.clear()
        if self._orders.get(name) != ("primforce",):
            self._stop(name, "primforce")
            self._module.accept_loss(*self._lacking(name))

    def _stop(self, name: str, *order: str) -> None:
        """Stop a node and have it started by another order than `start`."""
        self._module.command(name, "stop")
        self._orders[name] = order

    def _decide(self, name: str) -> None:
        """End a split: the node that serves is right, or else n1."""
        module = self._module
        other = "n2" if name == "n1" else "n1"
        if module.role(other).startswith(LEADS):
            module.command(name, "second", "fullsync")
        elif name == "n1":
            module.command(name, "prim")
