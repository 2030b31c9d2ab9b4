"""A mirror at rest: what comes in says that everything is as it was.

Nearly all events of a pair in service are heartbeats with the announcement of before, renewals of
the lease, and timers. They move times, and nothing else that a look at the whole state decides
by; so where such a look found nothing to do there is nothing to do, until one of the times is
reached that are asked for here. What is done for such an event is exactly what the whole look
would do for it: tests/sim/test_rest.py plays runs with and without.
"""

from typing import Any

from mirrorfarm.actors.events import PeerHeard, Received, RegisterKnown, Tick
from mirrorfarm.actors.module.mirror import planes, promises
from mirrorfarm.actors.module.mirror.holding import arm
from mirrorfarm.actors.module.mirror.orders import ask_renew
from mirrorfarm.actors.module.mirror.phases import Phase, Session
from mirrorfarm.actors.module.mirror.state import Plane, State
from mirrorfarm.actors.vip.core import PRESENCE
from mirrorfarm.transport.messages import PlaneIs


def begins(s: State) -> bool:
    """Return whether the mirror is at rest, after a heartbeat for which nothing was to be done."""
    if s.phase is Phase.LEADING:
        serves = _leads(s)
    elif s.phase is Phase.FOLLOWING:
        serves = _follows(s)
    else:
        return False
    runs = s.step or s.steps or s.side_run or s.side_scripts or s.stores
    waits = s.pending or s.early or s.put_off or s.unset or s.resources.get(PRESENCE) == "down"
    plane = s.plane
    settled = not s.has_plane or (plane.settled and not plane.leaves and _says_nothing(plane))
    here = not s.peer.silent and not s.peer.left
    return serves and here and settled and not runs and not waits


def _says_nothing(plane: Plane) -> bool:
    """Return whether the data plane only says that it is what it shall be."""
    answer = plane.answer
    return answer is not None and not (plane.held or answer.held or answer.broken or answer.fault)


def _leads(s: State) -> bool:
    """Return whether this node leads with its peer in the set, as the register says."""
    a, leading, register = s.arbiter, s.leading, s.arbiter.register
    if register is None or leading.session is not Session.JOINED or not s.peer_in_isr:
        return False
    named = (register.holder, register.term) == (s.settings.node, s.record.term)
    believed = register.instance == s.record.wit_instance and register.ver >= s.record.ver_seen
    doubts = a.distrust or a.unclear or a.swapping or a.refused or not a.known
    leaves = s.record.from_memory or s.plane_off or s.split or leading.lost or leading.lease_closed
    return named and believed and not doubts and not leaves and s.peer.about.role == "SECOND"


def _follows(s: State) -> bool:
    """Return whether this node follows a primary to which it may promise what it did before."""
    written = s.promises and s.record.promised_ns == s.lease.lease_ns
    return written and s.target.step == "done" and s.peer.about.role == "PRIM"


def goes_on(s: State, event: Any, now: int) -> bool:
    """Take an event that changes nothing but times; return False, and do nothing, for others."""
    leads = s.phase is Phase.LEADING
    if not _is_of_rest(s, event, now, leads=leads) or (leads and not s.lease.valid(now)):
        return False
    if leads:
        ask_renew(s, now)
    _take(s, event, now, leads=leads)
    if leads:
        arm(s)
    if s.has_plane:
        planes.ask_alive(s, now)
    return True


def _is_of_rest(s: State, event: Any, now: int, *, leads: bool) -> bool:
    """Return whether an event says that everything is as it was."""
    if s.plane.unanswered and now - s.plane.sent_ns >= planes.ALIVE_NS:
        return False  # It may be taken for dead.
    kind = event.__class__
    if kind is PeerHeard:
        beat, before = event.beat, s.peer.about
        same = beat.about is before or beat.about == before
        return same and event.network in s.peer.networks and (leads or not beat.promised_ns)
    if kind is RegisterKnown:
        a = s.arbiter
        same = leads and event.outcome == "ok" and event.register == a.register
        return same and event.request != a.reading and not a.silent_since_ns
    if kind is Received:
        here = event.source.node == s.settings.node and event.source.module == s.module.name
        return here and event.message.__class__ is PlaneIs and event.message == s.plane.answer
    return kind is Tick


def _take(s: State, event: Any, now: int, *, leads: bool) -> None:
    """Note the times that an event brings."""
    kind = event.__class__
    if kind is PeerHeard:
        s.peer.heard_ns = now
        beat = event.beat
        if not leads:
            promises.give(s, event.network, beat.sent_ns, now)
        elif 0 < beat.promised_ns <= now and beat.promised_term <= s.record.term:
            s.lease.granted(beat.promised_ns, beat.about.lease_ns)
    elif kind is RegisterKnown:
        s.lease.granted(event.sent_ns)
    elif kind is Received:
        planes.on_message(s, event.message, now)
    elif now >= s.wake_ns:
        s.wake_ns = 0
