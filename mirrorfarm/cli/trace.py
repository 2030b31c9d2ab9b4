"""`mirrorfarm trace`: what the cores of nodes were given and did, and whether they do it again."""

from pathlib import Path
from typing import Any

import click

from mirrorfarm.cli.main import Scope
from mirrorfarm.cli.number import Number
from mirrorfarm.cli.sim_options import workers_option, workers_or_all

# What cannot be read is told where it is read: with its cure, and the rest is read nevertheless.
paths_argument = click.argument("paths", nargs=-1, type=click.Path(path_type=Path, readable=False))


@click.group()
@click.pass_obj
def trace(scope: Scope) -> None:
    """Read the traces that every process writes; of this node if no PATH is named.

    A PATH is a file *.mft or a folder that holds some, of one node or copied from several.
    """
    if scope.hosts:
        raise click.UsageError(
            f"-H {scope.hosts}: traces are read on this machine: copy the log folder of that node "
            f"({scope.paths.log}) here, and name the copy as PATH, without -H"
        )


@trace.command("show")
@paths_argument
@click.option("--from", "begin", default="", metavar="TIME", help="Not before this time.")
@click.option("--to", "end", default="", metavar="TIME", help="Not after this time.")
@click.option("--node", "nodes", multiple=True, help="Of this node; may be repeated.")
@click.option("--actor", "actors", multiple=True, help="Of this actor; may be repeated.")
@click.option(
    *("--kind", "kinds"),
    multiple=True,
    metavar="KIND",
    help="input, recv, effect, send, timer, checkpoint, note, gap, or a type such as PeerSilent "
    "or Heartbeat.",
)
@click.option("--text", default="", help="Only rows that contain this.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new steps until interrupted.")
@click.option("--json", "json_wanted", is_flag=True, help="One JSON object for each row.")
@click.pass_obj
def show(  # noqa: PLR0917 - one argument for each option.
    scope: Scope,
    paths: tuple[Path, ...],
    begin: str,
    end: str,
    nodes: tuple[str, ...],
    actors: tuple[str, ...],
    kinds: tuple[str, ...],
    text: str,
    follow: bool,
    json_wanted: bool,
) -> int:
    """Show events and effects, one row each, by the time of day.

    TIME is as in 22:05, 22:05:09.5, 2026-11-25T22:05, or 90s, 10min, 2h, 3d ago.
    """
    from mirrorfarm.cli.trace_show import Wanted, show_trace, time_ns

    wanted = Wanted(
        begin_ns=time_ns(begin, "--from") if begin else None,
        end_ns=time_ns(end, "--to") if end else None,
        nodes=frozenset(nodes),
        actors=frozenset(actors),
        kinds=frozenset(kinds),
        text=text,
    )
    return show_trace(paths or (scope.paths.log,), wanted, follow=follow, json_wanted=json_wanted)


