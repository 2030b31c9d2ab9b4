"""The simulator's models, with delays that were seen in a recording."""

from dataclasses import dataclass, field
from typing import Any, Final

from mirrorfarm.sim.engine import Draws
from mirrorfarm.sim.fork.links import Samples
from mirrorfarm.sim.fork.recording import Recording
from mirrorfarm.sim.fork.settings import Settings
from mirrorfarm.sim.hands import Hands
from mirrorfarm.sim.network import Network, Quality
from mirrorfarm.sim.pair import Around, MirrorNode
from mirrorfarm.sim.storage import Latency

SCRIPTS: Final = ("start_prim", "stop_prim", "start_both", "stop_both")


@dataclass(slots=True)
class SeenQuality(Quality):
    """A link that takes as long as it did."""

    seen: Samples = field(default_factory=Samples)


class SeenNetwork(Network):
    """Draws each delay among those of the link that were recorded."""

    def _delay(self, quality: Quality, word: int) -> int:
        if not isinstance(quality, SeenQuality):
            return super()._delay(quality, word)
        values = quality.seen.values
        return values[(word >> 40) * len(values) >> 24]


@dataclass(slots=True)
class SeenLatency(Latency):
    """A disk that takes as long as it did."""

    seen: Samples = field(default_factory=Samples)

    def draw(self, draws: Draws) -> int:
        """Return one duration."""
        return draws.choice(self.seen.values)


class SeenHands(Hands):
    """Doors whose scripts and addresses take as long as they did."""

    seen: dict[str, Samples]

    def takes_ns(self, what: str, mean_ns: int) -> int:
        """Return one of the recorded durations, if there are any."""
        samples = self.seen.get(what)
        return self.draws.choice(samples.values) if samples else super().takes_ns(what, mean_ns)


@dataclass(slots=True, eq=False, kw_only=True)
class ForkedNode(MirrorNode):
    """A node whose disk and doors take as long as they did."""

    recording: Recording
    settings: Settings
    usual: Latency = field(init=False)  # Of its disk.

    def __post_init__(self) -> None:
        name, recording = self.server.host.name, self.recording
        self.usual = latency(recording, Settings(), name, "Stored")
        MirrorNode.__post_init__(self)  # super() does not know a class with slots.
        self.hands = fit_hands(self.hands, recording, self.settings)
        self.records.latency = self.usual

    def slow_down(self) -> None:
        """Have the disk take as long as the settings want."""
        self.usual = latency(self.recording, self.settings, self.name, "Stored")
        self.records.latency = self.usual
        self.mend_disk()

    def mend_disk(self) -> None:
        """Have the disk take as long as it usually does."""
        MirrorNode.mend_disk(self)
        self.latency = self.usual
        if self.module.replication.ack_mode == "durable":
            self.flushes = self.usual


def fit_hands(hands: Hands, recording: Recording, settings: Settings) -> SeenHands:
    """Return the same doors, but what they do takes as long as it did."""
    name = hands.host.name
    fitted = SeenHands(
        hands.cluster, hands.host, hands.module, hands.machine, hands.draws, hands.store
    )
    fitted.store_register, fitted.end_replica = hands.store_register, hands.end_replica
    fitted.noted, fitted.filter = hands.noted, hands.filter
    fitted.seen = _durations(recording, settings, name)
    scripts = [what for what in fitted.seen if what.islower()]  # Else it is an answer's class.
    missing = recording.missing.get(name, set())
    known = dict.fromkeys([*hands.known_scripts, *scripts])
    fitted.known_scripts = tuple(one for one in known if one not in missing)
    return fitted


def _durations(recording: Recording, settings: Settings, name: str) -> dict[str, Samples]:
    """Return what takes how long on a node; what was seen only on the other one takes the same."""
    others = {what: samples for (_, what), samples in recording.durations.items()}
    own = {what: found for (node, what), found in recording.durations.items() if node == name}
    wanted = {}
    for script in SCRIPTS:
        wanted_ns = settings.nodes.get((name, script))
        if wanted_ns is not None:
            wanted[script] = Samples()
            wanted[script].add(wanted_ns)
    return others | own | wanted


def latency(recording: Recording, settings: Settings, node: str, answer: str) -> Latency:
    """Return how long a disk takes: as it is set, as it was seen, or as disks do."""
    wanted_ns = settings.nodes.get((node, "fsync"))
    if wanted_ns is not None:
        return Latency(wanted_ns // 10, wanted_ns - wanted_ns // 10)
    seen = recording.durations.get((node, answer))
    return SeenLatency(seen=seen) if seen is not None else Latency()


class ForkedAround(Around):
    """What one replica process has around it; before the fork, what its plane tells is kept."""

    def __init__(self, node: MirrorNode, process: Any) -> None:
        super().__init__(node, process)
        self.held: list[Any] | None = []

    def tell(self, event: Any) -> None:  # noqa: D102
        if self.held is None:
            super().tell(event)
        else:
            self.held.append(event)
