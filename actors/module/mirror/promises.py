"""What a node promises a primary: not to ask for its role for one lease.

The primary may lead by that alone, so a process that begins keeps what an earlier one may have
promised. The record says whether one did: durable before the first promise, until the node leads.
"""

from mirrorfarm.actors.events import Promise
from mirrorfarm.actors.module.mirror.lease import promise_end
from mirrorfarm.actors.module.mirror.orders import store, tell
from mirrorfarm.actors.module.mirror.phases import Phase
from mirrorfarm.actors.module.mirror.state import State


def begin(s: State, now: int) -> None:
    """Keep what an earlier process promised, as if it had been just now."""
    if s.promises:
        s.promise_until_ns = promise_end(now, s.lease.lease_ns)


def give(s: State, network: str, sent_ns: int, now: int) -> None:
    """Promise it to who sent a heartbeat, as soon as a later process would know of it."""
    if s.promises:
        s.promise_until_ns = promise_end(now, s.lease.lease_ns)
        tell(s, "heartbeat", Promise(network, sent_ns, s.record.term))
    elif "promise" not in s.stores.values() and not s.failed and s.phase is not Phase.RESETTING:
        store(s, "promise", promises=True)


def on_stored(s: State) -> None:
    """A later process knows of it, unless this node became primary meanwhile."""
    s.promises = s.record.promises
