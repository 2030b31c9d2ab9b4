"""`mirrorfarm trace why`: the chain of causes of one event."""

from collections.abc import Iterable
from pathlib import Path

import click

from mirrorfarm.cli.progress import progress
from mirrorfarm.cli.show import as_json, clean
from mirrorfarm.cli.trace_merge import tell_clocks
from mirrorfarm.cli.trace_show import Faults
from mirrorfarm.trace.why import why

WIDTH = 98


def explain(
    event: str, paths: Iterable[Path], *, json_wanted: bool = False, plain: bool = False
) -> int:
    """Print why an event happened; return the exit code."""
    faults = Faults()
    with progress("reading") as tell:
        answer = why(list(paths), event, faults, tell)
    if json_wanted:
        click.echo(as_json(answer.plain()))
        return faults.exit_code
    tell_clocks(answer.clocks, err=True)
    click.echo(click.wrap_text(clean(answer.paragraph), width=WIDTH))
    if not plain:
        click.echo("\n```mermaid\n" + clean(answer.diagram, lines=True) + "```")
    return faults.exit_code
