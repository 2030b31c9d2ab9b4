"""Everything a mirror core knows: one record, so that a trace can hold it and a test build it."""

from collections import deque
from dataclasses import dataclass, field

import msgspec

from mirrorfarm.actors.effects import ANY_EFFECT
from mirrorfarm.actors.events import RunSequence
from mirrorfarm.actors.module.answers import Pending
from mirrorfarm.actors.module.mirror.lease import Lease
from mirrorfarm.actors.module.mirror.phases import Phase, Session
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.limits import FACTS_MAX
from mirrorfarm.modules.settings import Module
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import (
    Announcement,
    Command,
    PlaneIs,
    PlaneWish,
    Register,
    SyncProgress,
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a mirror core is built with."""

    cluster: str
    node: str
    peer: str
    module: Module
    incarnation: int
    os_boot: str
    seed: int  # 64 random bits, for the identities of data generations.
    start: bool = False  # Start without being asked: at boot, or again after a crash.


class Basis(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Everything that an announcement is made of: cheap to compare with the last one."""

    record: NodeRecord
    phase: Phase
    role: str
    status: str
    ver: int
    os_crashed: bool
    failed: str
    full_wanted: bool
    split: str
    changes: int
    refuses: str


@dataclass(slots=True)
class Peer:
    """What is known of the other node."""

    about: Announcement = field(default_factory=Announcement)
    heard_ns: int = 0  # 0: never.
    silent: bool = True
    left: bool = False  # It said that it stops.
    networks: dict[str, str] = field(default_factory=dict)

    @property
    def unheard(self) -> tuple[str, ...]:
        """The networks on which it may still be heard: they were not listened to for long yet."""
        if not self.silent:
            return ()
        return tuple(name for name, value in self.networks.items() if value == "init")


@dataclass(slots=True)
class Arbitration:
    """What is known of the register, and what was asked."""

    register: Register | None = None
    learnt: int = 0  # The last request when it became known.
    known: bool = False  # An answer has come since the last start; `register` None: unset.
    distrust: str = ""  # Why the arbiter is not used (rule R15).
    refused: str = ""  # Why it refused the last question; "": it did not.
    unclear: int = 0  # Request to count the peer in that it perhaps granted and forgot; 0: none.
    silence: str = ""  # Why it does not answer.
    silent_since_ns: int = 0  # 0: it answers.
    request: int = 0
    reading: int = 0  # Request under way; 0: none.
    read_ns: int = 0
    swapping: int = 0  # Request of the compare-and-swap under way; 0: none.
    purpose: str = ""  # promote create shrink grow handover
    wanted: Register | None = None
    forced: bool = False  # It was an administrator who decided that.
    renewed_ns: int = 0
    retry_ns: int = 0  # Do not ask for promotion before.
    forced_by: str = ""  # If it is forced: prim primforce split. `State.force` may be over by now.


@dataclass(slots=True)
class Plane:
    """The data plane: what it shall be, and what it says it is."""

    wish: PlaneWish
    answer: PlaneIs | None = None
    sent_ns: int = 0
    held: bool = False  # A modification waits at the frozen gate.
    unanswered: int = 0  # How often it was asked again, since it last said anything.
    start: int = 0  # Of the replicator that is talked to; 0: not known.
    passes: bool = True  # Something came by the own agent since it was asked last.
    proven: bool = False  # It has answered the present wish since it was asked last.
    leaves: bool = False  # Before this node leads it leaves the session that it follows in;
    records: tuple[NodeRecord, ...] = ()  # until then these are not written down (S10).

    @property
    def answered(self) -> bool:
        """Whether the plane has answered the present wish, be it with a failure."""
        return self.answer is not None and self.answer.number == self.wish.number

    @property
    def settled(self) -> bool:
        """Whether the plane has become what it shall be."""
        answer = self.answer
        done = answer is not None and self.answered and not answer.failure
        return done and answer is not None and answer.role == self.wish.role


@dataclass(slots=True)
class Leading:
    """The primary's view of its peer."""

    session: Session = Session.NONE
    sid: int = 0
    plan: str = "none"
    since_ns: int = 0
    offered_ns: int = 0
    lost: str = ""  # Why the peer must be left behind; "": it need not.
    exact: bool = False  # See comparison.plan_for.
    traced: bool = False  # The peer or a change map has every write of this generation.
    behind: bool = False  # The session broke while the data plane was ended.
    full_given: bool = False  # By force these are the data: the peer gets all of them.
    full_wanted: bool = False  # An administrator gives up this node's data: all are copied.
    joined: bool = False  # The peer had everything when session `sid` ended.
    resuming: bool = False  # The session only brings what was under way then.
    lease_closed: bool = False
    progress: SyncProgress | None = None


@dataclass(slots=True)
class Target:
    """The target's view of its session."""

    term: int = 0
    sid: int = 0
    plan: str = ""
    gen_cur: str = ""
    gen_base: str = ""
    gen_hist: tuple[str, ...] = ()
    ver: int = 0
    step: str = ""  # "" leaving beginning preparing copying ending done
    told_ns: int = 0  # When Synced was last sent.
    quarantine: str = ""  # Name of what the copy replaces; "": it is not set aside.


@dataclass(slots=True)
class State:
    """The whole state of one mirror."""

    settings: Settings
    record: NodeRecord
    lease: Lease
    plane: Plane
    phase: Phase = Phase.STOPPED
    since_ns: int = 0
    reason: str = ""
    would_change: str = ""
    command: str = ""
    peer: Peer = field(default_factory=Peer)
    arbiter: Arbitration = field(default_factory=Arbitration)
    leading: Leading = field(default_factory=Leading)
    target: Target = field(default_factory=Target)
    promise_until_ns: int = 0
    yields_since_ns: int = 0  # The role is left to a peer that could take it; 0: it is not.
    promises: bool = True  # Its record says that it may: a later process then keeps them.
    started_ns: int = 0
    os_crashed: bool = False
    record_fault: str = ""  # Why the record found at the start could not be used.
    failed: str = ""  # The storage or the record failed: this copy is not trusted.
    force: str = ""  # prim primforce second: how the administrator started this node.
    both_running: bool = False
    split: str = ""  # frozen won settled yielded undecided: the peer is, or was, primary as well.
    split_ns: int = 0
    stopping_for: str = ""  # stop stopstart swap fail: why a procedure leaves the role.
    # Steps of the procedure under way, and what it waits for.
    steps: deque[str] = field(default_factory=deque)
    step: str = ""
    token: int = 0
    run: int = 0
    side_scripts: deque[str] = field(default_factory=deque)  # Role scripts that change nothing.
    side_run: int = 0
    to_start: RunSequence | None = None  # What starts the application: put off.
    watches_second: bool = False  # The processes of a secondary are watched.
    # As what the start scripts of a primary ran: PRIM or ALONE; `X->Y` while those of a change run.
    side_kind: str = ""
    # Durable writes under way: counter -> what follows.
    stores: dict[int, str] = field(default_factory=dict)
    early: list[tuple[Address, Command]] = field(default_factory=list)  # While resetting.
    pending: list[Pending] = field(default_factory=list)
    answered: dict[str, tuple[str, str]] = field(default_factory=dict)
    loop: list[int] = field(default_factory=list)
    facts: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=FACTS_MAX))
    resources: dict[str, str] = field(default_factory=dict)
    put_off: list[str] = field(default_factory=list)  # Those down for which a stopstart is owed.
    guard_ns: int = 0
    announced: Announcement | None = None
    announced_basis: Basis | None = None  # What that was made of.
    probing: int = 0  # Run of the probe under way.
    conflicts: tuple[str, ...] = ()
    probed_ns: int = 0  # When the last duplicate-address probe ended; 0: never.
    plane_off: str = ""  # clean abort bare: a procedure has ended the data plane.
    lone: bool = False  # A generation for going on alone is durable: the gate may be `self`.
    unset: tuple[str, ...] = ()  # Why addresses are not set, or not announced,
    addressed_ns: int = 0  # and when that was tried last.
    unstarted: str = ""  # What failed when the application was started last.
    scripts_as: str = ""  # Which start scripts ran: "" prim second swapped.
    wake_ns: int = 0  # The one outstanding Later; 0: none.
    rests: bool = False  # Events that only move times need no look at everything (`rest`).
    out: list[ANY_EFFECT] = field(default_factory=list)

    @property
    def module(self) -> Module:
        """The module's configuration."""
        return self.settings.module

    @property
    def has_plane(self) -> bool:
        """Whether the module replicates directories."""
        return bool(self.settings.module.replication.directories)

    @property
    def isr(self) -> tuple[str, ...]:
        """The in-sync set of the last known register."""
        return self.arbiter.register.isr if self.arbiter.register else ()

    @property
    def peer_in_isr(self) -> bool:
        """Whether the peer may be promoted, as far as this node knows."""
        register = self.arbiter.register  # Not by `isr`: this is asked several times an event.
        return register is not None and self.settings.peer in register.isr

    @property
    def self_in_isr(self) -> bool:
        """Whether this node may be promoted, as far as it knows."""
        return self.settings.node in self.isr
