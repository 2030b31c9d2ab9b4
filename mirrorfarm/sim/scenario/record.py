"""A scenario as frozen records; times are nanoseconds after its beginning.

What each field accepts is declared with it: reading, writing and the reference of the format
follow from that.
"""

from dataclasses import dataclass, field
from typing import Final

from mirrorfarm.limits import SECOND_NS
from mirrorfarm.modules.settings import DIVERGENCE_POLICIES, PROFILES
from mirrorfarm.sim.acts.act import Act, argument
from mirrorfarm.sim.acts.kinds import (
    DURATION,
    MODULE,
    NODE,
    SEED,
    SHARE,
    SWITCH,
    names,
    number,
    text,
    words,
)
from mirrorfarm.sim.network import NETWORKS, Quality
from mirrorfarm.sim.world import PREFERRED, SHORTER, module_names

END_NS: Final = 10 * SECOND_NS
EVENTS_MAX: Final = 5_000
NODES_MAX: Final = 16
MODULES_MAX: Final = 3
BUCKETS_MAX: Final = 1_024
CORES: Final = ("all", "n1+w1", "n2+w1", "n1+n2")
NODES: Final = names(1, NODES_MAX, "names of nodes")
SHAPES: Final = ("constant", "even", "exponential", "bimodal")


@dataclass(frozen=True, slots=True)
class Event:
    """An act at a time."""

    at_ns: int
    act: Act
    line: int = field(default=0, compare=False)  # In its file.


@dataclass(frozen=True, slots=True)
class Expectation:
    """What should be seen: `at` a time, or `by` a time, since what is expected before was met."""

    at_ns: int
    by: bool = False
    line: int = field(default=0, compare=False)
    node: str = argument(
        NODE, "whom `is`, `because` and `buckets` are about", key="node", default=""
    )
    module: str = argument(
        MODULE, "which one of a mirror, left out: the first one", key="module", default=""
    )
    role: str = argument(
        text(), "of a mirror's node: `PRIM Ready`, `WAIT NotReady`, `down` …", key="is", default=""
    )
    because: str = argument(text(), "words of its reason", key="because", default="")
    told: str = argument(text(), "words of a line of the story so far", key="told", default="")
    acknowledged: int = argument(
        number(0, 100_000),
        "of a mirror: of how many writes the application was told",
        key="acknowledged",
        default=-1,
    )
    answer: str = argument(
        text(), "what the last order came to: `done`, `refused` …", key="answer", default=""
    )
    buckets: int = argument(
        number(0, BUCKETS_MAX), "of a farm's node: how many are open", key="buckets", default=-1
    )
    settled: tuple[str, ...] = argument(
        NODES,
        "these nodes of a farm, and no others, are in one view",
        key="settled",
        default=(),
    )


@dataclass(frozen=True, slots=True)
class Mirror:
    """Two nodes n1 and n2, the witness w1, and gw, which answers to pings."""

    profile: str = argument(words(*PROFILES), "its clocks", key="profile", default="fast")
    arbiter: str = argument(
        words("witness", "ping", "none"), "who decides", key="arbiter", default="witness"
    )
    failover: bool = argument(SWITCH, "by itself", key="failover", default=True)
    directories: bool = argument(SWITCH, "replicates any", key="directories", default=True)
    divergence: str = argument(
        words(*DIVERGENCE_POLICIES), "after a split", key="divergence", default="keep-primary"
    )
    ack_mode: str = argument(
        words("durable", "received"), "when a write is done", key="ack_mode", default="durable"
    )
    networks: int = argument(number(1, len(NETWORKS)), "how many", key="networks", default=1)
    apart: bool = argument(SWITCH, "the clocks of the machines differ", key="apart", default=False)
    extents: int = argument(
        number(0, 4_096),
        "parts of files that are written in turn; 0: each once",
        key="extents",
        default=0,
    )
    checked: str = argument(
        words("none", "restart", "stopstart"),
        "what is done when the application ends by itself",
        key="checked",
        default="none",
    )
    modules: int = argument(
        number(1, MODULES_MAX),
        "how many, on the same machines: `app`, `app2`, `app3`; the second one is primary on n2",
        key="modules",
        default=1,
    )
    defaultprim: str = argument(
        words("alone", *PREFERRED),
        "who leads if both could: who led last, a node, or the one that each node names: "
        "itself or the other",
        key="defaultprim",
        default="alone",
    )
    shorter: str = argument(
        words(*SHORTER),
        "whose lease and detection are shorter by a third than those of the other node",
        key="shorter",
        default="none",
    )


