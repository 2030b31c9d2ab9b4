"""What actors of one process tell each other: facts in the past, and orders.

Events are frozen and typed; they are recorded in the trace as they are handed to a core.
`Received` brings in what another process said; `mirrorfarm.transport.messages` lists it.
"""

import msgspec

from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import ANY_MESSAGE, Announcement, Heartbeat, Register


class Event(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Base of all events."""


class Received(Event, frozen=True):
    """A message came in over the bus; its source was authenticated by the transport."""

    source: Address
    message: ANY_MESSAGE
    network: str = ""  # The network it came by; empty within the node.
    incarnation: int = 0  # Of the sending process, and
    sequence: int = 0  # the number it gave to this; 0: told within the process.


class Started(Event, frozen=True):
    """First event of every core: its shell runs."""


# --- heartbeat -> mirror, mirror -> heartbeat ----------------------------------------------


class Announce(Event, frozen=True):
    """Put this into every heartbeat from now on; `at_once` sends one without waiting."""

    about: Announcement
    at_once: bool = False


class Promise(Event, frozen=True):
    """Answer the heartbeat that was sent at `sent_ns` with one that promises in `term`."""

    network: str
    sent_ns: int
    term: int


class PeerHeard(Event, frozen=True):
    """A new heartbeat of the peer came in on `network`."""

    network: str
    beat: Heartbeat


class PeerSilent(Event, frozen=True):
    """Every network has been silent for the detection time, and the silence was re-probed."""

    silent_ns: int


class NetworkSilent(Event, frozen=True):
    """One network has been silent for its timeout."""

    network: str


class NetworkHeard(Event, frozen=True):
    """A network that was silent carries heartbeats again."""

    network: str


class Stalled(Event, frozen=True):
    """This process was not scheduled for `late_ns` beyond what it asked for."""

    late_ns: int


# --- mirror <-> arbiter --------------------------------------------------------------------


class AskRead(Event, frozen=True):
    """Order: read the register; answered by RegisterKnown with the same request number."""

    request: int


class AskCas(Event, frozen=True):
    """Order: compare and swap; the driver retries the same request until it is answered."""

    request: int
    expected_ver: int
    register: Register
    forced: bool = False  # See RegisterCas.


class AskRenew(Event, frozen=True):
    """Order: renew the lease of `term`."""

    request: int
    term: int
    lease_ns: int


class RegisterKnown(Event, frozen=True):
    """The arbiter answered request `request`, which was sent at `sent_ns`."""

    request: int
    outcome: str  # ok conflict unset held refused
    register: Register | None
    sent_ns: int  # First sending for a renewal or a swap, which start leases; else the last.
    lease_left_ns: int = 0
    reason: str = ""


class ArbiterSilent(Event, frozen=True):
    """No answer since `since_ns`; retries go on."""

    since_ns: int
    reason: str = ""


class ArbiterHeard(Event, frozen=True):
    """The arbiter answers again."""


# --- arbiters and their doors --------------------------------------------------------------


class RegisterLoaded(Event, frozen=True):
    """At the start: the register of `module` as the disk has it; None: never written."""

    cluster: str
    module: str
    register: Register | None
    counter: int = 0
    lease_ns: int = 0  # The longest lease that may still run.
    asker: str = ""  # Whose request wrote it, and the number of that request.
    request: int = 0


class RegisterStored(Event, frozen=True):
    """The register written with this counter is durable; StoreFailed tells the contrary."""

    counter: int


class PingAnswered(Event, frozen=True):
    """Result of PingProbe: the addresses that answered in time."""

    request: int
    answered: tuple[str, ...] = ()


class Tick(Event, frozen=True):
    """The mirror's timer: look at what is due."""


class ArbiterTick(Event, frozen=True):
    """Timer of an arbiter client: repeat what is unanswered, notice silence."""


# --- mirror <-> scripts --------------------------------------------------------------------


class ScriptStep(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One script of a sequence."""

    name: str  # start_prim, stop_prim, transition, …
    force: bool = False


class RunSequence(Event, frozen=True):
    """Order: run these scripts one after the other, instead of whatever runs now."""

    run: int
    steps: tuple[ScriptStep, ...]
    state: str  # Arguments of every script: state it leaves, state it enters, action.
    next_state: str
    action: str  # start stop stopstart stopwait restart swap


class SequenceEnded(Event, frozen=True):
    """All scripts of run `run` ended; `failed` names those that exited non-zero or timed out."""

    run: int
    failed: tuple[str, ...] = ()


class KillApplication(Event, frozen=True):
    """Order: end every process that the module's scripts ever started, now."""

    run: int


class ApplicationGone(Event, frozen=True):
    """No process of the application is left."""

    run: int


class ScriptEnded(Event, frozen=True):
    """One script process ended: its exit code, or `timed_out`, or why it could not start."""

    run: int
    name: str
    code: int
    timed_out: bool = False
    failure: str = ""


# --- mirror <-> vip ------------------------------------------------------------------------


class VipProbe(Event, frozen=True):
    """Order: ask the network whether somebody already uses the addresses."""

    run: int


class VipProbed(Event, frozen=True):
    """Result of a probe: who answered, as `address=mac`."""

    run: int
    conflicts: tuple[str, ...] = ()


class VipUp(Event, frozen=True):
    """Order: put the addresses on the interfaces and announce them."""

    run: int


class VipIsUp(Event, frozen=True):
    """The addresses are configured and the first announcement is out."""

    run: int
    failures: tuple[str, ...] = ()


class VipDown(Event, frozen=True):
    """Order: reset connections and remove the addresses."""

    run: int


class VipIsDown(Event, frozen=True):
    """No address of the module is on this node any more."""

    run: int


# --- mirror <-> checker --------------------------------------------------------------------


class WatchClasses(Event, frozen=True):
    """Order: watch exactly these classes: prim, second, both, pre; none: watch nothing."""

    classes: tuple[str, ...]


class ResourceChanged(Event, frozen=True):
    """A checker set a resource."""

    resource: str  # class.ident
    value: str  # init up down
    action: str = "noaction"  # restart stopstart stop wait noaction
    reason: str = ""


class ProcessesSeen(Event, frozen=True):
    """So many processes match a `proc` entry (by index): first count, or a changed one."""

    entry: int
    count: int
    number: int = 0  # Of the Watch order.


class ProcessGone(Event, frozen=True):
    """A process of a `proc` entry ended; so many are left, counted anew."""

    entry: int
    count: int
    number: int = 0


# --- mirror <-> guard ----------------------------------------------------------------------


class GuardArm(Event, frozen=True):
    """Order: unless told otherwise before, fence this node's application at `deadline_ns`."""

    deadline_ns: int


class GuardDisarm(Event, frozen=True):
    """Order: no deadline."""


class GuardActed(Event, frozen=True):
    """The guard removed the addresses and killed the application at its deadline."""

    deadline_ns: int


# --- module <-> farm filter ----------------------------------------------------------------


class FarmWish(Event, frozen=True):
    """Order: take part in the farm from now on as this says."""

    wish: str  # away: answer nobody. in: take new clients. drain: only keep those there are.


class FarmPower(Event, frozen=True):
    """Order: this node's power is now `power`, in `group` or (empty) in every group."""

    power: int
    group: str = ""


class FarmNode(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is known of one node of the farm; this node included."""

    name: str
    member: bool  # Of the view this node answers by.
    reason: str  # Why it is not in, or what is special about it.
    wish: str
    powers: tuple[int, ...]
    weights: tuple[int, ...]  # In the view, by group: the power, less during a slow start.
    buckets: tuple[int, ...]  # Owned, by group.
    draining: int  # Buckets of others in which it still has connections.
    networks: tuple[tuple[str, str], ...]  # up down init


class FarmPicture(Event, frozen=True):
    """The farm as this node's filter sees it; told when it changes."""

    view: int
    open: bool  # Clients are answered here.
    settled: bool  # What the view gives this node is open: nothing is awaited.
    reason: str  # Why they are not; empty: they are.
    would_change: str
    bid: int
    coordinator: str
    nodes: tuple[FarmNode, ...]
    soft: tuple[int, ...]  # Own buckets in which others still drain connections, by group.
    draining: int  # Buckets of others in which this node still has connections.
    connections: int  # Live connections, while this node drains.
    members: tuple[str, ...] = ()  # Of the view, in its order.
    owners: tuple[bytes, ...] = ()  # By group: 1024 indices into `members`; 255: nobody.


class FilterFailed(Event, frozen=True):
    """The filter refused an order, or its lease had run out: this node answers nobody."""

    reason: str


class CablesOut(Event, frozen=True):
    """These interfaces, at which clients come, have had no carrier for a while; none: all have."""

    interfaces: tuple[str, ...]


class StrangersSeen(Event, frozen=True):
    """Who else answers for the module's addresses, as `address=mac`; none any more: empty."""

    claims: tuple[str, ...]


class FilterCounted(Event, frozen=True):
    """Packets at the filter since it was opened, by what was done with them."""

    counters: tuple[tuple[str, int], ...]
    connections: int = -1  # Live ones of the virtual addresses here; -1: not counted this time.


class SocketsCounted(Event, frozen=True):
    """Result of CountSockets: by group the buckets with connections (bitmaps of 128 bytes)."""

    number: int
    live: tuple[bytes, ...]
    connections: int = 0


class HardwareIs(Event, frozen=True):
    """To which hardware address others relay what is this node's: not what it was told before."""

    mac: bytes


# --- results of effects that every core may use --------------------------------------------


class Stored(Event, frozen=True):
    """The record with this counter is durable."""

    counter: int


class StoreFailed(Event, frozen=True):
    """The record could not be made durable."""

    counter: int
    error: int
    text: str
