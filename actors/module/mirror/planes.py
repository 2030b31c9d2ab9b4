"""The mirror's side of the data plane: what it shall be follows from the state."""

import msgspec

from mirrorfarm.actors.effects import EndReplica, Log, Send, Store
from mirrorfarm.actors.module.mirror import demotion, following, leading, preference
from mirrorfarm.actors.module.mirror.orders import fact, send_plane, store
from mirrorfarm.actors.module.mirror.phases import FOLLOWERS, IN_ROLE, LEADERS, Phase, Session
from mirrorfarm.actors.module.mirror.state import State
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.transport import messages as msg
from mirrorfarm.transport.address import MODULE_ACTOR, Address

WISH_AGAIN_NS = 500 * MILLISECOND_NS
ALIVE_NS = 2 * SECOND_NS
UNANSWERED_MAX = 5
UNDONE_MAX = UNANSWERED_MAX * ALIVE_NS // WISH_AGAIN_NS  # Of a wish that is not fulfilled yet.


def wanted(s: State) -> msg.PlaneWish:
    """Return the wish that follows from the state; its number is the present one."""
    number = s.plane.wish.number
    if s.phase in LEADERS and not s.plane_off:
        if s.stores and not {"granted", "settled"}.isdisjoint(s.stores.values()):
            if s.plane.leaves and s.plane.wish.role == "follow":
                return msgspec.structs.replace(s.plane.wish, sid=0, quarantine="")
            return s.plane.wish  # The term is not durable yet.
        return _lead(s)
    follows = s.phase in FOLLOWERS or s.phase is Phase.ASKING
    if follows and s.target.step == "leaving" and s.plane.wish.role == "follow":
        return msgspec.structs.replace(s.plane.wish, sid=0, quarantine="")
    if follows and s.target.step not in {"", "leaving", "beginning"}:
        return msg.PlaneWish(
            number,
            "follow",
            term=s.target.term,
            sid=s.target.sid,
            peer=s.settings.peer,
            quarantine=s.target.quarantine,
            forgets=s.plane.wish.forgets,
        )
    if follows and s.target.step == "beginning":
        return s.plane.wish
    return _off(s)


def _off(s: State) -> msg.PlaneWish:
    """Return the wish to end: at once where that cannot wait, but nothing is bared too early."""
    old, bare = s.plane.wish, not _may_run(s)
    clean = bare and s.plane_off != "bare" and s.phase not in (Phase.RESETTING, Phase.DEMOTING)
    if old.role == "off" and (clean or not old.clean or s.plane.answered):
        # Off is off: how it got there does not change any more.
        return old if old.bare or not bare else msgspec.structs.replace(old, bare=True)
    return msg.PlaneWish(old.number, "off", clean=clean, forgets=old.forgets, bare=bare)


def _may_run(s: State) -> bool:
    """Return whether the application may still run, where the data plane shall be off."""
    if s.plane_off:
        return s.plane_off == "abort"
    ended = s.plane.wish.role == "follow" or s.plane.wish.bare  # Before this phase.
    return s.phase in (Phase.RESETTING, Phase.DEMOTING) or (s.phase is Phase.STOPPING and not ended)


def _lead(s: State) -> msg.PlaneWish:
    """Return the wish to lead."""
    is_open = s.leading.session not in (Session.NONE, Session.OFFERED)
    base = leading.map_base(s)
    return msg.PlaneWish(
        s.plane.wish.number,
        "lead",
        term=s.record.term,
        gate=leading.gate_of(s),
        sid=s.leading.sid if is_open else 0,
        plan=s.leading.plan if is_open else "none",
        peer=s.settings.peer,
        map_base=base,
        map_new=bool(base) and s.record.was != "alone" and s.leading.traced,
        forgets=s.plane.wish.forgets,
    )


def poll(s: State, now: int) -> None:
    """Tell the plane when its wish changed, and again until it answers."""
    plane = s.plane
    if not s.has_plane:
        return
    wish = wanted(s)
    if wish is not plane.wish and wish != plane.wish:
        plane.wish = msgspec.structs.replace(wish, number=wish.number + 1)
        plane.sent_ns = 0
        if wish.role != "lead":
            plane.held = False
    if not plane.answered and (not plane.sent_ns or now - plane.sent_ns >= WISH_AGAIN_NS):
        _ask(s, now, UNDONE_MAX if plane.start else 0)
    elif plane.settled and s.phase in IN_ROLE:
        ask_alive(s, now)
    if plane.leaves:
        _write_down_what_waits(s)


def ask_alive(s: State, now: int) -> None:
    """Ask a plane that is what it shall be whether it still is, once in a while."""
    if now - s.plane.sent_ns >= ALIVE_NS:
        _ask(s, now, UNANSWERED_MAX)


