"""`mirrorfarm trace`: what the cores of nodes were given and did, and whether they do it again."""

from pathlib import Path

import click

from mirrorfarm.cli.main import Scope


@click.group()
def trace() -> None:
    """Read the traces that every process writes; of this node if no PATH is named.

    A PATH is a file *.mft or a folder that holds some, of one node or copied from several.
    """


@trace.command("show")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--from", "begin", default="", metavar="TIME", help="Not before this time.")
@click.option("--to", "end", default="", metavar="TIME", help="Not after this time.")
@click.option("--node", "nodes", multiple=True, help="Of this node; may be repeated.")
@click.option("--actor", "actors", multiple=True, help="Of this actor; may be repeated.")
@click.option(
    *("--kind", "kinds"),
    multiple=True,
    metavar="KIND",
    help="input, recv, effect, send, timer, checkpoint, note, gap, or a type such as PeerSilent.",
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
        begin_ns=time_ns(begin, "--from") if begin else 0,
        end_ns=time_ns(end, "--to") if end else 0,
        nodes=frozenset(nodes),
        actors=frozenset(actors),
        kinds=frozenset(kinds),
        text=text,
    )
    return show_trace(paths or (scope.paths.log,), wanted, follow=follow, json_wanted=json_wanted)


@trace.command("replay")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
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
    version may be replayed: it shows whether this one would have done the same.
    """
    from mirrorfarm.cli.trace_replay import replay_trace

    return replay_trace(
        paths or (scope.paths.log,), frozenset(nodes), frozenset(actors), every, json_wanted
    )


@trace.command("redact")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
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

    What remains are times, numbers and the words of the protocol. Such a copy can be shown and
    checked, not replayed. The key of the hashes is random and forgotten.
    """
    from mirrorfarm.cli.trace_redact import redact_traces

    return redact_traces(paths or (scope.paths.log,), folder, mode)
