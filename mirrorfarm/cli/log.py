"""`mirrorfarm log`: the lines of a module's log, here or on another node."""

import json
import time
from typing import TYPE_CHECKING

import click

from mirrorfarm.cli.control import module_option
from mirrorfarm.cli.main import Scope
from mirrorfarm.cli.show import clean
from mirrorfarm.errors import Refused
from mirrorfarm.paths import Paths

if TYPE_CHECKING:
    from mirrorfarm.cli.client import Client

POLL_SECONDS = 0.3
BATCH = 500


def level_of(line: str) -> str:
    """Return the level of a stored line; "C" for one that cannot be read: it must be seen."""
    try:
        return str(json.loads(line)["level"])
    except (ValueError, KeyError, TypeError):
        return "C"


def line_text(line: str) -> str:
    """Return a log line as a person reads it: date | level | origin | text."""
    try:
        record = json.loads(line)
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record["t"]))
        thousandths = int(record["t"] * 1000) % 1000
        words = (record["level"], record["origin"], record["text"])
    except (ValueError, KeyError, TypeError, OverflowError, OSError):
        return clean(line)
    return clean(f"{moment}.{thousandths:03d} | " + " | ".join(str(word) for word in words))


@click.command("log")
@module_option()
@click.option("-f", "follow", is_flag=True, help="Go on with new lines until interrupted.")
@click.option(
    *("-s", "count"),
    type=click.IntRange(1, BATCH),
    default=300,
    show_default=True,
    help="How many of the last lines.",
)
@click.option("-A", "verbose", is_flag=True, help="Show levels I and D (information) as well.")
@click.option("--json", "json_wanted", is_flag=True, help="Print the lines as they are stored.")
@click.pass_obj
def log(  # noqa: PLR0917 - one argument for each option.
    scope: Scope, module: str, follow: bool, count: int, verbose: bool, json_wanted: bool
) -> int:
    """Show the module's log. Of this node also while the agent is down.

    Levels: C critical, E event, U order of an administrator, S script, I and D information.
    """
    from mirrorfarm.cli.client import Client, resolve_nodes

    if not scope.hosts and not scope.paths.module_log(module).is_dir():
        raise Refused(f"{module} has no log on this node: is it spelt so, was it ever started?")
    node, *others = resolve_nodes(scope.paths, scope.hosts, "")
    if others:
        raise click.UsageError("log shows one node at a time: -H NODE")
    client = Client(scope.paths) if scope.hosts else None
    after, wanted = -BATCH, count
    try:
        while True:
            lines, after = read(scope.paths, client, (node, module), after)
            chosen = [line for line in lines if verbose or level_of(line) not in {"I", "D"}]
            for line in chosen[-wanted:]:
                click.echo(clean(line) if json_wanted else line_text(line))
            if not follow:
                return 0
            wanted = BATCH
            time.sleep(POLL_SECONDS)
    finally:
        if client:
            client.close()


def read(
    paths: Paths, client: "Client | None", of: tuple[str, str], after: int
) -> tuple[list[str], int]:
    """Return up to BATCH lines after `after` of a module on a node, and where to go on."""
    node, module = of
    if client:
        answer = client.log(node, module, after, BATCH)
        return list(answer.lines), answer.next_after
    from mirrorfarm.modulelog import read_log

    return read_log(paths.module_log(module), after, BATCH)
