"""Everything that a check of a farm's network brought together, and what a verdict is."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from mirrorfarm.netfilter.preflight import Facts, Kind, Place, Report, Seen


class Level(StrEnum):
    """How bad it is; only a problem makes the command fail."""

    OK = "ok"
    UNTESTED = "untested"
    WARNING = "warning"
    PROBLEM = "problem"


ORDER = (Level.OK, Level.UNTESTED, Level.WARNING, Level.PROBLEM)


class Verdict(NamedTuple):
    """One finding."""

    level: Level
    topic: str  # nodes network delivery flood announcement owner size time heartbeat kernel filter
    what: str
    why: str = ""
    cure: str = ""


@dataclass(slots=True)
class Check:
    """Everything that is known at the end of a check. Nodes are counted as in the module."""

    module: str
    nodes: tuple[str, ...]
    facts: dict[str, Facts]
    reports: dict[str, Report]
    missing: dict[str, str] = field(default_factory=dict)  # Node -> why it took no part.
    roles: dict[str, str] = field(default_factory=dict)  # Node -> STOP WAIT UP; absent: unknown.
    modes: dict[str, str] = field(default_factory=dict)  # Node -> filter of the running module.
    unannounced: str = ""  # Why nothing was announced; "": it was.
    unplanted: str = ""  # Why neighbour entries were not tried; "": they were.

    @property
    def present(self) -> tuple[str, ...]:
        """The nodes that took part."""
        return tuple(node for node in self.nodes if node in self.facts and node in self.reports)

    @property
    def up(self) -> tuple[str, ...]:
        """The nodes on which the module runs, and has the addresses or is about to."""
        return tuple(node for node in self.nodes if self.roles.get(node) in {"UP", "WAIT"})

    @property
    def first(self) -> Facts:
        """What the nodes have in common, by one of them."""
        return self.facts[self.present[0]]

    def segments(self) -> tuple[int, ...]:
        """Return the first address of each interface, of any node."""
        found = {p.addresses[0] for node in self.present for p in self.facts[node].places}
        return tuple(sorted(found))

    def places(self, segment: int) -> dict[str, Place]:
        """Return where each node is on the network of an address, if it is up there."""
        found = {node: self.facts[node].place(segment) for node in self.present}
        return {node: place for node, place in found.items() if place is not None and place.up}

    def rows(self, receiver: str, sender: str, segment: int, kind: Kind) -> list[Seen]:
        """Return what arrived from a node, on whatever interface."""
        number = self.nodes.index(sender)
        wanted = (number, segment, int(kind))
        seen = self.reports[receiver].seen
        return [row for row in seen if (row.sender, row.segment, row.kind) == wanted]

    def frames(self, receiver: str, sender: str, segment: int, kind: Kind, target: int) -> int:
        """Return how many different frames arrived at the interface of the segment's address."""
        place = self.facts[receiver].place(segment)
        return sum(
            row.frames
            for row in self.rows(receiver, sender, segment, kind)
            if row.target == target and place is not None and row.interface == place.interface
        )

    def name(self, segment: int) -> str:
        """Return how a segment is called in a verdict: its interfaces, and addresses."""
        places = [p for node in self.present if (p := self.facts[node].place(segment))]
        interfaces = "/".join(dict.fromkeys(place.interface for place in places)) or "?"
        numbers = places[0].addresses if places else (segment,)
        return f"{interfaces} ({', '.join(self.first.addresses[n] for n in numbers)})"


def listed(names: Iterable[str]) -> str:
    """Return names as a sentence has them."""
    found = list(dict.fromkeys(names))
    if not found:
        return "nobody"
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"


def pairs_in_words(pairs: list[tuple[str, str]], nodes: tuple[str, ...]) -> str:
    """Return (sender, receiver) pairs shortly: who is not reached, or does not reach."""
    others = len(nodes) - 1
    if len(pairs) == len(nodes) * others:
        return "no node reaches another"
    told, left = [], dict.fromkeys(pairs)
    for node in nodes:
        to = [pair for pair in left if pair[1] == node]
        of = [pair for pair in left if pair[0] == node]
        if len(to) == others and len(of) == others:
            told.append(f"{node} and the others do not reach each other")
        elif len(to) == others:
            told.append(f"no node reaches {node}")
            of = []
        elif len(of) == others:
            told.append(f"{node} reaches no node")
            to = []
        else:
            continue
        left = {pair: None for pair in left if pair not in {*to, *of}}
    return ", ".join([*told, *(f"{a} does not reach {b}" for a, b in left)])


def worst(verdicts: list[Verdict]) -> Level:
    """Return the worst level."""
    return max((verdict.level for verdict in verdicts), key=ORDER.index, default=Level.OK)
