"""How a sweep goes on: a bar on a terminal, else a line now and then; on standard error."""

import time
from collections.abc import Sequence
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from mirrorfarm.cli.show import clean
from mirrorfarm.counting import counted_are
from mirrorfarm.sim.sweeps.plan import Finished
from mirrorfarm.sim.sweeps.result import SeedResult
from mirrorfarm.sim.sweeps.results import Appender

LINE_SECONDS = 30.0
CLASSES_TOLD = 20  # While it goes on; the summary tells them all.
TEXT_CHARACTERS = 160


class Progress:
    """Tells what happens to a sweep; see `sweep.Watcher`."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bar = Bar(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}  {task.fields[failed]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, rate="", failed="")
        self.deaths = 0
        self._begin = self._told = time.monotonic()
        self.done = self.total = self._failed = 0
        self._classes: set[tuple[str, str, str]] = set()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def began(self, appender: Appender, missing: int) -> None:
        """Say what was there already."""
        have = len(appender.results)
        if have:
            rest = counted_are(missing, "seed")
            self.say(f"{counted_are(have, 'result')} there already, {rest} missing")
        if appender.torn_bytes:
            self.say(f"cut {appender.torn_bytes} bytes of an unfinished line off the file's end")
        if damaged := appender.results.damaged:
            self.say(f"{len(damaged)} damaged lines, their seeds are played again: {damaged[0]} …")
        self.total = missing
        self._bar.update(self._task, total=missing)

    def kept(self, results: Sequence[SeedResult]) -> None:
        """Count results; tell the first failure of each class."""
        self.done += len(results)
        for result in results:
            if result.failed:
                self._fail(result)
        now = time.monotonic()
        rate = f"{self.done / max(now - self._begin, 0.001):,.1f} seeds/s"
        failed = f"{self._failed:,} failed"
        self._bar.update(self._task, completed=self.done, rate=rate, failed=failed)
        if self._bar.disable and now - self._told >= LINE_SECONDS:
            self._told = now
            self.say(f"{self.done:,} of {self.total:,}, {rate}, {failed}")

    def died(self, finished: Finished[SeedResult]) -> None:
        """Tell of a worker that died."""
        self.deaths += 1
        seeds, why = finished.batch.seeds, finished.why
        if finished.batch.alone and len(seeds) == 1:
            self.say(
                f"a worker died again ({why}), with seed {seeds[0]} alone: it counts as failed"
            )
            return
        self.say(f"a worker died ({why}); {counted_are(len(seeds), 'seed')} played again")

    def stopping(self) -> None:
        """Say what happens after Ctrl-C."""
        self.say("ending when the seeds under way are done; Ctrl-C again to leave them")

    def say(self, text: str) -> None:
        """Show a line, above the bar if there is one."""
        if self._bar.disable:
            click.echo(clean(text, lines=True), err=True)
        else:
            self._bar.console.print(clean(text, lines=True), markup=False, highlight=False)

    def _fail(self, result: SeedResult) -> None:
        self._failed += 1
        key = (result.outcome, result.invariant, result.signature)
        if key not in self._classes and len(self._classes) < CLASSES_TOLD:
            self._classes.add(key)
            self.say(f"seed {result.seed}: {result.outcome}: {result.message[:TEXT_CHARACTERS]}")
