"""A scenario file to a frozen record, or all that is wrong with it."""

import dataclasses
from collections.abc import Iterator
from typing import Any, Final

from mirrorfarm.modules.faults import Faults, shown, suggestion
from mirrorfarm.sim.acts.act import Act, Argument, arguments
from mirrorfarm.sim.acts.farm import SIDES
from mirrorfarm.sim.acts.kinds import MACHINES, MODULE, MOMENT, NETWORK, NODE, PAIR, Kind
from mirrorfarm.sim.acts.vocabulary import FARM, MIRROR
from mirrorfarm.sim.network import NETWORKS
from mirrorfarm.sim.scenario.effect import (
    VIOLATED,
    WHEN,
    empty,
    idle,
    misplaced,
    not_known,
    unbroken,
    unheard_of,
    unheeded,
)
from mirrorfarm.sim.scenario.record import (
    EVENTS_MAX,
    NODES,
    Event,
    Expectation,
    Farm,
    Mirror,
    Scenario,
    Wires,
)
from mirrorfarm.sim.scenario.tree import Items, Node, Pairs, Text, parse

SECTIONS: Final = ("mirror", "farm", "network", "events", "expect")
OTHER_MACHINES: Final = ("w1", "gw")


def read(text: bytes, file: str) -> Scenario:
    """Return the scenario of a file; raises ConfigInvalid with every fault found."""
    faults = Faults(file)
    root = parse(text, faults)
    if root is not None and not isinstance(root, Pairs):
        faults.add(root.line, "scenario", "keys with values are expected, such as `events:`")
    if not isinstance(root, Pairs):
        faults.raise_if_any()
    assert isinstance(root, Pairs)
    reader = _Reader(faults)
    scenario = reader.scenario(root, file)
    faults.raise_if_any()
    return scenario


def _named(pairs: Pairs, acts: dict[str, type[Act]]) -> list[str]:
    """Return what happens: not `wish` of `start: n1, wish: drain`, which is an event elsewhere."""
    named = [key for key in pairs.pairs if key in acts]
    keys = {name: {about.key for about in arguments(acts[name]).values()} for name in named}
    return [name for name in named if not any(name in keys[one] for one in named if one != name)]


def _names(value: Any) -> Iterator[str]:
    """Yield the names in a value: one, a list of them, or a list of sides."""
    if isinstance(value, str):
        yield value
        return
    for one in value:
        yield from _names(one)


