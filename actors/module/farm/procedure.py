"""The steps of which procedures of a farm, or of a light module, are made.

They are `scripts KIND before|after`, `vip up|down`, `farm in|drain|away`, `drain`,
`watch CLASS…`, `kill`, `then NAME`. Before and after mean the
moment at which traffic is opened or closed.
"""

from mirrorfarm.actors.events import (
    FarmWish,
    KillApplication,
    RunSequence,
    VipDown,
    VipUp,
    WatchClasses,
)
from mirrorfarm.actors.module.answers import explain, fact, tell
from mirrorfarm.actors.module.farm.state import VIP, State
from mirrorfarm.actors.module.procedure import Procedures
from mirrorfarm.actors.scripts.sequences import around_traffic
from mirrorfarm.limits import SECOND_NS


def _start(s: State, now: int, word: str, rest: str) -> None:
    s.run += 1
    s.token = s.run
    match word:
        case "scripts":
            _run_scripts(s, *rest.rsplit(" ", 1))
        case "vip" if s.is_farm:
            tell(s, "vip", VipUp(s.token) if rest == "up" else VipDown(s.token))
        case "farm" if s.is_farm:
            # Where the application did not start, other nodes answer the clients.
            if rest != "in" or not s.unstarted:
                set_wish(s, rest)
            s.step = ""
        case "drain" if s.is_farm:
            s.drain_since_ns = now
            fact(s, now, "takes no new clients; waits for live connections to end")
        case "watch":
            tell(s, "checker", WatchClasses(tuple(rest.split())))
            s.step = ""
        case "kill":
            tell(s, "scripts", KillApplication(s.token))
        case "vip" | "farm" | "drain":
            s.step = ""  # A light module has neither addresses nor other nodes.
        case _:
            raise AssertionError(f"unknown step {s.step!r}")


def _run_scripts(s: State, kind: str, part: str) -> None:
    steps = around_traffic(kind)[0 if part == "before" else 1]
    if not steps:
        s.step = ""
        return
    state, next_state, action = _words(s, kind)
    tell(s, "scripts", RunSequence(s.token, steps, state, next_state, action))


def _words(s: State, kind: str) -> tuple[str, str, str]:
    """Return the arguments of every script: state left, state entered, action."""
    if kind == "restart UP":
        return "UP", "UP", "restart"
    state, next_state = kind.split("->")
    if next_state == "STOP" or state == "UP":
        action = "stop" if s.stopping_for in {"", "shutdown"} else s.stopping_for
        return state, next_state, action
    return state, next_state, "start"


# --- traffic -------------------------------------------------------------------------------


def set_wish(s: State, wish: str, *, by_script: bool = False) -> None:
    """Tell the filter how to take part.

    With `scriptcontrol` only the module's scripts open; but what must be closed is closed.
    Without filter and addresses nobody opens.
    """
    if wish == "in" and VIP in s.blocked:
        return
    if wish == "in" and s.module.farm.script_control and not by_script:
        return
    if wish == "drain" and s.intent == "away":
        return  # There is nothing that could be kept.
    s.intent = wish
    tell_wish(s)


def tell_wish(s: State) -> None:
    """Tell the filter, if it has not been told.

    An order to drain closes what is open, and when it is taken back only that opens again: not
    what the scripts have closed, nor an application that did not start.

    Where no client can come because a cable is out, the node is away: were it to open alone, it
    would answer beside the others at the moment the cable is put back, and reset their clients.
    """
    wish = "away" if s.cables_out else s.intent
    if wish == "in" and s.drain_ordered:
        wish = "drain"
    if wish != s.wish:
        s.wish = wish
        tell(s, "farm_filter", FarmWish(wish))


def drain_left_ns(s: State, now: int) -> int:
    """Return how much longer live connections are waited for."""
    return max(0, s.drain_since_ns + s.module.farm.drain_ns - now)


def _is_over(s: State, now: int) -> bool:
    return s.step == "drain" and is_drained(s, now)


def is_drained(s: State, now: int) -> bool:
    """Return whether the node may stop: no connection is left, or there is no use in waiting."""
    picture = s.picture
    if picture is None or s.wish == "away" or not picture.open:
        return True
    others = [n for n in picture.nodes if n.name != s.settings.node]
    if not any(n.member and n.wish == "in" for n in others):
        fact(s, now, "no other node could take the clients: it does not wait for connections")
        return True
    left_ns = drain_left_ns(s, now)
    if not left_ns:
        fact(s, now, f"{picture.connections} connections are cut: the time limit is over", "C")
        return True
    own = next((n for n in picture.nodes if n.name == s.settings.node), None)
    if own is None or own.wish != "drain" or any(own.buckets) or picture.draining:
        seconds = -(-left_ns // SECOND_NS)
        explain(
            s,
            f"drains: {picture.connections} connections live, no new ones",
            f"they end, or {seconds} s pass",
            f"mirrorfarm -H {s.settings.node} forcestop -m {s.module.name}",
        )
        return False
    fact(s, now, "no connection is left")
    return True


PROCEDURES = Procedures(_start, _is_over)
begin, advance = PROCEDURES.begin, PROCEDURES.advance
complete, continuation = PROCEDURES.complete, PROCEDURES.continuation
