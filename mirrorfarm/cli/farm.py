"""`mirrorfarm farm`: who of the nodes answers which share of the clients, and to change that."""

from typing import Any

import click

from mirrorfarm.cli.control import act, identity_option, module_option
from mirrorfarm.cli.main import Scope
from mirrorfarm.cli.show import COLOURS, as_json, clean, table
from mirrorfarm.errors import NodeUnreachable, Refused
from mirrorfarm.limits import POWER_MAX

HEADS = ("node", "state", "share", "buckets", "new/s", "live", "draining", "note")
ANSWER_SECONDS = 30.0
LETTERS = "0123456789abcdef"  # Of the owners in `farm.owners` of the state; `-`: nobody.
MAP_COLUMNS = 64

States = dict[str, dict[str, Any]]


@click.group("farm")
def farm() -> None:
    """Show and change how a farm shares its clients."""


def farm_states(scope: Scope, module: str) -> tuple[States, list[str]]:
    """Return the states of a farm module by node, and the nodes that are silent.

    Raises Refused if the module is no farm, NodeUnreachable if no node answers, or it runs nowhere.
    """
    from mirrorfarm.cli.client import Client, resolve_nodes

    with Client(scope.paths) as client:
        nodes = resolve_nodes(scope.paths, scope.hosts or "*", client.node)
        found = client.states([(node, module) for node in nodes])
    states = {node: state for (node, _), state in found.items()}
    if not states:
        raise NodeUnreachable(f"no node answers for {module}: `mirrorfarm -H '*' state` tells more")
    for node, state in states.items():
        if state.get("mode") not in {"farm", None}:
            raise Refused(f"{module} on {node} is a {state['mode']} module, not a farm")
    farms = {node: state for node, state in states.items() if state.get("farm")}
    if not farms:
        reasons = "; ".join(f"{node}: {state.get('reason', '')}" for node, state in states.items())
        raise NodeUnreachable(
            f"{module} runs on no node ({reasons}): `mirrorfarm -H '*' state` tells more"
        )
    members = [name for state in farms.values() for name in state["farm"].get("names", [])]
    wanted = list(dict.fromkeys(members)) or list(farms)
    return farms, [node for node in wanted if node not in farms]


@farm.command("state")
@module_option()
@click.option("--json", "json_wanted", is_flag=True, help="Print what each node says as JSON.")
@click.pass_obj
def state(scope: Scope, module: str, json_wanted: bool) -> int:
    """Show shares, buckets, connections and draining of every node. Answers within 6 seconds."""
    states, silent = farm_states(scope, module)
    if json_wanted:
        click.echo(as_json({node: states[node]["farm"] for node in sorted(states)}))
    else:
        _show(states, silent)
    if silent:
        raise NodeUnreachable(f"no answer from {', '.join(silent)}")
    return 0


def _show(states: States, silent: list[str]) -> None:
    rows, colours = [], []
    for node, told in sorted(states.items()):  # One of another version may tell less.
        details = told["farm"]
        nodes: list[dict[str, Any]] = details.get("nodes", [])
        own = next((one for one in nodes if one.get("name") == node), {})
        traffic = details.get("traffic") or {}
        draining = details.get("draining") or {}
        rows.append(
            (
                node,
                f"{told.get('state', '')} {told.get('status', '')}",
                _by_group(own.get("share_permille", {}), _percent),
                _by_group(own.get("buckets", {}), str),
                str(traffic.get("new_per_s", "")),
                str(traffic.get("connections", "")),
                f"{draining.get('connections', '?')} in {draining['buckets']}"
                if draining.get("buckets")
                else "",
                str(told.get("reason") or details.get("reason") or ""),
            )
        )
        colours.append(COLOURS.get(str(told.get("status")), ""))
    rows += [(node, "ERROR", "", "", "", "", "", "no answer") for node in silent]
    table(HEADS, rows, [*colours, *(["red"] * len(silent))])
    for node, told in sorted(states.items()):
        details = told["farm"]
        click.echo(
            clean(
                f"{node}: filter {details.get('mode', '?')}"
                f"{' (' + details['why'] + ')' if details.get('why') else ''}, "
                f"view {details.get('view', '?')} of "
                f"{', '.join(details.get('members', ())) or 'nobody'}"
            )
        )
        for other in details.get("nodes", ()):
            if other.get("name") != node and other.get("reason"):
                click.echo(clean(f"{node}: {other.get('name')}: {other['reason']}"))


