"""What administrators, scripts and checkers order of a farm module."""

from mirrorfarm.actors.events import ResourceChanged, WatchClasses
from mirrorfarm.actors.module.answers import (
    ANSWER_NS,
    Pending,
    explain,
    fact,
    give_up_early,
    loops_too_often,
    settle,
    tell,
)
from mirrorfarm.actors.module.answers import take as take_command
from mirrorfarm.actors.module.farm import procedure, shares
from mirrorfarm.actors.module.farm.describe import (
    explanation,
    role_of,
    status_of,
    stranger_words,
)
from mirrorfarm.actors.module.farm.phases import SERVING, STABLE, Phase
from mirrorfarm.actors.module.farm.state import VIP, State, become, store
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import Command

IMMEDIATE = ("power", "drain", "resume", "traffic")  # Scripts order them, too, and wait for it.
STOPS = ("stop", "stopstart", "shutdown")
FINISH = ("scripts WAIT->STOP before", "kill", "then ended")
_GRAVITY = ("restart", "wait", "stopstart", "stop")  # What checkers order.
LEAVE = ("scripts UP->WAIT before", "farm away", "scripts UP->WAIT after", "vip down")


def on_command(s: State, source: Address, command: Command, now: int) -> None:
    """Take an order; answer at once if it is refused or done already."""

    def obey(order: Command) -> str:
        return _obey(s, order, now)

    take_command(s, source, command, now, None if s.phase is Phase.RESETTING else obey)


def _obey(s: State, command: Command, now: int) -> str:
    """Begin what is ordered; return why not, or ""."""
    words = command.arguments
    match command.verb:
        case "start":
            return _start(s, now)
        case "stopstart":
            under_way = s.stopping_for in STOPS
            if command.identity and not under_way and _stops_for_good(s, now):
                return ""
            if s.phase is Phase.STOPPED:
                return _start(s, now)
            stop(s, now, "stopstart", drain="nodrain" not in words)
        case "stop" | "shutdown":
            stop(s, now, command.verb, drain="nodrain" not in words)
        case "forcestop":
            force_stop(s, now)
        case "restart":
            if s.phase is not Phase.UP:
                return f"nothing to restart in {role_of(s)} {status_of(s)}"
            if not (command.identity and _stops_for_good(s, now)):
                restart(s, now)
        case "drain" | "resume":
            return shares.drain(s, now, on=command.verb == "drain")
        case "power":
            return shares.power(s, words)
        case "traffic":
            return shares.traffic(s, now, words)
        case "prim" | "second" | "primforce" | "swap":
            return f"{command.verb} is for mirrors: here every node is UP"
        case verb:
            return f"unknown verb {verb!r}"
    return ""


def _start(s: State, now: int) -> str:
    if s.phase is Phase.STOPPED:
        start(s, now)
        return ""
    stops = s.phase in {Phase.STOPPING, Phase.FALLING, Phase.DRAINING}
    if stops and s.stopping_for != "stopwait":
        return f"this node is {role_of(s)} {status_of(s)}: wait until it has stopped"
    return ""


def start(s: State, now: int) -> None:
    """Leave STOP: prestart, then the application."""
    become(s, Phase.STARTING, now)
    s.stopping_for, s.drain_ordered = "", False
    s.blocked.clear()
    s.found.clear()
    store(s, wanted=True)
    procedure.begin(s, now, "scripts STOP->WAIT before", "watch pre", "then started")


@procedure.continuation
def started(s: State, now: int) -> None:
    """Prestart ended."""
    become(s, Phase.WAITING, now)


def poll(s: State, now: int) -> None:
    """Rise as soon as nothing says wait; else say what does."""
    if s.phase is not Phase.WAITING or s.steps or s.step:
        return
    if s.blocked:
        resource, why = next(iter(sorted(s.blocked.items())))
        explain(
            s,
            f"resource {resource} is down{f': {why}' if why else ''}",
            f"{resource} is up again",
            f"mirrorfarm -H {s.settings.node} state -v -m {s.module.name}",
        )
        return
    become(s, Phase.RISING, now)
    procedure.begin(
        s, now, "vip up", "scripts WAIT->UP before", "farm in", "scripts WAIT->UP after",
        "watch pre prim both", "then risen",
    )  # fmt: skip


