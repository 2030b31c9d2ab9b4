"""`mirrorfarm sim sweep` and `mirrorfarm sim report`: many seeds, and what they came to."""

import shlex
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mirrorfarm.cli.number import Number
from mirrorfarm.cli.show import as_json, clean, table
from mirrorfarm.cli.sim_options import played, workers_option, workers_or_all
from mirrorfarm.counting import counted, counted_are

if TYPE_CHECKING:
    from mirrorfarm.sim.sweeps.outputs import Written
    from mirrorfarm.sim.sweeps.results import Results
    from mirrorfarm.sim.sweeps.summary import Summary
    from mirrorfarm.sim.sweeps.sweep import Order

INTERRUPTED = 130
SEED_SECONDS = 120.0
SEED_SECONDS_MAX = 86_400.0
CLASSES_SHOWN = 20
TEXT_CHARACTERS = 120  # Of a failure, in the table.


@click.command("sweep")
@click.option("--seeds", required=True, help="FIRST..END, END left out: 0..10000 are 10,000 seeds.")
@played
@click.option(
    "--engine", default="processes", show_default=True, help="processes, dask, or an added one."
)
@workers_option
@click.option("--scheduler", default="", help="Address of a running scheduler (engine dask).")
@click.option(
    "--resume",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of results: play the seeds that it lacks. Begun if it is not there.",
)
@click.option("--shard", default="1/1", help="Play part 3 of 64: 3/64. One file for each part.")
@click.option(
    *("-o", "--output", "folder"),
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for results and report.  [default: that of the file of results, or ./sweep]",
)
@click.option(
    "--seed-seconds",
    type=Number(0, SEED_SECONDS_MAX),
    default=SEED_SECONDS,
    show_default=True,
    help="Give up a seed after so long, up to a day (0: never); not with engine dask.",
)
@click.option("--json", "json_wanted", is_flag=True, help="Print the summary as JSON.")
def sweep(
    *,
    seeds: str,
    options: str,
    engine: str,
    workers: int | None,
    scheduler: str,
    resume: Path | None,
    shard: str,
    folder: Path | None,
    seed_seconds: float,
    json_wanted: bool,
) -> int:
    """Play many seeds on many processors; report what failed.

    Results are kept as they come: after Ctrl-C, a crash or a time limit, --resume plays the
    rest. Exit code 1 if anything failed, or if thousands of seeds never came by what should
    happen sometimes; 130 if the sweep was interrupted.
    """
    from mirrorfarm.sim.plans import plan_of
    from mirrorfarm.sim.sweeps.engines import Wanted
    from mirrorfarm.sim.sweeps.outputs import refuse_to_replace
    from mirrorfarm.sim.sweeps.seeds import parse_seeds, parse_shard, require_playable
    from mirrorfarm.sim.sweeps.sweep import Order

    if 0 < seed_seconds < 1:
        raise click.UsageError(f"--seed-seconds {seed_seconds:g}: 0 (never), or 1 to 86400")
    if scheduler and engine == "processes":
        raise click.UsageError("--scheduler needs --engine dask")
    plan_of(options, 0)
    part = parse_shard(shard)
    asked = parse_seeds(seeds)
    require_playable(asked, part)
    wanted = Wanted(workers_or_all(workers), scheduler)
    folder = folder or (resume.parent if resume else Path("sweep"))
    name = f"results-{part.number}-of-{part.count}.jsonl" if part.count > 1 else "results.jsonl"
    file = resume or folder / name
    refuse_to_replace([file], folder)
    order = Order(asked, options, file, folder, engine, wanted, part, seed_seconds)
    if not resume:
        _must_be_new(order)
    return _run(order, json_wanted)


def _must_be_new(order: "Order") -> None:
    from mirrorfarm.errors import Refused

    if order.file.exists():
        raise Refused(
            f"{order.file} holds results of an earlier sweep. To play what it lacks:\n"
            f"  {order.command_to_resume()}\nTo begin anew, name another folder with -o"
        )


def _run(order: "Order", json_wanted: bool) -> int:
    from mirrorfarm.cli.sim_progress import Progress
    from mirrorfarm.sim.sweeps.interrupts import Interrupted, interruptible, until_interrupted
    from mirrorfarm.sim.sweeps.sweep import play

    with Progress() as progress, until_interrupted(progress.stopping) as stopped:
        try:
            play(order, progress, stopped)
        except BaseException:
            if progress.done:
                progress.say(f"what was played is kept. The rest:\n  {order.command_to_resume()}")
            raise
    try:
        with interruptible():
            return _conclude(order, progress.deaths, json_wanted)
    except Interrupted:
        whole = progress.done == progress.total and order.shard.count == 1
        _tell_interrupted(order.command_to_report() if whole else order.command_to_resume())
        return INTERRUPTED


