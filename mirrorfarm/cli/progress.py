"""A progress bar on standard error, only on a terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

EVERY = 1_000  # Steps between two looks at the bar.


class Tell(Protocol):
    """Says how much is done, and how much there is."""

    def __call__(self, done: int, total: int) -> None:
        """Say it."""
        ...


@contextmanager
def progress(what: str) -> Iterator[Tell]:
    """Show how far something is while the context lasts."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
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
            if not done % EVERY or done == total:
                bar.update(task, completed=done, total=total)

        yield tell
