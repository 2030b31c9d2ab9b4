"""Which moment of a recording somebody means: a time, a time since its beginning, or an event."""

import re
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mirrorfarm.errors import UsageInvalid
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.modules.faults import shown
from mirrorfarm.sim.acts.kinds import duration_ns
from mirrorfarm.trace.facts import Facts
from mirrorfarm.trace.finding import Search
from mirrorfarm.trace.merge import Merge
from mirrorfarm.trace.words import clock_time, day

_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d[T ])?(\d\d):(\d\d)(?::(\d\d)(?:[.](\d{1,9}))?)?")
OnStep = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a recording is left: just before its step `number`."""

    number: int
    at_ns: int  # Time of day, by the clock of the reference.


def find(merge: Merge, wanted: str, on_step: OnStep = lambda done, total: None) -> Moment:
    """Return the moment that is meant: `22:05:09.5`, `2026-11-25T22:05`, `+2.5s`, `n2 silent`.

    Raise UsageInvalid if there is none, or more than one.
    """
    words = wanted.strip()
    timed = words.startswith("+") or _TIME.fullmatch(words) is not None
    search, facts = Search(words), Facts()
    times = array("q")
    for placed in merge.steps():
        if not timed:
            search.look(placed, facts.of(placed.step))
        times.append(placed.at_ns)
        on_step(placed.number, 2 * merge.total)
    if not times:
        raise UsageInvalid("--at: the traces hold no whole step: nothing can go on from them")
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
