"""Steps in plain English: what a core was given, told of its node in the past tense."""

import datetime
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from mirrorfarm.actors import events as ev
from mirrorfarm.durations import span
from mirrorfarm.trace.causes import Absence
from mirrorfarm.trace.facts import Fact, in_sync, name_of, said
from mirrorfarm.trace.step import Step

# Of several facts of one step, the one that says most comes first.
RANKS: Final = (
    *("role", "register", "view", "silent", "guard", "failure", "fault", "command", "status"),
    *("session", "arbiter", "gate", "leave", "vip", "app", "stall", "durable", "script"),
    *("write", "read", "plane", "network", "answer", "log"),
)


def clock_time(at_ns: int, digits: int = 4) -> str:
    """Return a time of day here as hours, minutes, seconds and a fraction."""
    return f"{_second(at_ns // 10**9)}.{at_ns % 10**9:09}"[: 9 + digits]


def day(at_ns: int) -> str:
    """Return the date here."""
    moment = datetime.datetime.fromtimestamp(at_ns // 10**9)  # noqa: DTZ006
    return f"{moment:%Y-%m-%d}"


@lru_cache(maxsize=64)
def _second(second: int) -> str:
    moment = datetime.datetime.fromtimestamp(second)  # noqa: DTZ006 - as `trace show` tells it.
    return f"{moment:%H:%M:%S}"


def iso_time(at_ns: int) -> str:
    """Return a time of day (UTC) as ISO 8601 with nanoseconds."""
    return f"{_utc_second(at_ns // 10**9)}.{at_ns % 10**9:09}Z"


@lru_cache(maxsize=64)
def _utc_second(second: int) -> str:
    return f"{datetime.datetime.fromtimestamp(second, datetime.UTC):%Y-%m-%dT%H:%M:%S}"


def main_fact(facts: list[Fact]) -> Fact | None:
    """Return the fact that says most."""
    return min(facts, key=lambda fact: RANKS.index(fact.kind), default=None)


def given(step: Step, facts: list[Fact]) -> str:
    """Return what the core was given; "": whoever gave it says the same."""
    event = step.event
    content = said(event) if type(event) is ev.Received else event
    name = name_of(content)
    if name in RELAYED:
        return ""
    phrase = _PHRASES.get(name)
    if phrase is not None and type(content) is not list:
        return f"{step.node} {phrase(content)}"
    for fact in facts:
        if fact.kind in {"register", "command", "durable", "failure", "guard", "fault", "write"}:
            return f"{step.node} {fact.text}"
    if type(event) is ev.Received:
        return f"{step.node} received {name} from {event.source.node}"
    return f"{step.node}'s {step.actor} was given {name}"


# Events that only carry on what was decided before.
RELAYED: Final = frozenset(
    [
        "Announce",
        "PeerHeard",
        "RegisterAnswer",
        "RegisterCas",
        "RegisterRead",
        "RegisterRenew",
        "VipUp",
        "VipDown",
        "GuardArm",
        "GuardDisarm",
        "WatchClasses",
        "PlaneWish",
        "ScriptEnded",
    ]
)


def _known(event: ev.RegisterKnown) -> str:
    register = event.register
    if register is None:
        return f"learnt from its arbiter: {event.outcome} {event.reason}".rstrip()
    holds = (
        f"{register.holder} holds term {register.term} with the in-sync set {in_sync(register.isr)}"
    )
    return f"learnt from its arbiter that {holds} ({event.outcome})"


def _asked(event: ev.AskCas) -> str:
    register = event.register
    return (
        f"asked its arbiter that {register.holder} hold term {register.term} with the in-sync "
        f"set {in_sync(register.isr)}" + (", by force" if event.forced else "")
    )


_PHRASES: Final[dict[str, Callable[[Any], str]]] = {
    "Heartbeat": lambda one: f"heard its peer be {one.about.role} {one.about.status}",
    "Started": lambda _: "started",
    "RegisterKnown": _known,
    "AskCas": _asked,
    "AskRead": lambda _: "asked its arbiter who holds the module",
    "AskRenew": lambda one: f"asked its arbiter to renew its lease of term {one.term}",
    "PeerSilent": lambda one: f"had heard nothing from its peer for {span(one.silent_ns)}",
    "NetworkSilent": lambda one: f"had heard nothing on network {one.network}",
    "NetworkHeard": lambda one: f"heard its peer on network {one.network}",
    "ArbiterSilent": lambda _: "had no answer from its arbiter",
    "ArbiterHeard": lambda _: "heard its arbiter again",
    "Stalled": lambda one: f"had not run for {span(one.late_ns)}",
    "RunSequence": lambda one: "ran its scripts " + ", ".join(step.name for step in one.steps),
    "SequenceEnded": lambda one: (
        "had its scripts fail: " + ", ".join(one.failed) if one.failed else "had run its scripts"
    ),
    "KillApplication": lambda _: "ordered the end of its application",
    "ApplicationGone": lambda _: "had no process of its application left",
    "VipProbe": lambda _: "asked the network for other users of the virtual addresses",
    "VipProbed": lambda one: (
        f"found the virtual addresses in use: {', '.join(one.conflicts)}"
        if one.conflicts
        else "found the virtual addresses free"
    ),
    "VipIsUp": lambda _: "had the virtual addresses up",
    "VipIsDown": lambda _: "had the virtual addresses down",
    "ResourceChanged": lambda one: (
        f"saw the resource {one.resource} become {one.value}"
        + (f" {one.reason}" if one.reason else "")
    ),
    "ProcessGone": lambda one: f"lost a process of its application; {one.count} were left",
    "Command": lambda one: f"was ordered to {one.verb} by {one.who}",
    "CommandResult": lambda one: f"was answered: {one.outcome} {one.text}".rstrip(),
    "SyncOffer": lambda one: f"was offered session {one.sid} of term {one.term}",
    "SyncAccepted": lambda one: f"had session {one.sid} of term {one.term} accepted",
    "SyncRefused": lambda one: f"had session {one.sid} refused: {one.reason}",
    "Synced": lambda one: f"heard that its peer has all of session {one.sid} of term {one.term}",
    "CopyComplete": lambda one: f"had received all of session {one.sid}",
    "SessionUp": lambda one: f"had its stream of session {one.sid} up",
    "SessionBroken": lambda one: f"lost its stream of session {one.sid}: {one.reason}",
    "StorageFailed": lambda one: f"had its storage fail: {one.text}",
    "WriteHeld": lambda _: "had a modification wait at the frozen gate",
    "RegisterNews": lambda one: f"was told of term {one.register.term}, version {one.register.ver}",
    "Leave": lambda _: "heard that its peer stops",
    "SwapWanted": lambda one: f"was asked by {one.who} to exchange the roles",
    "SwapRefused": lambda one: f"heard that its peer exchanges no roles: {one.reason}",
    "PlaneIs": lambda one: (
        f"had its data plane {one.role}, gate {one.gate}"
        if not one.failure
        else f"had its data plane fail: {one.failure}"
    ),
    "PlaneDone": lambda _: "had its data plane do what it was told",
    "PlaneFault": lambda one: f"had its data plane fail: {one.text}",
    "PlaneGated": lambda _: "had its gate set",
    "PlaneSessionUp": lambda one: f"had its stream of session {one.sid} up",
    "PlaneSessionBroken": lambda one: f"lost its stream of session {one.sid}: {one.reason}",
    "PlaneCopied": lambda one: f"had received all of session {one.sid}",
    "PlaneStorage": lambda one: f"had its storage fail: {one.text}",
    "FarmWish": lambda one: f"wished to be {one.wish} in the farm",
    "FarmPicture": lambda one: (
        f"answered clients by view {one.view}" if one.open else f"answered nobody: {one.reason}"
    ),
    "ViewProposal": lambda one: f"was proposed view {one.number} of {in_sync(one.members)}",
    "ViewAck": lambda one: f"had view {one.number} acknowledged",
    "ViewCommit": lambda one: f"was told to answer by view {one.number}",
    "CablesOut": lambda one: (
        f"lost the cable of {', '.join(one.interfaces)}" if one.interfaces else "had its cables"
    ),
}


def absent(absence: Absence, clock_time: Callable[[int], str] = clock_time) -> str:
    """Return why a node heard nothing, as far as the traces say; times as `clock_time` has them."""
    peer = absence.peer
    if not peer:
        return f"{absence.by} never spoke to a peer"
    last = f"the last message from {peer} came at {clock_time(absence.heard_ns)}"
    if absence.heard < 0:
        last = f"no message from {peer} ever came"
    if not absence.traced:
        return f"{last}; why, the traces of {peer} would say: they are not among those given"
    if absence.unheard:
        many = f"{absence.unheard} messages" if absence.unheard > 1 else "one message"
        return f"{last}, while {peer} sent {many} more: the network between them lost them"
    if absence.last < 0:
        return f"{last}: {peer} had not started"
    if absence.next_ns and not absence.restarted:
        return (
            f"{last}: {peer} stood still from {clock_time(absence.last_ns)} to "
            f"{clock_time(absence.next_ns)}"
        )
    ended = f"{last}: {peer} ended without a word after {clock_time(absence.last_ns)}"
    if absence.last_ns < absence.heard_ns:  # What a killed process had not written yet is lost.
        ended = f"{last}: {peer} ended without a word after it"
    if absence.restarted:
        return f"{ended}, and started again at {clock_time(absence.next_ns)}"
    return f"{ended} (killed, its power lost, or its trace cut off)"
