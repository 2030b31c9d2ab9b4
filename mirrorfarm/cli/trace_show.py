"""`mirrorfarm trace show`: the rows of traces, filtered, in the order of the time of day."""

import heapq
import json
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import click

from mirrorfarm.cli.show import clean
from mirrorfarm.counting import counted
from mirrorfarm.durations import span
from mirrorfarm.errors import TraceInvalid, UsageInvalid
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.modules.faults import shown as shown_word
from mirrorfarm.modules.faults import suggestion
from mirrorfarm.trace.files import Fault, Source, require_single, sources
from mirrorfarm.trace.registry import EFFECTS, EVENTS, MESSAGES
from mirrorfarm.trace.steps import Position, read_items
from mirrorfarm.trace.text import KINDS, Row, rows

POLL_SECONDS = 0.5
PLACES_MAX = 100  # Of a file, that are told; the others are counted.
BACK_NS = SECOND_NS  # By less, steps of several threads may be out of order.
UNITS = {"s": 1, "min": 60, "m": 60, "h": 3_600, "d": 86_400}
AGO = re.compile(r"([0-9]{1,9})(s|min|m|h|d)(?: ago)?")
TIMES = ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows are shown; what is empty does not filter. Times of day in nanoseconds.

    The whole microsecond of `end_ns` belongs to them: rows are told by microseconds.
    """

    begin_ns: int | None = None
    end_ns: int | None = None
    nodes: frozenset[str] = frozenset()
    actors: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    text: str = ""

    def fits(self, row: Row) -> bool:
        """Return whether a row is shown."""
        if self.begin_ns is not None and row.real_ns < self.begin_ns:
            return False
        if self.end_ns is not None and row.real_ns // 1_000 > self.end_ns // 1_000:
            return False
        if self.actors and row.actor not in self.actors:
            return False
        if self.kinds and not self.kinds & row.kinds:
            return False
        return not self.text or self.text in row.text()


@dataclass(slots=True)
class Odd:
    """Tells once of each node whose clocks cannot be right, on standard error."""

    told: set[tuple[str, str]] = field(default_factory=set)

    def look(self, source: Source, found: Iterator[Row]) -> Iterator[Row]:
        """Return the rows; look at the clocks that they were made by."""
        last_ns: int | None = None
        for row in found:
            if row.real_ns < 0:
                what = f"the clock of {row.node} stood before 1970"
                self._tell(source, "day", f"{what}: set it, should it still be wrong")
            if last_ns is not None and row.boot_ns < last_ns - BACK_NS:
                back = f"the boot clock of {row.node} goes back by {span(last_ns - row.boot_ns)}"
                self._tell(
                    source,
                    "boot",
                    f"{back} at step {row.step}: "
                    "the machine stood still or the trace is damaged, and times are wrong there",
                )
            last_ns = row.boot_ns
            yield row

    def _tell(self, source: Source, kind: str, what: str) -> None:
        if (source.node, kind) not in self.told:
            self.told.add((source.node, kind))
            click.echo(clean(f"mirrorfarm: {source.files[0]}: {what}"), err=True)


@dataclass(slots=True)
class _Places:
    """The places of one file that cannot be read. Each pass over it names them in their order."""

    told: set[Fault] = field(default_factory=set)
    last: int = -1  # The place that was told or counted last.
    more: int = 0  # How many are only counted.


@dataclass(slots=True)
class Faults:
    """Tells each place that cannot be read once, on standard error; of a file, the first ones.

    How many more a file has is told when the command ends, however it does.
    """

    _files: dict[Path, _Places] = field(default_factory=dict)

    def __call__(self, fault: Fault) -> None:
        """Tell of one."""
        places, offset = self._files.setdefault(fault.path, _Places()), fault.offset or 0
        if fault in places.told:
            return
        if len(places.told) < PLACES_MAX:
            places.told.add(fault)
            places.last = max(places.last, offset)
            click.echo(f"mirrorfarm: {clean(str(fault))}", err=True)
        elif offset > places.last:
            places.last = offset
            places.more += 1
            context = click.get_current_context(silent=True)
            if places.more == 1 and context is not None:
                context.call_on_close(lambda: _tell_more(fault.path, places.more))

    @property
    def count(self) -> int:
        """How many places there are."""
        return sum(len(places.told) + places.more for places in self._files.values())

    @property
    def unread(self) -> bool:
        """Whether there is a file or folder of which nothing can be read."""
        told = (fault for places in self._files.values() for fault in places.told)
        return any(fault.offset is None for fault in told)

    @property
    def exit_code(self) -> int:
        """0, or that of a trace that cannot be read wholly."""
        return TraceInvalid.exit_code if self._files else 0


def _tell_more(path: Path, count: int) -> None:
    more = f"and {counted(count, 'more place')} that cannot be read"
    click.echo(f"mirrorfarm: {clean(str(path))}: {more}", err=True)


def time_ns(text: str, option: str, now: float | None = None) -> int:
    """Return the time of day that a person means; raise UsageInvalid."""
    now = time.time() if now is None else now
    ago = AGO.fullmatch(text.strip())
    if ago:
        return int(now - int(ago[1]) * UNITS[ago[2]]) * SECOND_NS
    for pattern in TIMES:
        try:
            moment = datetime.strptime(text, pattern)  # noqa: DTZ007 - of this place, as is `today`.
        except ValueError:
            continue
        today = datetime.fromtimestamp(now)  # noqa: DTZ006
        whole = today.replace(
            hour=moment.hour,
            minute=moment.minute,
            second=moment.second,
            microsecond=moment.microsecond,
        )
        return _ns(whole)
    try:
        return _ns(datetime.fromisoformat(text))
    except ValueError:
        raise UsageInvalid(
            f"{option} {shown_word(text)}: not a time; write 22:05, 22:05:09.5, "
            "2026-11-25T22:05:09 or 10min"
        ) from None


def _ns(moment: datetime) -> int:
    return int(moment.replace(microsecond=0).timestamp()) * SECOND_NS + moment.microsecond * 1_000


def show_trace(
    paths: Iterable[Path], wanted: Wanted, *, follow: bool = False, json_wanted: bool = False
) -> int:
    """Print rows; return the exit code. With `follow`, until interrupted.

    Raise UsageInvalid where a word of `wanted` stands for nothing.
    """
    paths, faults = list(paths), Faults()
    _require_sense(paths, wanted, faults)
    actors: set[str] = set()
    read = shown = 0
    odd = Odd()
    positions: dict[tuple[Path, str, str, int], Position] = {}
    while True:
        for row in merged(paths, wanted, faults, positions, odd):
            actors.add(row.actor)
            read += 1
            if wanted.fits(row):
                shown += 1
                click.echo(json.dumps(row.json()) if json_wanted else line(row))
        if not follow:
            _tell_missing(wanted, actors - {""}, read, shown)
            return faults.exit_code
        time.sleep(POLL_SECONDS)


def require_known(option: str, wanted: Iterable[str], known: Iterable[str]) -> None:
    """Raise UsageInvalid if an option names what is not in the traces."""
    known = set(known)
    for one in wanted:
        if one not in known:
            raise UsageInvalid(f"{option} {_not_there(one, known)}")


def _not_there(word: str, known: set[str]) -> str:
    return f"{shown_word(word)}: not in these traces; {suggestion(word, known)}"


def _require_sense(paths: list[Path], wanted: Wanted, faults: Faults) -> None:
    found = sources(paths, faults)
    require_known("--node", sorted(wanted.nodes), (one.node for one in found))
    require_single(one for one in found if not wanted.nodes or one.node in wanted.nodes)
    types = (one.header.get("types") for one in found)
    known = {name for names in types if isinstance(names, dict) for name in names}
    known |= {*KINDS, *EVENTS, *EFFECTS, *MESSAGES}
    for one in sorted(wanted.kinds - known):
        hint = suggestion(one, known)
        if hint.startswith("known"):
            hint = f"known are {', '.join(KINDS)}, and types such as PeerSilent or Heartbeat"
        raise UsageInvalid(f"--kind {shown_word(one)}: there is no such kind; {hint}")
    begin, end = wanted.begin_ns, wanted.end_ns
    if begin is not None and end is not None and end < begin:
        raise UsageInvalid("--to is before --from: between them there is nothing")


def _tell_missing(wanted: Wanted, actors: set[str], read: int, shown: int) -> None:
    """Say why there is no row, or none of an actor that is wanted beside others."""
    why = "" if shown else "nothing in these traces is as wanted"
    if not read:
        why = "the files hold no whole step yet, or are cut off; take other copies if you have them"
    missing = sorted(wanted.actors - actors)
    if missing and actors:
        why = f"--actor {_not_there(missing[0], actors)}"
    if why:
        click.echo(clean(f"mirrorfarm: {'' if shown else 'no row: '}{why}"), err=True)


def merged(
    paths: list[Path],
    wanted: Wanted,
    faults: Faults,
    positions: dict[tuple[Path, str, str, int], Position],
    odd: Odd | None = None,
) -> Iterator[Row]:
    """Return the rows of all processes that are not behind `positions`, by the time of day."""
    odd = odd or Odd()
    parts = []
    for source in sources(paths, faults):
        if wanted.nodes and source.node not in wanted.nodes:
            continue
        at = positions.setdefault(_key(source), Position())
        parts.append(odd.look(source, rows(source, read_items(source, faults, at), at)))
    return heapq.merge(*parts, key=lambda row: row.real_ns)


def _key(source: Source) -> tuple[Path, str, str, int]:
    return (source.files[0].parent, source.node, source.process, source.incarnation)


def line(row: Row) -> str:
    """Return a row as a person reads it."""
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.real_ns // SECOND_NS))
    rest = row.real_ns % SECOND_NS // 1_000
    where = f"{row.node} {row.process}/{row.actor}" if row.actor else f"{row.node} {row.process}"
    return clean(f"{moment}.{rest:06d} {where} {row.text()}")
