"""F1 to F8, and L5: what must hold of a farm.

Two nodes share clients unless nothing passes between them. For two heartbeat timeouts after that
ends they may both answer (F7). With losses, so may two nodes that have not heard of each other
for as long as a partition takes to be believed.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.limits import BUCKETS, CLOCK_RATE_ERROR_DIVISOR
from mirrorfarm.modules.settings import FarmTiming
from mirrorfarm.sim.monitors import seen
from mirrorfarm.sim.monitors.limits import FarmLimits
from mirrorfarm.sim.monitors.monitor import Monitor
from mirrorfarm.sim.monitors.packets import FollowsItsFlow
from mirrorfarm.sim.monitors.watch import Watch
from mirrorfarm.sim.steps import Step
from mirrorfarm.transport.messages import FarmBeat, ViewAck, ViewCommit, ViewProposal

_LONG_AGO = -(1 << 62)
FILTER = "farm_filter"


@dataclass(slots=True)
class Filter:
    """What one node's filter lets in."""

    opened: tuple[int, ...] = ()  # A bitmap of buckets for each group.
    until: int = 0
    frozen_since: int = 0
    unbroken: int = 0  # Since when it has been answering without a gap.


@dataclass(slots=True, eq=False)
class FarmFacts:
    """What several monitors of a farm need to know."""

    timing: FarmTiming = field(default_factory=FarmTiming)
    simulated: bool = False
    filters: dict[str, Filter] = field(default_factory=dict)
    pairs: set[tuple[str, str]] = field(default_factory=set)  # Nothing passes between them,
    together: dict[tuple[str, str], int] = field(default_factory=dict)  # or: since when it does.
    heard: dict[tuple[str, str], int] = field(default_factory=dict)  # (by, of)
    lossy_ns: int = _LONG_AGO  # When messages were last lost or late at random.
    lossy: bool = False
    excused: int = 0
    at: int = 0  # Time of the present step.

    events: ClassVar[tuple[type, ...]] = (
        seen.FilterIs,
        seen.Apart,
        FarmBeat,
        ViewProposal,
        ViewAck,
        ViewCommit,
        fx.ApplyTable,
        fx.RenewLease,
    )

    def on(self, step: Step) -> None:
        """Take one step; the watch has set `at`."""
        event = step.event
        if event.__class__ is seen.FilterIs:
            self._filter(step.node, event.opened, event.until, event.frozen_since)
        elif event.__class__ is seen.Apart:
            self._apart(event)
        elif event.__class__ is ev.Received:
            self.heard[step.node, event.source.node] = self.at
        if not self.simulated:
            for effect in step.effects:
                self._by_effect(step.node, effect)

    def _by_effect(self, node: str, effect: Any) -> None:
        filter_ = self.filters.setdefault(node, Filter())
        if effect.__class__ is fx.ApplyTable:
            filter_.opened = tuple(
                sum(1 << bucket for bucket, state in enumerate(row) if state)
                for row in effect.states
            )
        elif effect.__class__ is fx.RenewLease:
            filter_.until = effect.deadline_ns

    def _filter(self, node: str, opened: tuple[bytes, ...], until: int, frozen: int) -> None:
        filter_ = self.filters.setdefault(node, Filter())
        filter_.opened = tuple(int.from_bytes(row, "little") for row in opened)
        filter_.until, filter_.frozen_since = until, frozen
        if self.lossy:
            self.lossy_ns = self.at
        if not self.answers(node):
            filter_.unbroken = 0
        else:
            filter_.unbroken = filter_.unbroken or self.at

    def _apart(self, event: seen.Apart) -> None:
        self.pairs = {(min(a, b), max(a, b)) for a, b in event.pairs}
        self.lossy = event.lossy
        for a in self.filters:
            for b in self.filters:
                if a < b:
                    if (a, b) in self.pairs:
                        self.together.pop((a, b), None)
                    else:
                        self.together.setdefault((a, b), self.at)

    def answers(self, node: str) -> bool:
        """Return whether a node's filter lets anything in."""
        filter_ = self.filters.get(node)
        return filter_ is not None and self.at < filter_.until

    def excuses(self, one: str, other: str) -> bool:
        """Return whether two nodes may answer the same client now."""
        a, b = min(one, other), max(one, other)
        timing, now = self.timing, self.at
        if (a, b) in self.pairs:
            return True
        since = self.together.get((a, b), _LONG_AGO)
        if now - since < 2 * timing.silent_ns and since > 0:
            return True
        if now - self.lossy_ns > 2 * timing.lease_ns:
            return False
        quiet = timing.tolerate_ns
        return all(now - self.heard.get(pair, 0) > quiet for pair in ((a, b), (b, a)))


