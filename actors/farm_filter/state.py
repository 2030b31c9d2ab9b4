"""Everything the core of a farm knows: one record, so that a test can build it."""

from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache

from mirrorfarm.actors.effects import ANY_EFFECT
from mirrorfarm.actors.events import FarmPicture
from mirrorfarm.actors.farm_filter.bitmaps import ALL
from mirrorfarm.actors.heartbeat.stall import Stalls
from mirrorfarm.limits import (
    BEATS_REMEMBERED,
    BUCKETS,
    CLOCK_RATE_ERROR_DIVISOR,
    FARM_NODES_MAX,
    GROUPS_MAX,
    NETWORKS_MAX,
)
from mirrorfarm.modules.settings import FarmTiming
from mirrorfarm.transport.messages import FarmBeat

FARM_TIMING = FarmTiming()
ACTOR = "farm_filter"
# A node that follows the rhythm beats by itself when the leader is late by this part of a pulse.
PATIENCE_DIVISOR = 8


@dataclass(frozen=True, slots=True)
class Settings:
    """What the core is built with. All nodes list the same nodes and groups, in one order."""

    node: str
    module: str
    nodes: tuple[str, ...]
    networks: tuple[str, ...]
    incarnation: int
    mode: str
    seed: int
    rules: str
    groups: tuple[str, ...] = ("default",)
    powers: tuple[int, ...] = (1,)  # Of this node, by group; 0: no traffic.
    timing: FarmTiming = FARM_TIMING
    mac: bytes = b""  # Of this node, where packets are relayed; empty: none are.

    def __post_init__(self) -> None:
        assert self.node in self.nodes, "this node is not one of the farm"
        assert 1 <= len(self.nodes) <= FARM_NODES_MAX, "a farm has 1 to 16 nodes"
        assert 1 <= len(self.networks) <= NETWORKS_MAX, "a farm needs 1 to 8 networks"
        assert 1 <= len(self.groups) <= GROUPS_MAX, "a farm has 1 to 8 groups"
        assert len(self.powers) == len(self.groups), "one power for each group"
        assert_farm_timing(self.timing)

    def index(self, name: str) -> int:
        """Return the place of a node in all bitmaps."""
        return self.nodes.index(name)

    def bits(self, names: tuple[str, ...]) -> int:
        """Return a bitmap of nodes."""
        return _bits(self.nodes, names)

    @property
    def wait_ns(self) -> int:
        """How long another node's lease runs at most, by this node's clock.

        Both clocks may be off by the rate error: one fast, the other slow.
        """
        lease_ns = self.timing.lease_ns
        return lease_ns + 3 * lease_ns // CLOCK_RATE_ERROR_DIVISOR + 1

    @property
    def announce_first_ns(self) -> int:
        """How long a node that begins anew says that it goes on without another one.

        As long as the lease runs of one that can neither hear nor act; and if that one goes on
        just before the end, as long as it then tolerates this one.
        """
        return self.wait_ns + self.timing.tolerate_ns + 2 * self.timing.retry_ns


@lru_cache(maxsize=512)
def _bits(nodes: tuple[str, ...], names: tuple[str, ...]) -> int:
    """Return a bitmap of nodes: a cache, not a state."""
    return sum(1 << nodes.index(name) for name in names)


def assert_farm_timing(t: FarmTiming) -> None:
    """Assert the relations on which the safety and the speed of a farm rest."""
    late_ns = t.pulse_ns + t.pulse_ns // PATIENCE_DIVISOR
    assert 0 < 2 * late_ns < t.silent_ns, "a lost heartbeat is no silence"
    # What died may have echoed the heartbeat before the last, and what it said was on its way.
    assert t.silent_ns + late_ns + t.retry_ns < t.lease_ns, (
        "no lease ends because another node died"
    )
    assert 2 * t.retry_ns <= t.tolerate_ns, "a stranger that is answered has time to go"
    assert t.tolerate_ns + 2 * t.retry_ns <= t.announce_ns, "a stranger is told before it is late"
    assert t.announce_ns <= t.silent_ns, "excluded means: silent, or told so"
    assert t.lease_ns < (BEATS_REMEMBERED - 1) * t.pulse_ns, "an echo of a valid lease is known"
    assert t.slow_start_steps >= 1, "a slow start has steps"


