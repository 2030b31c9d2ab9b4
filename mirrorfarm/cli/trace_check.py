"""`mirrorfarm trace check`: whether every invariant held in what was recorded."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import click

from mirrorfarm.cli.show import as_json, clean
from mirrorfarm.cli.trace_merge import tell_holes
from mirrorfarm.cli.trace_show import Faults
from mirrorfarm.errors import TraceInvalid
from mirrorfarm.sim.checking import Checked, check
from mirrorfarm.trace.words import clock_time

VIOLATED = 1


def check_traces(paths: Iterable[Path], *, json_wanted: bool) -> int:
    """Print what the monitors found; return the exit code."""
    faults = Faults()
    result = check(paths, faults)
    code = _exit_code(result, faults)
    if json_wanted:
        click.echo(as_json(asdict(result) | {"unreadable_places": faults.count}))
        return code
    for one in result.broken:
        click.secho(clean(f"{clock_time(one.at_ns)}  {one.text}"), fg="red")
        for line in one.story:
            click.echo(f"    {clean(line)}")
    names = ", ".join(result.invariants)
    where = f"{result.steps:,} steps of {len(result.processes)} processes"
    if result.violations:
        click.echo(f"{result.violations} violations of invariants in {where}")
    elif not result.steps:
        click.echo("nothing was checked: the files hold no whole step yet, or are cut off")
    else:
        click.echo(f"every invariant that can be seen in traces held: {names}; {where}")
    if result.uncompared:
        click.echo(
            f"mirrorfarm: not looked at: {', '.join(result.uncompared)}: no messages compare the "
            "clocks of all nodes in all of their boots; `mirrorfarm trace merge --clocks` says "
            "which. Record more of them, or name traces in which they hear each other",
            err=True,
        )
    tell_holes(result.gaps, 0)
    if _doubtful(result, faults):
        click.echo(clean(f"mirrorfarm: {_lacks(result, faults)}"), err=True)
    return code


def _exit_code(result: Checked, faults: Faults) -> int:
    """Return what the check came to; what it could not see decides nothing, either way."""
    if _doubtful(result, faults) or not result.steps:
        return TraceInvalid.exit_code
    return VIOLATED if result.violations else 0


def _doubtful(result: Checked, faults: Faults) -> bool:
    """Return whether so much is missing that what was found decides nothing.

    Messages that their sender's trace lacks are in sound recordings, too, as the last ones before
    a loss of power: these alone cast no doubt on invariants that held.
    """
    return bool(result.missing or faults.count or (result.violations and result.partial))


def _lacks(result: Checked, faults: Faults) -> str:
    """Return what a check without all traces is worth."""
    lacks, cures = [], []
    if result.missing:
        lacks.append(f"no trace of {', '.join(result.missing)}")
        cures.append("copy var/log/mirrorfarm of these machines as well")
    elif result.violations and result.partial:
        whose = ("it", "its trace") if len(result.partial) == 1 else ("them", "their traces")
        lacks.append(
            f"{', '.join(result.partial)}: messages that came from {whose[0]} are not in "
            f"{whose[1]} (cut off, or a start is missing)"
        )
        cures.append(
            f"name all files of {whose[1]}; what a process did just before it was killed is in none"
        )
    if faults.count:
        lacks.append("a part cannot be read" if faults.unread else "traces are damaged")
        cures.append("what to do about each place is said above")
    worth = "what is told as a violation may be none, and others may not be seen"
    return f"{', '.join(lacks)}: {worth}; {'; '.join(cures)}"
