"""From a seed to a scenario: what sweeps and the command call."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mirrorfarm.errors import Refused, UsageInvalid
from mirrorfarm.modules.faults import shown, suggestion
from mirrorfarm.sim import farm_sweep, swarm
from mirrorfarm.sim.acts.act import arguments
from mirrorfarm.sim.farm_sweep import FarmSwarm
from mirrorfarm.sim.scenario.outcome import Outcome
from mirrorfarm.sim.scenario.playing import play
from mirrorfarm.sim.scenario.record import Mirror, Scenario
from mirrorfarm.sim.scenario.tape import record
from mirrorfarm.sim.scenario.writing import write
from mirrorfarm.sim.shrinking.diagram import diagram
from mirrorfarm.sim.shrinking.shrink import Progress, Shrinking
from mirrorfarm.sim.swarm import Swarm

SECONDS: Final = 60.0
FARM_MINUTES: Final = 2
COMMENT_CHARACTERS: Final = 200
Plan = Swarm | FarmSwarm


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The shortest scenario that was found, and how it goes."""

    scenario: Scenario
    outcome: Outcome
    seed: int
    tried: int  # Candidates.
    events_before: int
    whole: bool  # Nothing more can be left out.

    @property
    def text(self) -> str:
        """The scenario's file."""
        head = f"Seed {self.seed:#x}, shrunk. Broken: {self.outcome.violation}"
        return write(self.scenario, (head[:COMMENT_CHARACTERS],))

    @property
    def explanation(self) -> str:
        """A page with the diagram of what happens, and what led to the violation."""
        story = "\n".join(self.outcome.story) or "no step alone leads to it"
        return (
            f"# {self.outcome.violation}\n\n```mermaid\n{diagram(self.outcome)}```\n\n"
            f"What led to it, one line for each step:\n\n```\n{story}\n```\n"
        )


def shrink(options: str, seed: int) -> str:
    """Return the file of the shortest scenario that fails as a seed does, within a minute.

    `options`: see `plan_of`. Raises Refused if the seed does not fail.
    """
    return shrink_plan(plan_of(options, seed)).text


def shrink_plan(
    plan: Plan, seconds: float = SECONDS, tell: Callable[[Progress], None] = lambda progress: None
) -> Shrunk:
    """Shrink what a plan does for at most so long. Raises Refused if it does not fail."""
    until = time.monotonic() + seconds
    tape, violation = record(plan)
    invariant = violation.partition(":")[0]
    if not violation:
        raise Refused(f"seed {plan.seed:#x} breaks no invariant: there is nothing to shrink")
    tell(Progress("play the tape", 0, len(tape.events)))
    again = play(tape, tells=False)
    if again.invariant != invariant:
        found = again.violation or "no violation"
        raise Refused(
            f"seed {plan.seed:#x} breaks {violation}, but its tape comes to {found}: keep the seed"
        )
    shrinking = Shrinking(tape, invariant, lambda: time.monotonic() > until, tell)
    best = shrinking.run()
    return Shrunk(best, play(best), plan.seed, shrinking.tried, len(tape.events), shrinking.whole)


def plan_of(options: str, seed: int) -> Plan:
    """Return what a seed plays: `mirror`, `mirror-swarm`, `farm` or `farm-swarm`.

    The first of each is short and dense. After a comma: `minutes=5`, and for a dense mirror fields
    of a scenario's `mirror`, as in `mirror,ack_mode=received`. Raises UsageInvalid.
    """
    what, *words = options.split(",")
    given = dict(word.partition("=")[::2] for word in words)
    match what:
        case "mirror":
            return swarm.dense(seed, **_world(given))
        case "mirror-swarm":
            return swarm.draw(seed, _minutes(given, 30))
        case "farm":
            _minutes(given, 0)
            return farm_sweep.dense(seed, lossy=bool(seed % 2))
        case "farm-swarm":
            return farm_sweep.draw(seed, _minutes(given, FARM_MINUTES))
    known = ("mirror", "mirror-swarm", "farm", "farm-swarm")
    raise UsageInvalid(f"--options {shown(what)}: not known; {suggestion(what, known)}")


def _minutes(given: Mapping[str, str], usual: int) -> int:
    for key in given:
        if key != "minutes":
            raise UsageInvalid(f"--options {shown(key)}: not known here; known here: minutes")
    text = given.get("minutes", str(usual))
    if not text.isascii() or not text.isdigit() or not 0 <= int(text[:6]) <= 600:
        raise UsageInvalid(f"--options minutes={shown(text)}: a number up to 600 is expected")
    return int(text) or usual


def _world(given: Mapping[str, str]) -> dict[str, Any]:
    """Return fields of `world.Options`, and `profile`, out of words."""
    known = arguments(Mirror)
    found: dict[str, Any] = {}
    for key, text in given.items():
        if key not in known:
            raise UsageInvalid(f"--options {shown(key)}: not known; {suggestion(key, known)}")
        try:
            found[key] = known[key].kind.read(text)
        except ValueError as error:
            raise UsageInvalid(f"--options {key}: {error}") from None
    if "checked" in found:
        found["checked"] = "" if found["checked"] == "none" else found["checked"]
    return found