@dataclass(frozen=True, slots=True)
class View:
    """Who is in, and who owns what."""

    number: int
    coordinator: str
    incarnation: int  # Of the coordinator.
    members: tuple[str, ...]
    weights: tuple[tuple[int, ...], ...]
    owners: tuple[bytes, ...]

    @property
    def key(self) -> tuple[int, str, int]:
        """What a promise and a commit must have equal."""
        return self.number, self.coordinator, self.incarnation

    def index(self, name: str) -> int:
        """Return the index of a member in the owner tables; 254: it is none."""
        return self.members.index(name) if name in self.members else 254


@dataclass(slots=True)
class Peer:
    """What is known of another node."""

    name: str
    index: int
    beat: FarmBeat | None = None  # The newest.
    heard_ns: int = 0  # When that was handled.
    ears: int = 0  # Bitmap of the nodes that it says it hears; it counts.
    silent: bool = True
    echoed_ns: int = 0  # When the newest heartbeat of this node was sent that it has.
    mutual_ns: int = 0  # Since when both hear each other; 0: they do not.
    busy_ns: int = 0  # When it last said that it is, or may become, open.
    excluded_ns: int = 0  # Since when this node says that it goes on without it; 0: it does not.
    tolerated_ns: int = 0  # Since when it is a stranger that is busy; 0: it is none.
    networks: dict[str, int] = field(default_factory=dict)  # When heard there.
    departures: list[int] = field(default_factory=list)
    joined_ns: int = 0  # When it entered this node's view; 0: it is not in.
    member_inc: int = 0  # Its incarnation then.
    apart_ns: int = 0  # Since when it and another member do not hear each other; 0: they do.

    def gave_up(self, view: View) -> bool:
        """Return whether it is in `view` no more, although nobody excluded it."""
        beat = self.beat
        if beat is None or beat.incarnation != self.member_inc:
            return True
        # A heartbeat from before its promise, or before its commit, means nothing.
        return beat.floor >= view.number and not beat.view and beat.bid != view.number

    def parts(self, view: View, bid: View | None) -> bool:
        """Return whether both are in `view` still, and have promised to go on without the other.

        So it is after a short cut. Until one of them uses what it promised each has open what the
        other one has not; and if the stronger one closed as well, nobody would be left.
        """
        if bid is None or self.name in bid.members or self.name not in view.members:
            return False
        return self.beat is not None and self.beat.view == view.number and bool(self.beat.bid)


@dataclass(slots=True)
class Proposal:
    """A view that this node proposed as coordinator."""

    view: View
    first: tuple[str, ...]  # Who promises first: they own nothing yet, and may have to wait.
    made_ns: int
    asked_ns: int  # When those were first asked who have not promised.
    sent_ns: int  # When they were last asked.
    begun: bool = False  # The others were asked as well.
    quiet: dict[str, int] = field(default_factory=dict)  # By member that agreed: from when on.
    draining: dict[str, tuple[bytes, ...]] = field(default_factory=dict)


