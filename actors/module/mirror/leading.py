"""The primary: its gate, the peer left behind (R2) and taken back (R5).

Everything here is level-triggered: `poll` looks at the state and does what is due, so that no
order of events can leave a step undone. The gate is never chosen, it follows from the state
(`gate_of`), and contains the peer whenever the register does, did at the last answer, or could
after a question that is still unanswered (R1).
"""

import msgspec

from mirrorfarm.actors import sites
from mirrorfarm.actors.module.mirror import alike, comparison, divergence
from mirrorfarm.actors.module.mirror.holding import arm, keep_lease, peer_may_lead
from mirrorfarm.actors.module.mirror.orders import (
    ask_read,
    ask_swap,
    branch,
    explain,
    fact,
    remember,
    send_peer,
    store,
)
from mirrorfarm.actors.module.mirror.phases import Phase, Session
from mirrorfarm.actors.module.mirror.state import State
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.transport.messages import (
    RegisterNews,
    SessionBroken,
    SessionUp,
    SyncAccepted,
    Synced,
    SyncOffer,
    SyncRefused,
)

OFFER_AGAIN_NS = 500 * MILLISECOND_NS
OFFER_TIMEOUT_NS = 30 * SECOND_NS
HAS_ALL = (Session.SYNCED, Session.GROWING, Session.JOINED)  # The peer has every modification.
GAVE_UP = ("STOP", "WAIT")  # Roles in which a secondary follows nobody.


def poll(s: State, now: int) -> None:
    """Do what is due for the holder of the register."""
    keep_lease(s, now)
    if s.plane_off or s.split:
        return
    if s.leading.lost:
        _leave_peer_behind(s, now)
    if s.arbiter.purpose == "shrink":
        _resume(s, now)
    leaving = s.arbiter.purpose == "shrink" or s.leading.lost
    if s.leading.session is not Session.NONE or not leaving:
        _take_peer_in(s, now)
    if s.plane.held:
        _go_lone(s, now)


# --- the gate ------------------------------------------------------------------------------


def gate_of(s: State) -> str:
    """Return who must have a modification before the application is told."""
    if s.leading.lease_closed or s.split:
        return "frozen"
    if s.leading.session in HAS_ALL:
        return "both"
    return "self" if s.lone and not peer_may_lead(s) else "frozen"


def gate_usable(s: State, now: int) -> bool:
    """Return whether the application may be started behind the gate as it is."""
    if s.split:
        return False
    if peer_may_lead(s):
        if not s.lease.valid(now) or s.leading.session not in HAS_ALL:
            return False
        return not s.has_plane or (s.plane.settled and s.plane.wish.gate == "both")
    return not s.has_plane or (s.plane.settled and s.plane.wish.role == "lead")


def map_base(s: State) -> str:
    """Return the generation since which the data plane must know every change; "": none."""
    if s.peer_in_isr or s.leading.session is Session.JOINED:
        return ""
    return s.record.gen_base if s.record.was == "alone" else s.record.gen_cur


# --- leaving the peer behind ---------------------------------------------------------------


def lose(s: State, now: int, why: str) -> None:
    """Note that the peer cannot be waited for any longer."""
    leading = s.leading
    leading.resuming = False
    if leading.session is not Session.NONE:
        leading.joined = leading.session is Session.JOINED
        leading.session, leading.progress = Session.NONE, None
        leading.since_ns = now
        if not s.peer_in_isr:
            fact(s, now, f"the resynchronisation of {s.settings.peer} ended early: {why}")
    if peer_may_lead(s) and not leading.lost:
        leading.lost = why
        fact(s, now, f"{s.settings.peer} must be left behind: {why}")


def _leave_peer_behind(s: State, now: int) -> None:
    if s.arbiter.swapping or now < s.arbiter.retry_ns:
        return
    register = s.arbiter.register
    if not s.peer_in_isr or register is None:
        s.leading.lost = ""
        return
    if register.holder != s.settings.node or register.term != s.record.term:
        if now - s.arbiter.read_ns >= s.module.timing.heartbeat_ns:
            ask_read(s, now)
        return
    alone = msgspec.structs.replace(register, isr=(s.settings.node,), gen=s.record.gen_cur)
    ask_swap(s, "shrink", alone)


def _resume(s: State, now: int) -> None:
    """Take back a peer that cannot be left behind: the arbiter does not answer (row 13).

    The question stays open, which is harmless: a gate on both is in every set it can lead to.
    """
    about, leading = s.peer.about, s.leading
    if not leading.lost or not leading.joined or not s.arbiter.silent_since_ns or s.peer.silent:
        return
    ours = (s.record.term, leading.sid, s.record.gen_cur)
    same = (about.term, about.sid, about.gen_cur) == ours
    follows = about.phase == "following" and about.was == "second" and about.cons
    if same and follows and now - leading.since_ns >= OFFER_AGAIN_NS and _may_be_target(s):
        fact(s, now, f"the arbiter is silent and {s.settings.peer} is back: its session goes on")
        leading.lost, leading.resuming = "", True
        explain(s, "")
        _offer(s, now)


