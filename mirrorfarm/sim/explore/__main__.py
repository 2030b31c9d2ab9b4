"""`python -m mirrorfarm.sim.explore --bound N`: walk every run with at most N disturbances."""

import sys
import time
from math import isnan
from random import Random

import click
import msgspec

from mirrorfarm.sim.explore.search import ROOTS, Result, explore, walk
from mirrorfarm.sim.explore.state import KINDS, World

PROGRESS_SECONDS = 10
STATES_MAX = 100_000_000  # Of one moment at a time in memory: a few hundred bytes each.
COUNT = click.IntRange(0)  # Less than none would be as many as there are, and never end.


@click.command()
@click.option("--bound", type=COUNT, default=0, show_default=True, help="Disturbances in one run.")
@click.option("--writes", type=COUNT, default=1, show_default=True, help="Writes in one run.")
@click.option("--root", type=click.Choice(sorted(ROOTS)), default="pair", show_default=True)
@click.option(
    *("--kind", "kinds"),
    multiple=True,
    type=click.Choice(KINDS),
    help="Of disturbances; may be given more than once.  [default: all]",
)
@click.option(
    "--states",
    type=click.IntRange(1),
    default=STATES_MAX,
    show_default=True,
    help="Stop after so many states.",
)
@click.option(
    "--seconds", type=click.FloatRange(0), default=1e9, help="Stop after so many seconds."
)
@click.option(
    "--walks", type=COUNT, default=0, help="Instead: so many ways at random, of 1,000 moves each."
)
@click.option("--json", "as_json", is_flag=True, help="One object.")
def main(
    *,
    bound: int,
    writes: int,
    root: str,
    kinds: tuple[str, ...],
    states: int,
    seconds: float,
    walks: int,
    as_json: bool,
) -> None:
    """Walk the states of a mirror with a witness: the real cores, all orders of events.

    A disturbance is a crash, a pause with a stopped clock, a cut link, or a message that is lost
    or held up. The exit code is 1 if an invariant is violated, 2 if the walk was stopped before
    every state within the bound was seen.
    """
    if isnan(seconds):  # Never over, as the range does not see.
        raise click.UsageError("--seconds nan: not a number")
    first = ROOTS[root](bound, writes, kinds or KINDS)
    result = _walks(first, walks) if walks else explore(first, states, seconds, _Progress())
    if as_json:
        click.echo(msgspec.json.encode(result).decode())
    else:
        click.echo("\n".join(_words(result, bound, writes, kinds)))
    sys.exit(1 if result.violation else 0 if result.complete or walks else 2)


class _Progress:
    """Says now and then how far a long walk is."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, result: Result, left: int) -> None:
        """Hear of a moment that was walked."""
        if time.monotonic() - self._said >= PROGRESS_SECONDS:
            self._said = time.monotonic()
            words = f"{result.states:,} states, {result.moments:,} moments, {left:,} not walked"
            click.echo(f"{words}, depth {result.depth}", err=True)


def _walks(first: World, walks: int) -> Result:
    """Walk many ways, with the seeds from 0 on."""
    total = Result()
    for seed in range(walks):
        result = walk(first, Random(seed), 1_000)
        total.states += result.states
        total.transitions += result.transitions
        total.seconds += result.seconds
        if result.violation:
            total.violation, total.story = f"{result.violation} (walk {seed})", result.story
            break
    return total


def _words(result: Result, bound: int, writes: int, kinds: tuple[str, ...]) -> list[str]:
    lines = []
    if result.violation:
        lines += [f"{number:4} {text}" for number, text in enumerate(result.story, 1)]
        lines += [f"     {result.violation}", ""]
    end = "every state within the bound was seen" if result.complete else "not all were seen"
    if result.violation:
        end = "ended at a violation"
    which = f"disturbances ({', '.join(kinds)})" if kinds else "disturbances"
    lines.append(
        f"{result.states} states in {result.moments} moments, {result.transitions} transitions, "
        f"depth {result.depth}, {result.seconds:.1f} s; bound {bound} {which}, {writes} "
        f"writes: {end}"
    )
    return lines


if __name__ == "__main__":
    main()