class FarmMonitor(Monitor):
    """Base of the monitors of a farm."""

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self.farm: FarmFacts = watch.farm

    def overlap(self, a: str, b: str, what: str) -> None:
        """Two nodes answer alike: a violation, unless they may."""
        if self.farm.excuses(a, b):
            self.farm.excused += 1
        else:
            self.fail(f"{min(a, b)} and {max(a, b)} both answer at {self.farm.at}: {what}")


class OneAcceptor(FarmMonitor):
    """F1. Without observations nothing: steps do not tell of packets."""

    id = "F1"
    statement = "Of the nodes that a packet reaches, one accepts it at the most."
    events = (seen.Packet,)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self.unanswered = 0

    def on(self, step: Step) -> None:  # noqa: D102
        packet = step.event
        if packet.at:
            for name in packet.accepted:
                if name != packet.at and packet.at in packet.accepted:
                    self.overlap(packet.at, name, f"connection {packet.flow}")
            return
        self.unanswered += not packet.accepted
        for one in packet.accepted:
            for other in packet.accepted:
                if one < other:
                    self.overlap(one, other, f"client {packet.flow}")


class CloseBeforeOpen(FarmMonitor):
    """F2. Without observations: by tables and leases, on clocks that the nodes share."""

    id = "F2"
    statement = "A bucket is opened only when nobody else answers for it any more."
    events = (seen.FilterIs, fx.ApplyTable, fx.RenewLease)

    def on(self, step: Step) -> None:  # noqa: D102
        farm = self.farm
        if farm.simulated and step.event.__class__ is not seen.FilterIs:
            return
        if not farm.answers(step.node):
            return
        mine = farm.filters[step.node].opened
        for name, other in farm.filters.items():
            if name == step.node or not farm.answers(name):
                continue
            both = [a & b for a, b in zip(mine, other.opened, strict=False)]
            if any(both):
                count = sum(bits.bit_count() for bits in both)
                self.overlap(step.node, name, f"{count} buckets open")


class Total(FarmMonitor):
    """F3. Without observations nothing: traces do not say when all is calm."""

    id = "F3"
    timeless = True
    statement = "When nothing fails every bucket has one owner, by one table on all nodes."
    events = (seen.Settled, ev.FarmPicture)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._pictures: dict[str, ev.FarmPicture] = {}

    def on(self, step: Step) -> None:  # noqa: D102
        for effect in step.effects:
            if effect.__class__ is fx.Tell and effect.event.__class__ is ev.FarmPicture:
                self._pictures[step.node] = effect.event
        if step.event.__class__ is not seen.Settled or step.event.why:
            return
        able = [name for name in self.farm.filters if self.farm.answers(name)]
        filters = [self.farm.filters[name] for name in able]
        for group in range(len(filters[0].opened) if filters else 0):
            rows = [one.opened[group] for one in filters]
            union = 0
            for row in rows:
                if union & row:
                    self.fail(f"{(union & row).bit_count()} buckets have two owners")
                union |= row
            if union != (1 << BUCKETS) - 1:
                self.fail(f"{BUCKETS - union.bit_count()} buckets have no owner")
        pictures = [self._pictures[name] for name in able if name in self._pictures]
        if len({(p.members, p.owners) for p in pictures}) > 1:
            self.fail("the members use different tables")


class LittleMoves(FarmMonitor):
    """F4. Complete without observations."""

    id = "F4"
    timeless = True
    statement = "A new view moves no bucket between equal nodes that stay, but for rounding."
    events = (ev.FarmPicture,)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self.moved = 0
        self._before: dict[str, ev.FarmPicture] = {}

    def on(self, step: Step) -> None:  # noqa: D102
        for effect in step.effects:
            if effect.__class__ is fx.Tell and effect.event.__class__ is ev.FarmPicture:
                before = self._before.get(step.node)
                if before is None or before.view != effect.event.view:
                    self._before[step.node] = effect.event
                    if before is not None and before.view and effect.event.view > before.view:
                        self._compare(step.node, before, effect.event)

    def _compare(self, node: str, before: ev.FarmPicture, after: ev.FarmPicture) -> None:
        if before.members == after.members or after.coordinator != node:
            return
        for group, (old, new) in enumerate(zip(before.owners, after.owners, strict=False)):
            weights = {
                one.weights[group]
                for picture in (before, after)
                for one in picture.nodes
                if one.name in picture.members and len(one.weights) > group
            }
            if len(weights) == 1 and weights != {0}:
                self._count(before, after, old, new)

    def _count(self, before: ev.FarmPicture, after: ev.FarmPicture, old: bytes, new: bytes) -> None:
        moved = 0
        for one, other in zip(old, new, strict=True):
            if one < len(before.members) and other < len(after.members):
                left, right = before.members[one], after.members[other]
                moved += left != right and left in after.members and right in before.members
        self.moved += moved
        if moved > len(after.members):
            self.fail(f"view {after.view} moves {moved} buckets between those who stay")


