"""What a node says, and leaves alone, while its arbiter does not answer, or refuses (L3, L4)."""

from mirrorfarm.actors.module.mirror.orders import explain
from mirrorfarm.actors.module.mirror.phases import Session
from mirrorfarm.actors.module.mirror.state import State


def explain_arbiter(s: State) -> None:
    """Say that nobody can be promoted, if the arbiter does not answer, or refuses to."""
    a, kind = s.arbiter, s.module.arbiter
    named = kind.kind == "witness"  # Of the others the reason is what says where to look.
    who = f"the arbiter ({kind.kind} {kind.name})" if named else f"the arbiter ({kind.kind})"
    command = f"mirrorfarm -H {s.settings.node} state -v -m {s.module.name}"
    if a.silent_since_ns:
        explain(
            s,
            f"{who} does not answer{'' if named else f' ({a.silence})'}: nobody may be promoted",
            "the arbiter answers again, or the peer is primary and returns",
            command,
        )
    elif a.refused:
        explain(
            s,
            f"{who} refuses: {a.refused}: nobody may be promoted",
            "what it says is mended there and it is started again, or the peer is primary",
            command,
        )


def names_nobody(s: State) -> str:
    """Return why the arbiter would change no role now, as far as this node knows; "": it would."""
    a = s.arbiter
    if a.silent_since_ns:
        return "the arbiter does not answer"
    if a.refused:
        return f"the arbiter refuses: {a.refused}"
    return f"{a.distrust}; it is not used" if a.distrust else ""


def keeps_out(s: State) -> str:
    """Return why a peer that is up to date is not counted in, if that is the arbiter; or ""."""
    if s.leading.session not in (Session.SYNCED, Session.GROWING):
        return ""
    if s.arbiter.silent_since_ns:
        why = "does not answer"
    elif s.arbiter.refused:
        why = f"refuses that ({s.arbiter.refused})"
    else:
        return ""
    return f"{s.settings.peer} is up to date, but the arbiter {why}: it is not counted in"


def explain_what_is_held(s: State) -> None:
    """Say why a primary's writes wait for the arbiter."""
    lost = f"{s.settings.peer} must be left behind ({s.leading.lost})"
    if s.arbiter.silent_since_ns:
        why = f"{lost}, and the arbiter does not answer: writes are held"
        explain(s, why, "the arbiter answers again")
    elif s.arbiter.refused:
        why = f"{lost}, and the arbiter refuses that: {s.arbiter.refused}; writes are held"
        explain(s, why, "what it says is mended there, and it is started again")
