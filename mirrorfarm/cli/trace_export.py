"""`mirrorfarm trace export`: merged traces in the format of another tool."""

from collections.abc import Iterable
from pathlib import Path

import click

from mirrorfarm.cli.progress import progress
from mirrorfarm.cli.show import as_json, clean
from mirrorfarm.cli.trace_merge import clock_values, tell_clocks, tell_holes
from mirrorfarm.cli.trace_show import Faults
from mirrorfarm.trace.export import Options, export


def export_traces(paths: Iterable[Path], options: Options, *, json_wanted: bool = False) -> int:
    """Write the file; say what is in it; return the exit code."""
    faults = Faults()
    with progress(f"exporting to {options.output.name}") as tell:
        report = export(list(paths), options, faults, tell)
    if json_wanted:
        told = {
            "output": str(options.output),
            "format": options.to,
            "steps": report.steps,
            "messages_joined": report.joined,
            "gaps": report.gaps,
            "unordered": report.unordered,
            "text": report.message,
            "clocks": [clock_values(clock) for clock in report.clocks],
        }
        click.echo(as_json(told))
        return faults.exit_code
    tell_clocks(report.clocks, err=True)
    tell_holes(report.gaps, report.unordered)
    more = f"; {report.message}" if report.message else ""
    click.echo(clean(f"{options.output}: {report.steps} steps{more}"))
    return faults.exit_code
