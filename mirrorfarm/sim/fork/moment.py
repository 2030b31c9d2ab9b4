"""Which moment of a recording somebody means: a time, a time since its beginning, or an event."""

import re
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from mirrorfarm.actors.effects import Tell
from mirrorfarm.actors.events import Announce, FarmPicture, Received
from mirrorfarm.errors import TraceInvalid, UsageInvalid
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.modules.faults import shown
from mirrorfarm.sim.acts.kinds import duration_ns
from mirrorfarm.trace.facts import Facts
from mirrorfarm.trace.finding import Search
from mirrorfarm.trace.merge import Merge
from mirrorfarm.trace.step import Placed
from mirrorfarm.trace.words import clock_time, day
from mirrorfarm.transport.messages import Announcement, Heartbeat

_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d[T ])?(\d\d):(\d\d)(?::(\d\d)(?:[.](\d{1,9}))?)?")
SERVICE: Final = "service"
TIME_MAX: Final = (1 << 63) - 1  # In the year 2262.
OnStep = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a recording is left: just before its step `number`."""

    number: int
    at_ns: int  # Time of day, by the clock of the reference.


@dataclass(slots=True)
class Service:
    """Looks for the first step behind which all nodes were in service, as they said of a module."""

    module: str
    number: int = -1
    _roles: dict[str, str] = field(default_factory=dict)  # By node.
    _farm: dict[str, tuple[str, ...]] = field(default_factory=dict)  # Members, as each says.
    _seen: set[str] = field(default_factory=set)  # Nodes whose steps were there.

    def look(self, placed: Placed) -> None:
        """Look at the next step."""
        if self.number >= 0:
            return
        if self._serves():
            self.number = placed.number
            return
        step = placed.step
        if step.process != self.module:
            return
        self._seen.add(step.node)
        event = step.event
        if isinstance(event, Received) and isinstance(event.message, Heartbeat):
            self._note(event.source.node, event.message.about)
        for effect in step.effects:
            if isinstance(effect, Tell) and isinstance(effect.event, Announce):
                self._note(step.node, effect.event.about)
            elif isinstance(effect, Tell) and isinstance(effect.event, FarmPicture):
                picture = effect.event
                self._farm[step.node] = picture.members if picture.open else ()

    def _serves(self) -> bool:
        farm = self._farm
        if farm and all(set(members) == farm.keys() for members in farm.values()):
            return len(farm) > 1
        both = {"PRIM Ready", "SECOND Ready"} <= set(self._roles.values())
        return both and self._roles.keys() <= self._seen

    def _note(self, node: str, about: Announcement) -> None:
        self._roles[node] = f"{about.role} {about.status}"


def find(
    merge: Merge, wanted: str, module: str, on_step: OnStep = lambda done, total: None
) -> Moment:
    """Return the moment that is meant: `22:05:09.5`, `2026-11-25T22:05`, `+2.5s`, `n2 silent`.

    `service` is when all nodes of a module were in service for the first time: a primary and its
    secondary, or all nodes of a farm that had said anything.
    Raise UsageInvalid if there is none, or more than one; TraceInvalid if no clock shows its times.
    """
    words = wanted.strip()
    timed = words.startswith("+") or _TIME.fullmatch(words) is not None
    search, facts, service = Search(words), Facts(), Service(module)
    times = array("q")
    for placed in merge.steps():
        if words == SERVICE:
            service.look(placed)
        elif not timed:
            search.look(placed, facts.of(placed.step))
        _require_time(placed)
        times.append(placed.at_ns)
        on_step(placed.number, 2 * merge.total)
    if not times:
        raise UsageInvalid("--at: the traces hold no whole step: nothing can go on from them")
    if words == SERVICE:
        if service.number < 0:
            raise UsageInvalid(
                "--at: the nodes were never all in service while this was recorded: name a "
                "time or an event to go on from"
            )
        return Moment(service.number, times[service.number])
    if not timed:
        return _event(wanted, search)
    at_ns = _after(words, times[0]) if words[0] == "+" else _time(words, times)
    number = next((number for number, one in enumerate(times) if one >= at_ns), len(times))
    if number == 0 or at_ns > max(times):
        begin, end = (f"{day(one)} {clock_time(one)}" for one in (times[0], max(times)))
        raise UsageInvalid(
            f"--at {shown(wanted)}: not within what was recorded, {begin} to {end}: name a time "
            "between them, such as +2s after the beginning"
        )
    return Moment(number, at_ns)


def _require_time(placed: Placed) -> None:
    if placed.at_ns > TIME_MAX:
        raise TraceInvalid(
            f"a step of {placed.step.node} has a time of day after the year 2262: the header of "
            "its trace is damaged or forged; take another copy of it if you have one"
        )


def _event(wanted: str, search: Search) -> Moment:
    count, found = search.best()
    if count == 1:
        return Moment(found[0].number, found[0].at_ns)
    listed = "".join(f"\n  {one}" for one in found)
    if count:
        raise UsageInvalid(
            f"--at {shown(wanted)}: {count} events may be meant; name one by its id:{listed}"
        )
    raise UsageInvalid(
        f"--at {shown(wanted)}: neither a time nor an event of these traces; write 22:05:09.5, +2s "
        f"after the beginning, or an event such as one of these:{listed or ' (no role was taken)'}"
    )


def _after(words: str, begin_ns: int) -> int:
    try:
        return begin_ns + duration_ns(words[1:].strip())
    except ValueError as error:
        raise UsageInvalid(f"--at {shown(words)}: {error}") from None


def _time(words: str, times: "array[int]") -> int:
    """Return a time of day; without a date, that of the recording's days which is within it."""
    match = _TIME.fullmatch(words)
    assert match is not None, "its caller looked"
    part = int((match[5] or "").ljust(9, "0"))
    try:
        first = datetime.fromtimestamp(times[0] // SECOND_NS)  # noqa: DTZ006 - as `trace show`.
        hour, minute, second = int(match[2]), int(match[3]), int(match[4] or 0)
        moment = first.replace(hour=hour, minute=minute, second=second)
        if match[1]:
            on = datetime.fromisoformat(match[1][:10])
            moment = moment.replace(year=on.year, month=on.month, day=on.day)
    except ValueError as error:
        raise UsageInvalid(f"--at {shown(words)}: no such time: {error}") from None
    at_ns = int(moment.timestamp()) * SECOND_NS + part
    while not match[1] and at_ns < times[0]:  # On a later day of the recording.
        moment += timedelta(days=1)
        at_ns = int(moment.timestamp()) * SECOND_NS + part
    return at_ns