@dataclass(slots=True)
class State:
    """The whole state of the core."""

    settings: Settings
    peers: dict[str, Peer]
    stalls: Stalls
    wish: str = "away"
    wished_ns: int = 0  # When it last began to take part.
    powers: list[int] = field(default_factory=list)
    mac: bytes = b""  # Of this node: of the settings, until its interface has another one.
    view: View | None = None  # Agreed, and in use.
    bid: View | None = None  # Promised, not yet agreed.
    promised_ns: int = 0
    quiet_ns: int = 0  # Until when the coordinator was told to wait for others' leases.
    floor: int = 0  # The highest number promised.
    seen: int = 0  # The highest number heard of.
    proposal: Proposal | None = None
    hint: View | None = None  # The last view: whose sessions are where, most likely.
    opened: list[int] = field(default_factory=list)  # Buckets that the filter lets in, by group.
    live: list[int] = field(default_factory=list)  # Where connections may be, by group.
    drains: dict[str, list[int]] = field(default_factory=dict)  # Of other members, by group.
    joined_ns: int = 0
    counted: int = 0  # Live connections at the last count.
    counting_ns: int = 0  # When they were asked for.
    mute_ns: int = 0  # Nothing is said before: a predecessor's filter may still be open.
    number: int = 0  # Of the last heartbeat.
    # Each one's number, when it was sent, and when the newest until then was that went to all.
    sent: deque[tuple[int, int, int]] = field(
        default_factory=lambda: deque(maxlen=BEATS_REMEMBERED)
    )
    pulse_ns: int = 0  # When the next one is due.
    beaten_ns: int = 0  # When the last one was sent that every node gets,
    told_ns: int = 0  # and the last one of all.
    returned_ns: int = 0  # When the newest one was sent that the own agent handed back,
    spread_ns: int = 0  # and when the newest until then was that went to all.
    lease_ns: int = 0  # What the filter was told.
    table: int = 0
    applied: tuple[bytes, ...] = ()
    relayed: tuple[tuple[bytes, ...], tuple[bytes, ...]] = ((), ())  # Of the last table.
    lapsed_ns: int = 0  # When it last left a view without another one.
    alone_ns: int = 0  # Not to go on before without most of the last view: see `hears_few`.
    reason: str = ""  # Why no client is answered here.
    failed: str = ""  # How the filter failed, until this node opens again or leaves.
    picture: FarmPicture | None = None  # What was told last,
    pictured_ns: int = 0  # and when it was looked at.
    due_ns: int = 0  # When the next thing is due, as far as is known.
    wake_ns: int = 0  # The one outstanding timer; 0: none.
    urgent: bool = False  # Say at once what changed.
    out: list[ANY_EFFECT] = field(default_factory=list)

    @property
    def t(self) -> FarmTiming:
        """The clocks."""
        return self.settings.timing

    @property
    def announce_ns(self) -> int:
        """How long a node is told that it is excluded, before this one acts so."""
        return self.settings.announce_first_ns if self.view is None else self.t.announce_ns

    @property
    def groups(self) -> int:
        """How many load-balancing groups there are."""
        return len(self.settings.groups)

    @property
    def present(self) -> tuple[str, ...]:
        """The members of the view, without those that gave up."""
        view = self.view
        if view is None:
            return ()
        node, peers = self.settings.node, self.peers
        return tuple(
            [name for name in view.members if name == node or not peers[name].gave_up(view)]
        )

    @property
    def hears_few(self) -> bool:
        """Whether it hears less than half of the last view: it may be the one cut off."""
        members = self.hint.members if self.hint is not None else ()
        heard = sum(name in self.peers and not self.peers[name].silent for name in members)
        return 2 * (heard + 1) < len(members)

    @property
    def claim(self) -> View | None:
        """The view that this node says it is in or goes to."""
        return self.bid or self.view


def new_state(settings: Settings) -> State:
    """Return the state of a node that has not started."""
    peers = {
        name: Peer(name, index, networks=dict.fromkeys(settings.networks, 0))
        for index, name in enumerate(settings.nodes)
        if name != settings.node
    }
    t = settings.timing
    state = State(settings, peers, Stalls(t.pulse_ns))
    state.powers, state.mac = list(settings.powers), settings.mac
    state.opened = [0] * state.groups
    state.live = [ALL] * state.groups  # Of a predecessor, until they were counted.
    state.applied = tuple(bytes(BUCKETS) for _ in settings.groups)
    return state