def left_behind(s: State, now: int) -> None:
    """The arbiter removed the peer from the in-sync set."""
    n, p, why = s.settings.node, s.settings.peer, s.leading.lost or "asked before"
    fact(s, now, f"{p} is out of the in-sync set: {n} goes on ALONE ({why})")
    s.leading.lost, s.leading.session = "", Session.NONE
    s.leading.since_ns, s.leading.joined, s.leading.resuming = now, False, False
    explain(
        s,
        "",
        f"{p} returns and is resynchronised by itself",
        f"mirrorfarm -H {p} start -m {s.module.name}",
    )


def _go_lone(s: State, now: int) -> None:
    """Make the new generation durable before the first write that only this node has (R2, R10)."""
    if peer_may_lead(s) or s.lone or "lone" in s.stores.values():
        return
    if s.arbiter.swapping or s.leading.session in (Session.SYNCED, Session.GROWING):
        return
    if s.plane.settled and s.plane.wish.role == "lead":
        store(s, "lone", was="alone", **branch(s), **remember(s))
        if s.leading.session in (Session.OFFERED, Session.OPENING) and s.leading.plan == "none":
            lose(s, now, "it was offered as having everything")  # It would say so at once.


# --- taking the peer in --------------------------------------------------------------------


def _take_peer_in(s: State, now: int) -> None:
    leading, peer = s.leading, s.peer
    match leading.session:
        case Session.JOINED:
            session = (peer.about.term, peer.about.sid)
            gave_up = peer.about.role in GAVE_UP and session == (s.record.term, leading.sid)
            if gave_up and not peer.silent:  # No stream may tell us.
                lose(s, now, f"it is in {peer.about.role}")
        case Session.NONE:
            if s.has_plane and not (s.plane.settled and s.plane.wish.role == "lead"):
                return
            if s.peer_in_isr:
                _rejoin(s, now)
            elif s.phase is Phase.LEADING and now - leading.since_ns >= OFFER_AGAIN_NS:
                if _may_be_target(s) and not sites.trick("mirror.offer_late"):
                    _offer(s, now)
        case Session.OFFERED:
            if peer.silent or now - leading.since_ns > OFFER_TIMEOUT_NS:
                lose(s, now, "it did not take the offer")
            elif now - leading.offered_ns >= OFFER_AGAIN_NS:
                _send_offer(s, now)
        case Session.OPENING:
            if now - leading.since_ns > 2 * s.module.timing.replication_timeout_ns:
                lose(s, now, "its data plane did not answer")
        case Session.COPYING:
            if (peer.about.term, peer.about.sid) == (s.record.term, leading.sid):
                if peer.about.phase == "following":  # Its word for it was lost.
                    leading.session = Session.SYNCED
                    return
            patience_over = now - leading.since_ns > s.module.timing.detection_ns
            if patience_over and not peer.silent and peer.about.role in GAVE_UP:
                lose(s, now, f"it is in {peer.about.role}")
        case Session.SYNCED:
            _grow(s, now)
        case _:
            pass


def _may_be_target(s: State) -> bool:
    about = s.peer.about
    if s.peer.silent or s.peer.left or not about.starting or about.failed:
        return False
    if about.role not in {"WAIT", "SECOND"} or about.phase in {"starting", "asking", "demoting"}:
        return False
    if about.term > s.record.term:
        return False
    return not divergence.refusal(s)


def _rejoin(s: State, now: int) -> None:
    """Both are in the in-sync set but no session runs: join without data, or leave it behind."""
    leading = s.leading
    waited = now - leading.since_ns > s.module.timing.replication_timeout_ns
    about = s.peer.about
    stale = about.role in {"PRIM", "ALONE"} or about.phase in {"starting", "leaving"}
    if s.peer.silent or s.peer.left or about.failed or (waited and not _may_be_target(s)):
        lose(s, now, "it is not there")
    elif _may_be_target(s):
        if _plan(s) == "none":
            _offer(s, now)
        else:
            lose(s, now, "its data must be compared first")
    elif not stale and not about.starting:
        lose(s, now, f"it is in {about.role}")


def _plan(s: State) -> str:
    answer = s.plane.answer
    base = answer.map_base if answer else ""
    if not s.has_plane:
        return "none"
    about = s.peer.about
    full = s.leading.full_given or about.full_wanted
    if s.leading.resuming and not full:
        return "map"  # Of what was under way when the session broke.
    return comparison.plan_for(s.record, about, base, exact=s.leading.exact, full=full)