def _write_down_what_waits(s: State) -> None:
    """The data plane is in no session of an earlier term any more: the new term may be durable."""
    plane = s.plane
    if plane.wish.sid or not (plane.settled or (plane.answered and plane.wish.role == "off")):
        return
    s.out += [Store(record) for record in plane.records]
    plane.leaves, plane.records = False, ()


def _ask(s: State, now: int, unanswered_max: int) -> None:
    """Tell the plane the wish, perhaps again: one that hangs blocks the application for ever.

    Counted in questions, not in time: after a pause of this process nothing is concluded.
    `unanswered_max` 0: it may not run yet.
    """
    plane = s.plane
    again, plane.sent_ns = plane.sent_ns != 0, now
    send_plane(s, msgspec.structs.replace(plane.wish, start=plane.start))
    if plane.unanswered:  # Is it the agent between us that is away? This comes back by it.
        own = Address(s.settings.node, s.module.name, MODULE_ACTOR)
        s.out.append(Send(own, msg.Probe("own", 0)))
    plane.unanswered += again and plane.passes
    plane.passes = not plane.unanswered
    if unanswered_max and plane.unanswered > unanswered_max:
        plane.unanswered = plane.start = 0
        seconds = UNANSWERED_MAX * ALIVE_NS // SECOND_NS
        fact(s, now, f"the replicator has not answered for {seconds} s: its process is ended", "C")
        s.out.append(EndReplica())
        _lost(s, now)  # A successor that says so may never come to run.
        _leave_it_to_peer(s, now)
    elif not plane.start and plane.unanswered > UNDONE_MAX:
        _leave_it_to_peer(s, now)


def _leave_it_to_peer(s: State, now: int) -> None:
    """Nobody serves the directories here: a role that was just taken is the peer's, if it can."""
    if s.phase is Phase.TAKING and preference.peer_could_lead(s):
        demotion.demote(s, now, f"its replicator does not run; {s.settings.peer} can take the role")


def _lost(s: State, now: int) -> None:
    """The replicator that served or followed is no more."""
    plane = s.plane
    if plane.answer is not None and plane.answer.role == "lead" and s.phase in LEADERS:
        demotion.demote(s, now, "the replicator died, and the mounted directories with it")
    elif plane.answer is not None and plane.answer.role == "follow" and s.phase in FOLLOWERS:
        following.lost_plane(s, now)
    plane.answer = None


def on_message(s: State, message: msg.ANY_MESSAGE, now: int) -> None:
    """The replicator of this node said something, or its agent brought our own word back."""
    s.plane.passes = True
    if isinstance(message, msg.Probe):
        return
    s.plane.unanswered = 0
    match message:
        case msg.PlaneIs():
            _on_plane_is(s, message, now)
        case msg.SessionUp():
            leading.on_session_up(s, message)
        case msg.SessionBroken():
            if s.phase in LEADERS:
                leading.on_broken(s, message, now)
        case msg.CopyComplete():
            following.on_copy_complete(s, message)
        case msg.WriteHeld(term):
            if s.phase in LEADERS and term == s.record.term:
                s.plane.held = True
        case msg.StorageFailed(_, where, error, text):
            demotion.storage_failed(s, now, f"{where}: {text} ({error})")
        case msg.SyncProgress():
            s.leading.progress = message
        case _:
            s.out.append(Log("D", f"the replicator sent {type(message).__name__}"))


def _on_plane_is(s: State, answer: msg.PlaneIs, now: int) -> None:
    plane = s.plane
    if answer.number == 0:
        if answer.start and answer.start == plane.start:
            return  # That is known.
        plane.sent_ns = 0  # A new replicator: it must be told again.
        plane.start = answer.start
        _lost(s, now)
        return
    if answer.number != plane.wish.number or answer.start != plane.start:
        return
    first = plane.answer is None or plane.answer.number != answer.number
    plane.answer, plane.sent_ns, plane.proven = answer, now, True
    if answer.users and first:
        fact(s, now, answer.users, "C")
    if answer.role == "lead" and s.phase in LEADERS and s.record.from_memory:
        store(s, "", from_memory=False)  # It flushed what it had taken in before.
    if answer.failure:
        demotion.storage_failed(s, now, answer.failure)
    else:
        _hear_again(s, answer, now)


def _hear_again(s: State, answer: msg.PlaneIs, now: int) -> None:
    """What the plane told once may have been lost on its way."""
    if answer.fault:
        demotion.storage_failed(s, now, answer.fault)
    elif answer.role == "lead" and s.phase in LEADERS:
        s.plane.held = answer.held  # Also that nothing waits any more: its gate was open.
        if answer.broken:
            broken = msg.SessionBroken(answer.term, s.plane.wish.sid, answer.broken)
            leading.on_broken(s, broken, now)
    elif answer.copied:
        following.on_copy_complete(s, msg.CopyComplete(answer.term, answer.sid))
