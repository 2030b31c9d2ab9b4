"""`mirrorfarm sim scenario` plays short stories, `mirrorfarm sim shrink` makes them of seeds."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from mirrorfarm.cli.number import Number
from mirrorfarm.cli.show import as_json, clean
from mirrorfarm.cli.sim_options import played, traced

if TYPE_CHECKING:
    from mirrorfarm.sim.scenario.outcome import Outcome
    from mirrorfarm.sim.scenario.record import Scenario
    from mirrorfarm.sim.shrinking.seeds import Shrunk
    from mirrorfarm.sim.shrinking.shrink import Progress

PAGE_BYTES_MAX: Final = 1 << 20
PAGE_MARKS: Final = (
    b"\n```mermaid\nsequenceDiagram\n",
    b"\nWhat led to it, one line for each step:\n",
)


@click.command("scenario")
# What cannot be read is told where it is read: together with the faults of all other files.
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, readable=False))
@click.option("-q", "--quiet", is_flag=True, help="One line for each file, no story.")
@traced
@click.option("--json", "json_wanted", is_flag=True, help="Print a list with one object per file.")
def scenario(files: tuple[Path, ...], *, quiet: bool, json_wanted: bool, trace: Path | None) -> int:
    """Play scenario files, tell what happens, and whether it is as they say.

    With --trace and several files, each has a folder of its own name there. Exit code 1 if
    anything is not as expected, 3 if a file is faulty, else 8 if one cannot be read.
    """
    from mirrorfarm.sim.scenario.playing import play

    scenarios = _read(files)
    if trace is not None:
        _require_own_names(files)
    outcomes = []
    for one in scenarios:
        folder = trace / Path(one.file).stem if trace is not None and len(files) > 1 else trace
        outcome = play(one, trace=folder)
        outcomes.append(outcome)
        if not json_wanted:
            _tell(outcome, quiet=quiet)
    if json_wanted:
        click.echo(as_json([outcome.as_object() for outcome in outcomes]))
    return int(not all(outcome.as_expected for outcome in outcomes))


def _read(files: tuple[Path, ...]) -> "list[Scenario]":
    """Return the scenarios; raises ConfigInvalid or SystemUnsuitable, of all files at once."""
    from mirrorfarm.errors import ConfigInvalid, SystemUnsuitable
    from mirrorfarm.oserrors import naming, told
    from mirrorfarm.sim.scenario.reading import read
    from mirrorfarm.sim.scenario.tree import YAML_BYTES_MAX

    scenarios, wrong, faulty = [], list[str](), False
    for file in files:
        try:
            with naming(file), file.open("rb") as opened:
                text = opened.read(YAML_BYTES_MAX + 1)  # What is longer is refused: no more of it.
            scenarios.append(read(text, str(file)))
        except ConfigInvalid as error:
            wrong += error.faults
            faulty = True
        except OSError as error:
            wrong.append(told(error))
    if faulty:
        raise ConfigInvalid(tuple(wrong))
    if wrong:
        raise SystemUnsuitable("\n".join(wrong))
    return scenarios


def _require_own_names(files: tuple[Path, ...]) -> None:
    """Refuse files whose traces would be in one folder."""
    from mirrorfarm.errors import UsageInvalid

    names = [file.stem for file in files]
    same = next((name for name in names if names.count(name) > 1), "")
    if same:
        raise UsageInvalid(
            f"--trace: several files are called {same}, and their traces would be mixed: name each "
            "once, or record them one after the other, into folders of their own"
        )


def _tell(outcome: "Outcome", *, quiet: bool) -> None:
    one = outcome.scenario
    good = outcome.as_expected
    if not quiet:
        click.secho(clean(one.title or one.file), bold=True)
        width = max([3, *(len(moment.node) for moment in outcome.moments)])
        for moment in outcome.moments:
            text = f"{moment.at_ns / 1e9:10.3f} s  {moment.node:{width}} {moment.text}"
            click.echo(clean(text)[:200].rstrip())
        for line in outcome.story:
            click.echo(f"      {clean(line)}")
    for text in outcome.unmet:
        click.secho(f"  not as expected: {clean(text)}", fg="red")
    if outcome.invariant != one.violates:
        expected = f"{one.violates} is violated" if one.violates else "every invariant holds"
        found = outcome.violation or "every invariant holds"
        click.secho(f"  not as expected: {clean(found)}, instead of: {expected}", fg="red")
    click.secho(
        f"{'as expected' if good else 'FAILED'}: {clean(one.file)}", fg=None if good else "red"
    )


@click.command("shrink")
@click.option("--seed", required=True, metavar="NUMBER", help="64 bits, as 0x5eed or 24301.")
@played
@click.option(
    *("-o", "--output", "file"),
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the scenario here, and a page with a diagram beside it, which ends in .md.",
)
@click.option("--seconds", type=Number(0, 86_400), default=60.0, show_default=True, help="At most.")
@click.option("--json", "json_wanted", is_flag=True, help="Print one JSON object.")
def shrink(*, seed: str, options: str, file: Path | None, seconds: float, json_wanted: bool) -> int:
    """Make a short scenario of a seed that fails: it breaks the same invariant.

    What was found so far is kept when the time is over, or at Ctrl-C. Exit code 6: the seed
    breaks no invariant.
    """
    from mirrorfarm.oserrors import require_writable
    from mirrorfarm.sim.plans import plan_of
    from mirrorfarm.sim.shrinking.seeds import shrink_plan
    from mirrorfarm.unfinished import write_whole

    if file is not None:
        require_writable(file)
        _require_page(file)
    shower = _Shower()
    shrunk = shrink_plan(plan_of(options, seed_number(seed)), seconds, shower)
    shower.end()
    if file is not None:
        write_whole(file, shrunk.text)
        write_whole(_page_of(file), shrunk.explanation)
    _tell_shrunk(shrunk, file, json_wanted=json_wanted)
    return 0


def _page_of(file: Path) -> Path:
    """Return where the page with the diagram is written."""
    return file.with_suffix(".md")


def _require_page(file: Path) -> None:
    """Refuse, before the work, a page that would take the place of another file."""
    from mirrorfarm.errors import UsageInvalid

    page = _page_of(file)
    if page == file:
        raise UsageInvalid(
            f"-o {file}: the page with the diagram is called so; name the scenario "
            f"{file.with_suffix('.yaml')}, and the page is written beside it"
        )
    if (page.exists() or page.is_symlink()) and not _is_page(page):
        raise UsageInvalid(
            f"-o {file}: {page} is there already, and no page of this command: it would be lost "
            "to the page with the diagram; move it away, or name the scenario otherwise"
        )


def _is_page(page: Path) -> bool:
    """Return whether this is a page of an earlier run, which may be replaced as its scenario is."""
    if not page.is_file():
        return False
    with page.open("rb") as opened:
        text = opened.read(PAGE_BYTES_MAX)
    return text.startswith(b"# ") and all(mark in text for mark in PAGE_MARKS)


def seed_number(text: str) -> int:
    """Return the seed that a command was given. Raises UsageInvalid."""
    from mirrorfarm.errors import UsageInvalid
    from mirrorfarm.sim.acts.kinds import SEED

    try:
        return int(SEED.read(text))
    except ValueError as error:
        raise UsageInvalid(f"--seed {error}") from None


class _Shower:
    """Shows on standard error where shrinking is: one line that changes, on a terminal."""

    def __init__(self) -> None:
        self._alive = sys.stderr.isatty()
        self._last = ""

    def __call__(self, progress: "Progress") -> None:
        text = f"{progress.doing}: {progress.events} events left, {progress.tried} tried"
        if self._alive:
            click.echo(f"\r\x1b[K{text}", err=True, nl=False)
        elif progress.doing != self._last:
            click.echo(text, err=True)
        self._last = progress.doing

    def end(self) -> None:
        """Leave an empty line behind, on a terminal."""
        if self._alive:
            click.echo("\r\x1b[K", err=True, nl=False)


def _tell_shrunk(shrunk: "Shrunk", file: Path | None, *, json_wanted: bool) -> None:
    if json_wanted:
        about = {
            "violation": shrunk.outcome.violation,
            "scenario": shrunk.text,
            "diagram": shrunk.explanation,
            "tried": shrunk.tried,
            "events_before": shrunk.events_before,
            "events": len(shrunk.scenario.events),
            "minimal": shrunk.whole,
            "unreadable": shrunk.unreadable,
        }
        click.echo(as_json(about))
        return
    if file is None:
        click.echo(clean(shrunk.text, lines=True), nl=False)
    else:
        click.echo(f"{clean(str(file))}, {clean(str(_page_of(file)))}")
    state = (
        "nothing more can be left out" if shrunk.whole else "perhaps not the shortest: more time"
    )
    click.echo(
        f"{shrunk.events_before} events became {len(shrunk.scenario.events)} "
        f"({shrunk.tried} tried; {state})",
        err=True,
    )
    if why := shrunk.unreadable:
        cure = "give it more --seconds, or keep the seed"
        click.secho(f"`sim scenario` will not read it: {clean(why)}; {cure}", fg="red", err=True)
