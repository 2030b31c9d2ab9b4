"""The target of a session and the secondary: accept, follow, and take over when it must.

A session is durable here before its first byte (R7), the data is declared inconsistent before
they change and consistent only when all of them are durable (S12).
"""

from mirrorfarm.actors.events import VipProbe
from mirrorfarm.actors.module.mirror import alike, divergence
from mirrorfarm.actors.module.mirror.orders import (
    ask_read,
    become,
    explain,
    fact,
    new_generation,
    next_run,
    remember,
    send_peer,
    store,
    tell,
)
from mirrorfarm.actors.module.mirror.phases import FOLLOWERS, Phase
from mirrorfarm.actors.module.mirror.procedure import (
    end_second,
    run_side_scripts,
    scripts_in_the_end,
)
from mirrorfarm.actors.module.mirror.state import State, Target
from mirrorfarm.limits import GENERATION_HISTORY_MAX, MILLISECOND_NS
from mirrorfarm.transport.messages import (
    CopyComplete,
    Leave,
    SyncAccepted,
    Synced,
    SyncOffer,
    SyncRefused,
)

SYNCED_AGAIN_NS = 500 * MILLISECOND_NS


def on_offer(s: State, offer: SyncOffer, now: int) -> None:
    """The primary wants to bring this node up to date."""
    if offer.term < s.record.term:
        return  # A primary of the past; our heartbeats tell it so.
    if s.phase not in (Phase.WAITING, *FOLLOWERS):
        return  # Starting, stopping or asking: it will offer again.
    target = s.target
    if (offer.term, offer.sid) == (target.term, target.sid) and not s.failed:
        if target.step == "done" or (target.step == "copying" and s.has_plane):
            send_peer(s, SyncAccepted(offer.term, offer.sid))
        return
    refusal = _refusal(s, offer)
    if refusal:
        send_peer(s, SyncRefused(offer.term, offer.sid, refusal))
        return
    _begin(s, offer, now)


def _refusal(s: State, offer: SyncOffer) -> str:
    """Return why a session is not begun; empty: it is."""
    if s.failed:
        return s.failed
    if (offer.term, offer.sid) <= (s.record.term, s.record.sid):
        return "that session is already over here"
    if offer.plan == "none" and not s.record.cons and s.has_plane:
        return "the data here are inconsistent"
    if offer.plan != "full" and s.leading.full_wanted and s.has_plane:
        return "an administrator wants all data copied"  # It was offered before that was heard.
    return alike.difference(s, offer.directories)


def _begin(s: State, offer: SyncOffer, now: int) -> None:
    """Make the session durable before its first byte (R7)."""
    s.target = Target(
        offer.term,
        offer.sid,
        offer.plan,
        offer.gen_cur,
        offer.gen_base,
        offer.gen_hist,
        offer.ver,
        "leaving",
        quarantine=divergence.quarantine(s, offer),
    )
    s.plane_off, s.split = "", ""
    s.force = ""  # An order to lead that came too late is over: it must not count some day.
    if not s.has_plane:
        _write_down(s, now)
    if s.phase is not Phase.SYNCING:
        become(s, Phase.SYNCING, now, "")
        fact(s, now, f"{s.settings.peer} resynchronises this node: {offer.plan}")
    scripts_as = scripts_in_the_end(s)
    if not scripts_as:
        run_side_scripts(s, "WAIT->SECOND")
    elif scripts_as == "swapped":
        run_side_scripts(s, "swap-in")
    explain(s, f"data are being copied from {s.settings.peer}", "the end of the copy")


def _write_down(s: State, now: int) -> None:
    """Make the session durable: the data plane is in no earlier one any more (S10)."""
    target = s.target
    target.step = "beginning"
    aside = target.quarantine
    forced = s.record.forced
    if aside and aside != s.record.quarantine:
        text = f"split: data of {s.settings.peer} kept, term {target.term}; ours go to {aside}"
        fact(s, now, f"what only this node has is set aside in quarantine {aside}", "C")
        forced = divergence.audit(s, text)
    store(
        s,
        "target",
        term=target.term,
        sid=target.sid,
        cons=s.record.cons and target.plan == "none",
        was="second",
        forced=forced,
        quarantine=aside,
    )


def on_target_stored(s: State) -> None:
    """The session is durable: the data plane may accept it."""
    if s.target.step == "beginning":
        s.target.step = "preparing"


def poll(s: State, now: int) -> None:
    """Do what is due for a target or a secondary."""
    target = s.target
    ready = not s.has_plane or (s.plane.settled and s.plane.wish.role == "follow")
    if target.step == "leaving" and not s.plane.wish.sid:
        # A plane that failed to end in good order has ended nevertheless.
        if s.plane.settled or (s.plane.answered and s.plane.wish.role == "off"):
            _write_down(s, now)
    if target.step == "preparing" and ready:
        target.step = "copying"
        if s.has_plane:
            send_peer(s, SyncAccepted(target.term, target.sid))
        if target.plan == "none" or not s.has_plane:
            _end_copy(s)
    if s.phase is Phase.SYNCING:
        _poll_syncing(s, now)
    elif s.phase is Phase.FOLLOWING:
        _poll_following(s, now)


def on_copy_complete(s: State, message: CopyComplete) -> None:
    """Every byte of the session is durable on this disk; now let the record say so."""
    target = s.target
    if (message.term, message.sid) == (target.term, target.sid) and target.step == "copying":
        _end_copy(s)