@procedure.continuation
def risen(s: State, now: int) -> None:
    """The application runs here."""
    become(s, Phase.UP, now)
    fact(s, now, "Local state UP Ready")
    act_on_found(s, now)


def stop(s: State, now: int, why: str, *, drain: bool = True) -> None:
    """End the module here: live connections first, then scripts, then the traffic."""
    if why == "stop":
        store(s, wanted=False)
    if s.phase is Phase.STOPPED:
        return
    if s.stopping_for in STOPS:
        if why != "stopstart":
            s.stopping_for = why
        if not drain and s.phase is Phase.DRAINING:
            fall(s, now)
        return
    s.stopping_for = why
    if s.phase in {Phase.UP, Phase.RESTARTING} and drain and s.is_farm:
        become(s, Phase.DRAINING, now)
        procedure.begin(s, now, "farm drain", "drain", "then fall")
    elif s.phase in SERVING:
        fall(s, now)
    elif s.phase is Phase.FALLING:  # To wait; what it would have waited for matters no more.
        tell(s, "checker", WatchClasses(()))
    else:
        # Prestart may have run, and the classes `pre` are watched.
        become(s, Phase.STOPPING, now)
        procedure.begin(s, now, "watch", "farm away", "vip down", *FINISH)


@procedure.continuation
def fall(s: State, now: int) -> None:
    """Stop scripts, then close the traffic."""
    become(s, Phase.FALLING, now)
    # What has to be up before the start is what a node in WAIT waits for.
    watch = "watch pre" if s.stopping_for == "stopwait" else "watch"
    procedure.begin(s, now, watch, *LEAVE, "then fallen")


@procedure.continuation
def fallen(s: State, now: int) -> None:
    """The application is down, no client comes."""
    if s.stopping_for == "stopwait":
        s.stopping_for = ""
        become(s, Phase.WAITING, now)
        fact(s, now, "Local state WAIT NotReady")
        return
    become(s, Phase.STOPPING, now)
    procedure.begin(s, now, *FINISH)


@procedure.continuation
def ended(s: State, now: int) -> None:
    """Everything is down."""
    again = s.stopping_for == "stopstart"
    become(s, Phase.STOPPED, now)
    s.stopping_for, s.unstarted = "", ""
    shares.take_back_power(s)
    fact(s, now, "Local state STOP NotReady")
    explain_stop(s)
    if again:
        start(s, now)


def explain_stop(s: State) -> None:
    """Say that the module is stopped, and how it is started."""
    explain(
        s, "stopped", "it is started", f"mirrorfarm -H {s.settings.node} start -m {s.module.name}"
    )


def stop_wait(s: State, now: int) -> None:
    """Go back to WAIT until a resource is up again; clients are told at once."""
    s.stopping_for = "stopwait"
    fall(s, now)


def block(s: State, now: int, resource: str, why: str) -> None:
    """Go back to WAIT because of something that this node lacks."""
    s.blocked[resource] = why
    stop_wait(s, now)


def on_counted(s: State, counters: dict[str, int], connections: int, now: int) -> None:
    """Take over what the filter counted; the rate is that since the count before."""
    opened = counters.get("opened", 0) - s.counters.get("opened", 0)
    spent_ns = now - s.counted_ns
    s.new_per_s = max(0, opened) * SECOND_NS // spent_ns if s.counted_ns and spent_ns else 0
    s.counters, s.counted_ns = counters, now
    if connections >= 0:
        s.live = connections


def on_cables(s: State, interfaces: tuple[str, ...], now: int) -> None:
    """Leave the farm's clients to the other nodes while none can come here."""
    s.cables_out = interfaces
    names = ", ".join(interfaces)
    fact(s, now, f"no cable at {names}" if names else "the cables of the clients' network are in")
    procedure.tell_wish(s)


def on_strangers(s: State, claims: tuple[str, ...], now: int) -> None:
    """Remember who else answers for the addresses; nothing is done about it but to say so."""
    s.strangers = claims
    told = "; ".join(stranger_words(claim) for claim in claims)
    fact(s, now, told or "nobody else answers for the virtual addresses any more")


