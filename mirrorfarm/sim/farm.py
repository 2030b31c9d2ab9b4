"""A farm in one thread: N nodes with their filters, a network, and clients; same seed, same story.

Real cores on simulated clocks, whose rates differ; a filter stays as the kernel has it while
the processes of its node are frozen or gone. Faults are methods; `farm_monitors` watches.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.farm_filter.bitmaps import BITMAP_BYTES
from mirrorfarm.actors.farm_filter.core import FarmFilter
from mirrorfarm.actors.farm_filter.state import ACTOR, Settings
from mirrorfarm.limits import (
    BUCKETS,
    CLOCK_RATE_ERROR_DIVISOR,
    MICROSECOND_NS,
    MILLISECOND_NS,
    SECOND_NS,
)
from mirrorfarm.modules.settings import FarmTiming
from mirrorfarm.sim.farm_monitors import FarmMonitors
from mirrorfarm.transport.address import Address

MODULE = "web"


@dataclass(slots=True)
class SimFilter:
    """The filter as the kernel has it; time in nanoseconds of the node's own clock."""

    rows: tuple[bytes, ...]
    opened: list[int]  # Buckets that are not FOREIGN, by group: what the monitors compare.
    deadline_ns: int = 0


@dataclass(slots=True)
class FarmNode:
    """One node: its core while its process runs, its filter and sockets while it has power."""

    name: str
    filter: SimFilter
    offset_ns: int  # Of its clock, and by how many thousandths it is fast.
    rate: int
    core: FarmFilter | None = None
    incarnation: int = 0
    wish: str = "away"
    powers: tuple[int, ...] = (1,)
    frozen_ns: int = 0  # Since when its processes are frozen; 0: they are not.
    thaws_ns: int = 0
    backlog: list[Callable[[], None]] = field(default_factory=list)
    sockets: dict[int, tuple[int, int]] = field(default_factory=dict)  # flow: group, bucket
    picture: ev.FarmPicture | None = None
    unbroken_ns: int = 0  # Since when it has been answering without a gap.
    changes: dict[str, Any] = field(default_factory=dict)  # Of its configuration.
    left_behind: bool = False  # The filter is a killed process's: nobody has it at hand yet.
    hung_until_ns: int = 0  # Its agent hangs: messages to and from it wait until then.
    hung_alone: bool = False

    def clock(self, now: int) -> int:
        """Return what its boot clock shows."""
        return self.offset_ns + now + now * self.rate // CLOCK_RATE_ERROR_DIVISOR

    def moment(self, clock_ns: int) -> int:
        """Return the first time at which its clock shows at least this."""
        passed = clock_ns - self.offset_ns
        return -(-passed * CLOCK_RATE_ERROR_DIVISOR // (CLOCK_RATE_ERROR_DIVISOR + self.rate))


class FarmWorld:
    """The agenda of everything that will happen to a farm, and the hands that do it."""

    def __init__(
        self, seed: int, count: int, timing: FarmTiming | None = None, groups: int = 1
    ) -> None:
        self.random = Random(seed)
        self.now = SECOND_NS
        self.timing = timing or FarmTiming()
        self.groups = groups
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0
        self.names = tuple(f"n{number}" for number in range(1, count + 1))
        self.cut: set[tuple[str, str]] = set()  # (from, to): nothing arrives.
        self.down_networks: set[str] = set()
        self.drops: Callable[[str, str, Any], bool] | None = None  # By source, target, message.
        self.loss_percent = 0
        self.repeat_percent = 0
        self.late_percent = 0
        self.story: list[str] = []
        self.monitors = FarmMonitors()
        self.nodes = {name: self._node(name) for name in self.names}
        self.next_flow = 0

    def _node(self, name: str) -> FarmNode:
        offset_ns = self.random.randrange(1_000_000) * MILLISECOND_NS
        node = FarmNode(name, _empty(self.groups), offset_ns, self.random.randint(-1, 1))
        node.powers = (1,) * self.groups
        return node

    # --- time ------------------------------------------------------------------------------

    def at(self, when: int, what: Callable[[], None]) -> None:
        """Put something on the agenda."""
        self._order += 1
        heapq.heappush(self._agenda, (max(when, self.now), self._order, what))

    def run(self, milliseconds: int) -> None:
        """Let time pass."""
        self.run_to(self.now + milliseconds * MILLISECOND_NS)

    def run_to(self, end: int) -> None:
        """Do everything up to a time."""
        while self._agenda and self._agenda[0][0] <= end:
            self.now, _, what = heapq.heappop(self._agenda)
            what()
        self.now = end

    def run_until(self, condition: Callable[[], bool], milliseconds: int) -> bool:
        """Let time pass until the condition holds; return whether it did."""
        for _ in range(milliseconds // 10):
            if condition():
                return True
            self.run(10)
        return condition()

    # --- nodes -----------------------------------------------------------------------------

    def start(self, name: str, wish: str = "in", **changes: Any) -> None:
        """Start the process of a node; it wants to take part as `wish` says."""
        node = self.nodes[name]
        assert node.core is None
        node.incarnation += 1
        node.wish = wish
        node.changes = changes or node.changes
        settings = {
            "node": name,
            "module": MODULE,
            "nodes": self.names,
            "networks": ("lan",),
            "incarnation": node.incarnation,
            "mode": "bpf",
            "seed": 7,
            "rules": "r",
            "groups": tuple(f"g{number}" for number in range(self.groups)),
            "powers": node.powers,
            "timing": self.timing,
        }
        node.core = FarmFilter.build(Settings(**(settings | node.changes)))  # type: ignore[arg-type]
        self.soon(node, ev.Started())
        if wish != "away":
            self.soon(node, ev.FarmWish(wish))

    def kill(self, name: str, *, machine: bool = True) -> None:
        """End a node's process; with its machine, filter and connections go as well."""
        node = self.nodes[name]
        node.core, node.backlog, node.frozen_ns, node.thaws_ns = None, [], 0, 0
        node.picture = None
        node.left_behind = not machine
        if machine:
            node.filter = _empty(self.groups)
            node.sockets = {}
            node.unbroken_ns = 0

    def freeze(self, name: str, milliseconds: int) -> None:
        """Stop the processes of a node for a while; its filter goes on."""
        node = self.nodes[name]
        if not node.frozen_ns:
            node.frozen_ns = self.now
        node.thaws_ns = max(node.thaws_ns, self.now + milliseconds * MILLISECOND_NS)
        self.at(node.thaws_ns, lambda: self._thaw(node))

    def _thaw(self, node: FarmNode) -> None:
        if node.frozen_ns and self.now >= node.thaws_ns:
            node.frozen_ns, node.thaws_ns = 0, 0
            backlog, node.backlog = node.backlog, []
            for what in backlog:
                what()

    def wish(self, name: str, wish: str) -> None:
        """Have a node leave, drain or take part."""
        node = self.nodes[name]
        node.wish = wish
        self.soon(node, ev.FarmWish(wish))

    def power(self, name: str, power: int) -> None:
        """Change a node's power live."""
        node = self.nodes[name]
        node.powers = (power,) * self.groups
        self.soon(node, ev.FarmPower(power))

    def hang(self, name: str, milliseconds: int, *, alone: bool = False) -> None:
        """Have the agent of a node hang: no message passes, and all of them pass afterwards.

        `alone`: neither do the packets of the others' clients reach it.
        """
        node = self.nodes[name]
        node.hung_until_ns = max(node.hung_until_ns, self.now + milliseconds * MILLISECOND_NS)
        node.hung_alone = alone
        self.monitors.links_changed(self)
        self.at(node.hung_until_ns, lambda: self.monitors.links_changed(self))

    # --- the network -----------------------------------------------------------------------

    def set_link(self, a: str, b: str, *, up: bool) -> None:
        """Cut or mend the link between two nodes, in both directions."""
        for pair in ((a, b), (b, a)):
            (self.cut.discard if up else self.cut.add)(pair)
        self.monitors.links_changed(self)

    def cut_one_way(self, source: str, to: str) -> None:
        """Lose everything from one node to another; the other direction works."""
        self.cut.add((source, to))
        self.monitors.links_changed(self)

    def partition(self, *sides: tuple[str, ...]) -> None:
        """Cut every link between the sides, and mend those within each."""
        side_of = {name: number for number, side in enumerate(sides) for name in side}
        self.cut = {
            (a, b) for a in self.names for b in self.names if a != b and side_of[a] != side_of[b]
        }
        self.monitors.links_changed(self)

    def heal(self) -> None:
        """Mend every link."""
        self.cut = set()
        self.monitors.links_changed(self)

    def apart(self, a: str, b: str) -> bool:
        """Return whether nothing passes between two nodes: their clients are different ones."""
        for name in (a, b):
            if self.nodes[name].hung_alone and self.now < self.nodes[name].hung_until_ns:
                return True
        return (a, b) in self.cut and (b, a) in self.cut

    # --- delivery --------------------------------------------------------------------------

    def soon(self, node: FarmNode, event: Any, delay: int = 20 * MICROSECOND_NS) -> None:
        """Give an event to the core of a node, unless it is restarted before."""
        incarnation = node.incarnation
        self.at(self.now + delay, lambda: self._feed(node, event, incarnation))

    def _feed(self, node: FarmNode, event: Any, incarnation: int) -> None:
        if node.core is None or node.incarnation != incarnation:
            return
        if node.frozen_ns:
            node.backlog.append(lambda: self._feed(node, event, incarnation))
            return
        if isinstance(event, ev.Received):
            self.monitors.heard(self, node.name, event)
        for effect in node.core.handle(event, node.clock(self.now)):
            self._perform(node, effect)

    def _perform(self, node: FarmNode, effect: Any) -> None:
        match effect:
            case fx.Send(to, message, network):
                received = ev.Received(Address(node.name, MODULE, ACTOR), message, network)
                for name in to.nodes:
                    self._deliver(node.name, name, received)
                    if self.random.randrange(100) < self.repeat_percent:
                        self._deliver(node.name, name, received)
            case fx.Later(at_ns, event):
                self.soon(node, event, max(0, node.moment(at_ns) - self.now))
            case fx.ApplyTable(_, rows):
                opened = [_open_in(row) for row in rows]
                if node.left_behind:
                    return  # It is opened, and then replaced, before it is needed.
                node.filter.rows, node.filter.opened = rows, opened
                self.monitors.filter_changed(self, node)
            case fx.RenewLease(deadline_ns) if deadline_ns or not node.left_behind:
                if node.left_behind:
                    node.left_behind = False
                    node.filter = _empty(self.groups)
                node.filter.deadline_ns = deadline_ns
                self.monitors.filter_changed(self, node)
            case fx.CountSockets(number):
                delay = self.random.randint(1, 20) * MILLISECOND_NS
                incarnation = node.incarnation
                self.at(self.now + delay, lambda: self._count(node, number, incarnation))
            case fx.Log(level, text) if level != "D":
                self.story.append(f"{self.now // 1000} {node.name} {text}")
            case fx.Tell(_, picture):
                node.picture = picture
                self.monitors.viewed(node)
            case _:
                pass

    def _count(self, node: FarmNode, number: int, incarnation: int) -> None:
        live = [bytearray(BITMAP_BYTES) for _ in range(self.groups)]
        for group, bucket in node.sockets.values():
            live[group][bucket >> 3] |= 1 << (bucket & 7)
        event = ev.SocketsCounted(number, tuple(bytes(row) for row in live), len(node.sockets))
        self._feed(node, event, incarnation)

    def _deliver(self, source: str, to: str, event: ev.Received) -> None:
        if self.drops is not None and self.drops(source, to, event.message):
            return
        if (source, to) in self.cut or event.network in self.down_networks:
            return
        if self.random.randrange(100) < self.loss_percent:
            return
        late = self.random.randrange(100) < self.late_percent
        delay = self.random.randint(100, 150_000 if late else 2_000) * MICROSECOND_NS
        for node in (self.nodes[source], self.nodes[to]):
            delay = max(delay, node.hung_until_ns - self.now)
        self.soon(self.nodes[to], event, delay)

    # --- what the filters do ---------------------------------------------------------------

    def answers(self, name: str) -> bool:
        """Return whether a node's filter lets anything in."""
        node = self.nodes[name]
        return node.clock(self.now) < node.filter.deadline_ns

    def owners(self, group: int = 0) -> list[tuple[str, ...]]:
        """Return who would answer a new client, for each bucket."""
        able = [n for n in self.nodes.values() if self.answers(n.name)]
        return [
            tuple(n.name for n in able if n.filter.rows[group][bucket]) for bucket in range(BUCKETS)
        ]

    def shares(self, group: int = 0) -> dict[str, int]:
        """Return how many buckets are open at each node."""
        return {
            name: node.filter.opened[group].bit_count() if self.answers(name) else 0
            for name, node in self.nodes.items()
        }

    def settled(self, *names: str) -> bool:
        """Return whether exactly these nodes are in one agreed view and have it in use."""
        views = set()
        for name in names:
            picture = self.nodes[name].picture
            members = tuple(n.name for n in picture.nodes if n.member) if picture else ()
            if picture is None or not picture.settled or set(members) != set(names):
                return False
            views.add(picture.view)
        return len(views) == 1


def _open_in(row: bytes) -> int:
    return int("".join("1" if state else "0" for state in reversed(row)), 2)


def _empty(groups: int) -> SimFilter:
    return SimFilter(tuple(bytes(BUCKETS) for _ in range(groups)), [0] * groups)
