"""`mirrorfarm state`: which module is what, where, since when."""

from typing import Any, NamedTuple

import click

from mirrorfarm.cli.control import module_option
from mirrorfarm.cli.main import Scope
from mirrorfarm.cli.show import COLOURS, as_json, clean, label, since, table
from mirrorfarm.errors import MirrorfarmError, NodeUnreachable

CODES = {"STOP": 0, "WAIT": 1, "ALONE": 2, "UP": 2, "PRIM": 3, "SECOND": 4}
HEADS = ("module", "node", "state", "status", "data", "since", "reason")
Found = dict[tuple[str, str], dict[str, Any] | None]  # (node, module); None: no answer.


class Collected(NamedTuple):
    """What the chosen nodes say of one module, or of all."""

    found: Found
    silent: list[str]  # Nodes whose agents do not answer: nobody knows which modules they have.
    conflicts: dict[str, str]  # By module what is wrong with ids that differ.
    absent: tuple[str, ...]  # Nodes that do not have the module, by what their agents say.


def collect(scope: Scope, module: str) -> Collected:
    """Return the states of one module, or all, on the chosen nodes."""
    from mirrorfarm.cli.client import KNOWN_SECONDS, Client, resolve_nodes
    from mirrorfarm.cli.module_ids import disagreements

    with Client(scope.paths) as client:
        nodes = resolve_nodes(scope.paths, scope.hosts, client.node)
        known = {node: [module] for node in nodes} if module else client.modules(nodes)
        wanted = [(node, name) for node in nodes for name in known.get(node, [])]
        states = client.states(wanted)
        conflicts = disagreements(client, states)
        unheard = [node for node, name in wanted if module and (node, name) not in states]
        there = client.modules(unheard, KNOWN_SECONDS) if unheard else {}
    found: Found = {key: states.get(key) for key in sorted(wanted, key=lambda key: key[::-1])}
    absent = tuple(node for node in unheard if module not in there.get(node, (module,)))
    return Collected(found, [node for node in nodes if node not in known], conflicts, absent)


def show_table(collected: Collected) -> None:
    """Print one line per module and node, and one for each node that is silent altogether."""
    found, silent, _, absent = collected
    rows, colours = [], []
    for (node, module), state in found.items():
        if state is None:
            why = "no answer: `mirrorfarm why` tells more"
            why = "it is not configured there" if node in absent else why
            rows.append((module, node, "ERROR", "", "", "", why))
            colours.append("red")
            continue
        status = str(state.get("status", ""))
        words = (str(state.get("state")), status, label(state), since(state))
        rows.append((module, node, *words, str(state.get("reason", ""))))
        colours.append(COLOURS.get(status, ""))
    rows += [("", node, "ERROR", "", "", "", "its agent does not answer") for node in silent]
    table(HEADS, rows, [*colours, *(["red"] * len(silent))])


def show_resources(found: Found) -> None:
    """Print the resources of each module."""
    for (node, module), state in found.items():
        if state is not None:
            resources = state.get("resources", {})
            table((f"{module} on {node}", "value"), [(k, str(resources[k])) for k in resources])


@click.command("state")
@module_option(required=False)
@click.option("-v", "verbose", is_flag=True, help="Show the resources as well.")
@click.option("--json", "json_wanted", is_flag=True, help="Print the full state as JSON.")
@click.option("-l", "-q", "-lq", "quiet", is_flag=True, help="Only the exit code tells the state.")
@click.pass_obj
def state(scope: Scope, module: str | None, verbose: bool, json_wanted: bool, quiet: bool) -> int:
    """Show the state of the modules. Answers within 7 seconds.

    With -lq the exit code is: 0 STOP, 1 WAIT, 2 ALONE or UP, 3 PRIM, 4 SECOND, 5 no answer.
    """
    if quiet:
        return quiet_code(scope, module)
    collected = collect(scope, module or "")
    found, silent, conflicts, absent = collected
    if json_wanted:
        answers = [
            {**now, **({"id_conflict": conflicts[name]} if name in conflicts else {})}
            if now
            else {
                "node": node,
                "module": name,
                "error": "not configured" if node in absent else "no answer",
            }
            for (node, name), now in found.items()
        ]
        click.echo(as_json([*answers, *({"node": node, "error": "no answer"} for node in silent)]))
    else:
        show_table(collected)
        if verbose:
            show_resources(found)
        for text in conflicts.values():
            click.echo(f"note: {clean(text)}", err=True)
    faults = []
    if absent:
        cures = ", ".join(f"`mirrorfarm -H {node} module list`" for node in absent)
        faults.append(f"{module} is not configured on {', '.join(absent)}: {cures} shows what is")
    missing = silent + [node for (node, _), now in found.items() if now is None]
    if missing := [node for node in dict.fromkeys(missing) if node not in absent]:
        faults.append(f"no answer from {', '.join(missing)}")
    if faults:
        raise NodeUnreachable("; ".join(faults))
    return 0


def quiet_code(scope: Scope, module: str | None) -> int:
    """Return the exit code that tells the state of one module on one node."""
    if not module or "," in scope.hosts or scope.hosts == "*":
        raise click.UsageError("-lq needs one module (-m) and one node")
    try:
        found = collect(scope, module).found
    except MirrorfarmError:
        return NodeUnreachable.exit_code
    for now in found.values():
        if now is not None:
            return CODES.get(str(now.get("state")), NodeUnreachable.exit_code)
    return NodeUnreachable.exit_code
