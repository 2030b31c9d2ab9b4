"""`mirrorfarm log`: the lines of a module's log, here or on another node."""

import json
import time

import click

from mirrorfarm.cli.control import module_option
from mirrorfarm.cli.main import Scope
from mirrorfarm.cli.show import clean
from mirrorfarm.errors import Refused

POLL_SECONDS = 0.3
BATCH = 500


def line_text(line: str) -> str:
    """Return a log line as a person reads it: date | level | origin | text."""
    try:
        record = json.loads(line)
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record["t"]))
        thousandths = int(record["t"] * 1000) % 1000
        words = (record["level"], record["origin"], record["text"])
    except (ValueError, KeyError, TypeError):
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
@click.option("--json", "json_wanted", is_flag=True, help="Print the lines as they are stored.")
@click.pass_obj
def log(scope: Scope, module: str, follow: bool, count: int, json_wanted: bool) -> int:
    """Show the module's log. Of this node also while the agent is down."""
    from mirrorfarm.cli.client import Client
    from mirrorfarm.modulelog import read_log

    folder = scope.paths.module_log(module)
    if not scope.hosts and not folder.is_dir():
        raise Refused(f"{module} has no log on this node: is it spelt so, was it ever started?")
    if "," in scope.hosts or scope.hosts == "*":
        raise click.UsageError("log shows one node at a time: -H NODE")
    client = Client(scope.paths) if scope.hosts else None
    after = -count
    try:
        while True:
            if client:
                answer = client.log(scope.hosts, module, after, BATCH)
                lines, after = list(answer.lines), answer.next_after
            else:
                lines, after = read_log(folder, after, BATCH)
            for line in lines:
                click.echo(clean(line) if json_wanted else line_text(line))
            if not follow:
                return 0
            time.sleep(POLL_SECONDS)
    finally:
        if client:
            client.close()
