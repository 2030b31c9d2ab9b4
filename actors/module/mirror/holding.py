"""The primary's right to act: the lease that it renews and the guard that it arms.

While the peer is out of the in-sync set nobody else can be promoted: no lease is needed, and no
guard is armed.
"""

from mirrorfarm.actors.events import GuardArm, GuardDisarm
from mirrorfarm.actors.module.mirror.orders import ask_renew, explain, fact, tell
from mirrorfarm.actors.module.mirror.phases import Session
from mirrorfarm.actors.module.mirror.state import State


def peer_may_lead(s: State) -> bool:
    """Return whether the peer is in the in-sync set, or could be by a question without answer.

    An arbiter that lost its register answers no question: it may have granted it before.
    """
    a = s.arbiter
    return s.peer_in_isr or a.unclear != 0 or (a.swapping != 0 and a.purpose == "grow")


def keep_lease(s: State, now: int) -> None:
    """Renew while the peer could be promoted; close the gate when the right to act ends."""
    leading = s.leading
    if s.split in {"won", "settled"}:
        _disarm(s)  # The register is about to rule the peer out, and nothing is acknowledged.
        return
    if not peer_may_lead(s):
        if leading.lease_closed:  # What was asked is answered: the peer could not lead any more.
            leading.lease_closed = False
            if s.reason:
                explain(s, "")
        _disarm(s)
        if leading.session is Session.SYNCED:
            ask_renew(s, now)  # Needed as soon as it is asked to count the peer in.
        return
    ask_renew(s, now)
    valid = s.lease.valid(now)
    if valid:
        arm(s)
    if not valid and not leading.lease_closed and s.guard_ns:
        leading.lease_closed = True
        fact(s, now, "neither the arbiter nor the peer renewed the lease: writes are held", "C")
        why = "the lease is over: neither the arbiter nor the peer answers; writes are held"
        explain(s, why, "the arbiter or the peer answers again")
    elif valid and leading.lease_closed:
        leading.lease_closed = False
        fact(s, now, "the lease is renewed: writes go on")
        explain(s, "")


def arm(s: State) -> None:
    """Have the guard fence this node when its right to act ends."""
    acts_ns = s.lease.guard_acts_ns()
    if s.guard_ns != acts_ns:
        s.guard_ns = acts_ns
        tell(s, "guard", GuardArm(acts_ns))


def _disarm(s: State) -> None:
    if s.guard_ns:
        s.guard_ns = 0
        tell(s, "guard", GuardDisarm())
