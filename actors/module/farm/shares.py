"""What is ordered of a farm node's share of the clients; each order returns why not, or ""."""

from mirrorfarm.actors.events import FarmPower
from mirrorfarm.actors.module.answers import fact, tell
from mirrorfarm.actors.module.farm import procedure
from mirrorfarm.actors.module.farm.describe import role_of, status_of
from mirrorfarm.actors.module.farm.phases import Phase
from mirrorfarm.actors.module.farm.state import State
from mirrorfarm.limits import POWER_MAX


def drain(s: State, now: int, *, on: bool) -> str:
    """`drain` or, if not `on`, `resume`: no new clients, or clients again."""
    if not s.is_farm:
        return "a light module has no other node that could take its clients"
    if s.phase is not Phase.UP:
        able = "drained" if on else "resumed"
        return f"this node is {role_of(s)} {status_of(s)}: it can be {able} when it is UP Ready"
    if not on and s.unstarted and s.intent != "in":  # Where only start_prim failed it serves.
        return f"the application may not run: script {s.unstarted} failed. First restart it"
    if s.drain_ordered != on:
        s.drain_ordered = on
        fact(s, now, "drains by order: no new clients" if on else "takes new clients again")
        procedure.tell_wish(s)
    return ""


def power(s: State, words: tuple[str, ...]) -> str:
    """`power N [GROUP]`: this node's share of the clients, live."""
    if not s.is_farm:
        return "a light module has no power: it serves alone"
    if not words or not _is_power(words[0]):
        return f"power needs a number from 0 to {POWER_MAX}"
    group = words[1] if len(words) > 1 else ""
    if group and group not in s.module.farm.group_names:
        return (
            f"no load-balancing group {group!r}: there are {', '.join(s.module.farm.group_names)}"
        )
    s.power_ordered = True
    tell(s, "farm_filter", FarmPower(int(words[0]), group))
    return ""


def _is_power(word: str) -> bool:
    # Of thousands of digits Python makes no number.
    return word.isdecimal() and len(word) <= len(str(POWER_MAX)) and int(word) <= POWER_MAX


def take_back_power(s: State) -> None:
    """Have the powers of the configuration again: an order holds until the module stops."""
    if s.power_ordered:
        s.power_ordered = False
        for group in s.module.farm.groups:
            power = group.power_of(s.settings.node)
            tell(s, "farm_filter", FarmPower(power, group.name))


def traffic(s: State, now: int, words: tuple[str, ...]) -> str:
    """`traffic open|close`: what the module's scripts say when they control it."""
    if not s.is_farm or not s.module.farm.script_control:
        return 'traffic is opened and closed by itself, without scriptcontrol="on"'
    if words not in {("open",), ("close",)}:
        return "traffic is either to open or to close"
    if words == ("open",) and s.phase not in {Phase.RISING, Phase.UP, Phase.RESTARTING}:
        return f"traffic is not opened in {role_of(s)} {status_of(s)}"
    fact(s, now, f"the scripts {words[0]} the traffic")
    procedure.set_wish(s, "in" if words == ("open",) else "drain", by_script=True)
    return ""