class _Reader:
    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._cluster: Mirror | Farm = Mirror()
        self._nodes: tuple[str, ...] = ()
        self._modules: tuple[str, ...] = ()
        self._machines: tuple[str, ...] = ()
        self._networks: tuple[str, ...] = ()

    def scenario(self, root: Pairs, file: str) -> Scenario:
        values = self._values(Scenario, root, "", SECTIONS)
        if "mirror" in root.pairs and "farm" in root.pairs:
            self._faults.add(root.pairs["farm"][0], "farm", "either mirror or farm, not both")
        farm = "farm" in root.pairs
        kind: type[Any] = Farm if farm else Mirror
        cluster = self._cluster = self._record(kind, root, "farm" if farm else "mirror")
        empty = Scenario(cluster=cluster)
        self._nodes, self._modules = empty.nodes, empty.modules
        self._machines = self._nodes if farm else (*self._nodes, *OTHER_MACHINES)
        self._networks = NETWORKS[: cluster.networks]
        made = Scenario(
            **values,
            cluster=cluster,
            wires=self._record(Wires, root, "network"),
            events=tuple(self._events(root, (FARM if farm else MIRROR).acts)),
            expectations=tuple(self._expectations(root)),
            file=file,
        )
        self._relate(made, root)
        return made

    # --- records ---------------------------------------------------------------------------

    def _record(self, kind: type[Any], root: Pairs, key: str) -> Any:
        if key not in root.pairs:
            return kind()
        line, node = root.pairs[key]
        if isinstance(node, Text) and not node.text:
            return kind()
        if not isinstance(node, Pairs):
            self._faults.add(line, key, "keys with values are expected")
            return kind()
        return kind(**self._values(kind, node, f"{key}."))

    def _values(
        self, kind: type[Any], pairs: Pairs, path: str, others: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """Return the values of a record's fields; what is missing or unknown is a fault."""
        fields = arguments(kind)
        keys = {about.key or kind.name: name for name, about in fields.items()}
        values: dict[str, Any] = {}
        for key, (line, node) in pairs.pairs.items():
            if key in keys:
                found = self._value(f"{path}{key}", line, node, fields[keys[key]])
                if found is not None:
                    values[keys[key]] = found
            elif key not in others:
                cure = suggestion(key, [*keys, *others])
                self._faults.add(line, f"{path}{shown(key)}", f"unknown key; {cure}")
        for one in dataclasses.fields(kind):
            about = fields.get(one.name)
            needed = about is not None and one.default is dataclasses.MISSING
            if about is not None and needed and (about.key or kind.name) not in pairs.pairs:
                reason = f"required, but absent: {about.kind.what}"
                self._faults.add(pairs.line, f"{path}{about.key}", reason)
        return values

    def _value(self, path: str, line: int, node: Node, about: Argument) -> Any:
        if isinstance(node, Items) and all(isinstance(one, Text) for one in node.items):
            text = " ".join(one.text for one in node.items if isinstance(one, Text))
        elif isinstance(node, Text):
            text = node.text
        else:
            self._faults.add(line, path, f"a value is expected: {about.kind.what}")
            return None
        try:
            value = about.kind.read(text)
        except ValueError as error:
            self._faults.add(node.line, path, str(error))
            return None
        self._exists(path, node.line, about.kind, value)
        return value

    def _exists(self, path: str, line: int, kind: Kind, value: Any) -> None:
        """Note what is named and not there."""
        known = {
            id(NODE): self._nodes,
            id(NODES): self._nodes,
            id(SIDES): self._nodes,
            id(MODULE): self._modules,
            id(PAIR): self._machines,
            id(MACHINES): self._machines,
            id(NETWORK): self._networks,
        }
        there = known.get(id(kind), ())
        if not there:
            return
        for name in _names(value):
            if name not in there:
                reason = f"{shown(name)} is not in this cluster, which has: {', '.join(there)}"
                self._faults.add(line, path, reason)

    # --- lists -----------------------------------------------------------------------------

    def _list(self, root: Pairs, key: str) -> list[Pairs]:
        if key not in root.pairs:
            return []
        line, node = root.pairs[key]
        if isinstance(node, Text) and not node.text:
            return []
        if not isinstance(node, Items):
            self._faults.add(line, key, "a list is expected: lines that begin with -")
            return []
        if len(node.items) > EVENTS_MAX:
            self._faults.add(line, key, f"more than {EVENTS_MAX}")
        found = []
        for one in node.items[:EVENTS_MAX]:
            if isinstance(one, Pairs):
                found.append(one)
            else:
                reason = "write it as {at: 1 s, …}"
                self._faults.add(one.line, key, reason)
        return found

    def _moment(self, pairs: Pairs, path: str, key: str) -> int:
        line, node = pairs.pairs[key]
        found = self._value(f"{path}.{key}", line, node, Argument(key, MOMENT))
        return found if isinstance(found, int) else 0

    def _events(self, root: Pairs, acts: dict[str, type[Act]]) -> list[Event]:
        events = []
        for pairs in self._list(root, "events"):
            named = _named(pairs, acts)
            at_ns = 0
            if "at" in pairs.pairs:
                at_ns = self._moment(pairs, "events", "at")
            else:
                self._faults.add(pairs.line, "events.at", "required, but absent: when it happens")
            if len(named) != 1:
                self._not_one(pairs, named, acts)
                continue
            kind = acts[named[0]]
            before = len(self._faults)
            values = self._values(kind, pairs, "events.", ("at",))
            if len(self._faults) == before:
                events.append(Event(at_ns, kind(**values), pairs.line))
                self._has_effect(pairs, named[0], events[-1].act)
        return events

    def _has_effect(self, pairs: Pairs, name: str, act: Act) -> None:
        """Note an event that does nothing, or not what it says."""
        found = unheeded(act, self._cluster)
        reason = idle(act, self._cluster)
        for key, why in (found | {name: reason} if reason else found).items():
            self._faults.add(pairs.pairs[key][0], f"events.{key}", why)

    def _not_one(self, pairs: Pairs, named: list[str], acts: dict[str, type[Act]]) -> None:
        if named:
            reason = f"{' and '.join(named)}: two things; write two events"
            self._faults.add(pairs.line, "events", reason)
            return
        unknown = [key for key in pairs.pairs if key != "at"]
        for key in unknown[:1]:
            reason = f"unknown event; {suggestion(key, acts)}"
            self._faults.add(pairs.pairs[key][0], f"events.{shown(key)}", reason)
        if not unknown:
            self._faults.add(pairs.line, "events", f"what happens? {suggestion('', acts)}")

    def _expectations(self, root: Pairs) -> list[Expectation]:
        found = []
        for pairs in self._list(root, "expect"):
            when = [key for key in WHEN if key in pairs.pairs]
            values = self._values(Expectation, pairs, "expect.", WHEN)
            self._is_looked_at(pairs, values)
            if len(when) != 1:
                self._faults.add(pairs.line, "expect", "needs either at or by: when to look")
                continue
            moment = self._moment(pairs, "expect", when[0])
            found.append(Expectation(moment, when[0] == "by", pairs.line, **values))
        return found

    def _is_looked_at(self, pairs: Pairs, values: dict[str, Any]) -> None:
        """Note what of an expectation holds whatever happens."""
        for key in empty(values):
            reason = "empty, which holds whatever happens: write what is expected, or leave it out"
            self._faults.add(pairs.pairs[key][0], f"expect.{key}", reason)
        for key, reason in unheard_of(values):
            self._faults.add(pairs.pairs[key][0], f"expect.{key}", reason)
        for key, reason in misplaced(pairs.pairs, self._cluster):
            line = pairs.pairs[key][0] if key else pairs.line
            self._faults.add(line, f"expect.{key}" if key else "expect", reason)

    # --- what must agree -------------------------------------------------------------------

    def _relate(self, scenario: Scenario, root: Pairs) -> None:
        for event in scenario.events:
            if event.at_ns > scenario.end_ns:
                self._faults.add(event.line, "events.at", "after the end of the scenario; see end")
        last = -1
        for one in scenario.expectations:
            if one.at_ns > scenario.end_ns:
                self._faults.add(one.line, "expect", "after the end of the scenario; see end")
            if one.at_ns < last:
                self._faults.add(one.line, "expect", "earlier than the one before; order them")
            last = one.at_ns
            if (one.role or one.because or one.buckets >= 0) and not one.node:
                self._faults.add(one.line, "expect.node", "required, but absent: a node")
        if scenario.violates and scenario.violates not in VIOLATED:
            reason = not_known(scenario.violates, VIOLATED)
            self._faults.add(root.pairs["violates"][0], "violates", reason)
        elif scenario.violates and (reason := unbroken(scenario.violates, scenario.cluster)):
            self._faults.add(root.pairs["violates"][0], "violates", reason)
        if scenario.core != "all" and not scenario.converges:
            reason = "nothing is mended without `converges: yes`: write that, or leave it out"
            self._faults.add(root.pairs["core"][0], "core", reason)
        if isinstance(scenario.cluster, Farm):
            for event in scenario.events:
                if getattr(event.act, "module", ""):
                    self._faults.add(event.line, "module", "only of a mirror: a farm has only one")
            for key in ("network", "core"):
                if key in root.pairs:
                    self._faults.add(root.pairs[key][0], key, "only of a mirror")
