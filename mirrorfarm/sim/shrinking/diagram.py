"""The story of a violation as a Mermaid sequence diagram: its causal chain, not everything."""

from collections.abc import Sequence
from typing import Any, Final

from mirrorfarm.actors.effects import Send
from mirrorfarm.actors.events import Received
from mirrorfarm.sim.acts.act import words
from mirrorfarm.sim.acts.kinds import duration_text
from mirrorfarm.sim.monitors.seen import Fault, Seen
from mirrorfarm.sim.scenario.outcome import Outcome
from mirrorfarm.sim.scenario.record import Scenario
from mirrorfarm.sim.steps import Step

ARROWS_MAX: Final = 60
TEXT_CHARACTERS: Final = 60


def diagram(outcome: Outcome) -> str:
    """Return the diagram of what was done and of what led to the violation."""
    scenario = outcome.scenario
    lines = [f"    participant {name}" for name in participants(scenario, outcome.chain)]
    names = [line.split()[-1] for line in lines]
    edge = f"{names[0]},{names[-1]}"
    for event in scenario.events:
        over = event.act.about if event.act.about in names else edge
        when = duration_text(event.at_ns)
        lines.append(f"    Note over {over}: {_safe(f'{when} {words(event.act)}')}")
    for step in outcome.chain[-ARROWS_MAX:]:
        lines += [f"    {line}" for line in _arrows(step, names)]
    lines.append(f"    Note over {edge}: {_safe(outcome.violation)}")
    return "\n".join(["sequenceDiagram", *lines]) + "\n"


def participants(scenario: Scenario, chain: Sequence[Step]) -> list[str]:
    """Return the machines of the diagram, in a fixed order."""
    found = dict.fromkeys(scenario.nodes)
    found |= dict.fromkeys(sorted({step.node for step in chain if step.node}))
    return list(found)


def _arrows(step: Step, names: Sequence[str]) -> list[str]:
    event, node = step.event, step.node
    if event.__class__ is Fault or node not in names:
        return []  # It is among the events already.
    if isinstance(event, Seen):
        return [f"Note over {node}: {_safe(_fields(event))}"]
    if event.__class__ is Received:
        source = event.source.node if event.source.node in names else node
        return [f"{source}->>{node}: {_safe(type(event.message).__name__)}"]
    asked = [type(one).__name__ for one in step.effects if one.__class__ is not Send]
    text = f"{step.actor}: {type(event).__name__}"
    return [f"{node}->>{node}: {_safe(text + (' → ' + ', '.join(asked[:3]) if asked else ''))}"]


def _fields(event: Any) -> str:
    values = [str(getattr(event, name)) for name in event.__struct_fields__ if name != "module"]
    return f"{type(event).__name__} {' '.join(values)}"


def _safe(text: str) -> str:
    """Return text that ends no line of a diagram and begins no command in it."""
    kept = "".join(c if c.isprintable() and c not in ";#<>{}`" else " " for c in text)
    return " ".join(kept.split())[:TEXT_CHARACTERS]
