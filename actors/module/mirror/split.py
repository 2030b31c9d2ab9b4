"""Two primaries meet, or two nodes wait with histories that differ: one of them goes on (row 29).

Both hold their writes first; then both see the same two sides and come to the same by the
module's policy (`comparison.winner`). The winner takes a term above both, the other gives its
role up and is resynchronised. Decisions are recorded before they have an effect.

Likewise a primary whose administrator decided goes on in a term above what its waiting peer
remembers, if it and its witness both lost that (`_forgot_terms`).
"""

from mirrorfarm.actors.module.mirror import comparison, demotion, divergence
from mirrorfarm.actors.module.mirror.holding import peer_may_lead
from mirrorfarm.actors.module.mirror.orders import (
    ask_swap,
    become,
    explain,
    fact,
    remember,
    store,
)
from mirrorfarm.actors.module.mirror.phases import RUNNING, Phase, Session
from mirrorfarm.actors.module.mirror.state import State
from mirrorfarm.transport.messages import Announcement, Register

PRIMARIES = ("PRIM", "ALONE")
UNDECIDED = "an administrator must say whose"


# --- two primaries -------------------------------------------------------------------------


def met(s: State, about: Announcement) -> bool:
    """Return whether the peer leads as well, each with a register of its own."""
    if s.module.arbiter.kind == "witness" or s.phase not in RUNNING or about.phase == "leaving":
        return False
    if about.term < s.record.term and about.gen_cur in s.record.given_up:
        return False  # Decided: it has not heard of the new term yet.
    return about.role in PRIMARIES and not (s.peer_in_isr and about.role == "PRIM")


def begin(s: State, now: int) -> None:
    """Hold every write until it is decided who goes on."""
    if s.split in {"frozen", "won", "settled"}:
        return
    s.split, s.split_ns = "frozen", now
    peer = s.settings.peer
    fact(s, now, f"SPLIT: {peer} is primary as well; writes are held until it is decided", "C")
    explain(s, f"{peer} is primary as well: one of the two must go on", "the decision, at once")


def poll(s: State, now: int) -> None:
    """Decide as soon as both hold their writes; take the term that the decision needs."""
    about = s.peer.about
    if s.phase not in RUNNING:
        return  # It leaves: what is held was never acknowledged.
    if s.split == "frozen":
        _poll_frozen(s, now)
    elif not s.split and _outranked(s, about):
        _win(s, now, "it is primary")
    elif not s.split and _forgot_terms(s, now):
        s.split = "won"
        peer = s.settings.peer
        fact(s, now, f"{peer} remembers term {about.term}: this node goes on in a term above", "C")
    if s.split == "won" and divergence.writes_held(s):
        _settle(s, now)


def _poll_frozen(s: State, now: int) -> None:
    about = s.peer.about
    if s.peer.silent or (about.role not in PRIMARIES and not about.split):
        s.split = ""
        gone = "is silent again" if s.peer.silent else "gave its role up by itself"
        fact(s, now, f"{s.settings.peer} {gone}: this node goes on as it was")
        explain(s, "")
    elif about.split == "undecided":
        _yield(s, now, "", "manual")
    elif about.split == "yielded":
        _win(s, now, f"{s.settings.peer} gave its role up")
    elif about.split and divergence.announced(s):
        _decide(s, now)
    elif now - s.split_ns > 2 * s.module.timing.detection_ns:
        _decide_alone(s, now)


def _outranked(s: State, about: Announcement) -> bool:
    """Return whether a node that waits has a term above this primary's, from a split before.

    Whoever serves goes on, whatever the policy: nobody is interrupted for the data of a node
    that was away. With `manual` its data are kept until an administrator gives them up.
    """
    if s.module.arbiter.kind == "witness" or s.phase not in (Phase.TAKING, Phase.LEADING):
        return False
    if _named_elsewhere(s) and (s.peer.silent or about.role not in PRIMARIES):
        return s.peer.silent or not divergence.refusal(s)
    if s.peer.silent or s.phase is Phase.TAKING:
        return False
    above = about.term > s.record.term
    # Without a register two nodes may have led in one and the same term.
    level = about.term == s.record.term and comparison.diverged(s.record, about)
    return _waits(about) and (above or level) and not divergence.refusal(s)


def _waits(about: Announcement) -> bool:
    return about.role == "WAIT" and about.phase == "waiting" and about.starting


def _forgot_terms(s: State, now: int) -> bool:
    """Return whether a node that waits remembers a term which this primary and its witness lost.

    Only an administrator can say that the data here count nevertheless: by forcing this node, or
    by giving up the other's. Asked only where nobody else can have become primary meanwhile.
    """
    a, about, register = s.arbiter, s.peer.about, s.arbiter.register
    chosen = about.full_wanted or s.leading.full_given
    if s.peer.silent or not (chosen and _waits(about)) or about.term <= s.record.term:
        return False
    if s.module.arbiter.kind != "witness" or s.phase is not Phase.LEADING:
        return False
    if peer_may_lead(s) or s.leading.session is not Session.NONE:
        return False
    if register is None or a.distrust or a.silent_since_ns or a.swapping or now < a.retry_ns:
        return False
    return (register.holder, register.term) == (s.settings.node, s.record.term)


def _named_elsewhere(s: State) -> bool:
    """Return whether the two copies of the register, now one, name the peer instead of us."""
    register = s.arbiter.register
    named = register is not None and register.holder == s.settings.peer
    return named and register is not None and register.term >= s.record.term


