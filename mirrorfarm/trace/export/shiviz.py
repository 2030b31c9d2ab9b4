"""ShiViz and TSViz: who knew what, as vector clocks.

https://github.com/DistributedClocks/shiviz/wiki: an event's text on one line, then its host and
its vector clock; TSViz wants a time before the text, and hosts of letters and digits. `HEADS` are
their parsers for this. Both draw a few thousand events, so only what is news is written; the clocks
count these, and what a node learnt through others is not lost.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Final

from mirrorfarm.trace.causes import ROUTINE
from mirrorfarm.trace.export.format import Subject, Write
from mirrorfarm.trace.facts import Fact, name_of, said
from mirrorfarm.trace.merge import UNDER_WAY_MAX
from mirrorfarm.trace.step import Placed
from mirrorfarm.trace.words import main_fact

EVENTS_MAX: Final = 5_000

HEADS: Final = {
    False: r"(?<event>.*)\n(?<host>\S*) (?<clock>{.*})",
    True: r"(?<timestamp>(\d*)) (?<event>.*)\n(?<host>\w*) (?<clock>.*)",
}


def is_news(placed: Placed, facts: list[Fact]) -> bool:
    """Return whether a person would want to see a step."""
    if any(fact.kind != "log" for fact in facts):
        return True
    if placed.sending is None or not placed.step.effects:
        return False
    return name_of(said(placed.step.event)) not in ROUTINE


def text_of(placed: Placed, facts: list[Fact]) -> str:
    """Return one line about a step."""
    step = placed.step
    told = f"{step.actor}: {name_of(said(step.event))}"
    fact = main_fact([fact for fact in facts if fact.kind != "log"])
    return " ".join(f"{told}, {fact.text}".split()) if fact is not None else told


@dataclass(slots=True)
class Shiviz:
    """Vector clocks of what is news."""

    subject: Subject
    write: Write
    timed: bool = False  # For TSViz.
    left_out: int = 0
    _events: int = 0
    _clocks: dict[int, dict[int, int]] = field(default_factory=dict)  # By lane.
    _sent: dict[int, dict[int, int]] = field(default_factory=dict)  # By step.
    _hosts: dict[int, str] = field(default_factory=dict)  # What lanes are called.

    def add(self, placed: Placed, facts: list[Fact]) -> None:
        """Carry knowledge on; write the event if it is news."""
        clock = self._clocks.setdefault(placed.lane, {})
        if placed.sending is not None:
            for lane, count in self._sent.get(placed.sending.number, {}).items():
                clock[lane] = max(clock.get(lane, 0), count)
        if is_news(placed, facts):
            if self._events < self.subject.limit:
                self._event(placed, facts, clock)
            else:
                self.left_out += 1
        if placed.step.sent:
            self._sent[placed.number] = dict(clock)
            if len(self._sent) > UNDER_WAY_MAX:
                del self._sent[next(iter(self._sent))]

    def close(self) -> str:
        """Say how to read it."""
        told = f"the parser for it: {HEADS[self.timed]}"
        if self.left_out:
            told += f"; {self.left_out} events after the first {self._events} are left out"
        return told

    def _event(self, placed: Placed, facts: list[Fact], clock: dict[int, int]) -> None:
        self._events += 1
        clock[placed.lane] = clock.get(placed.lane, 0) + 1
        told = {self._host(lane): count for lane, count in clock.items()}
        time = f"{placed.at_ns} " if self.timed else ""
        host = self._host(placed.lane)
        line = f"{time}{text_of(placed, facts)}\n{host} {json.dumps(told)}\n"
        self.write(line.encode())

    def _host(self, lane: int) -> str:
        """Return what a lane is called; no other one is, though TSViz knows fewer characters."""
        host = self._hosts.get(lane)
        if host is None:
            host = self.subject.merge.lanes[lane].name
            if self.timed:
                host = re.sub(r"\W", "_", host)
                while host in self._hosts.values():
                    host += "_"
            self._hosts[lane] = host
        return host
