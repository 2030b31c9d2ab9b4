"""What every state machine of a module does alike: facts, reasons, commands and their answers.

A command names its request: the same request twice is answered twice and done once, and each
ends with one final answer (L7). The state of a machine has the fields that are named here.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mirrorfarm.actors.effects import ANY_EFFECT, Log, Send, Tell
from mirrorfarm.actors.events import Event
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import Command, CommandResult

PENDING_MAX = 32
ANSWER_NS = 840 * SECOND_NS  # After that whoever ordered it is told that it is not done yet.
TOO_MANY = "too many commands are under way"
STOPPING_VERBS = ("stop", "forcestop", "shutdown")
SCRIPTED = ("traffic",)  # Verbs that are there for scripts only.


@dataclass(slots=True)
class Pending:
    """A command whose final answer is owed."""

    request: str
    source: Address
    verb: str
    since_ns: int
    role: str = ""  # Of the node when it was ordered.


class Telling(Protocol):
    """A state that tells why it is as it is."""

    facts: deque[tuple[int, str]]
    reason: str
    would_change: str
    command: str
    out: list[ANY_EFFECT]


class Answering(Telling, Protocol):
    """A state that takes commands."""

    early: list[tuple[Address, Command]]  # Came before this process was ready for any.
    pending: list[Pending]
    answered: dict[str, tuple[str, str]]
    loop: list[int]  # When this module was restarted by itself.


# --- facts and reasons ---------------------------------------------------------------------


def fact(s: Telling, now: int, text: str, level: str = "E") -> None:
    """Note a fact: in the chain that `why` tells, and in the log."""
    s.facts.append((now, text))
    s.out.append(Log(level, text))


def explain(s: Telling, reason: str, would_change: str = "", command: str = "") -> None:
    """Say why the node is where it is, what would change that, and the command for it."""
    s.reason, s.would_change, s.command = reason, would_change, command


def tell(s: Telling, actor: str, event: Event) -> None:
    """Give an event to another actor of this process."""
    s.out.append(Tell(actor, event))


# --- commands ------------------------------------------------------------------------------


def take(
    s: Answering,
    source: Address,
    command: Command,
    now: int,
    obey: Callable[[Command], str] | None,
    *,
    role: str = "",
) -> None:
    """Take an order that came in this role; answer at once if it is refused or done already.

    `obey` begins what is ordered and returns why not, or ""; None: this process is not ready,
    and the command is kept for when it is.
    """
    if command.request in s.answered:
        outcome, text = s.answered[command.request]
        _send(s, source, command.request, outcome, text)
        return
    if any(pending.request == command.request for pending in s.pending):
        _send(s, source, command.request, "accepted", "under way")
        return
    if obey is None:
        if all(early.request != command.request for _, early in s.early):
            if len(s.early) >= PENDING_MAX:
                _answer(s, source, command.request, "refused", TOO_MANY)
                return
            s.early.append((source, command))
        _send(s, source, command.request, "accepted", "the module's process is just starting")
        return
    fact(s, now, f"Action {command.verb} called by {command.who}", "U")
    if not command.identity and command.verb not in SCRIPTED:
        s.loop.clear()  # An administrator looks at it.
    if len(s.pending) >= PENDING_MAX:
        _answer(s, source, command.request, "refused", TOO_MANY)
        return
    refusal = obey(command)
    if refusal:
        fact(s, now, f"{command.verb} refused: {refusal}")
        _answer(s, source, command.request, "refused", refusal)
        return
    s.pending.append(Pending(command.request, source, command.verb, now, role))
    _send(s, source, command.request, "accepted", f"{command.verb} begins")


def take_early(
    s: Answering, obey: Callable[[Address, Command], None], answer: Callable[[], None]
) -> bool:
    """Take what came before this process was ready; return whether it is to stay stopped.

    What is done is answered before the next order, which may undo it.
    """
    early, s.early = s.early, []
    for source, command in early:
        obey(source, command)
        answer()
    return any(command.verb in STOPPING_VERBS for _, command in early)


def give_up_early(s: Answering, text: str) -> None:
    """Answer what came before this process was ready for it, which takes too long."""
    early, s.early = s.early, []
    for source, command in early:
        _answer(s, source, command.request, "failed", text)


def settle(s: Answering, outcome_of: Callable[[Pending], str], text: str) -> None:
    """Give the final answers that can be given now: an empty outcome is none yet."""
    still: list[Pending] = []
    for pending in s.pending:
        outcome = outcome_of(pending)
        if outcome:
            _answer(s, pending.source, pending.request, outcome, text)
        else:
            still.append(pending)
    s.pending = still


def _answer(s: Answering, source: Address, request: str, outcome: str, text: str) -> None:
    while len(s.answered) >= PENDING_MAX:
        s.answered.pop(next(iter(s.answered)))
    s.answered[request] = (outcome, text)
    _send(s, source, request, outcome, text)


def _send(s: Answering, source: Address, request: str, outcome: str, text: str) -> None:
    s.out.append(Send(source, CommandResult(request, outcome, text)))


# --- automatic restarts --------------------------------------------------------------------


def loops_too_often(s: Answering, now: int, interval_ns: int, maxloop: int) -> bool:
    """Note a restart that no administrator ordered; return whether it is one too many (L5)."""
    if not interval_ns:
        return False
    s.loop = [at for at in s.loop if now - at < interval_ns][-maxloop:]
    s.loop.append(now)
    if len(s.loop) <= maxloop:
        return False
    fact(s, now, f"Action stop called by maxloop: {len(s.loop)} in the interval", "C")
    return True