def _decide(s: State, now: int) -> None:
    """Both see the same: the same comes out on both."""
    rule = divergence.policy(s) if s.peer.about.split == divergence.policy(s) else "manual"
    chosen = comparison.winner(rule, *divergence.sides(s))
    if chosen == s.settings.node:
        _win(s, now, rule)
    else:
        _yield(s, now, chosen, rule)


def _decide_alone(s: State, now: int) -> None:
    """The peer does not hold its writes: it has decided already. The higher term counts."""
    if s.peer.about.term > s.record.term:
        _yield(s, now, s.settings.peer, "it has a newer term")
    else:
        _win(s, now, "it has the newer term")


def _win(s: State, now: int, why: str) -> None:
    s.split = "won"
    fact(s, now, f"the data of {s.settings.node} are kept ({why}): it goes on in a new term", "C")


def _settle(s: State, now: int) -> None:
    """Ask for a term above both: nothing of the other's may count any more.

    Writes are held by now: none may reach the disk in the old term once the new one is recorded.
    """
    register = s.arbiter.register
    if register is None or s.arbiter.swapping or now < s.arbiter.retry_ns:
        return
    term = max(register.term, s.record.term, s.peer.about.term) + 1
    by = "terms" if s.module.arbiter.kind == "witness" else "split"
    if not divergence.written_down(s, by, term):
        return
    node = s.settings.node
    wanted = Register(term, register.ver + 1, node, (node,), s.record.gen_cur, register.instance)
    ask_swap(s, "settle", wanted, forced=True)
    s.arbiter.forced, s.arbiter.forced_by = True, by


def not_settled(s: State) -> None:
    """The arbiter did not give the term. A witness names nobody wrongly: what it says counts."""
    if s.module.arbiter.kind == "witness":
        s.split, s.arbiter.forced = "", False


def settled(s: State, register: Register, now: int) -> None:
    """The arbiter named this node in the new term: durable first, then writes go on."""
    s.split = "settled"
    s.arbiter.forced = False
    s.leading.session, s.leading.sid, s.leading.lost = Session.NONE, 0, ""
    s.leading.since_ns = now
    store(
        s,
        "settled",
        term=register.term,
        sid=0,
        was="alone" if s.record.lone else "prim",
        forced=divergence.outcome(s, s.arbiter.forced_by, register.term),
        given_up=divergence.given_up(s),
        **remember(s),
    )


def on_settled(s: State, now: int) -> None:
    """The decision is durable."""
    s.split = ""
    explain(s, "")
    fact(s, now, f"writes go on in term {s.record.term}")


def _yield(s: State, now: int, chosen: str, rule: str) -> None:
    s.split = "yielded" if chosen else "undecided"
    whose = f"the data of {chosen} are kept" if chosen else UNDECIDED + " data are kept"
    store(s, "", forced=divergence.audit(s, f"split: {whose} ({rule}), term {s.record.term}"))
    demotion.demote(s, now, f"SPLIT: both nodes were primary; {whose} ({rule})")


# --- without the role ----------------------------------------------------------------------


def waits(s: State, now: int) -> bool:
    """Return whether a node that waits must not ask for the role, and say why."""
    about = s.peer.about
    if s.peer.silent or not about.starting or s.module.arbiter.kind == "witness":
        return False
    if about.role in PRIMARIES:
        peer = s.settings.peer
        explain(s, f"{peer} goes on with its data after a split", f"{peer} has its new term")
        return True
    if about.role != "WAIT" or not comparison.both_diverged(s.record, about):
        return False
    return _between_waiting(s, now)


def _between_waiting(s: State, now: int) -> bool:
    """Both wait with histories that differ: decide as two primaries would."""
    n, p, m = s.settings.node, s.settings.peer, s.module.name
    chosen = comparison.winner(divergence.policy(s), *divergence.sides(s))
    theirs_gone, ours_gone = divergence.decided(s)
    if theirs_gone != ours_gone:
        chosen = n if theirs_gone else p  # It was decided before: not again, perhaps otherwise.
    if s.force in {"prim", "primforce"}:
        chosen = n  # An administrator says so.
    if chosen == n:
        s.force = s.force or "split"
        explain(s, "")
        _ask(s, now)
        return True
    if chosen:
        explain(
            s, f"SPLIT: the data of {p} are kept ({divergence.policy(s)})", f"{p} becomes primary"
        )
        return True
    explain(
        s,
        f"SPLIT: {n} and {p} both went on alone, each has writes that the other lacks; "
        f"{UNDECIDED} data are kept (the other's are set aside)",
        "an administrator names the node with the good data",
        f"mirrorfarm -H {n} prim -m {m}   (or: mirrorfarm -H {p} prim -m {m})",
    )
    return True


def _ask(s: State, now: int) -> None:
    """Ask for the role with the data of this node alone, whatever the register says."""
    a = s.arbiter
    if a.register is None or a.swapping or now < max(s.promise_until_ns, a.retry_ns):
        return
    node = s.settings.node
    term = max(s.record.term, s.peer.about.term, a.register.term) + 1
    if not divergence.written_down(s, s.force, term):
        return
    wanted = Register(
        term, a.register.ver + 1, node, (node,), s.record.gen_cur, a.register.instance
    )
    ask_swap(s, "promote", wanted, forced=True)
    a.forced, a.forced_by = True, s.force
    become(s, Phase.ASKING, now, "")
