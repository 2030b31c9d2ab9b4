"""The cells of each state machine: its states, what it can be given, and what cannot come when.

`farm` is the state machine of a farm's module; `filter` decides who answers which client, and
its states are what a node is for the others.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.farm_filter.state import State as FilterState
from mirrorfarm.actors.module.farm.phases import Phase as FarmPhase
from mirrorfarm.actors.module.mirror.phases import Phase
from mirrorfarm.transport import messages as msg


@dataclass(frozen=True, slots=True)
class Only:
    """In which states alone something can come, and why."""

    states: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Machine:
    """A state machine, as a table."""

    name: str
    states: tuple[str, ...]
    events: tuple[str, ...]  # What it can be given; sweeps may see others as well.
    only: dict[str, Only] = field(default_factory=dict)
    unplayed: dict[str, str] = field(default_factory=dict)  # What no run gives it yet, and why.

    def impossible(self, state: str, event: str) -> str:
        """Return why an event cannot come in a state; "": it can."""
        only = self.only.get(event)
        return only.why if only is not None and state not in only.states else ""


def _all_but(phases: type[Enum], *names: str) -> tuple[str, ...]:
    return tuple(str(phase.value) for phase in phases if phase.value not in names)


_NEW = "a process that has just begun has not ordered that yet"
_FRESH = Only(("stopped",), "a process is given it once, before anything else")
# An order that was replaced by another one may be answered when all is over.
_ENDING = ("resetting", "leaving", "demoting", "stopping", "stopped", "starting", "waiting")
_AFTER = "it answers an order that only a way out of a role gives"
_LAST = "it answers an order of a way out, which ends only when that is answered"
_GONE = "when these states begin no order to run scripts is open"
MIRROR: Final = Machine(
    "mirror",
    tuple(phase.value for phase in Phase),
    (
        *("Started", "Tick", "PeerHeard", "PeerSilent", "NetworkSilent", "NetworkHeard", "Stalled"),
        *("RegisterKnown", "ArbiterSilent", "ArbiterHeard", "RegisterNews", "Stored"),
        *("StoreFailed", "SequenceEnded", "ApplicationGone", "VipIsUp", "VipIsDown", "VipProbed"),
        *("GuardActed", "ResourceChanged", "SyncOffer", "SyncAccepted", "SyncRefused", "Synced"),
        *(
            "Leave",
            "SwapWanted",
            "SwapRefused",
            "PlaneIs",
            "SessionUp",
            "SessionBroken",
            "CopyComplete",
        ),
        *("WriteHeld", "StorageFailed", "Command start", "Command stop", "Command forcestop"),
        *("Command swap", "Command restart", "Command stopstart", "Command prim"),
        *("Command primforce", "Command second"),
    ),
    {
        "Started": _FRESH,
        "ApplicationGone": Only(_ENDING, _AFTER),
        "VipIsDown": Only(("resetting", "leaving", "demoting", "stopping"), _LAST),
        "VipIsUp": Only(
            ("taking", "leading", "restarting", "leaving", "demoting", "stopping"),
            "it answers an order of who leads, which may end before the answer is there",
        ),
        "SequenceEnded": Only(_all_but(Phase, "resetting", "stopped"), _GONE),
        "VipProbed": Only(_all_but(Phase, "resetting"), _NEW),
        "Stored": Only(_all_but(Phase, "resetting"), _NEW),
        "StoreFailed": Only(_all_but(Phase, "resetting"), _NEW),
    },
)
FARM: Final = Machine(
    "farm",
    tuple(phase.value for phase in FarmPhase),
    (
        *("Started", "FarmTick", "FarmPicture", "SequenceEnded", "ApplicationGone", "VipIsUp"),
        *("VipIsDown", "ResourceChanged", "Stored", "StoreFailed", "FilterCounted", "CablesOut"),
        *("StrangersSeen", "Command start", "Command stop", "Command restart", "Command drain"),
        "Command resume",
    ),
    {
        "Started": _FRESH,
        "ApplicationGone": Only(
            ("resetting", "stopping", "stopped"),
            "only the first two kill an application; an order that another one replaced may be "
            "answered when all is over",
        ),
        "VipIsUp": Only(
            ("rising", "falling", "stopping"),
            "it answers an order of `rising`, and is not told once they are removed",
        ),
        "VipIsDown": Only(
            ("resetting", "falling", "stopping"),
            "only the way down removes addresses, and waits for it",
        ),
        "SequenceEnded": Only(_all_but(FarmPhase, "resetting", "stopped", "waiting", "up"), _GONE),
        "FarmTick": Only(_all_but(FarmPhase, "resetting"), _NEW),
        "Stored": Only(_all_but(FarmPhase, "resetting"), _NEW),
        "StoreFailed": Only(_all_but(FarmPhase, "resetting"), _NEW),
    },
    {
        "ResourceChanged": "simulated farms have no checkers; the walk gives it",
        "FilterCounted": "the simulated filter counts nothing; tests/live/test_farm.py does",
        "CablesOut": "simulated interfaces do not tell; tests/live/test_farm_cables.py does",
        "StrangersSeen": "nobody else claims an address; tests/live/test_shared_address.py does",
    },
)
FILTER: Final = Machine(
    "filter",
    ("away", "out", "proposing", "promised", "member", "coordinator", "draining"),
    (
        *("Started", "FarmDue", "FarmWish", "FarmPower", "FilterFailed", "HardwareIs"),
        "SocketsCounted",
        *("FarmBeat", "ViewProposal", "ViewAck", "ViewCommit"),
    ),
    {"Started": Only(("away",), "a process is given it once, before anything else")},
    {
        "FilterFailed": "the simulated filter takes every table",
        "HardwareIs": "simulated packets have no hardware addresses",
    },
)
MACHINES: Final = {machine.name: machine for machine in (MIRROR, FARM, FILTER)}


def standing(s: FilterState) -> str:
    """Return what a node of a farm is for the others."""
    if s.wish == "away":
        return "away"
    if s.bid is not None:
        return "promised"
    if s.proposal is not None:
        return "proposing"
    if s.view is None:
        return "out"
    if s.wish == "drain":
        return "draining"
    return "coordinator" if s.view.coordinator == s.settings.node else "member"


def kind_of(event: Any) -> Any:
    """Return an event's class; of a message that came in, its class; of a command its name."""
    kind = event.__class__
    if kind is not ev.Received:
        return kind
    kind = event.message.__class__
    return f"Command {event.message.verb}" if kind is msg.Command else kind