def _tell_interrupted(command: str) -> None:
    """Say what is left to do when the user did not wait for the report."""
    _show(f"interrupted: the results are kept, the report is not made. To make it:\n  {command}")


def _show(text: str) -> None:
    """Say how it goes on, beside the output."""
    click.echo(clean(text, lines=True), err=True)


def _conclude(order: "Order", deaths: int, json_wanted: bool) -> int:
    """Report on what was played; return the exit code."""
    from mirrorfarm.sim.sweeps.outputs import Written, write_outputs
    from mirrorfarm.sim.sweeps.results import read_results
    from mirrorfarm.sim.sweeps.seeds import count_missing
    from mirrorfarm.sim.sweeps.summary import summarize

    results = read_results([order.file])
    have = results.seeds()
    missing = count_missing(order.own_seeds(), have)
    if missing or order.shard.count > 1:  # The report is made when everything is there.
        header = results.header
        summary = summarize(results, len(results), header.options, header.build)
        written = Written(summary, (order.file,), (_what_next(order, missing),))
    else:
        written = write_outputs(results, order.folder, tell=_show)
    seeds = f"{order.seeds.start}..{order.seeds.stop}"
    notes = (*written.notes, *_about_others(have, order.own_seeds(), seeds))
    written = Written(written.summary, written.paths, notes)
    extra = {"missing": missing, "interrupted": bool(missing), "workers_died": deaths}
    _tell(written, json_wanted, extra)
    if missing:
        return INTERRUPTED
    return 1 if written.summary.failed or _missed(written.summary, order.shard.count) else 0


def _missed(summary: "Summary", parts: int = 1) -> bool:
    """Return whether a whole sweep never came by what should happen sometimes."""
    return parts == 1 and bool(summary.missed)


def _what_next(order: "Order", missing: int) -> str:
    if missing:
        text = f"interrupted: {counted_are(missing, 'seed')} missing. To play the rest:"
        return f"{text}\n  {order.command_to_resume()}"
    whole = f"--seeds {order.seeds.start}..{order.seeds.stop}"
    folder, parts = shlex.quote(str(order.folder)), shlex.quote(str(order.file.parent))
    return (
        f"part {order.shard} is complete. When all are:\n"
        f"  mirrorfarm sim report {whole} -o {folder} {parts}/*.jsonl"
    )


