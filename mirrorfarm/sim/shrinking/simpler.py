"""What would be simpler: candidates for the parts of a scenario, the simplest first."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.sim.acts.act import arguments
from mirrorfarm.sim.acts.kinds import DURATION, LENGTH, OFFSET, SHARE, SWITCH
from mirrorfarm.sim.acts.people import Write
from mirrorfarm.sim.scenario.record import Event, Farm, Mirror, Scenario, Wires

UNITS: Final = (
    *(10 * SECOND_NS, SECOND_NS, 500 * MILLISECOND_NS, 100 * MILLISECOND_NS),
    *(10 * MILLISECOND_NS, MILLISECOND_NS),
)
EVERY: Final = (SECOND_NS, 100 * MILLISECOND_NS, 50 * MILLISECOND_NS, 20 * MILLISECOND_NS)
SEEDS: Final = (1, 2, 3, 4, 5)


def rounded(value: int) -> Iterator[int]:
    """Yield values near a time or duration that are shorter to write, the shortest first."""
    low, high = sorted((value // 2, value * 2))
    for unit in UNITS:
        for candidate in (value // unit * unit, -(-value // unit) * unit):
            if candidate == value:
                return  # Smaller units make it no shorter.
            if low <= candidate <= high and candidate:
                yield candidate


def clusters(scenario: Scenario) -> Iterator[Scenario]:
    """Yield the scenario with simpler surroundings, one thing at a time."""
    yield replace(scenario, wires=Wires())
    for one in _defaults(scenario.wires):
        yield replace(scenario, wires=one)
    for cluster in _defaults(scenario.cluster):
        yield replace(scenario, cluster=cluster)
    if isinstance(scenario.cluster, Farm):
        yield from _fewer_nodes(scenario, scenario.cluster)
    else:
        yield from _fewer_modules(scenario, scenario.cluster)
    if scenario.tricks:
        yield replace(scenario, tricks=False)
    if scenario.core != "all":
        yield replace(scenario, core="all")
    if scenario.begin == "off" and isinstance(scenario.cluster, Farm):
        yield replace(scenario, begin="in service")
    for seed in SEEDS:
        if seed < scenario.seed or (seed == 1 and not scenario.seed):
            yield replace(scenario, seed=seed)


def _defaults(record: Any) -> Iterator[Any]:
    for field in dataclasses.fields(record):
        kept = field.name in ("nodes", "modules")  # Events name them: see below.
        if field.metadata and not kept and getattr(record, field.name) != field.default:
            yield replace(record, **{field.name: field.default})


def _fewer_nodes(scenario: Scenario, farm: Farm) -> Iterator[Scenario]:
    """Yield the farm without its last nodes, if nothing is done to these."""
    for count in range(2, farm.nodes):
        names = {f"n{number}" for number in range(count + 1, farm.nodes + 1)}
        left = tuple(event for event in scenario.events if not names & set(_named(event)))
        yield replace(scenario, cluster=replace(farm, nodes=count), events=left)


def _fewer_modules(scenario: Scenario, mirror: Mirror) -> Iterator[Scenario]:
    """Yield the mirror without its last modules, and without what is done to these."""
    for count in range(1, mirror.modules):
        gone = scenario.modules[count:]
        left = [one for one in scenario.events if getattr(one.act, "module", "") not in gone]
        yield replace(scenario, cluster=replace(mirror, modules=count), events=tuple(left))


def _named(event: Event) -> list[str]:
    """Return the words among the arguments of an act."""
    found: list[str] = []
    for name in arguments(event.act):
        value = getattr(event.act, name)
        for one in value if isinstance(value, tuple) else (value,):
            found += one if isinstance(one, tuple) else [one] if isinstance(one, str) else []
    return found


def acts(event: Event) -> Iterator[Event]:
    """Yield the event with one simpler argument, or at a simpler time."""
    for at_ns in (0, *rounded(event.at_ns)):
        if at_ns != event.at_ns:
            yield replace(event, at_ns=at_ns)
    for name, about in arguments(event.act).items():
        value = getattr(event.act, name)
        default = next(f.default for f in dataclasses.fields(event.act) if f.name == name)
        if value == default:
            continue
        if default is not dataclasses.MISSING and about.key:
            yield _with(event, name, default)
        if about.kind in (DURATION, LENGTH, OFFSET):
            for candidate in rounded(value):
                yield _with(event, name, candidate)
        elif isinstance(value, int) and about.kind not in (SWITCH, SHARE):
            for number in (1, 2, 3, 5, 10, value // 4, value // 2):
                if 0 < number < value:
                    yield _with(event, name, number)


def _with(event: Event, name: str, value: Any) -> Event:
    return replace(event, act=replace(event.act, **{name: value}))


def writes(events: Sequence[Event]) -> Iterator[list[Event]]:
    """Yield the events with all single writes of a module in one: so many, one every so often."""
    single = [(event.at_ns, event.act) for event in events if isinstance(event.act, Write)]
    if len(single) < 2:
        return
    others = [event for event in events if not isinstance(event.act, Write)]
    modules = dict.fromkeys(write.module for _, write in single)
    parts = [[one for one in single if one[1].module == module] for module in modules]
    begins = [part[0][0] for part in parts]
    for every in EVERY:
        yield ordered([*others, *map(_row, parts, begins, [every] * len(parts))])
        if any(begins):
            yield ordered([*others, *(_row(part, 0, every) for part in parts)])
    means = [(part[-1][0] - part[0][0]) // max(len(part) - 1, 1) for part in parts]
    if min(means) >= MILLISECOND_NS:
        yield ordered([*others, *map(_row, parts, begins, means)])


def _row(part: Sequence[tuple[int, Write]], begin: int, every: int) -> Event:
    """Return writes from a time on, one every so often, until the last of a module's writes."""
    last, write = part[-1]
    count = min(-(-(last - begin) // every) + 1, 9_999)
    return Event(begin, replace(write, count=count, every_ns=every))


def ordered(events: Sequence[Event]) -> list[Event]:
    """Return the events in the order of their times."""
    return sorted(events, key=lambda event: event.at_ns)


def earlier(events: Sequence[Event]) -> Iterator[list[Event]]:
    """Yield the events with less time before all of them, or between two of them."""
    events = ordered(events)  # Rounded times may have changed it.
    for index, event in enumerate(events):
        before = events[index - 1].at_ns if index else 0
        gap = event.at_ns - before
        for left in (0, 100 * MILLISECOND_NS, SECOND_NS, 5 * SECOND_NS, gap // 2):
            if left < gap:
                moved = [replace(one, at_ns=one.at_ns - gap + left) for one in events[index:]]
                yield [*events[:index], *moved]
