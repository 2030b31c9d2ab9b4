"""Monitors of recorded farms: tables and leases as they were ordered, and who heard whom.

A trace tells neither of links nor of packets. Two nodes are apart while neither hears the other;
their clocks are compared by the merge of the traces, and a lease counts for so much less as they
may be wrong.
"""

from dataclasses import dataclass
from typing import Any, Final

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.limits import CLOCK_RATE_ERROR_DIVISOR, MILLISECOND_NS
from mirrorfarm.sim.monitors import farm
from mirrorfarm.sim.monitors.watch import Watch
from mirrorfarm.sim.steps import Step

TABLES_KEPT: Final = 64
_Key = tuple[int, str, tuple[str, ...]]


@dataclass(slots=True, eq=False)
class Facts(farm.FarmFacts):
    """As `FarmFacts`, without observations."""

    apart_ns: int = 0  # By how much the clocks of two nodes may be wrong.

    def on(self, step: Step) -> None:
        """Take one step; the watch has set `at`."""
        event = step.event
        if event.__class__ is ev.Received and event.source.node != step.node:
            self._hears(step.node, event.source.node)
        for effect in step.effects:
            self._by_effect(step.node, effect)
            if effect.__class__ is fx.RenewLease and effect.deadline_ns:
                until = self.at + effect.deadline_ns - step.now
                self.filters[step.node].until = until - self.apart_ns

    def _hears(self, node: str, other: str) -> None:
        pair = (min(node, other), max(node, other))
        if self.apart(*pair):
            self.together[pair] = self.at
        self.heard[node, other] = self.at

    def apart(self, a: str, b: str) -> bool:
        """Return whether neither of two nodes hears the other."""
        last = max(self.heard.get((a, b), 0), self.heard.get((b, a), 0))
        return self.at - last > self.timing.tolerate_ns

    def excuses(self, one: str, other: str) -> bool:
        """Return whether two nodes may answer the same client now."""
        a, b = min(one, other), max(one, other)
        since = self.together.get((a, b), self.at)
        return self.apart(a, b) or self.at - since < 2 * self.timing.silent_ns


class OneTable(farm.FarmMonitor):
    """F3 by what nodes tell of their views: not whether every bucket is open somewhere."""

    id = "F3"
    statement = "All members of a view use the same table."
    events = (ev.FarmPicture, ev.Started)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._tables: dict[_Key, tuple[str, tuple[bytes, ...]]] = {}

    def on(self, step: Step) -> None:  # noqa: D102
        if step.event.__class__ is ev.Started:  # A coordinator that starts may count anew.
            for key in [key for key in self._tables if key[1] == step.node]:
                del self._tables[key]
        for effect in step.effects:
            if effect.__class__ is fx.Tell and effect.event.__class__ is ev.FarmPicture:
                self._compare(step.node, effect.event)

    def _compare(self, node: str, picture: Any) -> None:
        if not picture.view or not picture.owners:
            return
        key = (picture.view, picture.coordinator, picture.members)
        who, owners = self._tables.setdefault(key, (node, picture.owners))
        if owners != picture.owners:
            self.fail(f"{node} and {who} use different tables for view {picture.view}")
        if len(self._tables) > TABLES_KEPT:
            del self._tables[next(iter(self._tables))]


class Healed(farm.Healed):
    """F7 by who hears whom, tables and leases."""

    events = (fx.ApplyTable, fx.RenewLease)

    def on(self, step: Step) -> None:  # noqa: D102
        facts = self.farm
        assert isinstance(facts, Facts), "this is no simulation"
        facts.together = {
            pair: since for pair, since in facts.together.items() if not facts.apart(*pair)
        }
        super().on(step)


class FailsClosed(farm.FarmMonitor):
    """F8 by the leases: that the kernel closes when one is over, the live tests show."""

    id = "F8"
    statement = "No lease is longer than a node may be frozen and still answer."
    events = (fx.RenewLease,)

    def on(self, step: Step) -> None:  # noqa: D102
        lease = self.farm.timing.lease_ns
        bound = lease * (CLOCK_RATE_ERROR_DIVISOR + 2) // CLOCK_RATE_ERROR_DIVISOR
        for effect in step.effects:
            if effect.__class__ is fx.RenewLease and effect.deadline_ns > step.now + bound:
                longer = (effect.deadline_ns - step.now) // MILLISECOND_NS
                self.fail(f"{step.node} gives its filter a lease of {longer} ms")


# Those that need to know the farm's clocks, which are in the states of its cores, and the others.
TIMED: tuple[type[farm.FarmMonitor], ...] = (
    farm.CloseBeforeOpen,
    Healed,
    FailsClosed,
    farm.NoFlapping,
)
UNTIMED: tuple[type[farm.FarmMonitor], ...] = (OneTable, farm.LittleMoves)