def _offer(s: State, now: int) -> None:
    leading = s.leading
    leading.sid = max(leading.sid, s.record.sid if s.peer.about.term == s.record.term else 0)
    if s.peer.about.term == s.record.term:
        leading.sid = max(leading.sid, s.peer.about.sid)
    leading.sid += 1
    leading.plan = _plan(s)
    leading.session, leading.since_ns, leading.progress = Session.OFFERED, now, None
    _send_offer(s, now)


def _send_offer(s: State, now: int) -> None:
    s.leading.offered_ns = now
    r = s.record
    register = s.arbiter.register
    ver = register.ver if register else 0
    offer = SyncOffer(
        r.term,
        s.leading.sid,
        s.leading.plan,
        r.gen_cur,
        r.gen_base,
        r.gen_hist,
        ver,
        alike.directories(s.module),
    )
    send_peer(s, offer)


def _grow(s: State, now: int) -> None:
    """The target has everything: gate on it first, then ask to add it (R5).

    Not while the arbiter is silent, or not believed: from the question on this node would need a
    lease, and who is alone has none to lose when its peer goes again.
    """
    gated = not s.has_plane or (s.plane.settled and s.plane.wish.gate == "both")
    register = s.arbiter.register
    if not gated or register is None or "lone" in s.stores.values():
        return  # The generation that the target is going to share must be durable here.
    a = s.arbiter
    if s.peer_in_isr:
        _joined(s, now)
    elif a.swapping or a.silent_since_ns or a.distrust or now < a.retry_ns:
        return
    elif s.record.lone:
        # Asked for, the set may have both although no answer comes: what goes on alone from then
        # on, here or after a restart, needs a generation that the peer cannot have.
        s.lone = False
        store(s, "shared", lone=False)
    elif s.lease.valid(now) and "shared" not in s.stores.values():
        arm(s)
        both = tuple(sorted((s.settings.node, s.settings.peer)))
        s.leading.session = Session.GROWING
        ask_swap(s, "grow", msgspec.structs.replace(register, isr=both, gen=s.record.gen_cur))


def grown(s: State, now: int) -> None:
    """The arbiter added the peer to the in-sync set."""
    if s.leading.session is Session.GROWING:
        _joined(s, now)
        return
    store(s, "", was="prim", **remember(s))
    if not s.leading.lost:
        lose(s, now, "its session broke while it was being added")


def _joined(s: State, now: int) -> None:
    s.leading.session, s.leading.progress = Session.JOINED, None
    s.leading.joined, s.leading.resuming = True, False
    s.leading.full_given = s.leading.exact = False
    s.leading.traced = True
    s.lone = False
    register = s.arbiter.register
    assert register is not None
    send_peer(s, RegisterNews(register))
    store(s, "", was="prim", lone=False, **remember(s))
    fact(s, now, f"{s.settings.peer} is up to date and in the in-sync set")
    explain(s, "")


# --- what the peer and the data planes say -------------------------------------------------


def on_accepted(s: State, message: SyncAccepted, now: int) -> None:
    """The target made the session durable."""
    leading = s.leading
    if (message.term, message.sid) != (s.record.term, leading.sid):
        return
    if leading.session is Session.OFFERED:
        leading.session = Session.OPENING if s.has_plane else Session.SYNCED
        leading.since_ns = now
        fact(s, now, f"resynchronisation {leading.sid} of {s.settings.peer} begins: {leading.plan}")


def on_refused(s: State, message: SyncRefused, now: int) -> None:
    """The target cannot take the offer."""
    if (message.term, message.sid) == (s.record.term, s.leading.sid):
        lose(s, now, message.reason)


def on_session_up(s: State, message: SessionUp) -> None:
    """Modifications flow to the target."""
    leading = s.leading
    if (message.term, message.sid) != (s.record.term, leading.sid):
        return
    if leading.session is Session.OPENING:
        leading.session = Session.SYNCED if leading.plan == "none" else Session.COPYING


def on_synced(s: State, message: Synced) -> None:
    """The target's record says that it has everything."""
    leading = s.leading
    if (message.term, message.sid) != (s.record.term, leading.sid):
        return
    if leading.session in (Session.OPENING, Session.COPYING):
        leading.session = Session.SYNCED


def on_broken(s: State, message: SessionBroken, now: int) -> None:
    """The stream broke or its acknowledgements are too late."""
    if (message.term, message.sid) != (s.record.term, s.leading.sid):
        return
    if s.plane_off:
        s.leading.behind = True  # It broke before everything was acknowledged.
    else:
        lose(s, now, message.reason)
