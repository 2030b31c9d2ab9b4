"""`mirrorfarm trace whatif`: a recorded cluster goes on otherwise, many times."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from mirrorfarm.cli.progress import progress
from mirrorfarm.cli.show import as_json, clean, table
from mirrorfarm.cli.trace_show import Faults
from mirrorfarm.counting import counted
from mirrorfarm.durations import span
from mirrorfarm.errors import UsageInvalid
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.fork import changes, settings
from mirrorfarm.sim.fork.recording import Recording, read
from mirrorfarm.sim.fork.runs import Run, Variant
from mirrorfarm.sim.fork.whatif import Summary, compare, horizon_ns, spread
from mirrorfarm.sim.sweeps.plan import Finished
from mirrorfarm.trace.words import clock_time, day

VIOLATED: Final = 1
MIRROR_HEADS: Final = (
    *("", "took over", "needless", "at the end", "failover", "no primary", "writes stalled"),
)
FARM_HEADS: Final = (
    *("", "took over", "needless", "at the end", "outage", "no node", "longest outage"),
)
MINUTE_NS: Final = 60 * SECOND_NS
TOLD_MAX: Final = 20  # Of what came from outside.
REASONS_MAX: Final = 3  # Why nobody served, for each variant.


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the options say."""

    at: str
    module: str
    sets: tuple[str, ...]
    given: Mapping[str, tuple[str, ...]]  # drop delay crash pause
    keep_faults: bool
    seeds: int
    minutes: float | None  # None: as long as makes sense.
    workers: int
    json: bool
    progress: bool


def fork_trace(paths: tuple[Path, ...], wanted: Wanted) -> int:
    """Play, print what came of it, return the exit code."""
    faults = Faults()
    with progress("reading") as tell:
        recording = read(paths, wanted.at, wanted.module, faults, tell)
    variants = _variants(recording, wanted)
    for_ns = round((wanted.minutes or 0) * MINUTE_NS) or horizon_ns(recording, variants)
    _require_time(variants, for_ns)
    with progress("playing", every=1, lines=wanted.progress) as tell:
        seeds = range(wanted.seeds)
        found = compare(
            recording,
            variants,
            seeds,
            for_ns,
            keep_faults=wanted.keep_faults,
            workers=wanted.workers,
            tell=tell,
            died=_died,
        )
    if wanted.json:
        click.echo(as_json(_plain(recording, wanted, for_ns, found)))
    else:
        _tell(recording, wanted, for_ns, found)
    violated = any(one.violations for one in found)
    return faults.exit_code or (VIOLATED if violated else 0)


def _died(finished: Finished[Run]) -> None:
    """Tell of a process that ended in the midst of its runs."""
    runs = counted(len(finished.batch.seeds), "run")
    click.echo(f"a worker died ({finished.why}); {runs} of it are played again", err=True)


def _variants(recording: Recording, wanted: Wanted) -> list[Variant]:
    """Return the unchanged one, and one for each combination of settings."""
    nodes, witness = recording.module.nodes, recording.witness
    done = tuple(changes.parse(wanted.given, nodes, witness))
    chosen = settings.parse(wanted.sets, nodes, witness)
    for one in chosen:
        settings.require_scripts(recording.module, one, recording.missing)
    if not wanted.sets and not done:
        return [Variant()]
    what = ", ".join(str(change) for change in done)
    return [
        Variant(),
        *(
            Variant(", ".join(part for part in (str(one), what) if part), one, done)
            for one in chosen
        ),
    ]


def _require_time(variants: list[Variant], for_ns: int) -> None:
    """Raise UsageInvalid if a run is over before what is done in it begins."""
    for change in (change for one in variants for change in one.changes):
        if change.after_ns >= for_ns:
            raise UsageInvalid(
                f"--{change.kind}: each run is over after {span(for_ns)}, before "
                f"'{change}' begins: have it begin sooner, or play longer (--minutes)"
            )


def _plain(
    recording: Recording, wanted: Wanted, for_ns: int, found: list[Summary]
) -> dict[str, Any]:
    return {
        "module": recording.module.name,
        "nodes": list(recording.module.nodes),
        "witness": recording.witness,
        "at_ns": recording.at_ns,
        "steps_before": recording.steps,
        "keep_faults": wanted.keep_faults,
        "from_outside": [
            {
                "at_ns": one.at_ns,
                "kind": one.kind,
                "node": one.node,
                "text": str(one),
                "reached": one.reached(recording.at_ns, for_ns),
            }
            for one in recording.told
        ],
        "modelled": recording.modelled,
        "seeds": wanted.seeds,
        "played_ns": for_ns,
        "variants": [one.plain() for one in found],
    }


def _tell(recording: Recording, wanted: Wanted, for_ns: int, found: list[Summary]) -> None:
    """Print what a person reads."""
    module = recording.module
    click.echo(
        f"{module.name} goes on from {day(recording.at_ns)} {clock_time(recording.at_ns)}, behind "
        f"{recording.steps:,} recorded steps"
    )
    outside = recording.told
    for incident in outside[:TOLD_MAX]:
        reached = incident.reached(recording.at_ns, for_ns)
        kept = ("kept" if reached else "not reached") if wanted.keep_faults else "left out"
        click.echo(clean(f"{kept}: {incident}"))
    if len(outside) > TOLD_MAX:
        click.echo(f"and {len(outside) - TOLD_MAX} more that came from outside")
    for line in recording.modelled:
        click.echo(clean(f"a model: {line}"))
    click.echo(
        f"{counted(wanted.seeds, 'run')} of {span(for_ns)} for each variant; times in seconds"
    )
    heads = MIRROR_HEADS if module.mode == "mirror" else FARM_HEADS
    violated = any(one.violations for one in found)
    table([*heads, *(["violated"] if violated else [])], [_row(one, violated) for one in found])
    for one in found:
        for line in unserved(one):
            click.echo(clean(line))


def _row(one: Summary, violated: bool) -> list[str]:
    end = ", ".join(f"{who} {count}" for who, count in one.at_end.items())
    row = [
        one.variant.name,
        str(one.took_over),
        str(one.needless),
        end,
        *(_times(values) for values in (one.failover_ns, one.without_ns, one.stall_ns)),
    ]
    if violated:
        row.append(", ".join(f"{name} {count}" for name, count in one.violations.items()))
    return row


def unserved(one: Summary) -> Iterator[str]:
    """Tell why nobody served at the end, where that was so."""
    groups = one.unserved
    if groups:
        yield f"{one.variant.name}: why nobody served at the end"
    for said, runs in groups[:REASONS_MAX]:
        text = "; ".join(str(each) for each in said) or "no node's module ran"
        yield f"  in {counted(runs, 'run')}: {text}"
    others = groups[REASONS_MAX:]
    if others:
        rest = counted(sum(runs for _, runs in others), "run")
        yield f"  … and {counted(len(others), 'other reason')}, in {rest}"


def _times(values: list[int]) -> str:
    """Return least, median and 99th percentile."""
    if not values:
        return "-"
    found = spread(values)
    return " / ".join(f"{(found[key] or 0) / SECOND_NS:.2f}" for key in ("min", "median", "p99"))