def _percent(permille: int) -> str:
    return f"{permille / 10:.1f} %"


def _by_group(values: dict[str, int], text: Any) -> str:
    if len(values) == 1:
        return str(text(next(iter(values.values()))))
    return ", ".join(f"{group} {text(value)}" for group, value in values.items())


@farm.command("map")
@module_option()
@click.option("--group", default="", help="Only this load-balancing group.")
@click.option("--json", "json_wanted", is_flag=True, help="Print the owner of each bucket as JSON.")
@click.pass_obj
def map_(scope: Scope, module: str, group: str, json_wanted: bool) -> int:
    """Show which node owns each of the 1024 buckets, as the nodes agreed."""
    states, _ = farm_states(scope, module)
    best = max(states.values(), key=lambda told: int(told["farm"].get("view", 0)))["farm"]
    owners = {name: text for name, text in best.get("owners", {}).items() if group in {"", name}}
    if not owners:
        known = ", ".join(best.get("groups", []))
        raise Refused(
            f"no group {group!r}; there are: {known}" if group else "no node is in the farm yet"
        )
    members = best["members"]
    if json_wanted:
        named = {
            name: [members[LETTERS.index(one)] if one in LETTERS else "" for one in text]
            for name, text in owners.items()
        }
        click.echo(as_json({"view": best["view"], "members": members, "owners": named}))
        return 0
    legend = "  ".join(f"{LETTERS[number]} {name}" for number, name in enumerate(members))
    for name, text in owners.items():
        counts = ", ".join(
            f"{member} {text.count(LETTERS[number])}" for number, member in enumerate(members)
        )
        click.echo(clean(f"{name}, view {best['view']}: {counts}"))
        for start in range(0, len(text), MAP_COLUMNS):
            click.echo(clean(f"{start:5} {text[start : start + MAP_COLUMNS]}"))
    click.echo(clean(f"      {legend}"))
    return 0


def _on(scope: Scope, node: str) -> Scope:
    if not node.replace(",", " ").split():
        raise click.UsageError("NODE names no node (an empty variable?)")
    return Scope(scope.paths, node)


@farm.command("drain")
@click.argument("node")
@module_option()
@identity_option()
@click.pass_obj
def drain(scope: Scope, node: str, module: str, identity: str) -> int:
    """Let NODE take no new clients and keep its live connections; `farm resume` ends it."""
    return act(_on(scope, node), module, "drain", (), seconds=ANSWER_SECONDS, identity=identity)


@farm.command("resume")
@click.argument("node")
@module_option()
@identity_option()
@click.pass_obj
def resume(scope: Scope, node: str, module: str, identity: str) -> int:
    """Let NODE take new clients again."""
    return act(_on(scope, node), module, "resume", (), seconds=ANSWER_SECONDS, identity=identity)


@farm.command("power")
@click.argument("node")
@click.argument("power", type=click.IntRange(0, POWER_MAX))
@click.option("--group", default="", help="Only in this load-balancing group.")
@module_option()
@identity_option()
@click.pass_obj
def power(scope: Scope, node: str, power: int, *, group: str, module: str, identity: str) -> int:
    """Set the weight of NODE now; 0: no traffic. Lasts until its module stops."""
    words = (str(power), group) if group else (str(power),)
    return act(_on(scope, node), module, "power", words, seconds=ANSWER_SECONDS, identity=identity)


@farm.command("traffic")
@click.argument("what", type=click.Choice(["open", "close"]))
@module_option()
@identity_option()
@click.pass_obj
def traffic(scope: Scope, what: str, module: str, identity: str) -> int:
    """Take clients on this node, or no new ones: for scripts, with scriptcontrol="on"."""
    return act(scope, module, "traffic", (what,), seconds=ANSWER_SECONDS, identity=identity)


@farm.command("check")
@module_option()
@click.option("--json", "json_wanted", is_flag=True, help="Print everything found as JSON.")
@click.pass_obj
def check(scope: Scope, module: str, json_wanted: bool) -> int:
    """Check whether the network suits the farm; works while it runs and before it is started.

    Each node in turn sends marked frames, all others listen: do the virtual MACs reach every
    node, how much is flooded, who answers for the addresses, MTU, round trip, kernel parameters
    and filters. Clients are not disturbed. Takes about 2 seconds and 1 more for each node, at
    most 110. Exit code: 0 if nothing is a problem, 1 if something is.
    """
    from mirrorfarm.cli.farm_check import check_farm

    return check_farm(scope, module, json_wanted)
