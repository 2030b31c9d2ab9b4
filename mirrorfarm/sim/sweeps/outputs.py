"""Everything that a sweep leaves in its folder, made from its files of results."""

import json
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mirrorfarm.errors import UsageInvalid
from mirrorfarm.oserrors import naming
from mirrorfarm.sim.running import Moment
from mirrorfarm.sim.sweeps import report, tables
from mirrorfarm.sim.sweeps.result import SeedResult
from mirrorfarm.sim.sweeps.results import Results
from mirrorfarm.sim.sweeps.run import SHRINK, Shrink, build_id, command_of, replay_seed
from mirrorfarm.sim.sweeps.summary import FailureClass, Summary, summarize
from mirrorfarm.unfinished import write_whole

SUMMARY = "summary.json"
EXAMPLES = "failures"
EXAMPLES_MAX = 20  # Shrinking takes minutes.

Replay = Callable[[str, int], tuple[SeedResult, list[Moment]]]
Tell = Callable[[str], None]


def _untold(text: str) -> None:
    del text


@dataclass(frozen=True, slots=True)
class Written:
    """What was made, and what has to be said about it."""

    summary: Summary
    paths: tuple[Path, ...]
    notes: tuple[str, ...]


def refuse_to_replace(files: Iterable[Path], folder: Path) -> None:
    """Raise UsageInvalid if what is made of files of results would take the place of one."""
    made = {(folder / name).resolve() for name in (tables.NAME, SUMMARY, report.NAME)}
    for file in files:
        if file.resolve() in made:
            raise UsageInvalid(
                f"{file} would be replaced by what is made of it: give the file of results "
                f"another name, such as {file.with_suffix('.jsonl')}"
            )


def require_folder(folder: Path) -> None:
    """Make the folder, before hours of work have no place. Raises OSError, with its name."""
    folder.mkdir(parents=True, exist_ok=True)
    with naming(folder), tempfile.TemporaryFile(dir=folder):
        pass


def write_outputs(
    results: Results,
    folder: Path,
    *,
    missing: int = 0,
    shrink: Shrink | None = SHRINK,
    replay: Replay = replay_seed,
    tell: Tell = _untold,
) -> Written:
    """Write table, summary, examples and report of results into a folder; tell what takes long.

    Only what this build played is played again: another build's seeds are other runs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    header = results.header
    summary = summarize(results, len(results), header.options, header.build)
    paths: list[Path] = []
    notes: list[str] = []
    if tables.can_write():
        paths.append(folder / tables.NAME)
        tables.write_parquet(results, paths[0])
    else:
        notes.append(f"no {tables.NAME}: {tables.CURE}. The .jsonl file holds the same")
    paths.append(folder / SUMMARY)
    write_whole(paths[-1], json.dumps(summary.as_object(), indent=2) + "\n")
    foreign = header.build != build_id()
    if foreign:
        notes.append(
            f"these are results of build {header.build}, this is build {build_id()}, which plays "
            "other runs: nothing was shrunk, no run is shown. To have both, make the report with "
            "that build"
        )
    own_shrink = None if foreign else shrink
    made, failed = write_examples(summary.sorted_classes(), folder / EXAMPLES, own_shrink, tell)
    worst, why_not = (None, []) if foreign else _see_again(summary, replay)
    paths += [*made, folder / report.NAME]
    notes += [*failed, *why_not]
    write_whole(paths[-1], report.render(summary, worst, missing))
    return Written(summary, tuple(paths), tuple(notes))


def write_examples(
    classes: Sequence[FailureClass], folder: Path, shrink: Shrink | None, tell: Tell = _untold
) -> tuple[list[Path], list[str]]:
    """Write one example of each class: a scenario, or the command that plays its seed.

    Return the files, and what could not be done.
    """
    paths: list[Path] = []
    notes: list[str] = []
    for old in folder.glob("[0-9][0-9]-*"):  # Of fewer results; its number may be another's now.
        if old.suffix != ".part":  # Another report is being made just now.
            old.unlink(missing_ok=True)
    shown = classes[:EXAMPLES_MAX]
    for number, one in enumerate(shown, 1):
        folder.mkdir(exist_ok=True)
        example = one.example
        name = f"{number:02}-{re.sub(r'[^A-Za-z0-9-]', '_', one.name)[:40]}"
        text, suffix = f"{command_of(example.options, example.seed)}\n", ".txt"
        if shrink is not None and example.outcome != "error":
            tell(
                f"shrinking class {number} of {len(shown)}: {one.name}, for about a minute at most"
            )
            try:
                text, suffix = shrink(example.options, example.seed), ".yaml"
            except Exception as error:  # The seed is a good example as well.
                notes.append(f"seed {example.seed} could not be shrunk: {error!r}")
        paths.append(folder / f"{name}{suffix}")
        write_whole(paths[-1], text)
    if len(classes) > EXAMPLES_MAX:
        notes.append(f"{EXAMPLES_MAX} of {len(classes)} classes have a file in {folder}")
    return paths, notes


def _see_again(summary: Summary, replay: Replay) -> tuple[report.Worst | None, list[str]]:
    """Play the worst seed again; return why that is not possible, if it is not."""
    if summary.worst is None:
        return None, []
    known = summary.worst
    text = f"no time line of seed {known.seed}"
    try:
        again, moments = replay(known.options, known.seed)
    except Exception as error:  # The report tells all else.
        return None, [f"{text}: it could not be played again: {error}"]
    if replace(again, wall_seconds=known.wall_seconds) != known:
        why = "it is not deterministic, or its line in the file was changed"
        return None, [f"{text}: it is played differently now: {why}"]
    return report.Worst(again, moments), []
