"""`python -m mirrorfarm.sim.coverage FILES`: the page about what sweeps came by."""

from pathlib import Path

import click
import msgspec

from mirrorfarm.sim.coverage.counts import Coverage
from mirrorfarm.sim.coverage.page import page
from mirrorfarm.sim.coverage.walked import Walked
from mirrorfarm.sim.sweeps.results import read_results
from mirrorfarm.sim.sweeps.summary import summarize

POINTS = 10  # Of the growth, on the page.


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--walk", type=click.Path(exists=True, path_type=Path), help="Of `make cells`.")
def main(files: tuple[Path, ...], walk: Path | None) -> None:
    """Print the page of the sweeps whose results are in FILES (.jsonl), and of a walk."""
    coverage, told, growth = Coverage(), list[str](), list[tuple[int, int]]()
    for path in files:
        results = read_results([path])
        summary = summarize(results, len(results), results.header.options, results.header.build)
        for result in results:
            coverage.add(result.cells, result.fault_states, result.sometimes, result.tricks)
        failed = f"{summary.failed:,} failed" if summary.failed else "none failed"
        told.append(f"`--options {summary.options}`: {summary.seeds:,} seeds, {failed}")
        growth = growth or _some(summary.growth)
    if walk is not None:
        walked = msgspec.json.decode(walk.read_bytes(), type=Walked)
        coverage.add(walked.cells, {}, {}, {})
        failed = f"{walked.failed:,} failed" if walked.failed else "none failed"
        told.append(f"`make cells`: {walked.cases:,} cases, {failed}")
    click.echo(page(coverage, told, growth), nl=False)


def _some(points: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return some of the points, the last one among them."""
    return points[:: -max(1, len(points) // POINTS)][::-1]


if __name__ == "__main__":
    main()
