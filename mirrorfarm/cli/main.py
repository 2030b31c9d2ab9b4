"""The command `mirrorfarm`: finds the command's file, imports that one only, reports errors."""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click

from mirrorfarm.errors import MirrorfarmError, SystemUnsuitable
from mirrorfarm.paths import Paths

# Command -> where its click command is. Imported when used: a start costs milliseconds.
VERBS = {
    verb: f"mirrorfarm.cli.control:{verb}"
    for verb in (
        *("start", "stop", "restart", "stopstart", "swap"),
        *("prim", "second", "primforce", "forcestop"),
    )
}
COMMANDS = {
    "agent": "mirrorfarm.cli.daemons:agent",
    "cluster": "mirrorfarm.cli.cluster:cluster",
    "farm": "mirrorfarm.cli.farm:farm",
    "log": "mirrorfarm.cli.log:log",
    "module": "mirrorfarm.cli.module:module",
    "sim": "mirrorfarm.cli.sim:sim",
    "state": "mirrorfarm.cli.state:state",
    "trace": "mirrorfarm.cli.trace:trace",
    "waitstate": "mirrorfarm.cli.control:waitstate",
    "why": "mirrorfarm.cli.why:why",
    "witness": "mirrorfarm.cli.daemons:witness",
    **VERBS,
}
INTERRUPTED = 130
UNREAD = 141  # As of a program that SIGPIPE ends.


@dataclass(frozen=True, slots=True)
class Scope:
    """What the options before the command say."""

    paths: Paths
    hosts: str  # "": this node; "*": all; else names with commas.


@contextmanager
def _quiet_when_unread() -> Iterator[None]:
    """End quietly when whoever reads the output (`head`) has left."""
    try:
        yield
    except (BrokenPipeError, SystemExit) as error:
        # Click and rich would say 1, which is that something was found to be wrong.
        if not isinstance(error.__context__ or error, BrokenPipeError):
            raise
        if sys.stdout is not None:  # Python flushes it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(UNREAD) from None


class LazyGroup(click.Group):
    """A group that imports a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return every command's name."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the file of a command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the words; the help of the whole is printed here."""
        with _quiet_when_unread():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        with _quiet_when_unread():
            return super().invoke(ctx)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-H",
    "hosts",
    default=None,
    metavar="NODES",
    help="Act on these nodes instead of this one: '*' for all, or names with commas.",
)
@click.pass_context
def cli(context: click.Context, hosts: str | None) -> None:
    """High availability for Linux services: mirrored directories, a virtual address, failover.

    Exit codes: 0 done, 1 failed or something is wrong, 2 wrong usage, 3 configuration invalid,
    5 a node cannot be reached, 6 refused, 7 no final answer in time, 8 this machine is unsuitable,
    9 keys, 10 records, 11 traces, 130 interrupted, 141 nobody reads the output any more.
    """
    if hosts is not None and not hosts.replace(",", " ").split():
        raise click.UsageError("-H names no node (an empty variable?); this one needs no -H")
    context.obj = Scope(Paths.from_environment(), hosts or "")


def fail(text: str, code: int) -> int:
    """Say why on standard error; return the exit code."""
    from mirrorfarm.cli.show import clean

    click.echo(f"mirrorfarm: {clean(text, lines=True)}", err=True)
    return code


def main(argv: list[str] | None = None) -> None:
    """Run one command; every error is one text and an exit code, never a traceback."""
    code = 0
    try:
        result = cli.main(args=argv, prog_name="mirrorfarm", standalone_mode=False)
        code = result if isinstance(result, int) else 0
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except MirrorfarmError as error:
        code = fail(str(error), error.exit_code)
    except OSError as error:
        from mirrorfarm.oserrors import told

        code = fail(told(error), SystemUnsuitable.exit_code)
    sys.exit(code)


if __name__ == "__main__":
    main()
