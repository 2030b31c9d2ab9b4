"""What must happen sometimes in a sweep: with none of these, it has not tried the protocol.

Each property is a question about one step of a mirror: what it was given, and its phase before
and after.
"""

from collections.abc import Callable
from typing import Any

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.mirror.phases import LEADERS
from mirrorfarm.transport import messages as msg

_LEADS = frozenset(phase.value for phase in LEADERS)
Property = Callable[[Any, str, str], bool]


def _answered(outcome: str) -> Property:
    return lambda step, _before, _after: (
        isinstance(step.event, ev.RegisterKnown) and step.event.outcome == outcome
    )


def _given(kind: type) -> Property:
    return lambda step, _before, _after: isinstance(step.event, kind)


def _heard(kind: type) -> Property:
    return lambda step, _before, _after: (
        isinstance(step.event, ev.Received) and isinstance(step.event.message, kind)
    )


def _asks(plan: str) -> Property:
    return lambda step, _before, _after: any(
        isinstance(effect, fx.Send)
        and isinstance(effect.message, msg.SyncOffer)
        and effect.message.plan == plan
        for effect in step.effects
    )


def _moves(before: str, after: str) -> Property:
    return lambda _step, was, became: (was, became) == (before, after)


SOMETIMES: dict[str, Property] = {
    "a compare-and-swap conflicted (R4)": _answered("conflict"),
    "a promotion had to wait for a lease": _answered("held"),
    "the arbiter was silent (R3)": _given(ev.ArbiterSilent),
    "the peer was silent on every network": _given(ev.PeerSilent),
    "a node did not run for a while": _given(ev.Stalled),
    "the guard acted before the module": _given(ev.GuardActed),
    "a record could not be stored (R11)": _given(ev.StoreFailed),
    "the storage failed (R11)": _heard(msg.StorageFailed),
    "a modification waited at a frozen gate (R2)": _heard(msg.WriteHeld),
    "a stream between the planes broke": _heard(msg.SessionBroken),
    "a target refused a session (R7)": _heard(msg.SyncRefused),
    "a secondary left the set": _heard(msg.Leave),
    "a session copied everything": _asks("full"),
    "a session copied what had changed": _asks("map"),
    "a session copied nothing": _asks("none"),
    "a secondary took over (R8)": _moves("asking", "taking"),
    "a secondary was given the role": _moves("following", "taking"),
    "a failed exchange gave the role back": _moves("leaving", "taking"),
    "a question for the role was refused": _moves("asking", "waiting"),
    "a superseded primary gave up (R9)": lambda _step, before, after: (
        before in _LEADS and after == "demoting"
    ),
    "a target lost its primary": _moves("syncing", "waiting"),
    "a secondary was left behind": _moves("following", "syncing"),
    "a restart kept the role": _moves("restarting", "leading"),
}
