"""What must hold in every run, checked at every step (docs/protocols/invariants.md)."""

from dataclasses import dataclass, field
from typing import Any

from mirrorfarm.actors.module.mirror.phases import LEADERS, Phase
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.transport.address import MODULE_ACTOR
from mirrorfarm.transport.messages import Register


class Violation(AssertionError):
    """An invariant does not hold; the text begins with its name."""


def counts_itself_out(node: Any) -> bool:
    """Whether a node lost what it had confirmed from memory, and its record tells it so (R12)."""
    record = node.record
    return record is not None and record.from_memory and record.os_boot != f"boot-{node.boot}"


@dataclass(slots=True)
class Monitors:
    """S1 to S13 and X1 on a simulated world."""

    ackers: dict[int, str] = field(default_factory=dict)
    acked: dict[int, int] = field(default_factory=dict)  # write -> time
    register: Register | None = None
    history: dict[int, Register] = field(default_factory=dict)  # term -> first register
    running: dict[str, bool] = field(default_factory=dict)
    grants: dict[int, tuple[str, int]] = field(default_factory=dict)  # term -> node, incarnation

    def acknowledged(self, world: Any, node: str, write: int, term: int) -> None:
        """A node told its application that a write is done."""
        first = self.ackers.setdefault(term, node)
        if first != node:
            raise Violation(f"S1: {first} and {node} both acknowledged in term {term}")
        granted = self.history.get(term)
        if granted is None or granted.holder != node:
            raise Violation(f"S2: {node} acknowledged in term {term} without holding it")
        by = self.grants.get(term)
        if by != (node, world.nodes[node].incarnation):
            raise Violation(f"S11: {node} acknowledged in term {term}, which was granted to {by}")
        self._everywhere(world, node, write)
        self.acked[write] = term

    def _everywhere(self, world: Any, node: str, write: int) -> None:
        """S3 and S6: a write is told only when every node that could be promoted has it."""
        register = self.register
        assert register is not None
        members = set(register.isr)
        if world.nodes[node].up:
            asked = world.nodes[node].cores[MODULE_ACTOR].state.arbiter
            if asked.swapping and asked.purpose == "grow" and asked.wanted:
                members |= set(asked.wanted.isr)
        for member in sorted(members):
            if member not in world.nodes or counts_itself_out(world.nodes[member]):
                continue
            if write not in world.nodes[member].plane.data:
                raise Violation(f"S3: {node} told write {write}, which {member} lacks ({register})")

    def applied(self, world: Any, node: str, term: int, sid: int) -> None:
        """A write became durable on a node, in this session (0: by its own application)."""
        record = world.nodes[node].record
        if record and (term < record.term or (sid and (term, sid) < (record.term, record.sid))):
            raise Violation(
                f"S10: {node} wrote in {term}.{sid} after {record.term}.{record.sid} was durable"
            )

    def installed(self, world: Any, register: Register) -> None:
        """The arbiter made a register durable."""
        before = self.register
        if before is not None:
            if register.ver != before.ver + 1:
                raise Violation(f"S9: version {before.ver} is followed by {register.ver}")
            if register.holder != before.holder and register.holder not in before.isr:
                raise Violation(f"S5: {register.holder} was promoted from outside {before.isr}")
            for member in sorted(set(register.isr) - set(before.isr)):
                self._grown(world, member)
        self.register = register
        self.history.setdefault(register.term, register)

    def _grown(self, world: Any, member: str) -> None:
        """S7: whoever enters the set has everything, and its record says so."""
        node = world.nodes.get(member)
        if node is None or counts_itself_out(node):
            return
        if node.record is None or not node.record.cons:
            raise Violation(f"S7: {member} is in the set, but its record says its copy is torn")
        lost = [w for w in self.acked if w not in node.plane.data]
        if lost and world.directories:
            raise Violation(f"S7: {member} is in the set and lacks {lost[:5]}")

    def recorded(self, node: str, before: NodeRecord | None, after: NodeRecord) -> None:
        """A node's record became durable."""
        granted = before is None or after.term > before.term
        if granted and after.was in {"prim", "alone"}:
            self.grants[after.term] = (node, after.inc)
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
            state = world.nodes[node].cores[MODULE_ACTOR].state
            if not state.record.cons:
                raise Violation(f"S8: {node} starts the application on inconsistent data")

    def stepped(self, world: Any, node: Any) -> None:
        """A mirror took a step."""
        state = node.cores[MODULE_ACTOR].state
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


@dataclass(slots=True)
class AdvisoryMonitors(Monitors):
    """What must hold even where two nodes may go on alone: nothing is lost silently (S15)."""

    def acknowledged(self, world: Any, node: str, write: int, term: int) -> None:
        """A node told its application that a write is done."""
        self._nothing_is_gone(world)
        if write not in world.nodes[node].plane.data:
            raise Violation(f"S3: {node} told write {write}, which it lacks")
        self.acked[write] = term

    def _nothing_is_gone(self, world: Any) -> None:
        """S15: every acknowledged write is on some disk, replaced data in a quarantine."""
        planes = [node.plane for node in world.nodes.values()]
        for write in self.acked:
            if not any(write in plane.data or write in plane.kept for plane in planes):
                raise Violation(f"S15: write {write} was acknowledged and is nowhere any more")

    def installed(self, world: Any, register: Register) -> None:
        """The registers of the two nodes may differ."""

    def application(self, world: Any, node: str, *, runs: bool) -> None:
        """Both may run; but never on a torn copy (S8)."""
        self.running[node] = runs
        if runs and not world.nodes[node].cores[MODULE_ACTOR].state.record.cons:
            raise Violation(f"S8: {node} starts the application on inconsistent data")

    def stepped(self, world: Any, node: Any) -> None:
        """A mirror took a step."""
        state = node.cores[MODULE_ACTOR].state
        if state.phase in LEADERS and not state.record.cons:
            raise Violation(f"S12: {node.name} leads although its copy did not end")
        self._nothing_is_gone(world)