@click.command("report")
@click.argument(
    "files",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option(
    *("-o", "--output", "folder"),
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for table, summary, examples and report.",
)
@click.option("--seeds", default="", help="FIRST..END that were wanted: tells which are missing.")
@click.option("--json", "json_wanted", is_flag=True, help="Print the summary as JSON.")
def report(files: tuple[Path, ...], folder: Path, seeds: str, json_wanted: bool) -> int:
    """Join the results of a sweep's parts, or of one under way, and report on them.

    FILES are the .jsonl files. Exit code 1 if anything failed or is missing, or if two results of
    a seed differ; without --seeds also if a line is damaged or unfinished.
    """
    from mirrorfarm.sim.sweeps.interrupts import Interrupted, interruptible
    from mirrorfarm.sim.sweeps.outputs import refuse_to_replace, require_folder
    from mirrorfarm.sim.sweeps.seeds import parse_seeds
    from mirrorfarm.sim.sweeps.sweep import command_to_report

    refuse_to_replace(files, folder)
    if seeds:
        parse_seeds(seeds)  # Before a folder is made.
    require_folder(folder)
    try:
        with interruptible():
            return _report(files, folder, seeds, json_wanted)
    except Interrupted:
        _tell_interrupted(command_to_report(files, folder, seeds))
        return INTERRUPTED


def _report(files: tuple[Path, ...], folder: Path, seeds: str, json_wanted: bool) -> int:
    """Join results and report on them; return the exit code. Raises Refused if there are none."""
    from mirrorfarm.errors import Refused
    from mirrorfarm.sim.sweeps.outputs import write_outputs
    from mirrorfarm.sim.sweeps.results import read_results
    from mirrorfarm.sim.sweeps.seeds import count_missing, parse_seeds

    wanted = parse_seeds(seeds) if seeds else range(0)
    results = read_results(files)
    have = results.seeds()
    if not have:
        raise Refused(
            f"{', '.join(map(str, files[:5]))}: no result of any seed is there"
            f"{', only damaged lines' if results.damaged else ''}: there is nothing to report. "
            "Play seeds with `mirrorfarm sim sweep --resume FILE`, or name other files"
        )
    missing = count_missing(wanted, have)
    written = write_outputs(results, folder, missing=missing, tell=_show)
    notes = [*written.notes, *_about_lines(results)]
    notes += _about_others(have, wanted, seeds) if wanted else ()
    if missing:
        first = next(seed for seed in wanted if seed not in have)
        which = f"the first is {first}" if missing > 1 else f"it is {first}"
        notes.append(f"{counted_are(missing, 'seed')} missing: {which}")
    written = type(written)(written.summary, written.paths, tuple(notes))
    _tell(written, json_wanted, {"missing": missing})
    # What seed a line was of is not known: only who says what was wanted learns that none lacks.
    missing = missing or (0 if wanted else len(results.damaged) + len(results.torn))
    wrong = written.summary.failed or missing or results.differing or _missed(written.summary)
    return 1 if wrong else 0


def _about_others(have: Set[int], wanted: range, seeds: str) -> Iterator[str]:
    """Yield how many results are of seeds that nobody asked for now."""
    others = sum(seed not in wanted for seed in have)
    if others:
        yield f"{counted_are(others, 'seed')} none of --seeds {seeds}, and counted as well"


def _about_lines(results: "Results") -> Iterator[str]:
    """Yield what has to be said about lines of files of results."""
    if results.damaged:
        yield f"damaged lines, left out: {', '.join(results.damaged[:5])}"
    if results.torn:
        torn = ", ".join(results.torn[:5])
        yield f"unfinished last lines, left out: {torn}: the sweep was cut short, or is under way"
    if results.differing:
        lines = ", ".join(results.differing[:5])
        yield (
            f"lines unlike an earlier one of the same seed: {lines}: options, build and seed make "
            "a run, which is played the same each time. The later line counts"
        )


def _tell(written: "Written", json_wanted: bool, extra: Mapping[str, object]) -> None:
    paths = [str(path) for path in written.paths]
    if json_wanted:
        more = {**extra, "files": paths, "notes": list(written.notes)}
        click.echo(as_json({**written.summary.as_object(), **more}))
        return
    _tell_tables(written.summary)
    for path in paths:
        click.echo(clean(path))
    for note in written.notes:
        click.echo(clean(note, lines=True))


def _tell_tables(summary: "Summary") -> None:
    from mirrorfarm.limits import MILLISECOND_NS
    from mirrorfarm.sim.sweeps.run import command_of
    from mirrorfarm.sim.sweeps.summary import percentiles

    classes = summary.sorted_classes()
    for one in classes[:CLASSES_SHOWN]:
        example = one.example
        click.secho(f"{one.count:>6,} × {clean(one.name)}", fg="red", bold=True, nl=False)
        click.echo(f"  {clean(example.message)[:TEXT_CHARACTERS]}")
        click.echo(f"         {clean(one.signature)[:TEXT_CHARACTERS]}")
        click.echo(f"         {clean(command_of(example.options, example.seed))}")
    if len(classes) > CLASSES_SHOWN:
        click.echo(f"  … and {len(classes) - CLASSES_SHOWN:,} more classes")
    table(
        ("fault", "injected", "seeds"),
        [
            (kind, f"{count:,}", f"{summary.seeds_with_fault[kind]:,}")
            for kind, count in sorted(summary.faults.items())
        ],
    )
    shares = [
        f"{'max' if percent == 100 else f'p{percent}'} {value / MILLISECOND_NS:,.1f} ms"
        for percent, value in percentiles(summary.failover_ns).items()
    ]
    if shares:
        click.echo(f"{len(summary.failover_ns):,} failovers: {', '.join(shares)}")
    for line in summary.coverage.words():
        click.echo(line)
    for name in summary.coverage.missed():
        click.secho(f"never happened: {clean(name)}", fg="red" if summary.missed else None)
    failed = f"{summary.failed:,} failed in {len(classes):,} classes" if classes else "none failed"
    good = summary.seeds and not classes
    told = f"{counted(summary.seeds, 'seed')}, {failed}" if summary.seeds else "no seed was played"
    click.secho(told, fg="green" if good else "red", bold=True)
