"""The primary role ends at once: superseded, fenced, or with a copy that cannot be trusted.

Nothing here waits for somebody else's consent; the application is killed, not asked (R9, R11).
"""

from mirrorfarm.actors.module.mirror import commands, handover, procedure
from mirrorfarm.actors.module.mirror.orders import become, fact, send_peer
from mirrorfarm.actors.module.mirror.phases import FOLLOWERS, LEADERS, Phase
from mirrorfarm.actors.module.mirror.state import Leading, State, Target
from mirrorfarm.transport.messages import Leave


def demote(s: State, now: int, why: str) -> None:
    """Superseded or broken: end everything at once, then wait (row 18)."""
    if s.phase is Phase.DEMOTING or s.phase not in LEADERS:
        return
    fact(s, now, f"this node gives up the primary role: {why}", "C")
    s.leading = Leading(full_given=s.leading.full_given)
    s.plane.held = False
    if s.split == "won":
        s.split = ""  # It does not go on after all.
    become(s, Phase.DEMOTING, now, why)
    procedure.begin(
        s, now, "watch", "kill", "vip down", "plane bare", "scripts stop", "kill", "then demoted"
    )  # fmt: skip
    procedure.take_addresses_away(s)


@procedure.continuation
def demoted(s: State, now: int) -> None:
    """Nothing of the primary role is left."""
    s.scripts_as = ""
    _go_on(s, now)


def _go_on(s: State, now: int) -> None:
    """Wait; or, if that was ordered before or meanwhile, stop."""
    why, s.stopping_for = s.stopping_for, ""
    s.plane_off = ""
    s.arbiter.known = False
    become(s, Phase.WAITING, now, "")
    if why in commands.STOPS:
        commands.stop(s, now, why)


def storage_failed(s: State, now: int, text: str) -> None:
    """Trust this copy no more (R11): give the role away, or leave the in-sync set."""
    if s.failed:
        return
    s.failed = text
    fact(s, now, f"storage failed: {text}", "C")
    if s.phase in FOLLOWERS:
        send_peer(s, Leave(s.record.term))
        s.target = Target()
        procedure.end_second(s)
        become(s, Phase.WAITING, now, "")
    elif s.phase in LEADERS and not s.plane_off:
        if s.stopping_for not in commands.STOPS:
            s.stopping_for = "fail"
        gives = s.stopping_for == "fail" or s.module.failover
        give = ("handover",) if gives and handover.may_hand_over(s) else ()
        commands.become_leaving(s, now)
        procedure.end_scripts(s)  # What they would start would find no directories.
        # The plane first: it answers nothing any more, and who waits for it cannot be killed.
        procedure.begin(
            s,
            now,
            "watch",
            "plane abort",
            "kill",
            "vip down",
            "plane bare",
            *give,
            "then demoted_failed",
        )


@procedure.continuation
def demoted_failed(s: State, now: int) -> None:
    """The failed primary waits for its administrator."""
    s.scripts_as = ""
    s.leading = Leading()
    _go_on(s, now)
