"""The arbiter's answers, and what follows from each."""

from mirrorfarm.actors.events import RegisterKnown
from mirrorfarm.actors.module.mirror import (
    demotion,
    divergence,
    handover,
    leading,
    procedure,
    split,
    waiting,
)
from mirrorfarm.actors.module.mirror.orders import ask_read, become, explain, fact, learn
from mirrorfarm.actors.module.mirror.phases import FOLLOWERS, LEADERS, Phase, Session
from mirrorfarm.actors.module.mirror.state import State, Target
from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.transport.messages import Register

BACK_OFF_NS = 20 * MILLISECOND_NS


def on_heard(s: State, now: int) -> None:
    """The arbiter answers: whoever waited for that looks at everything anew."""
    if not s.arbiter.silent_since_ns:
        return
    s.arbiter.silent_since_ns = 0
    fact(s, now, "the arbiter answers again")
    if s.phase is Phase.WAITING or (s.phase in LEADERS and s.leading.lost):
        explain(s, "")


def on_known(s: State, event: RegisterKnown, now: int) -> None:
    """The arbiter answered one of our questions."""
    a = s.arbiter
    on_heard(s, now)
    _note_refusal(s, event.reason if event.outcome == "refused" else "")
    if event.request == a.swapping and a.swapping:
        _on_swapped(s, event, now)
        return
    is_read = event.request == a.reading
    if is_read:
        a.reading = 0
    if event.outcome in {"ok", "conflict", "held"} and event.register is not None:
        if not _learnt(s, event.register, now, event.request):
            return
        if not is_read and event.outcome == "ok" and s.phase in LEADERS:
            mine = event.register.holder == s.settings.node
            if mine and event.register.term == s.record.term:
                s.lease.granted(event.sent_ns)
        _follow_register(s, now)
    elif event.outcome == "unset":
        _learnt(s, None, now, event.request)


def _note_refusal(s: State, refused: str) -> None:
    """Remember why the arbiter refuses; what was explained by that is over when it does not."""
    before, s.arbiter.refused = s.arbiter.refused, refused
    waits = s.phase is Phase.WAITING or (s.phase in LEADERS and s.leading.lost)
    if before and before != refused and waits:
        explain(s, "")


def _on_swapped(s: State, event: RegisterKnown, now: int) -> None:
    a = s.arbiter
    purpose, a.swapping, a.purpose = a.purpose, 0, ""
    a.reading = 0  # Given up for this one. Until now its answer could be on its way: no renewal.
    if purpose == "settle" and event.outcome != "ok":
        split.not_settled(s)
    if event.outcome in {"ok", "conflict", "held"} and not _learnt(
        s, event.register, now, event.request
    ):
        _note_unclear(s, purpose, event.request)
        a.retry_ns = now + 50 * BACK_OFF_NS
        _ask_again(s, now)
        return
    if event.outcome == "ok":
        _done(s, purpose, event, now)
        return
    if event.outcome == "held":
        # `fast` must not lose time: ask again right when the other's lease ends.
        a.retry_ns = now + max(event.lease_left_ns, MILLISECOND_NS)
    elif event.outcome in {"refused", "unset"}:
        text = f"the arbiter refused to {purpose}: {event.reason}"
        if not s.facts or s.facts[-1][1] != text:  # It is asked again once a second.
            fact(s, now, text, "C")
        if event.outcome == "unset":
            # It had one: whoever asks again and again must say so (R15).
            _learnt(s, None, now, event.request)
            # Repeated until answered, it was perhaps granted by the register that is gone (R3).
            _note_unclear(s, purpose, event.request)
        a.retry_ns = now + 50 * BACK_OFF_NS
        s.force = ""
    else:
        a.retry_ns = now + BACK_OFF_NS
    _ask_again(s, now)
    _follow_register(s, now)


def _note_unclear(s: State, purpose: str, request: int) -> None:
    """Remember what an arbiter that is not believed was asked: nothing is known of that."""
    if purpose == "grow":
        s.arbiter.unclear = request


def _learnt(s: State, register: Register | None, now: int, request: int) -> bool:
    """Take over what the arbiter said, and tell once when it is not believed any more."""
    before = s.arbiter.distrust
    used = learn(s, register, request)
    if s.arbiter.distrust and not before:
        fact(s, now, f"{s.arbiter.distrust}; it is not used", "C")
    return used


def _ask_again(s: State, now: int) -> None:
    """Not granted, yet: back to where the question came from."""
    if s.leading.session is Session.GROWING:
        s.leading.session = Session.SYNCED
    if s.phase is Phase.ASKING:
        if s.failed:
            s.target = Target()  # It failed meanwhile: nobody is followed with such data.
            procedure.end_second(s)
        follows = s.target.step == "done"
        become(s, Phase.FOLLOWING if follows else Phase.WAITING, now, "")


def _done(s: State, purpose: str, event: RegisterKnown, now: int) -> None:
    register = event.register
    assert register is not None
    if purpose in {"promote", "create"} and s.phase is Phase.ASKING:
        s.lease.granted(event.sent_ns)
        exact = _exact(s)
        if s.arbiter.forced:
            waiting.note_force(s, register, now)
        waiting.granted(s, register, now, exact=exact)
        if s.failed:  # Before the answer was there: the role is given away at once.
            failure, s.failed = s.failed, ""
            demotion.storage_failed(s, now, failure)
    elif purpose == "shrink" and s.phase in LEADERS:
        leading.left_behind(s, now)
    elif purpose == "grow" and s.phase in LEADERS:
        leading.grown(s, now)
    elif purpose == "settle" and s.phase in LEADERS:
        split.settled(s, register, now)
    elif purpose == "handover":
        fact(s, now, f"the register names {register.holder} primary in term {register.term}")
        handover.send_news(s, register)
    elif s.arbiter.forced:
        waiting.note_late_force(s, register, now)


def _exact(s: State) -> bool:
    """Return whether this node's data equal what a clean record of the peer stands for."""
    return s.target.step == "done" or s.record.was == "idle"


def _follow_register(s: State, now: int) -> None:
    """The register may name this node, or somebody else, without our having asked."""
    register = s.arbiter.register
    if register is None or (s.split == "won" and s.module.arbiter.kind != "witness"):
        return  # After a split the register is what the winner is about to make of it.
    mine = register.holder == s.settings.node
    if s.phase in LEADERS and s.phase is not Phase.LEAVING:
        if not mine and register.term > s.record.term:
            demotion.demote(s, now, f"the register names {register.holder}")
        elif not mine and _is_named_twice(s, register):
            demotion.demote(s, now, f"the register names {register.holder} as well")
    elif mine and register.term > s.record.term and s.record.cons:
        if s.phase is Phase.FOLLOWING and s.self_in_isr:
            waiting.granted(s, register, now, exact=True)


def _is_named_twice(s: State, register: Register) -> bool:
    """Return whether copies of the register that had not met named both nodes in one term.

    This one served nobody yet, and must not replace what the other one has.
    """
    same = s.phase is Phase.TAKING and register.term == s.record.term
    return same and bool(divergence.refusal(s))


def on_news(s: State, register: Register, now: int) -> None:
    """The peer tells of a change: what concerns roles is checked at the arbiter itself."""
    a = s.arbiter
    if a.register is not None and register.ver <= a.register.ver:
        return
    if register.holder == s.settings.node:
        ask_read(s, now)
    elif s.phase in FOLLOWERS and register.term == s.target.term:
        learn(s, register, a.request + 1)  # As if it had been asked now.
    else:
        ask_read(s, now)
