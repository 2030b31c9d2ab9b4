"""One step of a core as traces hold it, whoever recorded or reads it; its place in the whole."""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from mirrorfarm.actors.effects import Send
from mirrorfarm.actors.events import Received

TRICKS: Final = "tricks"  # A note before a step of a simulation: what its core was made to do.

# Node and incarnation of the sending process (no two of a node have the same), and its number.
MessageId = tuple[str, int, int]


class Step(msgspec.Struct):
    """The core of `actor` was given `event` at `now_ns` and asked for `effects`.

    Events and effects are those of `mirrorfarm.actors`; one whose type this build does not know
    is `Named`, or a list where no header tells its fields; one that could not be recorded is
    `Unreadable`.
    """

    node: str
    actor: str
    now_ns: int  # Boot clock of the node.
    event: Any
    effects: list[Any]
    process: str = ""
    incarnation: int = 0
    number: int = 0  # Of the step in its process.
    epoch_ns: int = 0  # Time of day = epoch_ns + now_ns, as far as the node knew.
    sent: list[int | None] = []  # Of each Send: number of its frame.

    @property
    def real_ns(self) -> int:
        """The time of day on the node."""
        return self.epoch_ns + self.now_ns

    @property
    def received_id(self) -> MessageId | None:
        """Which message this is about, if it came from another process."""
        event = self.event
        if isinstance(event, Received) and event.sequence:
            return (event.source.node, event.incarnation, event.sequence)
        return None

    @property
    def sent_ids(self) -> list[MessageId | None]:
        """Which messages left with this, in the order of its Send effects; None: not known."""
        return [n if n is None else (self.node, self.incarnation, n) for n in self.sent]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for an event or effect that could not be recorded: it was too large."""

    kind: str


@dataclass(frozen=True, slots=True)
class Sending:
    """A message that left: which step sent it, and what was known then."""

    number: int  # Of the step in the whole.
    at_ns: int
    lamport: int
    vector: tuple[int, ...]
    lane: int
    actor: str
    effect: Send


@dataclass(slots=True)
class Placed:
    """A step and its place in the whole."""

    step: Step
    lane: int  # Index of its process in `Merge.lanes`.
    number: int  # From 0 on.
    at_ns: int  # Time of day, by the clock of the reference; never before what led to it, or 1970.
    lamport: int
    sending: Sending | None  # Of the message that the step received, if its sending is known.
    vector: tuple[int, ...]  # By lane; empty unless asked for.
