"""The steps of which procedures of a mirror are made.

They are `scripts KIND`, `vip up`, `vip down`, `watch CLASS…`, `kill`, `plane clean`,
`plane abort` (it answers nothing any more), `plane bare` (and the application has ended: its
directories may be unmounted), `plane asked` (does it still lead?), `gate`, `idle`, `handover`,
`then NAME`.
"""

import msgspec

from mirrorfarm.actors.checker.core import is_watched
from mirrorfarm.actors.events import (
    KillApplication,
    RunSequence,
    ScriptStep,
    VipDown,
    VipUp,
    WatchClasses,
)
from mirrorfarm.actors.module.mirror import handover, leading
from mirrorfarm.actors.module.mirror.describe import role_of
from mirrorfarm.actors.module.mirror.orders import fact, next_run, store, tell
from mirrorfarm.actors.module.mirror.phases import Phase
from mirrorfarm.actors.module.mirror.state import State
from mirrorfarm.actors.module.procedure import Procedures
from mirrorfarm.actors.scripts.sequences import sequence
from mirrorfarm.actors.vip.core import PRESENCE
from mirrorfarm.limits import SECOND_NS

SECOND = ("second", "sec")  # Classes of processes: started by start_second and start_sec.
WATCHED_AS_SECOND = ("pre", *SECOND)  # What `prestart` began is there in every role.
ADDRESS_AGAIN_NS = 10 * SECOND_NS  # Between two attempts to set what could not be set.
# Steps that bring the application or its addresses up: never without the right to act.
STARTS = ("scripts take", "scripts restart-in", "scripts start")
NEEDS_GATE = (
    "vip up", "scripts take", "scripts restart-out", "scripts restart-in", "scripts start"
)  # fmt: skip


def _start(s: State, now: int, word: str, rest: str) -> None:
    s.token = next_run(s)
    match word:
        case "scripts" if rest == "start":
            assert s.to_start is not None, "put off"
            tell(s, "scripts", msgspec.structs.replace(s.to_start, run=s.token))
            s.to_start = None
        case "scripts":
            _run_scripts(s, rest, s.token)
        case "vip":
            tell(s, "vip", VipUp(s.token) if rest == "up" else VipDown(s.token))
        case "watch":
            s.watches_second = False
            tell(s, "checker", WatchClasses(_classes(s, *rest.split())))
            s.step = ""
        case "kill":
            s.side_run = 0  # Nobody tells of its end any more.
            tell(s, "scripts", KillApplication(s.token))
        case "plane" if rest == "asked":
            s.plane.proven, s.plane.sent_ns = False, 0
        case "plane":
            s.plane_off = rest
        case "idle":
            if s.failed or not handover.leaves_clean(s):
                s.step = ""
            else:
                s.token = store(s, "step", was="idle")
        case "handover":
            handover.hand_over(s, now)
        case "gate":
            pass
        case _:
            raise AssertionError(f"unknown step {s.step!r}")


def _holds(s: State, now: int) -> str:
    return "gate" if s.steps[0] in NEEDS_GATE and not leading.gate_usable(s, now) else ""


def _is_over(s: State, now: int) -> bool:
    if s.step == "gate":
        return leading.gate_usable(s, now)
    if s.step == "plane asked":
        return not s.has_plane or (s.plane.proven and s.plane.settled)
    if s.step.startswith("plane "):
        # A plane that failed to end in good order has ended nevertheless.
        wish, bare = s.plane.wish, s.step != "plane abort"
        return not s.has_plane or (wish.role == "off" and wish.bare >= bare and s.plane.answered)
    if s.step == "handover":
        return handover.handed_over(s)
    return False


