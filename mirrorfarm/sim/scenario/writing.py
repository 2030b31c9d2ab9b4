"""A scenario to the text of its file: one line for each event, nothing that is a default.

Nor any event that does nothing in its cluster, as one of a farm's module may after shrinking has
left only the filters: reading refuses these.
"""

import re
from typing import Final

from mirrorfarm.sim.acts.act import written
from mirrorfarm.sim.acts.kinds import duration_text
from mirrorfarm.sim.scenario.effect import idle
from mirrorfarm.sim.scenario.record import Expectation, Farm, Scenario

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./%+-]+(?:[ |]+[A-Za-z0-9_./%+-]+)*", re.ASCII)
_AMBIGUOUS: Final = re.compile(r"[-?%].*")


def write(scenario: Scenario, comments: tuple[str, ...] = ()) -> str:
    """Return the file; `comments` stand at its beginning."""
    lines = [f"# {''.join(c if c.isprintable() else '?' for c in line)}" for line in comments]
    parts = {key: text for key, text in written(scenario)}
    after = [key for key in ("end", "core", "converges", "violates") if key in parts]
    lines += [f"{key}: {quoted(text)}" for key, text in parts.items() if key not in after]
    cluster = "farm" if isinstance(scenario.cluster, Farm) else "mirror"
    lines.append(f"{cluster}: {_flow(written(scenario.cluster))}")
    if written(scenario.wires):
        lines.append(f"network: {_flow(written(scenario.wires))}")
    events = [event for event in scenario.events if not idle(event.act, scenario.cluster)]
    if events:
        lines.append("events:")
    for event in events:
        lines.append(f"  - {_flow([('at', duration_text(event.at_ns)), *written(event.act)])}")
    lines += [f"{key}: {quoted(parts[key])}" for key in after]
    if scenario.expectations:
        lines.append("expect:")
    lines += [f"  - {_flow(_expected(one))}" for one in scenario.expectations]
    return "\n".join(lines) + "\n"


def _expected(one: Expectation) -> list[tuple[str, str]]:
    return [("by" if one.by else "at", duration_text(one.at_ns)), *written(one)]


def _flow(pairs: list[tuple[str, str]]) -> str:
    return "{" + ", ".join(f"{key}: {quoted(text)}" for key, text in pairs) + "}"


def quoted(text: str) -> str:
    """Return a value such that YAML reads this text again."""
    if _PLAIN.fullmatch(text) and not _AMBIGUOUS.fullmatch(text):
        return text
    return "'" + text.replace("'", "''") + "'"
