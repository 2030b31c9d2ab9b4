"""Giving the primary role away in good order, and what a clean end may claim."""

from mirrorfarm.actors.module.mirror.holding import peer_may_lead
from mirrorfarm.actors.module.mirror.missing import names_nobody
from mirrorfarm.actors.module.mirror.orders import ask_swap, explain, fact, send_peer
from mirrorfarm.actors.module.mirror.phases import LEADERS, Session
from mirrorfarm.actors.module.mirror.state import State
from mirrorfarm.transport.messages import Register, RegisterNews


def may_hand_over(s: State) -> bool:
    """Return whether the peer is ready for the role, and the arbiter there to name it.

    One that is silent would be waited for without end, with the application stopped.
    """
    return peer_is_ready(s) and not names_nobody(s)


def peer_is_ready(s: State) -> bool:
    """Return whether the peer has everything and is there to take the role."""
    if not s.peer_in_isr or s.peer.silent or s.peer.left or s.peer.about.failed:
        return False
    return s.leading.session is Session.JOINED and s.peer.about.role == "SECOND"


def hand_over(s: State, now: int) -> None:
    """Ask the arbiter to name the peer; with a stop, this node leaves the in-sync set as well."""
    register = s.arbiter.register
    if register is None or register.holder != s.settings.node or not may_hand_over(s):
        why = s.leading.lost or names_nobody(s) or "the peer is not there"
        fact(s, now, f"the role is not handed over: {why}")
        return
    if s.arbiter.swapping:
        return
    both = tuple(sorted((s.settings.node, s.settings.peer)))
    isr = both if s.stopping_for == "swap" and not s.failed else (s.settings.peer,)
    wanted = Register(
        register.term + 1, register.ver + 1, s.settings.peer, isr, register.gen, register.instance
    )
    ask_swap(s, "handover", wanted)


def send_news(s: State, register: Register) -> None:
    """Tell the peer at once that the register changed."""
    send_peer(s, RegisterNews(register))


def handed_over(s: State) -> bool:
    """Return whether the question of the hand-over is settled; say so if it cannot be (L4).

    Another question may be open for as long as the arbiter is silent: it is not waited for.
    """
    asked = s.arbiter.swapping != 0 and s.arbiter.purpose == "handover"
    if asked and s.arbiter.silent_since_ns:
        why = f"the arbiter does not answer: it may have named {s.settings.peer} primary, or not"
        explain(s, why, "the arbiter answers again")
    return not asked


def leaves_clean(s: State) -> bool:
    """Return whether the record may say `idle`: the peer, or a change map, has all that is here.

    Otherwise something was written here that was never acknowledged and that nobody else knows
    of; the record keeps saying that this node led, so that its data are compared as a whole.
    """
    answer = s.plane.answer
    if s.phase not in LEADERS or not s.has_plane:
        return True
    counted_in = peer_may_lead(s)  # Then it takes over from what it has.
    if answer is not None and answer.behind and (counted_in or s.record.was != "alone"):
        return False
    if counted_in:
        return s.leading.session is Session.JOINED and not s.leading.behind
    return s.leading.traced or s.record.was == "alone"
