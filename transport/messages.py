"""Every message that actors of different processes exchange, on one screen or two.

A field is only ever added, last, with a default: an older peer ignores it, a newer one fills
it in. All times are integer nanoseconds. A message is what one says to another; what a core
is told inside its process is an event (`mirrorfarm.actors.events`).
"""

import msgspec

from mirrorfarm.transport.address import Address


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Base of all messages; the name of the class is its tag on the wire."""


# --- shared records ------------------------------------------------------------------------


class Register(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The arbiter's record of one module: who may write, and whose data is current."""

    term: int  # +1 at every change of holder.
    ver: int  # +1 at every accepted change, even one that changes nothing.
    holder: str
    isr: tuple[str, ...]  # In-sync set, sorted.
    gen: str  # Identity of the current data: 32 hex digits.
    instance: str  # Random, set when the register was created.


class Announcement(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a node says of its side of a module, in every heartbeat."""

    role: str = "STOP"  # STOP WAIT ALONE PRIM SECOND
    status: str = "NotReady"  # NotReady Transient Ready
    phase: str = ""  # The finer state of the mirror, for diagnosis.
    term: int = 0
    sid: int = 0
    ver: int = 0
    cons: bool = False
    was: str = "idle"  # idle second prim alone
    gen_cur: str = ""
    gen_base: str = ""
    gen_hist: tuple[str, ...] = ()
    incarnation: int = 0
    os_crashed: bool = False  # Ended uncleanly, and the kernel has been booted since.
    starting: bool = False  # Wants to run: started, not stopped.
    failed: bool = False  # Its storage or record failed: it cannot serve.
    resources: tuple[tuple[str, str], ...] = ()
    full_wanted: bool = False  # Its administrator wants every byte compared and copied.
    lone: bool = False  # `gen_cur` was begun for writes that only it has.
    split: str = ""  # It met another primary: its policy, then yielded or undecided.
    changes: int = -1  # How many things changed since it went on alone; -1: unknown.
    refuses: str = ""  # Why this primary does not resynchronise its peer.
    forgetful: bool = False  # It crashed and may lack what it confirmed from memory.
    partial: str = ""  # Generation whose end its copy may lack.
    given_up: str = ""  # The generation of its peer that a decision gave up last.
    lease_ns: int = 0  # For how long it keeps a promise; 0: it does not say.
    directories: str = ""  # Digest of what it replicates; empty: it does not say.


# --- heartbeat and leases ------------------------------------------------------------------


class Heartbeat(Message, frozen=True):
    """I am alive, heard on this network; and this is what I am."""

    network: str
    number: int
    sent_ns: int  # The sender's boot clock: only ever given back to it.
    about: Announcement
    # A promise, given on hearing the primary's heartbeat that was sent at `promised_ns` of its
    # clock, in `promised_term`: not to ask for promotion for one lease. 0: no promise.
    promised_ns: int = 0
    promised_term: int = 0


class Probe(Message, frozen=True):
    """Are you there? Answer at once. Sent when a local stall makes silence doubtful."""

    network: str
    number: int


# --- the arbiter's register ----------------------------------------------------------------


class RegisterRead(Message, frozen=True):
    """Tell me the register of my module. Answered by RegisterAnswer."""

    request: int


class RegisterCas(Message, frozen=True):
    """Replace the register if its version is `expected_ver` (0: create it)."""

    request: int
    expected_ver: int
    register: Register
    forced: bool = False  # An administrator takes the role for a copy outside the set.
    lease_ns: int = 0  # Lease that a new holder gets with it; 0: as long as the last one.


class RegisterRenew(Message, frozen=True):
    """I hold `term`: renew my lease for `lease_ns`."""

    request: int
    term: int
    lease_ns: int


class RegisterAnswer(Message, frozen=True):
    """Outcome of one of the above, with the register as it now is."""

    request: int
    outcome: str  # ok conflict unset held refused
    register: Register | None = None
    lease_left_ns: int = 0  # With `held`: how long the holder's lease still runs.
    reason: str = ""


# --- between the two mirrors ---------------------------------------------------------------


class SyncOffer(Message, frozen=True):
    """I am primary in `term`: be my target in session `sid`; afterwards your data is `gen`."""

    term: int
    sid: int
    plan: str  # none map full
    gen_cur: str
    gen_base: str
    gen_hist: tuple[str, ...]
    ver: int = 0  # Version of the register when this was offered: older ones say nothing of it.
    directories: str = ""  # Digest of what is replicated; empty: it does not say.


class SyncAccepted(Message, frozen=True):
    """The session is durable here, the data declared inconsistent: send."""

    term: int
    sid: int


class SyncRefused(Message, frozen=True):
    """I cannot be your target, for this reason."""

    term: int
    sid: int
    reason: str


class Synced(Message, frozen=True):
    """All you sent in the session is durable here and my record says so."""

    term: int
    sid: int


class RegisterNews(Message, frozen=True):
    """The register was changed by me, or I learnt of a change; check it at the arbiter."""

    register: Register


class Leave(Message, frozen=True):
    """I, the secondary, stop on purpose: go on without me."""

    term: int


class SwapWanted(Message, frozen=True):
    """The secondary's administrator wants the roles exchanged."""

    term: int
    who: str


class SwapRefused(Message, frozen=True):
    """The primary exchanges no roles now."""

    term: int
    reason: str


# --- mirror and its replicator (same node, other process) ----------------------------------


class PlaneWish(Message, frozen=True):
    """What the data plane shall be from now on. Idempotent; the highest number wins.

    Numbers of one process of the module begin with its incarnation times WISHES_MAX.
    """

    number: int
    role: str  # off lead follow
    term: int = 0
    gate: str = "frozen"  # lead only. frozen: hold; self: answer alone; both: wait for the peer
    sid: int = 0  # Session in `term`; 0: none.
    plan: str = "none"  # lead only: what the session copies. none map full
    peer: str = ""  # The other node.
    clean: bool = True  # off only: flush and keep the change map; else abort at once.
    map_base: str = ""  # lead only: generation the change map is relative to ("" : none kept).
    map_new: bool = False  # lead only: no lone write was made since `map_base`: a map may begin.
    quarantine: str = ""  # follow only: name of what the session replaces; "": it is not kept.
    # The record of who wishes was lost before its process began: the arbiter may count anew.
    forgets: bool = False
    start: int = 0  # Which start of the replicator is meant: any other answers number 0.
    # off only: the application has ended, the directories may be bared. Until then an unclean end
    # leaves dead mounts, or it would write past what is replicated.
    bare: bool = False


class PlaneIs(Message, frozen=True):
    """The data plane has become what wish `number` says, or failed to.

    Number 0: this process was not told what to be since its start. -1: it still works on the
    wish. What the plane tells once as news is repeated here.
    """

    number: int
    role: str
    term: int
    gate: str
    sid: int
    map_base: str = ""  # The change map at hand is complete since this generation; "": none.
    failure: str = ""
    behind: bool = False  # off only: something was written here that the peer may not have.
    changes: int = -1  # lead only: how many things the change map names; -1: there is none.
    users: str = ""  # off only: who still used the directories when they were unmounted.
    start: int = 0  # Which start of the replicator says this.
    held: bool = False  # lead only: something waits at the frozen gate.
    broken: str = ""  # lead only: why the session that is wished for broke.
    copied: bool = False  # follow only: the session's copy is here, durable.
    fault: str = ""  # What the local disk refused since the directories were mounted.


class SessionUp(Message, frozen=True):
    """Source: the peer's data plane answered in this session; modifications flow to it."""

    term: int
    sid: int


class SessionBroken(Message, frozen=True):
    """The stream of the session broke, or its acknowledgements are too late."""

    term: int
    sid: int
    reason: str


class CopyComplete(Message, frozen=True):
    """Target: every byte of the session's copy arrived and is durable on this disk."""

    term: int
    sid: int


class WriteHeld(Message, frozen=True):
    """A modification waits at the frozen gate."""

    term: int


class StorageFailed(Message, frozen=True):
    """The local disk refused a modification or a flush: this copy cannot be trusted."""

    term: int
    where: str  # data record map mount
    error: int  # errno
    text: str


class SyncProgress(Message, frozen=True):
    """How far the copy of the session is; told at most four times a second."""

    term: int
    sid: int
    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int
    rate: int  # bytes per second
    eta_ns: int


# --- commands and queries ------------------------------------------------------------------


class Command(Message, frozen=True):
    """An order to a module's state machine: an administrator's, or that of a script."""

    request: str  # Idempotency key.
    verb: str  # start stop restart stopstart swap prim second primforce forcestop
    who: str
    arguments: tuple[str, ...] = ()
    identity: str = ""  # Which script, or other program, orders it by itself; "": nobody does.


class CommandResult(Message, frozen=True):
    """Final or intermediate answer to a command."""

    request: str
    outcome: str  # accepted done refused failed
    text: str


class StateQuery(Message, frozen=True):
    """Tell me your state."""

    request: str


class StateAnswer(Message, frozen=True):
    """State of one module on one node, as JSON (see docs/protocols/state.md)."""

    request: str
    json: bytes


class LogQuery(Message, frozen=True):
    """Tell me the module's log lines after `after` (a line number; negative: the last ones)."""

    request: str
    after: int
    count: int


class LogAnswer(Message, frozen=True):
    """Log lines, oldest first, each a JSON object; `next_after` continues."""

    request: str
    lines: tuple[str, ...]
    next_after: int


class AgentCommand(Message, frozen=True):
    """An order to the agent of a node: modules installed, configured, listed, removed."""

    request: str
    verb: str  # modules install config deconfig uninstall stats farm-check-…
    who: str
    arguments: tuple[str, ...] = ()
    package: bytes = b""


class AgentResult(Message, frozen=True):
    """Answer of an agent; `json` when the verb asks for data."""

    request: str
    outcome: str  # done refused failed
    text: str
    json: bytes = b""


# --- the farm ------------------------------------------------------------------------------


class FarmBeat(Message, frozen=True):
    """I am here, this is what I want, whom I hear, and by which table I answer clients.

    Nodes are counted in the order of the farm's configuration, which `rules` covers: bit i of a
    bitmap and entry i of `heard` are node i. Bitmaps of buckets are 128 bytes, bucket 0 first.
    """

    number: int  # +1 for each heartbeat of the incarnation, the same on every network.
    incarnation: int
    wish: str = "away"  # away: out of service. in: wants traffic. drain: wants no new clients.
    mode: str = ""  # nfqueue bpf nft: how packets are hashed.
    seed: int = 0
    rules: str = ""  # Digest of everything else that all nodes must have equal.
    powers: tuple[int, ...] = ()  # Of the sender, one for each load-balancing group.
    heard: tuple[int, ...] = ()  # Number of the last heartbeat of each node; 0: it is silent.
    view: int = 0  # Number of the agreed view the sender answers by; 0: it answers nobody.
    view_members: int = 0
    bid: int = 0  # Number of the view it promised to go to; 0: none.
    bid_members: int = 0
    floor: int = 0  # The highest number it ever promised: a proposal must be above.
    draining: tuple[bytes, ...] = ()  # By group: buckets of others in which it has connections.
    connections: int = 0  # Live connections, while it drains.
    mac: bytes = b""  # To which frames that reach another node are relayed; empty: none are.


class ViewProposal(Message, frozen=True):
    """Close what is not yours in this view, and promise to go to no view with a lower number."""

    number: int
    incarnation: int  # Of the sender, the coordinator.
    members: tuple[str, ...]
    incarnations: tuple[int, ...]  # Of the members: a promise of an earlier process is void.
    weights: tuple[tuple[int, ...], ...]  # By group, then by member.
    owners: tuple[bytes, ...]  # By group: 1024 indices into `members`; 255: nobody.


class ViewAck(Message, frozen=True):
    """What is not mine in view `number` is closed here."""

    number: int
    incarnation: int  # Of the coordinator, as in its proposal.
    quiet_ns: int  # How long nodes outside the view may still be open, as far as I know.
    draining: tuple[bytes, ...] = ()  # By group: buckets of others in which I have connections.


class ViewCommit(Message, frozen=True):
    """Every member closed what is not its own in view `number`: open what is yours."""

    number: int
    incarnation: int  # Of the coordinator, as in its proposal.
    draining: tuple[tuple[str, tuple[bytes, ...]], ...] = ()  # By member, as in its ViewAck.


ANY_MESSAGE = (
    Heartbeat
    | Probe
    | RegisterRead
    | RegisterCas
    | RegisterRenew
    | RegisterAnswer
    | SyncOffer
    | SyncAccepted
    | SyncRefused
    | Synced
    | RegisterNews
    | Leave
    | SwapWanted
    | SwapRefused
    | PlaneWish
    | PlaneIs
    | SessionUp
    | SessionBroken
    | CopyComplete
    | WriteHeld
    | StorageFailed
    | SyncProgress
    | Command
    | CommandResult
    | StateQuery
    | StateAnswer
    | LogQuery
    | LogAnswer
    | AgentCommand
    | AgentResult
    | FarmBeat
    | ViewProposal
    | ViewAck
    | ViewCommit
)


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """One message with its envelope: enough to know who said it, when, and whether it is new."""

    cluster: str  # 16 hex digits
    source: Address
    incarnation: int  # Of the sending process: +1 durably at each start on its node.
    sequence: int  # +1 for each frame of the incarnation.
    clock: int  # Hybrid logical clock: 48 bits of milliseconds, 16 bits of counter.
    to: Address
    message: ANY_MESSAGE
