"""The verbs: orders to a module's state machine, and waiting for a state."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import click

from mirrorfarm.cli.main import Scope, fail
from mirrorfarm.cli.number import Number
from mirrorfarm.cli.show import clean
from mirrorfarm.errors import MirrorfarmError, NodeUnreachable, Refused, TimedOut

if TYPE_CHECKING:
    from mirrorfarm.cli.client import Client

STATES: Final = ("STOP", "WAIT", "ALONE", "PRIM", "SECOND", "UP")
POLL_SECONDS: Final = 0.1
# Verb -> help, seconds until the command gives up waiting for the final answer. They cover the
# scripts' own limits: 300 s for stop_prim, 300 s for start_prim.
VERBS: Final[dict[str, tuple[str, float]]] = {
    "start": ("Start the module; it becomes SECOND, PRIM or ALONE as its data allow.", 330),
    "stop": ("Stop the module; its peer takes over if it can.", 660),
    "restart": ("Run the stop and start scripts; no failover.", 660),
    "stopstart": ("Stop the module and start it again; a primary hands over.", 960),
    "swap": ("Exchange the roles of PRIM and SECOND.", 660),
    "prim": ("Start as primary: this node has the good data.", 330),
    "second": ("Start as secondary: the other node has the good data.", 330),
    "primforce": ("Start as primary on possibly incomplete data; the other is copied anew.", 330),
    "forcestop": ("End the module and every process of its application, at once.", 60),
}

DECISIONS: Final = ("prim", "primforce")
STARTS: Final = ("start", "prim", "second", "primforce")  # They wait for what the nodes exchange.


def _named(context: click.Context, option: click.Parameter, module: str | None) -> str | None:
    """Refuse a module without a name: neither all are meant, nor one that nobody has."""
    del context, option
    if module is not None and not module.strip():
        raise click.UsageError("-m names no module (an empty variable?)")
    return module


def module_option(
    required: bool = True,
) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """Return the option `-m`, which scripts need not give."""
    return click.option(
        *("-m", "--module", "module"),
        envvar="SAFEMODULE",
        required=required,
        callback=_named,
        help="The module; default: $SAFEMODULE.",
    )


def identity_option() -> Callable[[Callable[..., object]], Callable[..., object]]:
    """Return the option `-i`, by which an order is known not to be an administrator's."""
    return click.option(
        *("-i", "--identity", "identity"),
        default="",
        help="Which script or handler orders it: told in the log, and counted by maxloop.",
    )


def act(
    scope: Scope,
    module: str,
    verb: str,
    arguments: tuple[str, ...],
    *,
    seconds: float,
    identity: str,
) -> int:
    """Order `verb` on every chosen node, one after the other; return the worst exit code."""
    from mirrorfarm.cli.client import KNOWN_SECONDS, Client, resolve_nodes
    from mirrorfarm.cli.module_ids import disagreements

    worst = 0
    with Client(scope.paths, identity=identity) as client:
        nodes = resolve_nodes(scope.paths, scope.hosts, client.node)
        if verb in STARTS and len(nodes) > 1:
            states = client.states([(node, module) for node in nodes], KNOWN_SECONDS)
            for text in disagreements(client, states).values():
                click.echo(f"note: {clean(text)}", err=True)
        for node in nodes:
            try:
                text = client.command(node, module, verb, arguments, seconds=seconds)
                click.echo(f"{node}: {clean(text) or f'{verb} done'}")
            except MirrorfarmError as error:
                worst = max(worst, fail(f"{node}: {error}", error.exit_code))
                if verb in DECISIONS and not isinstance(error, Refused | NodeUnreachable):
                    tell_what_stands(client, node, module, verb)
    return worst


def tell_what_stands(client: "Client", node: str, module: str, verb: str) -> None:
    """Note that a node leads one day by an order that failed after the arbiter had taken it."""
    with suppress(MirrorfarmError):
        state = client.state(node, module)
        term, decisions = state.get("term"), (state.get("record") or {}).get("forced", [])
        taken = f"{verb} by an administrator on {node}, term {term}"
        ordered = any(f"{one},".startswith(f"{taken},") for one in decisions)
        if not ordered or state.get("holder") != node or state.get("state") in {"ALONE", "PRIM"}:
            return
        peer = state.get("peer", {}).get("name", "")
        text = (
            f"the order stands although it failed: {node} is named primary in term {term}, leads "
            f"as soon as it can, and what {peer} alone has is given up then. "
            f"If that is not wanted any more: mirrorfarm -H {peer} prim -m {module}"
        )
        click.echo(f"note: {clean(text)}", err=True)


def verb_command(verb: str) -> click.Command:
    """Return the click command of a verb."""
    text, seconds = VERBS[verb]

    @click.command(verb, help=f"{text}\n\nRepeating it is harmless.", short_help=text)
    @module_option()
    @click.option(
        *("--timeout", "timeout"),
        type=Number(0.1, 86_400),
        default=seconds,
        show_default=True,
        help="Seconds to wait for the final answer.",
    )
    @identity_option()
    @click.argument("arguments", nargs=-1)
    @click.pass_obj
    def run(
        scope: Scope, module: str, timeout: float, identity: str, arguments: tuple[str, ...]
    ) -> int:
        return act(scope, module, verb, arguments, seconds=timeout, identity=identity)

    return run


start = verb_command("start")
stop = verb_command("stop")
restart = verb_command("restart")
stopstart = verb_command("stopstart")
swap = verb_command("swap")
prim = verb_command("prim")
second = verb_command("second")
primforce = verb_command("primforce")
forcestop = verb_command("forcestop")


@click.command("waitstate")
@click.argument("state", type=click.Choice(STATES))
@module_option()
@click.option(
    *("--timeout", "timeout"),
    type=Number(0.1, 86_400),
    default=300,
    show_default=True,
    help="Seconds to wait.",
)
@click.pass_obj
def waitstate(scope: Scope, state: str, module: str, timeout: float) -> int:
    """Wait until the module is in STATE, stable: Ready, or NotReady for STOP and WAIT."""
    from mirrorfarm.cli.client import Client, resolve_nodes

    deadline = time.monotonic() + timeout
    last: dict[str, str] = {}
    with Client(scope.paths) as client:
        missing = list(resolve_nodes(scope.paths, scope.hosts, client.node))
        while True:
            found = client.states([(node, module) for node in missing], seconds=1.0)
            for (node, _), now in found.items():
                last[node] = f"{now.get('state')} {now.get('status')}"
                if now.get("state") == state and now.get("status") != "Transient":
                    missing.remove(node)
            if not missing:
                return 0
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS)
    node = missing[0]
    if node not in last:
        raise NodeUnreachable(f"{module} on {node} never answered within {timeout:g} s")
    raise TimedOut(f"{module} on {node} is {last[node]}, not {state}, after {timeout:g} s")
