"""`python -m mirrorfarm.sim.cells`: walk through the cells of the state machines."""

import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import click
import msgspec

from mirrorfarm.errors import UsageInvalid
from mirrorfarm.oserrors import require_writable
from mirrorfarm.sim.cells import farm, mirror
from mirrorfarm.sim.cells.walk import Case, attempt, cases
from mirrorfarm.sim.coverage.collector import Collector
from mirrorfarm.sim.coverage.counts import Coverage
from mirrorfarm.sim.coverage.walked import Walked
from mirrorfarm.unfinished import write_whole

GROUNDS: Final = (mirror.GROUND, farm.GROUND)
STEPS: Final = "0,1,3,8"
STORY_LINES: Final = 12
PROGRESS_CASES: Final = 500


@click.command()
@click.option("--steps", default=STEPS, show_default=True, help="At which steps of each phase.")
@click.option("--only", default="", help="Only cases whose words have this in them.")
@click.option(
    "--every",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Only every so many of them,",
)
@click.option(
    "--first", type=click.IntRange(0), default=0, show_default=True, help="from this one on."
)
@click.option("--seed", default=1, show_default=True, help="Of all runs.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the cells here.")
def main(*, steps: str, only: str, every: int, first: int, seed: int, output: Path | None) -> None:
    """Give each state machine each event in each phase, and demand that all serve afterwards.

    Each case is a cluster of its own, with all monitors. The exit code is 1 if one of them fails.
    """
    wanted = _numbers(steps)
    if output is not None:
        try:
            require_writable(output)
        except UsageInvalid as error:
            raise click.UsageError(str(error)) from None
    collector, counts = Collector(), Counter[str]()
    for number, case in enumerate(islice(_chosen(wanted, only), first, None, every)):
        tried = attempt(case, collector, seed)
        counts.update({"cases": 1, "given": int(tried.given), "failed": int(bool(tried.fault))})
        if tried.fault:
            click.echo(f"{case}\n    {tried.fault}")
            click.echo(
                "".join(f"        {line}\n" for line in tried.story[-STORY_LINES:]), nl=False
            )
        if number % PROGRESS_CASES == PROGRESS_CASES - 1:
            click.echo(f"{counts['cases']:,} cases, {counts['failed']:,} failed", err=True)
    if not counts["cases"]:
        raise click.UsageError("no case is as --only, --first and --every want it")
    cells = collector.named_cells()
    coverage = Coverage()
    coverage.add(cells, {}, {}, {})
    for line in coverage.words():
        click.echo(line)
    words = ("cases", "given", "failed")
    click.echo(", ".join(f"{counts[word]:,} {word}" for word in words))
    if output is not None:
        walked = Walked(counts["cases"], counts["failed"], cells)
        write_whole(output, msgspec.json.encode(walked).decode())
    sys.exit(1 if counts["failed"] else 0)


def _numbers(steps: str) -> list[int]:
    words = steps.split(",")
    if not all(word.isascii() and word.isdigit() for word in words):
        raise click.BadParameter(f"{steps!r}: numbers with commas are wanted, as in {STEPS}")
    return [int(word) for word in words]


def _chosen(steps: list[int], only: str) -> Iterator[Case]:
    for ground in GROUNDS:
        for case in cases(ground, steps):
            if only in str(case):
                yield case


if __name__ == "__main__":
    main()
