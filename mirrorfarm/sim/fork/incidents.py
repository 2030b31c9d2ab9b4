"""What came from outside after a fork: who lost power, which link was cut, what was ordered."""

from dataclasses import dataclass
from typing import Any, Final

from mirrorfarm.durations import span
from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.trace.words import clock_time

PAUSE_NS_MIN: Final = 20 * MILLISECOND_NS

_WORDS: Final = {
    "power": "{node} lost its power, or all its processes were killed",
    "process": "the module's process of {node} ended",
    "replica": "the replicator's process of {node} ended",
    "start": "{node} started",
    "cut": "nothing came from {node} to {other}",
    "pause": "{node} did not run",
    "command": "{node} was ordered to {order}",
    "exit": "the application of {node} ended by itself",
    "start_fails": "the application of {node} did not start",
    "record_fails": "the disk of {node} refused to write its record: {event.text}",
    "storage_fails": "the disk of {node} failed ({event.where}): {event.text}",
    "cables": "{node} noticed that {cables}",
    "witness_ends": "the witness {node} ended",
    "witness_starts": "the witness {node} started",
}


@dataclass(frozen=True, slots=True)
class Incident:
    """One of them. Times of day, by the clock of the recording's reference."""

    at_ns: int
    kind: str
    node: str
    other: str = ""
    until_ns: int = 0  # 0: it did not end by itself.
    event: Any = None  # What brought a command, or was noticed.
    network: str = ""  # Of a cut; "": all of them.
    incarnation: int = 0  # Of a start, and
    again: bool = False  # whether the module started by itself.

    def reached(self, since_ns: int, for_ns: int) -> bool:
        """Return whether it comes in a run that goes on from a time for so long."""
        at_next_start = self.kind == "start_fails"  # Of the application, whenever that is.
        return at_next_start or self.at_ns - since_ns < for_ns

    def __str__(self) -> str:
        out = getattr(self.event, "interfaces", ())
        cables = f"the cable of {', '.join(out)} is out" if out else "its cables are in"
        order = ""
        if self.kind == "command":
            order = " ".join((self.event.message.verb, *self.event.message.arguments))
        text = _WORDS[self.kind].format(
            node=self.node, other=self.other, event=self.event, cables=cables, order=order
        )
        text += f" by network {self.network}" if self.network else ""
        how = ", and was back after" if self.kind in {"process", "replica"} else " for"
        lasted = f"{how} {span(self.until_ns - self.at_ns)}" if self.until_ns else ""
        return f"{clock_time(self.at_ns)}  {text}{lasted}"
