"""What a node promises a primary: not to ask for its role for one lease.

The primary may lead by that alone, so a process that begins keeps what an earlier one may have
promised. The record says whether one did, and for how long, since that one may have had other
clocks: durable before the first promise, until the node leads.
"""

from mirrorfarm.actors.events import Promise
from mirrorfarm.actors.module.mirror.lease import promise_end
from mirrorfarm.actors.module.mirror.orders import store, tell
from mirrorfarm.actors.module.mirror.phases import Phase
from mirrorfarm.actors.module.mirror.state import State


def begin(s: State, now: int) -> None:
    """Keep what an earlier process promised, as if it had been just now."""
    if s.promises:
        before_ns = s.record.promised_ns
        s.promise_until_ns = promise_end(now, max(s.lease.lease_ns, before_ns))
        s.promises = before_ns >= s.lease.lease_ns


def give(s: State, network: str, sent_ns: int, now: int) -> None:
    """Promise it to who sent a heartbeat, as soon as a later process would know of it."""
    lease_ns = s.lease.lease_ns
    written = s.promises
    if s.promises:
        end_ns = promise_end(now, lease_ns)
        # A longer one of an earlier process is written down until it is over.
        written = s.record.promised_ns == lease_ns or end_ns < s.promise_until_ns
        s.promise_until_ns = max(s.promise_until_ns, end_ns)
        tell(s, "heartbeat", Promise(network, sent_ns, s.record.term))
    under_way = "promise" in s.stores.values() or s.phase is Phase.RESETTING
    if not written and not under_way and not s.failed:
        store(s, "promise", promises=True, promised_ns=lease_ns)


def on_stored(s: State) -> None:
    """A later process knows of it, unless this node became primary meanwhile."""
    s.promises = s.record.promises
