"""One state of the explored cluster: nodes, witness, and what is under way between them."""

from dataclasses import dataclass, field
from typing import Any

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.arbiter.witness import WitnessCore
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import (
    Arbiter,
    HeartbeatNetwork,
    Module,
    Replicated,
    Replication,
    Timing,
)
from mirrorfarm.sim.explore.invariants import Ghost
from mirrorfarm.sim.explore.plane import Plane

MODULE, WITNESS, NAMES = "app", "w1", ("n1", "n2")
LINKS = (("n1", "n2"), ("n1", WITNESS), ("n2", WITNESS))
# The relations of a profile, all on a grid of 250 ms: the fewer moments, the fewer states.
TIMING = Timing(
    heartbeat_ns=250 * MILLISECOND_NS,
    detection_ns=1_000 * MILLISECOND_NS,
    lease_ns=2_000 * MILLISECOND_NS,
    replication_timeout_ns=500 * MILLISECOND_NS,
)
# Less than it takes to notice; and longer than it takes until the other node serves.
OUTAGES_NS = (500 * MILLISECOND_NS, 5_000 * MILLISECOND_NS)
# What disturbs a run: a node or the witness loses power, a node stands still with its clock, a link
# is cut, a message is lost or held up.
KINDS = ("crash", "sleep", "crash_witness", "sever", "lose", "hold_up")
Channel = tuple[str, str, str]  # From machine, to machine, actor there.
Wake = tuple[int, str, Any]  # When, of which actor, and what it is given.
Break = tuple[int, str, int, int]  # When, on which node, and the term and session of the stream.


def module() -> Module:
    """Return the configuration of the explored module."""
    beat = HeartbeatNetwork("default", "default", TIMING.heartbeat_ns, TIMING.detection_ns)
    return Module(
        MODULE,
        1,
        NAMES,
        timing=TIMING,
        heartbeats=(beat,),
        replication=Replication((Replicated("/data"),)),
        has_scripts=True,
        arbiter=Arbiter("witness", WITNESS, ()),
    )


@dataclass(slots=True)
class Machine:
    """A node: its cores while it is up, its disk for ever."""

    name: str
    cores: dict[str, Any] = field(default_factory=dict)
    plane: Plane = field(default_factory=Plane)
    record: NodeRecord | None = None
    writing: list[NodeRecord] = field(default_factory=list)  # On their way to the disk.
    incarnation: int = 0
    application: bool = False
    guard_ns: int = 0
    wakes: list[Wake] = field(default_factory=list)  # Timers.
    part: object = None  # See canonical.Part; made when nothing changes any more.
    asleep: bool = False  # The whole machine stands still, its clock as well.
    behind_ns: int = 0  # How long it slept: its clock is behind by that.

    @property
    def up(self) -> bool:
        """Whether its processes run."""
        return bool(self.cores)


@dataclass(slots=True)
class Arbitration:
    """The witness and its disk."""

    core: WitnessCore | None
    disk: ev.RegisterLoaded | None = None
    writing: list[fx.RegisterStore] = field(default_factory=list)
    part: object = None


@dataclass(slots=True)
class World:
    """A state; nothing in it is ever changed. `channels` are in order; a late message is out."""

    now: int
    nodes: dict[str, Machine]
    witness: Arbitration
    disturbances: int  # How many may still happen,
    writes: int  # and how many writes.
    ghost: Ghost
    channels: dict[Channel, tuple[Any, ...]] = field(default_factory=dict)
    late: tuple[tuple[Channel, Any], ...] = ()
    breaks: tuple[Break, ...] = ()  # When a stream's end is noticed, and where.
    cut: frozenset[tuple[str, str]] = frozenset()
    repairs: tuple[tuple[int, str], ...] = ()  # When what ends: a machine, or a link `a b`.
    kinds: tuple[str, ...] = KINDS  # Of disturbances that may happen; the same in all states.

    def successor(self) -> "World":
        """Return a state that begins as this one, and may be changed while it is made."""
        return World(
            self.now,
            self.nodes.copy(),
            self.witness,
            self.disturbances,
            self.writes,
            self.ghost,
            self.channels.copy(),
            self.late,
            self.breaks,
            self.cut,
            self.repairs,
            self.kinds,
        )


def begin(disturbances: int, writes: int, kinds: tuple[str, ...] = KINDS) -> World:
    """Return the state in which no process runs yet."""
    nodes = {name: Machine(name) for name in NAMES}
    witness = Arbitration(WitnessCore())
    return World(SECOND_NS, nodes, witness, disturbances, writes, Ghost(), kinds=kinds)