def force_stop(s: State, now: int) -> None:
    """End everything at once, without the graceful scripts."""
    store(s, wanted=False)
    if s.phase is Phase.STOPPED:
        return
    s.stopping_for = "stop"
    if s.phase is not Phase.STOPPING:
        become(s, Phase.STOPPING, now)
    procedure.begin(s, now, "watch", "farm away", "kill", "vip down", *FINISH)


def restart(s: State, now: int) -> None:
    """Run the stop and the start scripts; meanwhile other nodes take the new clients.

    Nothing is watched meanwhile, not even what `prestart` brought up: afterwards it is looked at
    anew, and what is still down is told once more.
    """
    become(s, Phase.RESTARTING, now)
    procedure.begin(
        s, now, "watch", "farm drain", "scripts restart UP before", "farm in",
        "scripts restart UP after", "watch pre prim both", "then risen",
    )  # fmt: skip


# --- checkers ------------------------------------------------------------------------------


def on_resource(s: State, event: ResourceChanged, now: int) -> None:
    """A checker found something: act on it, now or when the application runs."""
    s.resources[event.resource] = event.value
    level = "C" if event.value == "down" else "I"
    fact(s, now, f"Resource {event.resource} set to {event.value} {event.reason}".rstrip(), level)
    if event.value != "down":
        s.blocked.pop(event.resource, None)
        s.found.pop(event.resource, None)
        return
    if event.action == "noaction":
        return
    if event.action == "wait":
        s.blocked[event.resource] = event.reason
        if event.resource == VIP:
            # No client reaches this node: the others take them now, not after its stop scripts.
            procedure.set_wish(s, "away")
    s.found[event.resource] = event.action
    if s.phase is Phase.UP:
        act_on_found(s, now)


def act_on_found(s: State, now: int) -> None:
    """Act on what is down, once, within the loop limit: the gravest action does for all.

    What a checker found while the application started or stopped was kept until now: it says
    only once what is down.
    """
    action = max(s.found.values(), key=_GRAVITY.index, default="")
    s.found.clear()
    if not action:
        return
    if action != "stop" and _stops_for_good(s, now):
        return
    fact(s, now, f"Action {action} called by errd")
    match action:
        case "wait":
            stop_wait(s, now)
        case "restart":
            restart(s, now)
        case _:
            # What serves the connections is broken: they are not waited for.
            stop(s, now, action, drain=False)


def _stops_for_good(s: State, now: int) -> bool:
    """Count a restart that no administrator ordered; stop, and say so, if it is one too many."""
    if not loops_too_often(s, now, s.module.loop_interval_ns, s.module.maxloop):
        return False
    stop(s, now, "stop", drain=False)
    return True


# --- answers -------------------------------------------------------------------------------


def poll_answers(s: State, now: int) -> None:
    """Give the final answers that can be given now, or that cannot be waited for (L7).

    Looked at with every event, without a timer: who still waits repeats the order.
    """
    patience_ns = ANSWER_NS + (s.module.farm.drain_ns if s.is_farm else 0)
    seconds = patience_ns // SECOND_NS
    if s.early and now - s.since_ns > patience_ns:
        give_up_early(s, f"this process has been starting for {seconds} s: {_text(s)}")
    if s.pending and now - s.pending[0].since_ns > patience_ns:
        text = f"not done after {seconds} s: {_text(s)}"
        settle(s, lambda one: "failed" if now - one.since_ns > patience_ns else "", text)
    settle(s, lambda pending: "done" if pending.verb in IMMEDIATE else "", _text(s))
    if not s.steps and not s.step and s.phase in STABLE:
        settle(s, lambda pending: _outcome(s, pending), _text(s))


def _outcome(s: State, pending: Pending) -> str:
    stopped = s.phase is Phase.STOPPED
    if pending.verb in {"stop", "forcestop", "shutdown"}:
        return "done" if stopped else ""
    if stopped:
        return "failed"
    return "done" if s.phase is Phase.UP or s.reason else ""


def _text(s: State) -> str:
    text = f"{s.settings.node} is {role_of(s)} {status_of(s)}"
    reason, _, command = explanation(s) if s.step else (s.reason, "", s.command)
    if s.phase is not Phase.STOPPED and reason:
        text += f": {reason}. Next: {command}" if command else f": {reason}"
    return text