def _run_scripts(s: State, kind: str, run: int) -> None:
    """Order the scripts of `kind`; `take`, `stop` and restarts depend on the present role.

    `-out` and `-in` are the stop scripts and the start scripts of a kind.
    """
    role, part = role_of(s), kind.rpartition("-")[2]
    cut = kind == "take" and s.side_run != 0  # The scripts of a secondary that still run.
    if kind == "take":
        kind = f"{'SECOND' if cut or s.scripts_as == 'second' else 'WAIT'}->{role}"
    elif kind == "stop":
        # A secondary whose scripts never ran, or a primary that is being demoted, still stops.
        role = _started_as(s, role)
        kind = f"{'ALONE' if role == 'WAIT' else role}->WAIT"
    elif kind in {"restart-out", "restart-in"}:
        kind = f"restart {_started_as(s, role) if part == 'out' else role}"
    steps = _anew(role) if cut else _steps(s, kind, part)
    s.scripts_as = _scripts_after(kind, s.scripts_as)
    if s.scripts_as != "prim" or part != "out":
        s.side_kind = _told_after(kind) if s.scripts_as == "prim" else ""
    order = RunSequence(run, steps, *_words(s, kind))
    if run != s.side_run:
        s.side_run = 0  # Replaced: nobody tells of its end any more.
        s.side_scripts.clear()  # What waits was for the role before.
        order = _without_start(s, order)
    tell(s, "scripts", order)


def _without_start(s: State, order: RunSequence) -> RunSequence:
    """Put off `start_prim` and what follows it: the scripts before it may take their time.

    When they are over the right to act may be too, without anybody here having run meanwhile.
    """
    names = [step.name for step in order.steps]
    place = names.index("start_prim") if "start_prim" in names else 0
    if not place:
        return order
    s.to_start = msgspec.structs.replace(order, steps=order.steps[place:])
    s.steps.appendleft("scripts start")
    return msgspec.structs.replace(order, steps=order.steps[:place])


def _steps(s: State, kind: str, part: str) -> tuple[ScriptStep, ...]:
    """Return the scripts of `kind`, by what ran before."""
    steps = sequence("PRIM->SECOND" if kind in {"swap-out", "swap-in"} else kind)
    if kind == "swap-out" and _started_as(s, "") == "ALONE":
        steps = sequence("ALONE->PRIM") + steps  # Those had not their turn, or are cut short now.
    elif kind.startswith("WAIT->") and s.scripts_as == "swapped":
        # The role is taken again: what `start_both` began has run on over the swap.
        steps = tuple(step for step in steps if step.name != "start_both")
    if part not in {"out", "in"}:
        return steps
    return tuple(step for step in steps if step.name.startswith("stop") == (part == "out"))


def _anew(role: str) -> tuple[ScriptStep, ...]:
    """Return the scripts of who begins to lead while others run: nobody knows how far they came.

    `start_both`, too, may have been cut short, or had not its turn.
    """
    stops = tuple(step for step in sequence("SECOND->WAIT") if step.name.startswith("stop"))
    return stops + sequence(f"WAIT->{role}")


def _words(s: State, kind: str) -> tuple[str, str, str]:
    """Return the arguments of every script: state left, state entered, action."""
    if kind in {"swap-out", "swap-in"}:
        return "PRIM", "SECOND", "swap"
    if kind.startswith("restart "):
        return kind.split()[1], kind.split()[1], "restart"
    state, next_state = kind.split("->")
    if next_state == "STOP" or (next_state == "WAIT" and state != "STOP"):
        again = s.stopping_for in {"stopstart", "fail"} or not s.stopping_for
        return state, next_state, "stopstart" if again else "stop"
    return state, next_state, "swap" if kind == "SECOND->PRIM" else "start"


def _scripts_after(kind: str, before: str) -> str:
    """Return which role's start scripts have run when `kind` is over: "" prim second swapped."""
    state, _, next_state = kind.partition("->")
    if kind == "swap-out":
        return "swapped"
    if kind == "swap-in" or (next_state == "SECOND" and state == "WAIT"):
        return "second"
    if state in {"WAIT", "SECOND"} and next_state in {"ALONE", "PRIM"}:
        return "prim"
    return "" if next_state in {"WAIT", "STOP"} else before


def _told_after(kind: str) -> str:
    """Return what the scripts of a primary know by these: PRIM, ALONE, or what changes."""
    state, _, next_state = kind.partition("->")
    return kind if state in {"PRIM", "ALONE"} else next_state or kind.split()[1]


def _started_as(s: State, role: str) -> str:
    """Return as what the start scripts ran, whatever the role has become meanwhile."""
    if s.scripts_as == "second":
        return "SECOND"
    return "ALONE" if s.scripts_as == "prim" and "ALONE" in s.side_kind else role


