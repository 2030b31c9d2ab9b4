"""What became of a scenario."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mirrorfarm.sim.scenario.record import Scenario
from mirrorfarm.sim.steps import Step


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that a reader of the story wants to know."""

    at_ns: int  # After the beginning.
    node: str
    text: str


@dataclass(slots=True)
class Outcome:
    """How a scenario went."""

    scenario: Scenario
    violation: str = ""  # Begins with the invariant's name; empty: all hold.
    at_ns: int = 0  # When that showed, or when it ended.
    chain: tuple[Step, ...] = ()  # What led to it.
    story: tuple[str, ...] = ()  # The same as text.
    mended: bool = False  # It was at its end already, and all was being mended.
    turns: int = 0  # Events that cores were given.
    unmet: list[str] = field(default_factory=list)  # Expectations.
    moments: list[Moment] = field(default_factory=list)

    @property
    def invariant(self) -> str:
        """The name of the invariant that does not hold; "" if all do."""
        return self.violation.partition(":")[0]

    @property
    def cause(self) -> str:
        """What is broken: see `cause_of`."""
        return cause_of(self.violation, self.story)

    @property
    def as_expected(self) -> bool:
        """Whether everything came as the file says."""
        return self.invariant == self.scenario.violates and not self.unmet

    def as_object(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "file": self.scenario.file,
            "title": self.scenario.title,
            "as_expected": self.as_expected,
            "expected_violation": self.scenario.violates,
            "violation": self.violation,
            "invariant": self.invariant,
            "at_ns": self.at_ns,
            "unmet": self.unmet,
            "moments": [[one.at_ns, one.node, one.text] for one in self.moments],
            "story": list(self.story),
        }


def cause_of(violation: str, story: Sequence[str]) -> str:
    """Return what is broken: the invariant, and more of those that stand for many things.

    Of an assertion of a core it is where it stands (`asserted`), of a state machine which cell.
    """
    invariant = violation.partition(":")[0]
    if invariant == "assert" and story:
        return f"assert: {story[-1]}"
    return violation if invariant == "matrix" else invariant
