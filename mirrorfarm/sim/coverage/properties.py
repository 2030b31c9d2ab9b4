"""What must happen sometimes in a sweep: with none of these, it has not tried the protocol.

Each property is a question about one step. Those named after a rule of docs/protocols/mirror.md
are its marks: tests/sim/rules has a scenario for each that hits it.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.mirror.describe import forgetful
from mirrorfarm.actors.module.mirror.phases import LEADERS
from mirrorfarm.actors.module.mirror.state import State
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.transport import messages as msg

_LEADS = frozenset(phase.value for phase in LEADERS)


class Taken(msgspec.Struct, frozen=True):
    """A step of a mirror: the phases before and after it, and all that it knows after it."""

    before: str
    after: str
    event: Any
    effects: list[Any]
    state: State


Question = Callable[[Taken], bool]


def _wishes(step: Taken, gate: str) -> bool:
    """Return whether the data plane is given this gate."""
    return any(
        effect.__class__ is fx.Send
        and effect.message.__class__ is msg.PlaneWish
        and (effect.message.role, effect.message.gate) == ("lead", gate)
        for effect in step.effects
    )


def _stores(step: Taken) -> NodeRecord | None:
    """Return the record that the step writes."""
    found = [one.record for one in step.effects if one.__class__ is fx.Store]
    return found[-1] if found else None


def _asks(step: Taken, purpose: str) -> bool:
    """Return whether the arbiter is asked for this change now."""
    asks = any(
        effect.__class__ is fx.Tell and effect.event.__class__ is ev.AskCas
        for effect in step.effects
    )
    return asks and step.state.arbiter.purpose == purpose


def _answered(outcome: str) -> Question:
    return lambda step: step.event.outcome == outcome


def _always(step: Taken) -> bool:
    del step
    return True


def _leads(step: Taken) -> bool:
    return step.before in _LEADS


def _refuses(step: Taken) -> bool:
    return any(
        effect.__class__ is fx.Send and effect.message.__class__ is msg.SyncRefused
        for effect in step.effects
    )


def _other_session(step: Taken) -> bool:
    """R6: what a primary hears of a session is of one that is over."""
    said, leading = step.event.message, step.state.leading
    current = (step.state.record.term, leading.sid)
    return step.before in _LEADS and (said.term, said.sid) != current


def _begins_session(step: Taken) -> bool:
    """R7: the session and that the data are whole no more are written down first."""
    record = _stores(step)
    return record is not None and record.sid == step.event.message.sid and not record.cons


def _lone_generation(step: Taken) -> bool:
    """R10: a generation begins because a modification waits, not because the role changed."""
    record = _stores(step)
    return record is not None and record.lone


def _goes_alone(step: Taken) -> bool:
    """R2: the record is durable, and only then writes are answered without the peer."""
    return step.before in _LEADS and step.state.lone and _wishes(step, "self")


def _restarts_in_role(step: Taken) -> bool:
    return step.state.record.was in {"prim", "alone"}


def _sets_aside(step: Taken) -> bool:
    record = _stores(step)
    return record is not None and bool(record.quarantine)


def _audits(step: Taken) -> bool:
    """R14: the term that an administrator forced is written down with who ordered it."""
    record = _stores(step)
    forced = () if record is None else record.forced
    return step.before == "asking" and bool(forced) and forced[0].startswith("primforce")


def _distrusts(step: Taken) -> bool:
    return bool(step.state.arbiter.distrust)


Asked = tuple[tuple[Any, ...], Question]  # What it is given, and the question then.
RULES: Final[dict[str, Asked]] = {
    "R1 writes wait for the secondary": (
        (msg.PlaneIs, ev.Stored, ev.RegisterKnown, msg.Synced),
        lambda step: _wishes(step, "both"),
    ),
    "R2 alone only after register and record": ((ev.Stored,), _goes_alone),
    "R3 a question was open when the arbiter fell silent": (
        (ev.ArbiterSilent,),
        lambda step: bool(step.state.arbiter.swapping),
    ),
    "R4 a compare-and-swap conflicted": ((ev.RegisterKnown,), _answered("conflict")),
    "R5 the set grows after the copy": (
        (msg.PlaneIs, ev.RegisterKnown, msg.Synced, ev.Stored),
        lambda step: _asks(step, "grow"),
    ),
    "R6 news of a session that is over": (
        (msg.SyncAccepted, msg.SyncRefused, msg.Synced, msg.SessionUp, msg.SessionBroken),
        _other_session,
    ),
    "R7 a target writes its session down first": ((msg.SyncOffer,), _begins_session),
    "R8 a secondary is promoted by the arbiter": (
        (ev.RegisterKnown,),
        lambda step: (step.before, step.after) == ("asking", "taking"),
    ),
    "R9 a restarted primary asks anew": ((ev.Started,), _restarts_in_role),
    "R10 a lone generation begins with a lone write": ((msg.WriteHeld,), _lone_generation),
    "R11 the storage failed": ((msg.StorageFailed, ev.StoreFailed), _always),
    "R12 a copy confirmed from memory is not counted in": (
        (ev.Started,),
        lambda step: forgetful(step.state),
    ),
    "R13 what a decision gives up is set aside": ((msg.SyncOffer,), _sets_aside),
    "R14 an administrator forces": ((ev.RegisterKnown,), _audits),
    "R15 a register of the past is not used": ((ev.RegisterKnown,), _distrusts),
}
# Outside of what is promised, so that a sweep need not do it: an administrator's force, and an
# arbiter that forgot.
SCENARIO_ONLY: Final = ("R14 an administrator forces", "R15 a register of the past is not used")
_STEPS: Final[dict[str, Asked]] = {
    "a promotion had to wait for a lease": ((ev.RegisterKnown,), _answered("held")),
    "the arbiter was silent": ((ev.ArbiterSilent,), _always),
    "the peer was silent on every network": ((ev.PeerSilent,), _always),
    "a node did not run for a while": ((ev.Stalled,), _always),
    "the guard acted before the module": ((ev.GuardActed,), _always),
    "a record could not be stored": ((ev.StoreFailed,), _always),
    "a modification waited at a frozen gate": ((msg.WriteHeld,), _leads),
    "a stream between the planes broke": ((msg.SessionBroken,), _always),
    "a target refused a session": ((msg.SyncOffer,), _refuses),
    "a secondary left the set": ((msg.Leave,), _always),
}
OFFERED: Final = {  # By the plan of a SyncOffer.
    "full": "a session copied everything",
    "map": "a session copied what had changed",
    "none": "a session copied nothing",
}
# Moves from phase to phase, of the mirror, of a farm's module and of its filter.
_MOVES: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "a secondary was given the role": (("following", "taking"),),
    "a failed exchange gave the role back": (("leaving", "taking"),),
    "a question for the role was refused": (("asking", "waiting"),),
    "a superseded primary gave up": tuple((phase, "demoting") for phase in sorted(_LEADS)),
    "a target lost its primary": (("syncing", "waiting"),),
    "a secondary was left behind": (("following", "syncing"),),
    "a restart kept the role": (("restarting", "leading"),),
}
_FARM_MOVES: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "a view was agreed": (("filter promised", "member"), ("filter promised", "coordinator")),
    "a promise came to nothing": (("filter promised", "out"),),
    "a proposal was made": (("filter out", "proposing"), ("filter coordinator", "proposing")),
    "a member gave way": (("filter member", "out"), ("filter coordinator", "out")),
    "a coordinator became a member": (("filter coordinator", "promised"),),
    "a node drained and came back": (
        ("filter draining", "member"),
        ("filter draining", "coordinator"),
    ),
    "a farm node fell": (("farm up", "falling"), ("farm draining", "falling")),
    "a farm node drained": (("farm up", "draining"),),
    "a farm node restarted its application": (("farm restarting", "up"),),
}
MIRROR_SOMETIMES: Final = (*RULES, *_STEPS, *OFFERED.values(), *_MOVES)
FARM_SOMETIMES: Final = tuple(_FARM_MOVES)


def _by_kind(asked: Iterable[tuple[str, Asked]]) -> dict[Any, tuple[tuple[str, Question], ...]]:
    found: dict[Any, list[tuple[str, Question]]] = {}
    for name, (kinds, question) in asked:
        for kind in kinds:
            found.setdefault(kind, []).append((name, question))
    return {kind: tuple(questions) for kind, questions in found.items()}


def _by_move() -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for name, moves in (_MOVES | _FARM_MOVES).items():
        for move in moves:
            found.setdefault(move, []).append(name)
    return found


GIVEN: Final = _by_kind((RULES | _STEPS).items())
MOVED: Final = _by_move()
