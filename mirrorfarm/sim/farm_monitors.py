"""What must hold in every run of a farm, F1 to F8, checked at every change of a filter."""

from dataclasses import dataclass, field
from typing import Any

from mirrorfarm.actors.farm_filter.bitmaps import HARD
from mirrorfarm.limits import CLOCK_RATE_ERROR_DIVISOR
from mirrorfarm.sim.monitors import Violation


@dataclass(slots=True)
class FarmMonitors:
    """F1 to F8 on a simulated farm.

    Two nodes share clients unless nothing passes between them. For two heartbeat timeouts after
    that ends they may both answer (F7). With losses, so may two nodes that have not heard of
    each other for as long as a partition takes to be believed.
    """

    together: dict[tuple[str, str], int] = field(default_factory=dict)  # Since when links work.
    heard_ns: dict[tuple[str, str], int] = field(default_factory=dict)  # (by, of)
    lossy_ns: int = -(1 << 62)  # When a message was last lost or late at random.
    excused: int = 0  # Overlaps that were allowed.
    kept: int = 0  # Packets that found their connection.
    resets: int = 0
    unanswered: int = 0
    moved: int = 0  # Buckets that changed hands between nodes that stayed.
    views: dict[str, Any] = field(default_factory=dict)

    def links_changed(self, world: Any) -> None:
        """Links were cut or mended."""
        for a in world.names:
            for b in world.names:
                if a < b:
                    if world.apart(a, b):
                        self.together.pop((a, b), None)
                    else:
                        self.together.setdefault((a, b), world.now)

    def heard(self, world: Any, by: str, event: Any) -> None:
        """A node was given a message of another one."""
        self.heard_ns[by, event.source.node] = world.now

    def filter_changed(self, world: Any, node: Any) -> None:
        """F1 and F2: a table or a lease was replaced; look for a second acceptor."""
        if world.loss_percent or world.late_percent:
            self.lossy_ns = world.now
        if not world.answers(node.name):
            node.unbroken_ns = 0
            return
        node.unbroken_ns = node.unbroken_ns or world.now
        for other in world.nodes.values():
            if other is node or not world.answers(other.name):
                continue
            pairs = zip(node.filter.opened, other.filter.opened, strict=True)
            both = [a & b for a, b in pairs]
            if any(both):
                count = sum(bits.bit_count() for bits in both)
                self._overlap(world, node.name, other.name, f"{count} buckets open")

    def _overlap(self, world: Any, a: str, b: str, what: str) -> None:
        a, b = min(a, b), max(a, b)
        if self._allowed(world, a, b):
            self.excused += 1
            return
        raise Violation(f"F1: {a} and {b} both answer at {world.now}: {what}")

    def _allowed(self, world: Any, a: str, b: str) -> bool:
        timing = world.timing
        if world.apart(a, b):
            return True
        since = self.together.get((a, b), -(1 << 62))
        if world.now - since < 2 * timing.silent_ns and since > 0:
            return True
        if world.now - self.lossy_ns > 2 * timing.lease_ns:
            return False
        quiet_ns = timing.tolerate_ns
        return all(world.now - self.heard_ns.get(pair, 0) > quiet_ns for pair in ((a, b), (b, a)))

    # --- packets ---------------------------------------------------------------------------

    def new_client(self, world: Any, flow: int, accepted: list[Any]) -> None:
        """F1: a first packet was offered to every node that it reaches."""
        for one in accepted:
            for other in accepted:
                if one.name < other.name:
                    self._overlap(world, one.name, other.name, f"client {flow}")
        if not accepted:
            self.unanswered += 1

    def packet(self, world: Any, flow: int, at: Any, accepted: list[Any], since: int) -> None:
        """F5: a packet of a connection at node `at` was offered to every node that it reaches."""
        for node in accepted:
            if node is not at and at in accepted:
                self._overlap(world, at.name, node.name, f"connection {flow}")
        if not world.answers(at.name):
            at.unbroken_ns = 0
        stayed = at.unbroken_ns and at.unbroken_ns < since
        foreign = [node.name for node in accepted if node is not at]
        if foreign and stayed and not any(world.apart(at.name, name) for name in foreign):
            if not self._allowed(world, min(at.name, *foreign), max(at.name, *foreign)):
                raise Violation(f"F5: connection {flow} of {at.name} was answered by {foreign}")
        self.resets += bool(foreign)
        self.kept += not foreign and at in accepted

    def accepted(self, world: Any, node: Any) -> None:
        """F8: a filter whose processes are frozen is closed when their lease is over."""
        bound = world.timing.lease_ns * (CLOCK_RATE_ERROR_DIVISOR + 2) // CLOCK_RATE_ERROR_DIVISOR
        if node.frozen_ns and world.now - node.frozen_ns > bound:
            raise Violation(f"F8: {node.name} answers, frozen since {node.frozen_ns}")

    # --- when nothing fails any more ---------------------------------------------------------

    def calm(self, world: Any, names: tuple[str, ...]) -> None:
        """F3: one owner for every bucket, and F1 without any excuse."""
        for group in range(world.groups):
            for bucket, owners in enumerate(world.owners(group)):
                if len(owners) != 1 or owners[0] not in names:
                    raise Violation(f"F3: bucket {bucket} of group {group} is open at {owners}")
            views = {world.nodes[name].core.state.view.owners[group] for name in names}
            if len(views) != 1:
                raise Violation(f"F3: the members use different tables in group {group}")
        soft = [
            name
            for name in names
            if any(state not in {0, HARD} for row in world.nodes[name].filter.rows for state in row)
        ]
        if soft and not any(world.nodes[name].sockets for name in world.names):
            raise Violation(f"F5: buckets of {soft} stay SOFT although no connection is left")

    def viewed(self, node: Any) -> None:
        """F4: a new view moves no bucket between equal nodes that stay, but for rounding."""
        view, before = node.core.state.view, self.views.get(node.name)
        self.views[node.name] = view
        if view is None or before is None or view.number <= before.number:
            return
        if view.members == before.members or view.coordinator != node.name:
            return
        for group, weights in enumerate(view.weights):
            if len({*weights, *before.weights[group]}) == 1 and weights[0]:
                self._moved(before, view, group)

    def _moved(self, before: Any, view: Any, group: int) -> None:
        moved = 0
        for old, new in zip(before.owners[group], view.owners[group], strict=True):
            one, other = before.members[old], view.members[new]
            moved += one != other and one in view.members and other in before.members
        self.moved += moved
        if moved > len(view.members):
            raise Violation(f"F4: view {view.number} moves {moved} buckets between those who stay")