class Affinity(FarmMonitor):
    """F5. Without observations nothing."""

    id = "F5"
    statement = "A connection of a node that stays is answered by no other node."
    events = (seen.Packet,)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self.kept = self.resets = 0

    def on(self, step: Step) -> None:  # noqa: D102
        packet, farm = step.event, self.farm
        if not packet.at:
            return
        at = farm.filters.get(packet.at, Filter())
        if not farm.answers(packet.at):
            at.unbroken = 0
        stayed = at.unbroken and at.unbroken < packet.since
        foreign = [name for name in packet.accepted if name != packet.at]
        cut = any((min(packet.at, n), max(packet.at, n)) in farm.pairs for n in foreign)
        if foreign and stayed and not cut and not farm.excuses(packet.at, foreign[0]):
            self.fail(f"connection {packet.flow} of {packet.at} was answered by {foreign}")
        self.resets += bool(foreign)
        self.kept += not foreign and packet.at in packet.accepted


class Healed(FarmMonitor):
    """F7. Without observations: nothing, for traces do not tell of links."""

    id = "F7"
    statement = "Two heartbeat timeouts after a partition ended nobody answers for another."
    events: ClassVar[tuple[type, ...]] = (seen.FilterIs,)

    def on(self, step: Step) -> None:  # noqa: D102
        farm, mine = self.farm, self.farm.filters[step.node]
        if not farm.answers(step.node) or farm.at - farm.lossy_ns < 2 * farm.timing.lease_ns:
            return
        for (a, b), since in farm.together.items():
            other = b if a == step.node else a
            if step.node not in (a, b) or since <= 0 or not farm.answers(other):
                continue
            if farm.at - since < 2 * farm.timing.silent_ns:
                continue
            rows = zip(mine.opened, farm.filters[other].opened, strict=False)
            if any(x & y for x, y in rows):
                self.fail(f"{a} and {b} answer alike, together since {farm.at - since} ns")


class FailsClosed(FarmMonitor):
    """F8. Without observations nothing: a frozen process makes no steps."""

    id = "F8"
    statement = "A filter whose processes are frozen is closed when their lease is over."
    events = (seen.Packet,)

    def on(self, step: Step) -> None:  # noqa: D102
        lease = self.farm.timing.lease_ns
        bound = lease * (CLOCK_RATE_ERROR_DIVISOR + 2) // CLOCK_RATE_ERROR_DIVISOR
        for name in step.event.accepted:
            since = self.farm.filters[name].frozen_since
            if since and self.farm.at - since > bound:
                self.fail(f"{name} answers, frozen since {since}")


class NoFlapping(FarmMonitor):
    """L5, for the members of a view. Complete without observations."""

    id = "L5"
    statement = "A node that comes and goes is taken back later each time."
    events = (ev.FarmPicture, ev.Started)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._before: dict[str, ev.FarmPicture] = {}
        self._departures: dict[tuple[str, str], list[int]] = {}  # By the coordinator's clock.

    def on(self, step: Step) -> None:  # noqa: D102
        if step.event.__class__ is ev.Started and step.actor == FILTER:
            self._before.pop(step.node, None)
            for key in [key for key in self._departures if key[0] == step.node]:
                del self._departures[key]
        for effect in step.effects:
            if effect.__class__ is fx.Tell and effect.event.__class__ is ev.FarmPicture:
                before = self._before.get(step.node)
                self._before[step.node] = effect.event
                if before is not None and before.members and effect.event.members:
                    self._compare(step.node, before, effect.event, step.now)

    def _compare(self, node: str, before: ev.FarmPicture, after: ev.FarmPicture, now: int) -> None:
        if {before.coordinator, after.coordinator} != {node}:
            return
        for one in after.nodes:
            was, is_ = one.name in before.members, one.name in after.members
            if was and not is_ and one.wish == "in":
                self._departures.setdefault((node, one.name), []).append(now)
            elif is_ and not was:
                self._returns(node, one.name, now)

    def _returns(self, node: str, name: str, now: int) -> None:
        timing = self.farm.timing
        departures = self._departures.get((node, name), [])
        recent = [at for at in departures if now - at < timing.hold_window_ns]
        if len(recent) < 2:
            return
        wait_ns = min(timing.hold_ns << (len(recent) - 2), timing.hold_max_ns)
        if now - recent[-1] < wait_ns:
            out_ns = now - recent[-1]
            self.fail(f"{name} left {len(recent)} times and is taken back after {out_ns} ns")


FARM: tuple[type[Monitor], ...] = (
    OneAcceptor,
    CloseBeforeOpen,
    Total,
    LittleMoves,
    Affinity,
    FollowsItsFlow,
    Healed,
    FailsClosed,
    NoFlapping,
    FarmLimits,
)
