"""Mermaid: a sequence diagram of what is news, between nodes; at most 60 arrows.

Of one event, `mirrorfarm trace why` draws only what led to it, which is what one usually wants.
"""

from dataclasses import dataclass, field

from mirrorfarm.trace.diagram import Diagram
from mirrorfarm.trace.export.format import Write
from mirrorfarm.trace.export.shiviz import is_news
from mirrorfarm.trace.facts import Fact, name_of, said
from mirrorfarm.trace.step import Placed
from mirrorfarm.trace.words import clock_time, main_fact

NOTED = frozenset(("role", "view", "fault", "silent", "guard", "failure", "command"))


@dataclass(slots=True)
class Mermaid:
    """Arrows between nodes, notes for roles and faults."""

    write: Write
    diagram: Diagram = field(default_factory=Diagram)

    def add(self, placed: Placed, facts: list[Fact]) -> None:
        """Draw the message that came, and what it changed."""
        step, sending = placed.step, placed.sending
        if sending is not None and is_news(placed, []):
            name = name_of(said(step.event))
            source = step.event.source.node
            if source != step.node:
                self.diagram.arrow(source, step.node, f"{clock_time(placed.at_ns)} {name}")
        fact = main_fact([fact for fact in facts if fact.kind in NOTED])
        if fact is not None:
            self.diagram.note(step.node, fact.text)

    def close(self) -> str:
        """Write the diagram."""
        self.write(str(self.diagram).encode())
        omitted = (self.diagram.omitted, "messages"), (self.diagram.notes_omitted, "notes")
        told = " and ".join(f"{count} more {what}" for count, what in omitted if count)
        why = "`mirrorfarm trace why EVENT` draws what led to one event"
        return f"{told} are left out: {why}" if told else ""
