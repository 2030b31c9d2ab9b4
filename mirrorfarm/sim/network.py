"""The cables: what arrives where, how late, how often; one direction of one network at a time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mirrorfarm.limits import MICROSECOND_NS, MILLISECOND_NS
from mirrorfarm.sim.engine import Draws, Engine, exponential

NETWORKS = ("default", "second", "third")
_LATE_NS = 150 * MILLISECOND_NS
_MINIMUM_NS = 50 * MICROSECOND_NS


@dataclass(slots=True)
class Quality:
    """How a network treats datagrams; chances in thousandths."""

    delay_ns: int = MILLISECOND_NS  # The mean beyond 50 microseconds.
    shape: str = "even"  # constant even exponential bimodal
    loss: int = 0
    repeat: int = 0  # Delivered twice, past the bus that would have noticed.
    late: int = 0  # Up to 150 ms later: overtaken by others.
    corrupt: int = 0  # Refused by the bus, and counted.


@dataclass(slots=True)
class Network:
    """Every cable between every two machines."""

    engine: Engine
    draws: Draws
    names: tuple[str, ...] = NETWORKS[:1]
    quality: Quality = field(default_factory=Quality)
    qualities: dict[tuple[str, str, str], Quality] = field(default_factory=dict)
    lates: dict[tuple[str, str], int] = field(default_factory=dict)  # (from, to): by how much
    cuts: set[tuple[str, str, str]] = field(default_factory=set)  # network, from, to
    down: set[str] = field(default_factory=set)  # Whole networks.
    clogs: dict[tuple[str, str], int] = field(default_factory=dict)  # (from, to): until when
    narrow: dict[tuple[str, str], int] = field(default_factory=dict)  # (from, to): bytes at most
    changed: Callable[[], None] = lambda: None  # Called after every cut and mending.
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("sent", "lost", "cut", "late", "corrupt", "big"), 0)
    )

    # --- cables ----------------------------------------------------------------------------

    def set_link(self, a: str, b: str, *, up: bool, network: str = "") -> None:
        """Cut or mend the link between two machines, in both directions."""
        self.set_way(a, b, up=up, network=network)
        self.set_way(b, a, up=up, network=network)

    def set_way(self, source: str, to: str, *, up: bool, network: str = "") -> None:
        """Cut or mend one direction; empty `network`: of all of them."""
        for name in (network,) if network else self.names:
            (self.cuts.discard if up else self.cuts.add)((name, source, to))
        self.changed()

    def set_network(self, name: str, *, up: bool) -> None:
        """End a whole network, or bring it back."""
        (self.down.discard if up else self.down.add)(name)
        self.changed()

    def heal(self) -> None:
        """Mend everything."""
        self.cuts.clear()
        self.down.clear()
        self.clogs.clear()
        self.narrow.clear()
        self.changed()

    def clog(self, source: str, to: str, until: int) -> None:
        """Have nothing arrive before `until`, and all of it then."""
        self.clogs[source, to] = until

    def set_narrow(self, a: str, b: str, bytes_max: int) -> None:
        """Let nothing longer pass between two machines, in either direction; 0: everything."""
        for way in ((a, b), (b, a)):
            if bytes_max:
                self.narrow[way] = bytes_max
            else:
                self.narrow.pop(way, None)

    def too_long(self, source: str, to: str, length: int) -> bool:
        """Return whether something of this length (bytes) does not pass."""
        if length <= self.narrow.get((source, to), length):
            return False
        self.counts["big"] += 1
        return True

    def passes(self, source: str, to: str, network: str = "") -> bool:
        """Return whether a datagram may arrive; empty `network`: by any."""
        if not self.cuts and not self.down:
            return True
        for name in (network,) if network else self.names:
            if (name, source, to) not in self.cuts and name not in self.down:
                return True
        return False

    def both_ways(self, a: str, b: str, network: str = "") -> bool:
        """Return whether one network carries both directions: what a connection needs."""
        if not self.cuts and not self.down:
            return True
        return any(
            self.passes(a, b, name) and self.passes(b, a, name)
            for name in ((network,) if network else self.names)
        )

    # --- datagrams -------------------------------------------------------------------------

    def carry(
        self, source: str, to: str, network: str, deliver: Callable[..., None], *arguments: Any
    ) -> bool:
        """Have `deliver` called when a datagram arrives, perhaps never; whether it may twice.

        One draw decides about a datagram: 10 bits each for what may happen to it, the rest for
        its delay.
        """
        counts = self.counts
        counts["sent"] += 1
        if (self.cuts or self.down) and not self.passes(source, to, network):
            counts["cut"] += 1
            return False
        quality = self.qualities.get((network, source, to)) if self.qualities else None
        quality = quality or self.quality
        word = self.draws.word()
        chance = word & 0xFFFFF
        if quality.loss and chance * 1_000 >> 20 < quality.loss:
            counts["lost"] += 1
            return False
        if quality.corrupt and (word >> 20 & 0x3FF) * 1_000 >> 10 < quality.corrupt:
            counts["corrupt"] += 1
            return False
        delay = self._delay(quality, word)
        if self.lates:
            delay += self.lates.get((source, to), 0)
        if self.clogs:
            delay = max(delay, self.clogs.get((source, to), 0) - self.engine.now)
        self.engine.at(self.engine.now + delay, deliver, *arguments)
        return bool(quality.repeat) and (word >> 30 & 0x3FF) * 1_000 >> 10 < quality.repeat

    def _delay(self, quality: Quality, word: int) -> int:
        part = word >> 40
        if quality.late and (word >> 20 & 0xFFFFF) * 1_000 >> 20 < quality.late:
            self.counts["late"] += 1
            return part * _LATE_NS >> 24
        mean = quality.delay_ns
        if quality.shape == "even":
            return _MINIMUM_NS + (part * 2 * mean >> 24)
        if quality.shape == "exponential":
            return _MINIMUM_NS + min(exponential(part << 40 | part, mean), 20 * mean)
        if quality.shape == "bimodal":
            return _MINIMUM_NS + (mean // 2 if part & 7 else 5 * mean)
        return _MINIMUM_NS + mean
