"""What administrators and scripts order of a mirror; each command ends with a final answer."""

from mirrorfarm.actors.module.answers import (
    ANSWER_NS,
    Pending,
    give_up_early,
    loops_too_often,
    settle,
)
from mirrorfarm.actors.module.answers import take as take_command
from mirrorfarm.actors.module.mirror import handover, procedure
from mirrorfarm.actors.module.mirror.describe import explanation, half_copied, role_of, status_of
from mirrorfarm.actors.module.mirror.missing import names_nobody
from mirrorfarm.actors.module.mirror.orders import become, explain, fact, send_peer, store
from mirrorfarm.actors.module.mirror.phases import FOLLOWERS, LEADERS, Phase
from mirrorfarm.actors.module.mirror.state import Leading, State, Target
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import Command, Leave, SwapRefused, SwapWanted

STARTING_VERBS = {"start", "prim", "second", "primforce"}
STOPS = ("stop", "stopstart", "shutdown")
STABLE = (Phase.STOPPED, Phase.WAITING, Phase.FOLLOWING, Phase.LEADING)


def on_command(s: State, source: Address, command: Command, now: int) -> None:
    """Take an order; answer at once if it is refused or done already."""

    def obey(order: Command) -> str:
        return _obey(s, order, now)

    ready = s.phase is not Phase.RESETTING
    take_command(s, source, command, now, obey if ready else None, role=role_of(s))


def _obey(s: State, command: Command, now: int) -> str:
    """Begin what is ordered; return why not, or ""."""
    verb = command.verb
    if verb in STARTING_VERBS:
        return _start(s, verb, "fullsync" in command.arguments, now)
    if verb in {"stop", "shutdown"}:
        stop(s, now, verb)  # After a shutdown the module starts again with its node.
    elif verb == "forcestop":
        force_stop(s, now)
    elif verb == "restart":
        if s.phase not in (Phase.LEADING, Phase.FOLLOWING):
            return f"nothing to restart in {role_of(s)} {status_of(s)}"
        if not (command.identity and stops_for_good(s, now)):
            restart(s, now)
    elif verb == "stopstart":
        under_way = s.stopping_for in STOPS
        if command.identity and not under_way and stops_for_good(s, now):
            return ""
        if s.phase is Phase.STOPPED:
            return _start(s, "start", full=False, now=now)
        stop(s, now, "stopstart")
    elif verb == "swap":
        return swap(s, now, command.who)
    else:
        return f"unknown verb {verb!r}"
    return ""


def _start(s: State, verb: str, full: bool, now: int) -> str:
    if s.phase not in (Phase.STOPPED, Phase.WAITING):
        if verb == "start" or (verb == "second" and not full and role_of(s) == "SECOND"):
            return ""
        if verb in {"prim", "primforce"} and role_of(s) in {"PRIM", "ALONE"}:
            return ""
        return f"this node is {role_of(s)} {status_of(s)}: stop it first"
    peer_leads = not s.peer.silent and s.peer.about.role in {"PRIM", "ALONE"}
    if verb in {"prim", "primforce"} and peer_leads:
        return f"{s.settings.peer} is {s.peer.about.role} already: stop it first, or use swap"
    if verb == "prim" and half_copied(s):
        return (
            "a resynchronisation of this node did not end: its files may be half copied. "
            f"primforce -m {s.module.name} overrides that"
        )
    if verb == "second" and s.phase is Phase.STOPPED and not peer_leads:
        return f"{s.settings.peer} is not primary: start it first"
    s.force = "" if verb == "start" else verb
    s.leading.full_wanted = full
    if s.phase is Phase.STOPPED:
        start(s, now)
    return ""


def start(s: State, now: int) -> None:
    """Leave STOP: prestart, then look for the role to take."""
    become(s, Phase.STARTING, now, "")
    s.stopping_for, s.failed, s.plane_off, s.split = "", "", "", ""
    s.started_ns = now
    s.probed_ns, s.conflicts = 0, ()
    s.arbiter.known, s.arbiter.retry_ns = False, 0
    s.target = Target()
    store(s, "", wanted=True)
    procedure.begin(s, now, "scripts STOP->WAIT", "then started")


@procedure.continuation
def started(s: State, now: int) -> None:
    """Prestart ended."""
    become(s, Phase.WAITING, now, "")


def stop(s: State, now: int, why: str) -> None:
    """End the module here in good order; the peer takes over if it can."""
    if s.phase is Phase.STOPPED or s.stopping_for in STOPS:
        if why != "stopstart" and s.stopping_for == "stopstart":
            s.stopping_for = why
        if why == "stop":
            store(s, "", wanted=False)
        return
    s.stopping_for = why
    if why == "stop":
        store(s, "", wanted=False)
    if s.phase is Phase.DEMOTING:
        return  # That goes on to its end; then this node stops.
    finish = ("scripts WAIT->STOP", "kill", "then ended")
    if s.phase in LEADERS:
        become_leaving(s, now)
        give = ("handover",) if handover.may_hand_over(s) and s.module.failover else ()
        leave = ("watch", "scripts stop", "kill", "vip down", "plane clean", "idle")
        procedure.begin(s, now, *leave, *give, "then stopping", *finish)
        return
    following = s.phase in FOLLOWERS
    clean = s.phase is Phase.FOLLOWING
    if following:
        send_peer(s, Leave(s.record.term))
    # One that asks for the role, or has just given up, may still run what a secondary runs.
    started = following or s.scripts_as in {"second", "swapped"}
    scripts = ("watch", "scripts stop") if started else ()
    become(s, Phase.STOPPING, now, "")
    idle = ("idle",) if clean else ()
    procedure.begin(s, now, *scripts, "plane clean", *idle, *finish)


