"""Which of two nodes that may both lead takes the role: a preference, never a condition."""

from mirrorfarm.actors.module.mirror.orders import explain
from mirrorfarm.actors.module.mirror.state import State
from mirrorfarm.limits import SECOND_NS, Nanoseconds
from mirrorfarm.transport.messages import Register


def peer_could_lead(s: State) -> bool:
    """Return whether the peer is there, with data that count, and could take the role."""
    about = s.peer.about
    usable = about.starting and about.cons and not about.failed
    return s.peer_in_isr and usable and not s.peer.silent and not s.peer.left


def leaves_it_to_peer(s: State, register: Register, now: int) -> bool:
    """Return whether the peer may be there and has the better claim; say so if it has."""
    if s.peer.silent:
        explain(s, "")
        return now - max(s.peer.heard_ns, s.started_ns) < s.module.timing.detection_ns
    if not _has_better_claim(s, register):
        s.yields_since_ns = 0
        return False
    if not _may_be_overtaken(s):
        s.yields_since_ns = 0
    elif not s.yields_since_ns:
        s.yields_since_ns = now
    elif now - s.yields_since_ns >= _patience_ns(s):
        return False
    _explain(s, register)
    return True


def _explain(s: State, register: Register) -> None:
    n, p, m = s.settings.node, s.settings.peer, s.module.name
    claim = "was the last primary" if register.holder == p else "is preferred"
    change = f"{p} becomes primary"
    if s.yields_since_ns:
        change += f"; if it does not within {_patience_ns(s) / SECOND_NS:g} s, {n} does"
    command = f"mirrorfarm -H {n} stop -m {m}; mirrorfarm -H {n} prim -m {m}"
    explain(s, f"the role is left to {p}, which {claim}", change, command)


def _has_better_claim(s: State, register: Register) -> bool:
    about = s.peer.about
    if s.peer.left or not about.starting or about.failed or not about.cons:
        return False
    if about.phase == "demoting":
        return False  # It gives the role up, and may not be done with that for long.
    if about.forgetful:
        return False  # It does not count itself in.
    if s.settings.peer not in register.isr or s.force == "prim":
        return False
    return _preferred(s, register) == s.settings.peer


def _preferred(s: State, register: Register) -> str:
    """Return the node that takes the role if both can."""
    # Without failover a node that was not the last primary waits for the one that was.
    if s.module.failover and s.module.defaultprim in register.isr:
        return s.module.defaultprim
    return register.holder


def _may_be_overtaken(s: State) -> bool:
    """Return whether the peer waits as this node does, and knows of no write that this node lacks.

    Then it may be that it does not reach the arbiter, was told to stay secondary, or prefers this
    node: nobody would serve. Whoever has writes of its own has begun a generation for them; who
    was counted in and did not hear of it has another generation as well, and all the same.
    """
    about = s.peer.about
    lacks_nothing = about.gen_cur == s.record.gen_cur or not about.lone
    return lacks_nothing and about.phase in {"waiting", "asking"}


def _patience_ns(s: State) -> Nanoseconds:
    timing = s.module.timing
    return 2 * (timing.detection_ns + timing.lease_ns)
