"""What a mirror does when a checker finds something, within the loop limit."""

from mirrorfarm.actors.checker.core import is_prestarted
from mirrorfarm.actors.events import ResourceChanged
from mirrorfarm.actors.module.mirror import handover
from mirrorfarm.actors.module.mirror.commands import restart, stop, stops_for_good
from mirrorfarm.actors.module.mirror.holding import peer_may_lead
from mirrorfarm.actors.module.mirror.missing import names_nobody
from mirrorfarm.actors.module.mirror.orders import fact
from mirrorfarm.actors.module.mirror.phases import Phase
from mirrorfarm.actors.module.mirror.state import State

ACTING = (Phase.LEADING, Phase.FOLLOWING)  # Whose application is known to have been started.


def on_resource(s: State, event: ResourceChanged, now: int) -> None:
    """A checker found something: act on it."""
    s.resources[event.resource] = event.value
    if event.resource in s.put_off:
        s.put_off.remove(event.resource)
    level = "C" if event.value == "down" else "I"
    fact(s, now, f"Resource {event.resource} set to {event.value} {event.reason}".rstrip(), level)
    if event.value != "down" or event.action == "noaction" or s.phase not in ACTING:
        return
    if event.action == "stopstart" and is_prestarted(s.module, event.resource):
        s.put_off.append(event.resource)
        poll(s, now)
        if s.put_off:
            fact(s, now, "Action stopstart put off: the service would be lost now", "C")
        return
    if event.action != "stop" and stops_for_good(s, now):
        return
    fact(s, now, f"Action {event.action} called by errd")
    if event.action == "stop":
        stop(s, now, "stop")
    elif event.action == "stopstart" and _may_leave(s):
        stop(s, now, "stopstart")
    else:
        restart(s, now)


def poll(s: State, now: int) -> None:
    """Stop and start again for what `prestart` began, as soon as that costs no service.

    Restarts in place never bring it up: they would be counted until the module is stopped.
    """
    if not s.put_off:
        return
    if s.phase not in ACTING:
        s.put_off.clear()  # When the application runs again everything is looked at anew.
    elif not s.step and not s.steps and (_may_leave(s) or _comes_back(s)):
        s.put_off.clear()
        if not stops_for_good(s, now):
            fact(s, now, "Action stopstart called by errd")
            stop(s, now, "stopstart")


def _may_leave(s: State) -> bool:
    """Return whether the service goes on if this node leaves its role for a while."""
    if s.phase is Phase.FOLLOWING:
        return not names_nobody(s)  # Else its primary could not leave it behind.
    return handover.may_hand_over(s)


def _comes_back(s: State) -> bool:
    """Return whether a primary that stops is the only one who can be named, and will be."""
    only = s.phase is Phase.LEADING and not peer_may_lead(s)
    return only and not s.split and not names_nobody(s)