def become_leaving(s: State, now: int) -> None:
    """Keep the primary role only until it is given away."""
    if s.phase is not Phase.LEAVING:
        become(s, Phase.LEAVING, now, "")


@procedure.continuation
def stopping(s: State, now: int) -> None:
    """The primary role is given away, or nobody could take it."""
    s.leading = Leading(full_given=s.leading.full_given)
    become(s, Phase.STOPPING, now, "")


@procedure.continuation
def ended(s: State, now: int) -> None:
    """Everything is down."""
    again = s.stopping_for == "stopstart"
    become(s, Phase.STOPPED, now, "")
    s.scripts_as, s.stopping_for, s.force = "", "", ""
    s.target = Target()
    fact(s, now, "Local state STOP NotReady")
    n, m = s.settings.node, s.module.name
    explain(s, "stopped", "it is started", f"mirrorfarm -H {n} start -m {m}")
    if again:
        start(s, now)


def force_stop(s: State, now: int) -> None:
    """End everything at once, without the graceful scripts."""
    store(s, "", wanted=False)
    if s.phase is Phase.STOPPED:
        return
    s.stopping_for = "stop"
    if s.phase is not Phase.STOPPING:
        become(s, Phase.STOPPING, now, "")
    procedure.begin(
        s, now, "watch", "kill", "vip down", "plane bare", "scripts WAIT->STOP", "kill",
        "then ended",
    )  # fmt: skip
    procedure.take_addresses_away(s)


def stops_for_good(s: State, now: int) -> bool:
    """Count a restart that no administrator ordered; stop, and say so, if it is one too many."""
    if not loops_too_often(s, now, s.module.loop_interval_ns, s.module.maxloop):
        return False
    stop(s, now, "stop")
    return True


def restart(s: State, now: int) -> None:
    """Run the stop and the start scripts; the role stays, and has its addresses."""
    if s.phase is Phase.FOLLOWING:
        procedure.run_side_scripts(s, "restart SECOND")
        return
    become(s, Phase.RESTARTING, now, "")
    # The addresses may be why: another program removed one.
    procedure.begin(
        s, now, "watch", "scripts restart-out", "vip up", "plane asked", "scripts restart-in",
        "watch prim both", "then restarted",
    )  # fmt: skip


@procedure.continuation
def restarted(s: State, now: int) -> None:
    """The application runs again."""
    become(s, Phase.LEADING, now, "")


def swap(s: State, now: int, who: str) -> str:
    """Exchange the roles; return why not, or ""."""
    if s.phase is Phase.FOLLOWING:
        if s.peer.about.role != "PRIM" or s.peer.silent:
            return f"{s.settings.peer} is not PRIM Ready"
        send_peer(s, SwapWanted(s.record.term, who))
        return ""
    if s.phase is Phase.LEAVING and s.stopping_for == "swap":
        return ""
    if s.phase is not Phase.LEADING:
        return f"this node is {role_of(s)} {status_of(s)}: a swap needs PRIM and SECOND Ready"
    if not handover.peer_is_ready(s):
        return f"{s.settings.peer} is not SECOND Ready"
    if not handover.may_hand_over(s):
        return f"{s.settings.peer} cannot be named primary: {names_nobody(s)}"
    s.stopping_for = "swap"
    fact(s, now, "Begin of Swap")
    become_leaving(s, now)
    procedure.begin(
        s, now, "watch", "scripts swap-out", "vip down", "plane clean", "idle",
        "handover", "then swapped_out",
    )  # fmt: skip
    return ""


def on_swap_wanted(s: State, who: str, now: int) -> None:
    """The secondary's administrator wants a swap: begin it, or say why not."""
    why = swap(s, now, who)
    if why:
        fact(s, now, f"swap refused: {why}")
        send_peer(s, SwapRefused(s.record.term, why))


def on_swap_refused(s: State, why: str) -> None:
    """Pass on why the primary does not swap to whoever ordered it here."""
    if s.phase is Phase.FOLLOWING:
        text = f"{s.settings.peer} refused: {why}"
        settle(s, lambda pending: "failed" if pending.verb == "swap" else "", text)


