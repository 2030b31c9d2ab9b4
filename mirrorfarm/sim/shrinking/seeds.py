"""From a seed to a scenario: what sweeps and the command call."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mirrorfarm.errors import ConfigInvalid, Refused
from mirrorfarm.sim.plans import Plan, plan_of
from mirrorfarm.sim.scenario.outcome import Outcome
from mirrorfarm.sim.scenario.playing import play
from mirrorfarm.sim.scenario.reading import read
from mirrorfarm.sim.scenario.record import Scenario
from mirrorfarm.sim.scenario.tape import record
from mirrorfarm.sim.scenario.writing import write
from mirrorfarm.sim.shrinking.diagram import diagram
from mirrorfarm.sim.shrinking.shrink import Progress, Shrinking

SECONDS: Final = 60.0
COMMENT_CHARACTERS: Final = 200


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
    def unreadable(self) -> str:
        """Why its file is read by nobody: it is too long still; "": it is read."""
        try:
            read(self.text.encode(), "it")
        except ConfigInvalid as error:
            return str(error)
        return ""

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

    `options`: see `plan_of`. Raises Refused if the seed does not fail, or the scenario is too long
    still to be read.
    """
    shrunk = shrink_plan(plan_of(options, seed))
    if why := shrunk.unreadable:
        raise Refused(f"after {SECONDS:g} s it is too long still for a scenario: {why}")
    return shrunk.text


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
    shrinking = Shrinking(tape, again.cause, lambda: time.monotonic() > until, tell)
    best = shrinking.run()
    return Shrunk(best, play(best), plan.seed, shrinking.tried, len(tape.events), shrinking.whole)
