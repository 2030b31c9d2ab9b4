"""What became of a scenario."""

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
    turns: int = 0  # Events that cores were given.
    unmet: list[str] = field(default_factory=list)  # Expectations.
    moments: list[Moment] = field(default_factory=list)

    @property
    def invariant(self) -> str:
        """The name of the invariant that does not hold; "" if all do."""
        return self.violation.partition(":")[0]

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
