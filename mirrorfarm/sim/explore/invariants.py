"""The safety invariants of a mirror, checked at every move (docs/protocols/invariants.md).

What they have to remember (`Ghost`) is part of the state: S1, S2, S5, S6 and S7 on registers and
acknowledgements, S9 and S10 on records, S11 on incarnations, S4, S8 and S12 on whoever leads.
"""

from dataclasses import dataclass, replace
from typing import Any

from mirrorfarm.actors.module.mirror.phases import LEADERS, RUNNING, Phase
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.transport.address import MODULE_ACTOR
from mirrorfarm.transport.messages import Register


@dataclass(frozen=True, slots=True)
class Ghost:
    """What happened so far, as far as an invariant asks for it."""

    next_write: int = 1
    acked: frozenset[int] = frozenset()
    ackers: tuple[tuple[int, str], ...] = ()  # Term, node.
    register: Register | None = None
    holders: tuple[tuple[int, str], ...] = ()  # Term, first holder.
    grants: tuple[tuple[int, str, int], ...] = ()  # Term, node, incarnation.
    slept: bool = False  # A machine and its clock stood still: X1 is not promised (R9 is).


class Witnessed:
    """Looks at one move of a world."""

    def __init__(self, world: Any) -> None:
        self._world = world

    def _note(self, **changes: Any) -> None:
        self._world.ghost = replace(self._world.ghost, **changes)

    def wrote(self) -> None:
        """The application began one more write."""
        self._note(next_write=self._world.ghost.next_write + 1)

    def slept(self) -> None:
        """A machine was stopped together with its clock: its lease and its guard stood still."""
        self._note(slept=True)

    def acknowledged(self, node: str, write: int, term: int, wanted: tuple[str, ...]) -> None:
        """S1, S2, S3, S6, S11: a node told its application that a write is done.

        `wanted`: the set that it has asked the arbiter for, if it waits for an answer to that.
        """
        ghost, nodes = self._world.ghost, self._world.nodes
        others = [who for at, who in ghost.ackers if at == term and who != node]
        if others:
            raise Violation(f"S1: {others[0]} and {node} both acknowledged in term {term}")
        if (term, node) not in ghost.holders:
            raise Violation(f"S2: {node} acknowledged in term {term} without holding it")
        if (term, node, nodes[node].incarnation) not in ghost.grants:
            raise Violation(f"S11: {node} acknowledged in term {term}, granted to another process")
        for member in wanted or ghost.register.isr:
            if write not in nodes[member].plane.data:
                name = "S6" if member != node else "S3"
                raise Violation(f"{name}: {node} told write {write}, which {member} lacks")
        acker = (term, node)
        ackers = ghost.ackers if acker in ghost.ackers else (*ghost.ackers, acker)
        self._note(acked=ghost.acked | {write}, ackers=ackers)

    def applied(self, node: str, term: int, sid: int, copied: bool) -> None:
        """S10, S12: data of a session (0: the own application's) changed on a node's disk."""
        record = self._world.nodes[node].record
        if record is None or (term, sid) < (record.term, record.sid if sid else 0):
            raise Violation(f"S10: {node} wrote in {term}.{sid}, although it is past that")
        if sid and (record.term, record.sid) != (term, sid):
            raise Violation(f"S12: {node} wrote in {term}.{sid} before its record said so")
        if copied and record.cons:
            raise Violation(f"S12: a copy begins on {node}, whose record says its data are whole")

    def installed(self, register: Register) -> None:
        """S5, S7, S9: the register became durable."""
        ghost = self._world.ghost
        before = ghost.register
        if before is not None:
            if register.ver != before.ver + 1:
                raise Violation(f"S9: version {before.ver} is followed by {register.ver}")
            if register.holder != before.holder and register.holder not in before.isr:
                raise Violation(f"S5: {register.holder} was promoted from outside {before.isr}")
            for member in register.isr:
                if member not in before.isr:
                    self._grown(member)
        holders = ghost.holders
        if all(term != register.term for term, _ in holders):
            holders = (*holders, (register.term, register.holder))
        self._note(register=register, holders=holders)

    def _grown(self, member: str) -> None:
        node = self._world.nodes[member]
        if node.record is None or not node.record.cons:
            raise Violation(f"S7: {member} is in the set, but its record says its copy is torn")
        lost = sorted(self._world.ghost.acked - node.plane.data)
        if lost:
            raise Violation(f"S7: {member} is in the set and lacks {lost}")

    def recorded(self, node: str, before: NodeRecord | None, after: NodeRecord) -> None:
        """S9: a record became durable."""
        granted = before is None or after.term > before.term
        if granted and after.was in {"prim", "alone"}:
            self._note(grants=(*self._world.ghost.grants, (after.term, node, after.inc)))
        if before is not None and (before.term, before.sid) > (after.term, after.sid):
            raise Violation(f"S9: {node} went back from {before.term}.{before.sid}")

    def application_started(self, node: str, cons: bool) -> None:
        """S8, X1: the application starts; `cons`: what the record says of its data."""
        nodes = self._world.nodes
        others = [one.name for one in nodes.values() if one.application and one.name != node]
        if others and not self._world.ghost.slept:
            raise Violation(f"X1: the application runs on {node} and {others[0]}")
        if not cons:
            raise Violation(f"S8: {node} starts the application on inconsistent data")

    def stepped(self, name: str) -> None:
        """S4, S12: something happened on a node."""
        node = self._world.nodes.get(name)
        if node is None or not node.cores:
            return
        ghost, state = self._world.ghost, node.cores[MODULE_ACTOR].state
        if state.phase in LEADERS and not state.record.cons:
            raise Violation(f"S12: {name} leads although its copy did not end")
        about = state.peer.about
        if state.phase in RUNNING and not state.peer.silent and about.role in {"PRIM", "ALONE"}:
            if about.term > state.record.term:
                raise Violation(f"R9: {name} heard of term {about.term} and goes on")
        held = ghost.register
        holds = held and (held.holder, held.term) == (name, state.record.term)
        if state.phase is Phase.LEADING and node.plane.wish.role == "lead" and holds:
            lost = sorted(ghost.acked - node.plane.data)
            if lost:
                raise Violation(f"S4: {name}, primary of term {state.record.term}, lacks {lost}")
