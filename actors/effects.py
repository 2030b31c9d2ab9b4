"""What a core can ask for: one closed union, performed in list order.

*Store before send* is a position in the list that a core returns. Adding an effect means
teaching the doors (`mirrorfarm.actors.doors`) and the simulator to perform it.
"""

from typing import Any

import msgspec

from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import ANY_MESSAGE, Register


class Effect(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Base of all effects."""


class Send(Effect, frozen=True):
    """Give a message to the bus; it may be lost. Empty `network`: all that work."""

    to: Address
    message: ANY_MESSAGE
    network: str = ""


class Tell(Effect, frozen=True):
    """Give an event to another actor of the same process."""

    actor: str
    event: Any  # An Event; Any so that a trace can hold it without importing every core.


class Later(Effect, frozen=True):
    """Hand `event` back to this core at `at_ns`, once; nothing cancels it."""

    at_ns: int
    event: Any


class Store(Effect, frozen=True):
    """Make the module's record durable; Stored or StoreFailed follows."""

    record: NodeRecord


class Log(Effect, frozen=True):
    """Write a line to the module's log. Levels: C critical, E event, U user, S script, I, D."""

    level: str
    text: str


class Publish(Effect, frozen=True):
    """Set a resource, as `state -v` shows it."""

    resource: str
    value: str


class StartScript(Effect, frozen=True):
    """Start one script in the module's cgroup; ScriptEnded follows within `timeout_ns`."""

    run: int
    name: str
    arguments: tuple[str, ...]
    timeout_ns: int


class EndScript(Effect, frozen=True):
    """End the running script and its process group, not the daemons; ScriptEnded follows."""

    run: int
    name: str


class KillScripts(Effect, frozen=True):
    """End every process of the module's cgroup; ApplicationGone follows."""

    run: int


class AddressProbe(Effect, frozen=True):
    """Ask the network for other users of the module's addresses; VipProbed follows."""

    run: int


class AddressAdd(Effect, frozen=True):
    """Configure the module's addresses; VipIsUp follows."""

    run: int


class AddressAnnounce(Effect, frozen=True):
    """Send one gratuitous ARP / unsolicited neighbour advertisement for each address."""


class AddressRemove(Effect, frozen=True):
    """Reset the connections of the addresses, then remove them; VipIsDown follows."""

    run: int


class Watch(Effect, frozen=True):
    """Have the kernel tell when processes of these `proc` entries (by index) come and go."""

    entries: tuple[int, ...]
    number: int = 0  # Returned in the answers: those to an older order are out of date.


class GuardOrder(Effect, frozen=True):
    """Give the guard its deadline; 0: none."""

    deadline_ns: int


class PingProbe(Effect, frozen=True):
    """Ping the witness addresses once; PingAnswered follows."""

    request: int
    addresses: tuple[str, ...]
    timeout_ns: int


class RegisterStore(Effect, frozen=True):
    """Make the register of one module of one cluster durable; RegisterStored follows."""

    cluster: str
    module: str
    register: Register
    counter: int
    lease_ns: int = 0  # The longest lease that may run when this is read back.
    asker: str = ""  # Node whose request this answers, and its number: to know a repetition.
    request: int = 0


class EndReplica(Effect, frozen=True):
    """End the process of this node's replicator at once: it hangs. The agent starts another."""


class PlaneOrder(Effect, frozen=True):
    """An order to the data plane of this process, in its own words."""

    verb: str
    arguments: tuple[Any, ...] = ()


class ApplyTable(Effect, frozen=True):
    """Replace the filter's table at once: a state for each bucket, one row for each group.

    States: 0 FOREIGN (another node's: only connections of this node pass), 1 HARD (all pass),
    2 SOFT (new connections and those of this node pass: others still drain theirs).
    """

    number: int
    states: tuple[bytes, ...]
    # Where packets of other nodes are relayed (`vmac_directed`): for each bucket the number of a
    # node, from 1 on, 0 for nobody, 63 for all; and the MACs of the nodes by number.
    relay: tuple[bytes, ...] = ()
    peers: tuple[bytes, ...] = ()


class RenewLease(Effect, frozen=True):
    """Have the filter drop everything from `deadline_ns` on; 0: now. Earlier ones are void."""

    deadline_ns: int


class CountSockets(Effect, frozen=True):
    """Look in which buckets the application has connections; SocketsCounted follows."""

    number: int  # Of the table in force.


ANY_EFFECT = (
    Send
    | Tell
    | Later
    | Store
    | Log
    | Publish
    | StartScript
    | EndScript
    | KillScripts
    | AddressProbe
    | AddressAdd
    | AddressAnnounce
    | AddressRemove
    | Watch
    | GuardOrder
    | PingProbe
    | RegisterStore
    | EndReplica
    | PlaneOrder
    | ApplyTable
    | RenewLease
    | CountSockets
)
