"""A progress bar on standard error, only on a terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import click

EVERY = 1_000  # Steps between two looks at the bar.
LINES = 10  # Instead of a bar.


class Tell(Protocol):
    """Says how much is done, and how much there is."""

    def __call__(self, done: int, total: int) -> None:
        """Say it."""
        ...


@contextmanager
def progress(what: str, *, every: int = EVERY, lines: bool = False) -> Iterator[Tell]:
    """Show how far something is while the context lasts; `lines`: where there is no terminal, too.

    `every`: after how much of it the bar moves.
    """
    if not sys.stderr.isatty():
        yield _in_lines(what) if lines else lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)

        def tell(done: int, total: int) -> None:
            if not done % every or done == total:
                bar.update(task, completed=done, total=total)

        yield tell


def _in_lines(what: str) -> Tell:
    """Say it in ten lines."""
    told = -1

    def tell(done: int, total: int) -> None:
        nonlocal told
        tenth = done * LINES // max(1, total)
        if tenth != told:
            told = tenth
            click.echo(f"{what}: {done:,} of {total:,}", err=True)

    return tell