@procedure.continuation
def swapped_out(s: State, now: int) -> None:
    """The register names the peer, or the hand-over failed and this node goes on."""
    s.stopping_for = ""
    register = s.arbiter.register
    if register and register.holder == s.settings.node and register.term == s.record.term:
        if s.failed:  # Not with data that are not trusted (R11).
            procedure.begin(s, now, "then demoted_failed")
            return
        fact(s, now, "the swap failed: this node takes its role again", "C")
        become(s, Phase.TAKING, now, "")
        s.plane_off = ""
        s.leading = Leading(since_ns=now, sid=s.leading.sid)  # Those of its term are over (S10).
        alone = s.lone and not s.peer_in_isr  # Its change map goes on.
        store(s, "granted", was="alone" if alone else "prim")  # `idle` was stored on the way out.
        return
    s.leading = Leading()
    become(s, Phase.WAITING, now, "")


def take(s: State, now: int) -> None:
    """Open the gate, set the addresses, start the application."""
    procedure.begin(
        s, now, "gate", "vip up", "plane asked", "scripts take", "watch prim both", "then led"
    )  # fmt: skip


@procedure.continuation
def led(s: State, now: int) -> None:
    """The application runs here."""
    become(s, Phase.LEADING, now, "")
    fact(s, now, f"Local state {role_of(s)} {status_of(s)}")


# --- answers -------------------------------------------------------------------------------


def poll_answers(s: State, now: int) -> None:
    """Give the final answers that can be given now, or that cannot be waited for (L7)."""
    if s.early and now - s.since_ns > ANSWER_NS:
        text = f"this process has been starting for {ANSWER_NS // SECOND_NS} s: {_text(s)}"
        give_up_early(s, text)
    if s.pending and now - s.pending[0].since_ns > ANSWER_NS:
        text = f"not done after {ANSWER_NS // SECOND_NS} s: {_text(s)}"
        settle(s, lambda one: "failed" if now - one.since_ns > ANSWER_NS else "", text)
        if s.force in {"prim", "primforce"} and s.force not in {one.verb for one in s.pending}:
            s.force = ""  # Answered: it must not count some day.
    if not s.pending or s.steps or s.step or s.side_run or s.side_scripts:
        return
    if s.phase not in STABLE:
        return
    same = f"the roles were not exchanged: {_text(s)}"
    if not s.reason:
        same += f". Next: mirrorfarm -H '*' log -m {s.module.name}"
    settle(s, lambda pending: "failed" if _is_back(s, pending) else "", same)
    settle(s, lambda pending: _outcome(s, pending, now), _text(s))
    if s.phase is Phase.FOLLOWING and s.pending:
        text = f"{s.settings.peer} is {s.peer.about.role} {s.peer.about.status} and does not swap"
        settle(s, lambda pending: "failed" if _is_ignored(s, pending, now) else "", text)


def _outcome(s: State, pending: Pending, now: int) -> str:
    verb = pending.verb
    stopped = s.phase is Phase.STOPPED
    if verb in {"stop", "forcestop", "shutdown"}:
        return "done" if stopped else ""
    if verb == "swap":
        return _swap_outcome(s, pending, now)
    if verb == "restart":
        goes_on = s.phase is (Phase.FOLLOWING if pending.role == "SECOND" else Phase.LEADING)
        return "done" if goes_on else "failed"
    if stopped:
        return "" if s.pending and verb == "stopstart" and not s.since_ns else "failed"
    forced = verb in {"prim", "primforce"}
    if s.phase is Phase.WAITING:
        if not s.reason or not _settled(s, s.since_ns, now):
            return ""
        if forced:
            s.force = ""  # Answered: it must not count some day.
        return "failed" if forced else "done"
    if forced and s.phase is Phase.FOLLOWING:
        return "failed"  # The peer was faster.
    return "done"


def _swap_outcome(s: State, pending: Pending, now: int) -> str:
    if s.failed or s.phase is Phase.STOPPED:
        return "failed"
    if s.phase is Phase.WAITING:
        return "failed" if s.reason and _settled(s, s.since_ns, now) else ""
    return "done" if s.since_ns > pending.since_ns else ""


def _is_back(s: State, pending: Pending) -> bool:
    """Return whether this node is again in the role in which a swap was ordered."""
    if pending.verb != "swap" or s.failed or s.since_ns <= pending.since_ns:
        return False
    return s.phase is (Phase.FOLLOWING if pending.role == "SECOND" else Phase.LEADING)


def _is_ignored(s: State, pending: Pending, now: int) -> bool:
    """Return whether the primary never heard of a swap, or leads again after it."""
    leads = s.peer.about.role == "PRIM" and s.peer.about.status == "Ready"
    return pending.verb == "swap" and leads and _settled(s, pending.since_ns, now)


def _settled(s: State, since_ns: int, now: int) -> bool:
    """Return whether what began then would have led to something else by now."""
    return now - since_ns > 2 * s.module.timing.detection_ns + SECOND_NS


def _text(s: State) -> str:
    text = f"{s.settings.node} is {role_of(s)} {status_of(s)}"
    reason, _, command = explanation(s) if s.steps or s.step else (s.reason, "", s.command)
    if s.phase is not Phase.STOPPED and reason:
        text += f": {reason}. Next: {command}" if command else f": {reason}"
    return text