def scripts_in_the_end(s: State) -> str:
    """Return which role's start scripts will have run when those that wait are over."""
    role = s.scripts_as
    for kind in s.side_scripts:
        role = _scripts_after(kind, role)
    return role


def end_scripts(s: State) -> None:
    """Have whatever scripts run end, and start no more of them."""
    s.side_run = 0
    tell(s, "scripts", RunSequence(next_run(s), (), "", "", ""))


def take_addresses_away(s: State) -> None:
    """Have the addresses go beside the kill: what cannot be ended must not keep them here.

    Somebody else may have them soon, or has them. The step `vip down` makes sure of it later.
    """
    tell(s, "vip", VipDown(next_run(s)))


def nothing_serves(s: State) -> bool:
    """Return whether application, addresses and data plane have ended: no guard is needed."""
    if s.phase in (Phase.WAITING, Phase.STOPPED):
        return True
    last = "scripts stop" if s.phase is Phase.DEMOTING else "scripts WAIT->STOP"
    return s.step == last  # The steps before it are over.


def addressed(s: State, failures: tuple[str, ...], now: int) -> None:
    """Note why addresses could not be set, or that they are."""
    for failure in failures:
        if failure not in s.unset:
            fact(s, now, failure, "C")
    if s.unset and not failures:
        fact(s, now, "the virtual addresses are set")
    s.unset, s.addressed_ns = failures, now


def poll_addresses(s: State, now: int) -> None:
    """Set again what could not be set, or is gone since: its interface may have come up.

    What was removed while scripts ran restarted nothing.
    """
    missing = s.unset or s.resources.get(PRESENCE) == "down"
    if not missing or s.phase is not Phase.LEADING or s.step or s.steps:
        return
    if now - s.addressed_ns >= ADDRESS_AGAIN_NS and leading.gate_usable(s, now):
        s.addressed_ns = now
        tell(s, "vip", VipUp(next_run(s)))


def run_side_scripts(s: State, kind: str) -> None:
    """Queue scripts that only accompany a change of role, such as `transition`."""
    if s.module.has_scripts and len(s.side_scripts) < 4:
        s.side_scripts.append(kind)


def end_second(s: State) -> None:
    """Run the stop scripts of a secondary, if its start scripts ran or will run."""
    if scripts_in_the_end(s) == "second":
        run_side_scripts(s, "SECOND->WAIT")


def side_scripts_ended(s: State) -> None:
    """The accompanying scripts that ran are over."""
    s.side_run = 0
    s.side_kind = s.side_kind.rpartition("->")[2]


def poll_side_scripts(s: State) -> None:
    """Start the next accompanying scripts when nothing else runs scripts."""
    if s.side_run or s.step or s.steps:
        return
    if s.phase is Phase.LEADING and s.side_kind not in {"", role_of(s)}:
        run_side_scripts(s, f"{s.side_kind}->{role_of(s)}")  # Its secondary is lost, or is there.
    if not s.side_scripts:
        return
    s.side_run = next_run(s)
    _run_scripts(s, s.side_scripts.popleft(), s.side_run)


def poll_watch(s: State) -> None:
    """Watch what the start scripts of a secondary started, while it is one and none runs."""
    under_way = s.step or s.steps or s.side_run or s.side_scripts
    follows = s.phase is Phase.FOLLOWING and s.scripts_as == "second" and not under_way
    watched = any(is_watched(one, WATCHED_AS_SECOND) for one in s.module.processes)
    if follows != s.watches_second and watched:
        s.watches_second = follows
        tell(s, "checker", WatchClasses(_classes(s, *SECOND) if follows else ()))


def _classes(s: State, *classes: str) -> tuple[str, ...]:
    """Add the processes of `prestart`, which are there in every role, to those of a role."""
    before = classes and any(is_watched(one, ("pre",)) for one in s.module.processes)
    return ("pre", *classes) if before else classes


PROCEDURES = Procedures(_start, _is_over, _holds)
begin, advance = PROCEDURES.begin, PROCEDURES.advance
complete, continuation = PROCEDURES.complete, PROCEDURES.continuation