def _end_copy(s: State) -> None:
    """Declare the data consistent, under a generation of their own.

    The source's generation is taken over only as a member of the in-sync set (`_join`): until
    then the source answers its application without this node, and equal generations must mean
    equal data. For the same reason that generation is no ancestor: its end may be missing here.
    """
    target = s.target
    target.step = "ending"
    gen = s.record.gen_cur if target.plan == "none" else new_generation(s)
    whole = target.plan == "none"
    history = ((target.gen_cur,) if whole else ()) + (target.gen_base, *target.gen_hist)
    store(
        s,
        "copied",
        partial="" if whole else target.gen_cur,
        cons=True,
        was="second",
        gen_cur=gen,
        gen_base=target.gen_base,
        gen_hist=_known(history),
        lone=s.record.lone and whole,
        quarantine="",
    )


def _join(s: State, now: int) -> None:
    """The register counts this node in: its data are those of the source's generation."""
    target, register = s.target, s.arbiter.register
    if register and register.gen and register.gen != target.gen_cur:
        # The source went on alone after its offer: its generation is a younger one by now.
        target.gen_hist = (target.gen_base, *target.gen_hist)
        target.gen_base, target.gen_cur = target.gen_cur, register.gen
    become(s, Phase.FOLLOWING, now, "")
    s.leading.full_wanted = False
    fact(s, now, "this node is up to date and in the in-sync set")
    store(
        s,
        "",
        was="second",
        gen_cur=target.gen_cur,
        gen_base=target.gen_base,
        gen_hist=_known((target.gen_base, *target.gen_hist)),
        lone=False,
        partial="",
        **remember(s),
    )


def _known(generations: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(g for g in generations if g))[:GENERATION_HISTORY_MAX]


def on_copy_stored(s: State) -> None:
    """The record says that this node has everything: tell the primary."""
    if s.target.step == "ending":
        s.target.step = "done"
        if s.phase is Phase.SYNCING:
            p = s.settings.peer
            why = f"everything is copied: {p} waits for the arbiter to count this node in"
            explain(s, why, f"the arbiter answers {p}")
        if not s.has_plane:  # Nothing is copied: to accept is to be up to date.
            send_peer(s, SyncAccepted(s.target.term, s.target.sid))


def _poll_syncing(s: State, now: int) -> None:
    register = s.arbiter.register
    done = s.target.step == "done"
    theirs = register and (register.term, register.holder) == (s.target.term, s.settings.peer)
    current = theirs and register and register.ver >= s.target.ver
    if done and current and s.self_in_isr:
        if not s.target.told_ns:  # It never left the set: its primary just resumed the session.
            send_peer(s, Synced(s.target.term, s.target.sid))
        _join(s, now)
        return
    about = s.peer.about
    if done and now - s.target.told_ns >= SYNCED_AGAIN_NS:
        s.target.told_ns = now
        send_peer(s, Synced(s.target.term, s.target.sid))
        if not s.peer.silent and about.role == "PRIM":
            ask_read(s, now)  # The news of the growth may have been lost.
    gone = s.peer.silent or s.peer.left or about.role not in {"PRIM", "ALONE"}
    # An offer can be here before the heartbeat that announces its sender's role.
    patience_over = now - s.since_ns >= s.module.timing.detection_ns
    if (
        gone
        and patience_over
        and s.target.step in {"", "copying", "done"}
        and about.phase != "taking"
    ):
        fact(s, now, f"{s.settings.peer} is no primary any more: the resynchronisation ends")
        give_up(s, now)


def give_up(s: State, now: int) -> None:
    """Leave the secondary's role without a primary to follow."""
    s.target = Target()
    end_second(s)
    s.arbiter.known = False
    become(s, Phase.WAITING, now, "")


def _poll_following(s: State, now: int) -> None:
    about = s.peer.about
    register = s.arbiter.register
    if not s.peer.silent and about.role == "ALONE" and about.term >= s.record.term:
        if register is None or about.ver > register.ver:
            fact(s, now, f"{s.settings.peer} went on without this node")
            s.target = Target()
            become(s, Phase.SYNCING, now, "")
            explain(s, f"{s.settings.peer} went on without this node", "its next offer")
        return
    if not (s.peer.silent or s.peer.left or about.role in {"STOP", "WAIT"}):
        return
    if not s.peer.heard_ns and now - s.since_ns < s.module.timing.detection_ns:
        return  # Its offers were faster than its first heartbeat.
    if not s.self_in_isr:
        give_up(s, now)
    elif not s.module.failover and not s.peer.left:
        fact(s, now, "failover is off: this node does not take the role by itself")
        give_up(s, now)


def lost_plane(s: State, now: int) -> None:
    """The replicator died: what was under way may not have reached the disk; begin anew."""
    fact(s, now, "the replicator died: this node leaves the in-sync set until it is resynchronised")
    send_peer(s, Leave(s.record.term))
    s.target = Target()
    if s.phase is Phase.FOLLOWING:
        become(s, Phase.SYNCING, now, "")
    would = (
        f"{s.settings.peer} offers a resynchronisation, once the arbiter lets it leave this node"
    )
    explain(s, "the replicator died: what was under way may not be on this node's disk", would)


def suspect(s: State, now: int) -> None:
    """The primary fell silent: use the wait for its lease to look for its addresses."""
    del now
    if s.phase is Phase.FOLLOWING and not s.probing and s.module.vips:
        s.probing = next_run(s)
        tell(s, "vip", VipProbe(s.probing))