@trace.command("replay")
@paths_argument
@click.option("--node", "nodes", multiple=True, help="Only this node; may be repeated.")
@click.option("--actor", "actors", multiple=True, help="Only this actor; may be repeated.")
@click.option("--all", "every", is_flag=True, help="Go on after a difference, and count them.")
@click.option("--json", "json_wanted", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def replay(  # noqa: PLR0917 - one argument for each option.
    scope: Scope,
    paths: tuple[Path, ...],
    nodes: tuple[str, ...],
    actors: tuple[str, ...],
    every: bool,
    json_wanted: bool,
) -> int:
    """Give the recorded events to fresh cores: they must do the same again, bit for bit.

    Exit code 3 if one does something else: the first such step is shown. A trace of another
    version may be replayed: it shows whether this one would have done the same. Exit code 11 if
    nothing can be replayed, or a part cannot be read.
    """
    from mirrorfarm.cli.trace_replay import replay_trace

    return replay_trace(
        paths or (scope.paths.log,), frozenset(nodes), frozenset(actors), every, json_wanted
    )


@trace.command("check")
@paths_argument
@click.option("--json", "json_wanted", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def check(scope: Scope, paths: tuple[Path, ...], json_wanted: bool) -> int:
    """Check what happened against every invariant, with the monitors of the simulation.

    Name the traces of all nodes: what one of them did may be wrong only beside another. Each
    violation is told with the steps that led to it. Exit code 1 if there is any; 11 if traces
    are missing or cannot be read, whatever was found in the others, or if violations may be
    none because a trace is cut off or lacks a start.
    """
    from mirrorfarm.cli.trace_check import check_traces

    return check_traces(paths or (scope.paths.log,), json_wanted=json_wanted)


@trace.command("redact")
@paths_argument
@click.option("--to", "folder", required=True, type=click.Path(path_type=Path), help="New folder.")
@click.option(
    "--mode",
    type=click.Choice(("hash", "drop")),
    default="hash",
    show_default=True,
    help="hash: the same name has the same hash; drop: names are gone.",
)
@click.pass_obj
def redact(scope: Scope, paths: tuple[Path, ...], folder: Path, mode: str) -> int:
    """Copy traces without the names, addresses and texts in them, to give them away.

    What remains are times, numbers and the words of the protocol. Such a copy can be shown, and
    with hashes checked, merged and exported, not replayed. The key of the hashes is random and
    forgotten.
    """
    from mirrorfarm.cli.trace_redact import redact_traces

    return redact_traces(paths or (scope.paths.log,), folder, mode)


@trace.command("merge")
@paths_argument
@click.option("--clocks", "clocks_only", is_flag=True, help="Only tell how the clocks differ.")
@click.option("--vectors", is_flag=True, help="Vector clocks as well; with --json.")
@click.option("--json", "json_wanted", is_flag=True, help="One JSON object for each step.")
@click.pass_obj
def merge(
    scope: Scope, paths: tuple[Path, ...], clocks_only: bool, vectors: bool, json_wanted: bool
) -> int:
    """Show the steps of several nodes as one: nothing comes before what led to it.

    Clocks of the nodes are compared by their messages; they may differ by hours. All times are
    by the clock of one node.
    """
    from mirrorfarm.cli.trace_merge import merge_traces

    if vectors and not json_wanted:
        raise click.UsageError("--vectors needs --json")
    wanted = paths or (scope.paths.log,)
    return merge_traces(wanted, clocks_only=clocks_only, vectors=vectors, json_wanted=json_wanted)


@trace.command("why")
@click.argument("event")
@paths_argument
@click.option("--json", "json_wanted", is_flag=True, help="Print the chain of causes as JSON.")
@click.option("--no-diagram", "plain", is_flag=True, help="Only the paragraph.")
@click.pass_obj
def why(scope: Scope, event: str, paths: tuple[Path, ...], json_wanted: bool, plain: bool) -> int:
    """Tell why EVENT happened: one paragraph, and a Mermaid diagram of the same.

    EVENT is words: a node, process, actor, time of day, and a role, an event or a message. As in
    "n2 PRIM", "n1 silent", "w RegisterCas 22:05:09"; or the id that a list of candidates shows.
    """
    from mirrorfarm.cli.trace_why import explain

    return explain(event, paths or (scope.paths.log,), json_wanted=json_wanted, plain=plain)


@trace.command("export")
@paths_argument
@click.option(
    *("--to", "name"),
    required=True,
    type=click.Choice(
        ("jsonl", "parquet", "perfetto", "shiviz", "mermaid", "pcapng", "jepsen", "porcupine")
    ),
    help="The format; docs/operate/trace-export.md describes them.",
)
@click.option(
    *("-o", "output"),
    required=True,
    type=click.Path(path_type=Path),
    help="The file; of parquet, a folder that may hold other runs.",
)
@click.option("--tla", is_flag=True, help="jsonl: only what a specification speaks of.")
@click.option("--tsviz", is_flag=True, help="shiviz: with times, for TSViz.")
@click.option("--run", default="", help="parquet: the name of this run among others.")
@click.option("--limit", type=click.IntRange(1), help="shiviz: events at most.  [default: 5000]")
@click.option("--json", "json_wanted", is_flag=True, help="Tell what was done as JSON.")
@click.pass_obj
def export(  # noqa: PLR0917 - one argument for each option.
    scope: Scope,
    paths: tuple[Path, ...],
    name: str,
    output: Path,
    tla: bool,
    tsviz: bool,
    run: str,
    limit: int | None,
    json_wanted: bool,
) -> int:
    """Write merged traces in the format of another tool."""
    from mirrorfarm.cli.trace_export import export_traces
    from mirrorfarm.trace.export import Options
    from mirrorfarm.trace.export.shiviz import EVENTS_MAX

    for option, given, of in (
        *(("tla", tla, "jsonl"), ("tsviz", tsviz, "shiviz")),
        *(("limit", limit, "shiviz"), ("run", run, "parquet")),
    ):
        if given and name != of:
            raise click.UsageError(f"--{option} needs --to {of}")
    form = "tla" if tla else "tsviz" if tsviz else name
    options = Options(form, output, run, limit or EVENTS_MAX)
    return export_traces(paths or (scope.paths.log,), options, json_wanted=json_wanted)


@trace.command("whatif")
@paths_argument
@click.option(
    "--at",
    default="service",
    show_default=True,
    metavar="TIME|EVENT",
    help="22:05:09.5, +2s after the beginning, or just before an event; see `trace why`.",
)
@click.option("--module", default="", help="Which module, if the traces have several.")
@click.option(
    *("--set", "sets"),
    multiple=True,
    metavar="KEY=VALUE[,VALUE]",
    help="heart.detection=0.3s, heart.lease, heart.pulse; of a farm farm.silence=1s, farm.pulse; "
    "n2.fsync_ms=800; one variant each.",
)
@click.option("--drop", multiple=True, metavar="'KIND n1->n2 5s'", help="Lose messages; or any.")
@click.option("--delay", multiple=True, metavar="'n1->n2 200ms 5s'", help="All comes later.")
@click.option("--crash", multiple=True, metavar="'n1 +1s'", help="A node loses its power.")
@click.option("--pause", multiple=True, metavar="'n1 500ms +1s'", help="A node does not run.")
@click.option(
    "--keep-faults/--no-faults",
    default=True,
    show_default=True,
    help="What came from outside later, as recorded: cuts, crashes, pauses, orders.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 100_000),
    default=20,
    show_default=True,
    help="Runs of each variant.",
)
@click.option(
    "--minutes",
    type=Number(0.001, 1_440),
    help="Of each run.  [default: to the end of the recording, and some silences more]",
)
@workers_option
@click.option("--json", "json_wanted", is_flag=True, help="Print the result as JSON.")
@click.option("--progress", "lines", is_flag=True, help="Tell how far it is without a terminal.")
@click.pass_obj
def whatif(scope: Scope, /, paths: tuple[Path, ...], json_wanted: bool, **given: Any) -> int:
    """Let a recorded mirror or farm go on otherwise, and tell what would have come of it.

    The cores begin with the states they had at that moment, and go on in the simulator, with
    delays as recorded: once as it was and once changed, for each seed. Name the traces of all
    nodes and of the witness. Exit code 1 if an invariant does not hold.
    """
    from mirrorfarm.cli.trace_whatif import Wanted, fork_trace

    done = {kind: given[kind] for kind in ("drop", "delay", "crash", "pause")}
    wanted = Wanted(
        given["at"],
        given["module"],
        given["sets"],
        done,
        given["keep_faults"],
        given["seeds"],
        given["minutes"],
        workers_or_all(given["workers"]),
        json_wanted,
        given["lines"],
    )
    return fork_trace(paths or (scope.paths.log,), wanted)
