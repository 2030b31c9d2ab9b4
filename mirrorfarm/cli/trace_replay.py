"""`mirrorfarm trace replay`: recorded events into fresh cores, the effects compared."""

import gc
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from mirrorfarm.cli.show import as_json, clean
from mirrorfarm.cli.trace_show import Faults, line, require_known
from mirrorfarm.counting import counted
from mirrorfarm.errors import Refused, TraceInvalid
from mirrorfarm.trace.decoder import Checkpoint
from mirrorfarm.trace.files import Source, require_single, sources
from mirrorfarm.trace.replay import Difference, Replay
from mirrorfarm.trace.step import Step
from mirrorfarm.trace.steps import Item, read_items
from mirrorfarm.trace.text import Row, told
from mirrorfarm.transport.trace_ring import sources as build_of_sources

DIFFERS = 3
LED_THERE = 5  # Steps of the core that are shown before the one that differs.
GARBAGE_EVERY = 50_000  # Cores make no cycles; looking for them takes a tenth of the time.


def replay_trace(
    paths: Iterable[Path],
    nodes: frozenset[str],
    actors: frozenset[str],
    every: bool,
    json_wanted: bool,
) -> int:
    """Replay, print what was found, return the exit code.

    Raise UsageInvalid, Refused or TraceInvalid where these traces cannot be replayed.
    """
    gc.set_threshold(GARBAGE_EVERY)
    faults, counts, differences = Faults(), Counter(Replay().counts), 0
    actors_there: set[str] = set()
    builds: set[str] = set()
    begun, shown = time.perf_counter(), []
    for source in _chosen(sources(paths, faults), nodes):
        builds.add(source.header["build"])
        replay = Replay()
        history = _History(read_items(source, faults), actors)
        for difference in replay.run(history):
            if every or not differences:
                shown.append(_described(source, difference, history))
            differences += 1
            if not every:
                break
        counts.update(replay.counts)
        actors_there |= history.actors_there
        if differences and not every:
            break
    if every or not differences:  # Everything was read.
        require_known("--actor", sorted(actors), actors_there)
    seconds = time.perf_counter() - begun
    result = {
        "differences": differences,
        **counts,
        "replayed": counts["steps"] - counts["skipped"],
        "seconds": round(seconds, 3),
        "records_per_second": int(
            (counts["records"] - counts["skipped_records"]) / max(seconds, 1e-9)
        ),
        "build": build_of_sources()[0],
        "recorded_by": sorted(builds),
        "unreadable_places": faults.count,
        "first": shown[:1] if not every else shown,
    }
    click.echo(as_json(result) if json_wanted else _report(result))
    if differences:
        return DIFFERS
    return faults.exit_code if result["replayed"] else TraceInvalid.exit_code


def _chosen(found: list[Source], nodes: frozenset[str]) -> list[Source]:
    """Return the traces that are to be replayed."""
    require_known("--node", sorted(nodes), (one.node for one in found))
    chosen = [one for one in found if one.has_cores and (not nodes or one.node in nodes)]
    for source in chosen:
        _require_whole(source)
    require_single(chosen)
    return chosen


def _require_whole(source: Source) -> None:
    if source.header.get("redact", "none") != "none":
        raise Refused(
            f"{source.files[0]}: a redacted trace cannot be replayed: names and states were taken "
            "out of it; replay the original on the node that recorded it"
        )


class _History:
    """The items of a process, and the last steps of each of its cores."""

    def __init__(self, items: Iterator[Item], actors: frozenset[str]) -> None:
        self._items, self._actors = items, actors
        self.actors_there: set[str] = set()
        self.last: dict[str, list[Step]] = {}

    def __iter__(self) -> Iterator[Item]:
        for item in self._items:
            if isinstance(item, Step | Checkpoint):
                self.actors_there.add(item.actor)
                if self._actors and item.actor not in self._actors:
                    continue
            if isinstance(item, Step):
                steps = self.last.setdefault(item.actor, [])
                steps.append(item)
                if len(steps) > LED_THERE:
                    del steps[0]
            yield item


def _described(source: Source, difference: Difference, history: _History) -> dict[str, Any]:
    step, place = difference.step, difference.place
    steps = [one for one in history.last.get(step.actor, []) if one.number <= step.number]
    return {
        "node": source.node,
        "process": source.process,
        "actor": step.actor,
        "step": step.number,
        "what": difference.what,
        "led_there": [line(_row(source, one)) for one in steps],
        "place": place + 1,
        "recorded": _effect(difference.recorded, place),
        "replayed": _effect(difference.replayed, place),
    }


def _row(source: Source, step: Step) -> Row:
    what = (step.real_ns, step.now_ns, source.node, source.process, step.actor, step.number)
    return Row(*what, "input", step.event)


def _effect(effects: list[Any], place: int) -> str:
    if place >= len(effects):
        return "nothing more"
    one = effects[place]
    return one if isinstance(one, str) else told(one)


def _report(result: dict[str, Any]) -> str:
    """Return what a person reads."""
    lines = []
    for first in result["first"]:
        where = f"{first['node']} {first['process']}/{first['actor']}"
        lines.append(f"{where}, step {first['step']}: {_WHAT[first['what']]}")
        lines += ["  the events that led there:", *(f"    {one}" for one in first["led_there"])]
        lines += [
            f"  effect {first['place']} as recorded: {first['recorded']}",
            f"  effect {first['place']} as replayed: {first['replayed']}",
        ]
    other = [one for one in result["recorded_by"] if one != result["build"]]
    if other:
        lines.append(
            f"recorded by another build ({', '.join(other)}; this one is {result['build']}): a "
            "difference shows what this build would have done otherwise"
        )
    lines.append(
        f"{result['steps']} steps, {result['records']} records in {result['seconds']:.2f} s "
        f"({result['records_per_second']} records/s): {_verdict(result)}"
    )
    if result["skipped"] and result["replayed"]:
        lines.append(
            f"{result['skipped']} steps were not replayed: the state of their core before them is "
            f"not in the trace, or this build does not know it ({result['gaps']} gaps)"
        )
    if result["broke"]:
        lines.append(f"{result['broke']} cores broke when it was recorded, and broke again")
    return clean("\n".join(lines), lines=True)


_WHAT = {
    "effects": "the core did something else",
    "state": "the core did the same, but is in another state",
    "the core broke": "the core broke, which it did not when it was recorded",
}


def _verdict(result: dict[str, Any]) -> str:
    count = result["differences"]
    if not result["steps"]:
        return (
            "nothing was replayed: the files hold no whole step yet, or are cut off; take other "
            "copies if you have them"
        )
    if not result["replayed"]:
        return (
            "nothing was replayed: no step in these traces comes behind a state of its core that "
            "this build knows: replay them with the version that recorded them, or name whole "
            "files: each begins with the states of its cores"
        )
    if not count:
        some = f"of {result['replayed']} steps replayed " if result["skipped"] else ""
        return f"{some}every effect came again, the same"
    return counted(count, "difference")
