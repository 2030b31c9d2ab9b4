"""Everything that a check of a farm's network brought together, and what a verdict is."""

from collections.abc import Iterable, Mapping
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


LARGE = 6  # Nodes of a farm whose lists of names are shortened.
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

    def who(self, names: Iterable[str]) -> str:
        """Return names of nodes as a sentence has them."""
        return named(names, self.nodes)

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

    def pairs(self, segment: int) -> list[tuple[str, str]]:
        """Return each two nodes on the network of an address, as sender and receiver."""
        nodes = self.places(segment)
        return [(a, b) for a in nodes for b in nodes if a != b]

    def together(self, segment: int) -> list[tuple[str, str]]:
        """Return the senders and receivers between which any frame passed."""
        found = []
        for a, b in self.pairs(segment):
            place, number = self.facts[b].place(segment), self.nodes.index(b)
            if place is not None and any(
                row.interface == place.interface and (row.kind != Kind.OWN or row.target == number)
                for kind in (Kind.VIRTUAL, Kind.BROADCAST, Kind.OWN)
                for row in self.rows(b, a, segment, kind)
            ):
                found.append((a, b))
        return found

    def whole(self, segment: int) -> str:
        """Return whom frames reach that reach everybody they can."""
        whole = len(self.together(segment)) == len(self.pairs(segment))
        return "every other node" if whole else "every node that it reaches at all"

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


def listed(names: Iterable[str], word: str = "and") -> str:
    """Return names as a sentence has them."""
    found = list(dict.fromkeys(names))
    if not found:
        return "nobody"
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} {word} {found[-1]}"


def named(names: Iterable[str], nodes: tuple[str, ...], word: str = "and") -> str:
    """Return names of nodes in the order of the module; most of a large farm by who is not."""
    wanted = set(names)
    found = [node for node in nodes if node in wanted]
    absent = [node for node in nodes if node not in wanted]
    if len(nodes) < LARGE or len(absent) * 4 > len(nodes):
        return listed(found, word)
    return f"all nodes but {listed(absent)}" if absent else f"all {len(nodes)} nodes"


def apiece(values: Mapping[str, object], nodes: tuple[str, ...]) -> str:
    """Return what each node has, equal values together: `1500 on n1 and n2; 1400 on n3`."""
    by_value: dict[object, list[str]] = {}
    for node, value in values.items():
        by_value.setdefault(value, []).append(node)
    return "; ".join(f"{value} on {named(names, nodes)}" for value, names in by_value.items())


def merged(found: Iterable[tuple[str, Verdict]], nodes: tuple[str, ...]) -> list[Verdict]:
    """Return verdicts on single nodes, as one where they say the same of several.

    In their texts `{nodes}` stands for the names, `{hosts}` for the same as `-H` takes them.
    """
    groups: dict[Verdict, list[str]] = {}
    for node, verdict in found:
        groups.setdefault(verdict, []).append(node)
    told = []
    for verdict, names in groups.items():
        texts = (
            text.replace("{nodes}", named(names, nodes)).replace("{hosts}", ",".join(names))
            for text in verdict[2:]
        )
        told.append(Verdict(verdict.level, verdict.topic, *texts))
    return told


def worst(verdicts: list[Verdict]) -> Level:
    """Return the worst level."""
    return max((verdict.level for verdict in verdicts), key=ORDER.index, default=Level.OK)