@dataclass(frozen=True, slots=True)
class Farm:
    """Nodes n1, n2 … that share clients."""

    nodes: int = argument(number(2, NODES_MAX), "how many", key="nodes", default=3)
    groups: int = argument(number(1, 4), "of buckets", key="groups", default=1)
    profile: str = argument(
        words("default", "brisk", "slow-start", "large"),
        "its clocks",
        key="profile",
        default="default",
    )
    networks: int = argument(number(1, len(NETWORKS)), "how many", key="networks", default=1)
    whole: bool = argument(
        SWITCH, "all cores of each node run, not only its filter's", key="whole", default=False
    )
    drain_ns: int = argument(
        DURATION, "how long a drain may take", key="drain", default=60 * SECOND_NS
    )
    clients: bool = argument(SWITCH, "some come, talk and go", key="clients", default=True)


@dataclass(frozen=True, slots=True)
class Wires:
    """How every network treats every datagram."""

    delay_ns: int = argument(
        DURATION, "the mean, beyond 50 us", key="delay", default=Quality().delay_ns
    )
    shape: str = argument(words(*SHAPES), "of the delays", key="shape", default=Quality().shape)
    loss: int = argument(SHARE, "get lost", key="loss", default=0)
    repeat: int = argument(SHARE, "arrive twice", key="repeat", default=0)
    late: int = argument(SHARE, "are up to 150 ms late", key="late", default=0)
    corrupt: int = argument(SHARE, "are damaged", key="corrupt", default=0)

    def quality(self) -> Quality:
        """Return it as the network wants it."""
        return Quality(self.delay_ns, self.shape, self.loss, self.repeat, self.late, self.corrupt)


def wires(quality: Quality) -> Wires:
    """Return the quality of a network as a record."""
    q = quality
    return Wires(q.delay_ns, q.shape, q.loss, q.repeat, q.late, q.corrupt)


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is done to a cluster, and what should come of it."""

    title: str = argument(text(), "what it is about", key="title", default="")
    seed: int = argument(
        SEED, "of what is left to chance: delays, latencies", key="seed", default=1
    )
    begin: str = argument(
        words("in service", "off"),
        "all nodes serve already, or no process runs yet",
        key="begin",
        default="in service",
    )
    end_ns: int = argument(DURATION, "when it ends", key="end", default=END_NS)
    core: str = argument(
        words(*CORES),
        "of a mirror: these are mended first, the others stay away; then all (`converges`)",
        key="core",
        default="all",
    )
    converges: bool = argument(
        SWITCH,
        "after the end everything is mended; all must be in service again, with the same data",
        key="converges",
        default=False,
    )
    violates: str = argument(
        text(16),
        "the invariant that must not hold, such as `S3`; left out: all of them hold",
        key="violates",
        default="",
    )
    tricks: bool = argument(
        SWITCH, "cores do what is rare but allowed, at sites they name", key="tricks", default=False
    )
    cluster: Mirror | Farm = Mirror()
    wires: Wires = Wires()
    events: tuple[Event, ...] = ()
    expectations: tuple[Expectation, ...] = ()
    file: str = field(default="", compare=False)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of its nodes."""
        count = self.cluster.nodes if isinstance(self.cluster, Farm) else 2
        return tuple(f"n{number}" for number in range(1, count + 1))

    @property
    def modules(self) -> tuple[str, ...]:
        """The names of its modules; of a farm, whose only one is never named, none."""
        return () if isinstance(self.cluster, Farm) else module_names(self.cluster.modules)
