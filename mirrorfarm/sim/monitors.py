"""What must hold in every run, checked at every step (docs/protocols/invariants.md)."""

from dataclasses import dataclass, field
from typing import Any

from mirrorfarm.actors.module.mirror.phases import LEADERS, Phase
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.transport.messages import Register


class Violation(AssertionError):
    """An invariant does not hold; the text begins with its name."""


@dataclass(slots=True)
class Monitors:
    """S1, S2, S4, S5, S8, S9, S12 and X1 on a simulated world."""

    ackers: dict[int, str] = field(default_factory=dict)
    acked: dict[int, int] = field(default_factory=dict)  # write -> time
    register: Register | None = None
    history: dict[int, Register] = field(default_factory=dict)  # term -> first register
    running: dict[str, bool] = field(default_factory=dict)
    last_terms: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def acknowledged(self, world: Any, node: str, write: int, term: int) -> None:
        """A node told its application that a write is done."""
        del world
        first = self.ackers.setdefault(term, node)
        if first != node:
            raise Violation(f"S1: {first} and {node} both acknowledged in term {term}")
        granted = self.history.get(term)
        if granted is None or granted.holder != node:
            raise Violation(f"S2: {node} acknowledged in term {term} without holding it")
        self.acked[write] = term

    def installed(self, world: Any, register: Register) -> None:
        """The arbiter made a register durable."""
        del world
        before = self.register
        if before is not None:
            if register.ver != before.ver + 1:
                raise Violation(f"S9: version {before.ver} is followed by {register.ver}")
            if register.holder != before.holder and register.holder not in before.isr:
                raise Violation(f"S5: {register.holder} was promoted from outside {before.isr}")
        self.register = register
        self.history.setdefault(register.term, register)

    def recorded(self, node: str, before: NodeRecord | None, after: NodeRecord) -> None:
        """A node's record became durable."""
        if before is None:
            return
        if (before.term, before.sid) > (after.term, after.sid):
            raise Violation(f"S9: {node} went back from {before.term}.{before.sid}")
        if before.inc > after.inc:
            raise Violation(f"S9: {node} went back to incarnation {after.inc}")

    def application(self, world: Any, node: str, *, runs: bool) -> None:
        """The application started or ended somewhere."""
        self.running[node] = runs
        if runs:
            others = [n for n, r in self.running.items() if r and n != node]
            if others:
                raise Violation(
                    f"X1: the application runs on {node} and {others[0]} at {world.now}"
                )
            state = world.nodes[node].cores["mirror"].state
            if not state.record.cons:
                raise Violation(f"S8: {node} starts the application on inconsistent data")

    def stepped(self, world: Any, node: Any) -> None:
        """A mirror took a step."""
        state = node.cores["mirror"].state
        if state.phase is Phase.LEADING and node.plane.wish.role == "lead":
            lost = [w for w in self.acked if w not in node.plane.data]
            register = self.register
            holds = register and register.holder == node.name and register.term == state.record.term
            if lost and holds:
                raise Violation(
                    f"S4: {node.name}, primary of term {state.record.term}, lacks {lost[:5]}"
                )
        if state.phase in LEADERS and not state.record.cons:
            raise Violation(f"S12: {node.name} leads although its copy did not end")
        del world
