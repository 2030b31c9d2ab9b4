"""Two histories of the same data: what each side knows, and what a copy may replace (R13).

Possible only where an arbiter advises (classes A0 and A1), or after an administrator's force.
Whoever has writes that the source of a copy lacks sets aside what the copy replaces (S15).
`split.py` decides who goes on.
"""

from mirrorfarm.actors.module.mirror import alike, comparison
from mirrorfarm.actors.module.mirror.orders import store
from mirrorfarm.actors.module.mirror.state import State
from mirrorfarm.limits import FORCED_AUDIT_MAX, GENERATION_HISTORY_MAX
from mirrorfarm.transport.messages import SyncOffer


def policy(s: State) -> str:
    """Return how the module decides between two histories."""
    return s.module.replication.divergence


def audit(s: State, text: str) -> tuple[str, ...]:
    """Return the record's list of decisions, with one more."""
    return (text, *s.record.forced)[:FORCED_AUDIT_MAX]


def decision(s: State, force: str) -> str:
    """Return who decided what, as it is audited; `force`: prim primforce split terms."""
    if force == "terms":
        return f"a term above those of {s.settings.peer}, whose data an administrator gave up"
    if force == "split":
        return f"split: data of {s.settings.node} kept by {policy(s)}"
    return f"{force} by an administrator on {s.settings.node}"


def written_down(s: State, force: str, term: int) -> bool:
    """Return whether a decision is durable: before that the arbiter is not asked for it (R14)."""
    ordered = _ordered(s, force, term)
    if ordered not in s.record.forced:
        store(s, "", forced=audit(s, ordered))
    return not s.stores  # All of them: one that failed is made good by the next.


def _ordered(s: State, force: str, term: int) -> str:
    return f"{decision(s, force)} ordered, for term {term}"


def outcome(s: State, force: str, term: int, what: str = "") -> tuple[str, ...]:
    """Return the record's list of decisions; what came of one takes the place of its order."""
    text = f"{decision(s, force)}, term {term}{what}"
    before = [line for line in s.record.forced if line != _ordered(s, force, term)]
    return (text, *before)[:FORCED_AUDIT_MAX]


def given_up(s: State) -> tuple[str, ...]:
    """Return the generations given up, with the peer's present one."""
    return tuple(dict.fromkeys((s.peer.about.gen_cur, *s.record.given_up)))[:GENERATION_HISTORY_MAX]


def decided(s: State) -> tuple[bool, bool]:
    """Return whether a recorded decision gave up the peer's data, and whether it gave up ours."""
    about = s.peer.about
    ours = bool(s.record.gen_cur) and about.given_up == s.record.gen_cur
    return about.gen_cur in s.record.given_up, ours


def announced(s: State) -> str:
    """Return what the peer is told: the policy only when nothing changes here any more."""
    if s.split == "frozen":
        return policy(s) if writes_held(s) else ""
    return s.split if s.split in {"yielded", "undecided"} else ""


def writes_held(s: State) -> bool:
    """Return whether nothing can be written here until the split is decided."""
    return not s.has_plane or (s.plane.settled and s.plane.wish.gate == "frozen")


def sides(s: State) -> tuple[comparison.Side, comparison.Side]:
    """Return this node and its peer, as both know them."""
    about = s.peer.about
    mine = comparison.Side(s.settings.node, s.record.term, s.record.lone, changes(s))
    return mine, comparison.Side(s.settings.peer, about.term, about.lone, about.changes)


def changes(s: State) -> int:
    """Return how many things changed since this node went on alone; -1: unknown."""
    return s.plane.answer.changes if s.plane.answer and s.plane.settled else -1


def refusal(s: State) -> str:
    """Return why this primary must not overwrite the peer's data yet; "": it may."""
    about = s.peer.about
    if other := alike.difference(s, about.directories):
        return other
    if about.full_wanted:
        return ""
    if comparison.unrelated(s.record, about):
        return "its data and this node's have no common ancestor"
    if policy(s) == "manual" and comparison.diverged(s.record, about):
        return "both nodes went on alone: each has writes that the other lacks (SPLIT)"
    return ""


def quarantine(s: State, offer: SyncOffer) -> str:
    """Return the name under which what the offered copy replaces is set aside; "": it is not."""
    if s.record.quarantine and not s.record.cons:
        return s.record.quarantine  # A copy that did not end: what is left is still only here.
    theirs = {offer.gen_cur, offer.gen_base, *offer.gen_hist}
    if not s.has_plane or not s.record.lone or s.record.gen_cur in theirs:
        return ""
    return f"{s.module.name}-term{s.record.term}-{s.record.gen_cur[:8]}"
