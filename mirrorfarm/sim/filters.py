"""The filter of one simulated farm node, as the kernel has it: it outlives the processes."""

from typing import Any

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.farm_filter.bitmaps import BITMAP_BYTES
from mirrorfarm.limits import BUCKETS, MILLISECOND_NS
from mirrorfarm.sim.engine import Draws
from mirrorfarm.sim.host import Actor, Host
from mirrorfarm.sim.monitors.seen import FilterIs

_OPEN = b"0" + b"1" * 255  # Of each state a digit: whether a bucket in it is open.


class SimFilter:
    """Table, lease and connections. Times of the lease are the node's own boot clock's."""

    def __init__(self, cluster: Any, host: Host, draws: Draws, groups: int) -> None:
        self._cluster, self._host, self._draws, self._groups = cluster, host, draws, groups
        self.sockets: dict[int, tuple[int, int]] = {}  # Flow: group and bucket.
        self.slow_ns = 0  # That much longer takes a count of the connections.
        self.left_behind = False  # It is a killed process's: nobody has it at hand yet.
        self.rows: tuple[bytes, ...] = ()
        self.opened: tuple[bytes, ...] = ()  # Buckets that are not FOREIGN, by group.
        self.deadline_ns = 0
        self.frozen_since = 0
        self.empty()

    def empty(self) -> None:
        """Let nothing in."""
        self.rows = tuple(bytes(BUCKETS) for _ in range(self._groups))
        self.opened = tuple(bytes(BITMAP_BYTES) for _ in range(self._groups))
        self.deadline_ns = 0

    def answers(self) -> bool:
        """Return whether it lets anything in."""
        return self._host.clocks.boot(self._cluster.now) < self.deadline_ns

    def power_fails(self) -> None:
        """The machine is off."""
        self.sockets.clear()
        self.empty()
        self.left_behind = False
        self.changed()

    def changed(self) -> None:
        """Tell the monitors."""
        until = self._host.clocks.moment(self.deadline_ns) if self.deadline_ns else 0
        seen = FilterIs(self.opened, until, self.frozen_since)
        self._cluster.seen(self._host.name, seen)

    # --- orders of the core ----------------------------------------------------------------

    def apply(self, actor: Actor, effect: fx.ApplyTable) -> None:
        """Replace the table."""
        del actor
        if self.left_behind:
            return  # It is opened, and then replaced, before it is needed.
        self.rows = effect.states
        self.opened = tuple(_bitmap(row) for row in effect.states)
        self.changed()

    def renew(self, actor: Actor, effect: fx.RenewLease) -> None:
        """Let in until a deadline."""
        del actor
        if self.left_behind:
            if not effect.deadline_ns:
                return
            self.left_behind = False
            self.empty()
        self.deadline_ns = effect.deadline_ns
        self.changed()

    def count(self, actor: Actor, effect: fx.CountSockets) -> None:
        """Look where connections are, some time before the answer is there."""
        delay = self._draws.between(1, 20) * MILLISECOND_NS + self.slow_ns
        looks = self._draws.between(0, delay)
        self._cluster.after(looks, self._look, actor, effect.number, delay - looks)

    def _look(self, actor: Actor, number: int, answers_ns: int) -> None:
        live = [bytearray(BITMAP_BYTES) for _ in range(self._groups)]
        for group, bucket in self.sockets.values():
            live[group][bucket >> 3] |= 1 << (bucket & 7)
        rows = tuple(bytes(row) for row in live)
        counted = ev.SocketsCounted(number, rows, len(self.sockets))
        self._cluster.after(answers_ns, actor.process.due, actor, counted)


def _bitmap(row: bytes) -> bytes:
    return int(row[::-1].translate(_OPEN), 2).to_bytes(BITMAP_BYTES, "little")
