"""`mirrorfarm why`: one paragraph that explains the state of a module on its nodes."""

from collections.abc import Mapping
from typing import Any

import click

from mirrorfarm.cli.control import module_option
from mirrorfarm.cli.main import Scope
from mirrorfarm.cli.show import age, as_json, clean, since
from mirrorfarm.errors import NodeUnreachable

FACTS_SHOWN = 5
UNKNOWN = "UNKNOWN"  # What a silent peer's state is called.


def sentence(text: str) -> str:
    """Return text that ends as a sentence does."""
    text = text.strip()
    return text if not text or text[-1] in ".!?" else f"{text}."


def tell_node(node: str, state: dict[str, Any]) -> list[str]:
    """Return what one node's state says, in sentences."""
    name, status = state.get("state"), state.get("status")
    told = [f"{node} is {name} {status} since {since(state)}"]
    reason = str(state.get("reason", ""))
    told[0] += f": {sentence(reason)}" if reason else "."
    now = int(state.get("now_ns", 0))
    facts = state.get("facts", [])[-FACTS_SHOWN:]
    if facts:
        chain = ", then ".join(
            f"{age(now - int(fact['at_ns']))} ago {str(fact['text']).rstrip('.')}" for fact in facts
        )
        told.append(f"What led there: {chain}.")
    arbiter = state.get("arbiter") or {}
    if arbiter.get("kind") not in {None, "none"} and not arbiter.get("reachable", True):
        told.append(f"Its arbiter is silent since {age(int(arbiter.get('silent_ns', 0)))}.")
    if arbiter.get("advisory"):
        told.append(sentence(str(arbiter["advisory"])))
    return told


def tell_change(node: str, state: dict[str, Any]) -> list[str]:
    """Return what would change the state of a node, and the command for it."""
    told = []
    if state.get("would_change"):
        told.append(f"What would change {node}: {sentence(str(state['would_change']))}")
    if state.get("command"):
        told.append(f"The command for it: `{state['command']}`")
    return told


def tell(
    module: str,
    states: dict[str, dict[str, Any] | None],
    troubles: Mapping[str, str] | None = None,
) -> str:
    """Return the paragraph for a module, given what each node answered (None: silence).

    `troubles`: node -> which processes of the module do not come to run there.
    """
    told: list[str] = []
    for node, state in states.items():
        if state is None:
            told.append(f"{node} does not answer about {module}{heard_last(node, states)}.")
        else:
            told += tell_node(node, state)
            trouble = (troubles or {}).get(node, "")
            if trouble and trouble not in str(state.get("reason", "")):
                told.append(f"On {node}: {sentence(trouble)}")
    for node, state in states.items():
        if state is not None:
            told += tell_change(node, state)
    return clean(" ".join(told))


def heard_last(silent: str, states: dict[str, dict[str, Any] | None]) -> str:
    """Return what the others know of a node that does not answer."""
    for node, state in states.items():
        peer = (state or {}).get("peer") or {}
        if state and peer.get("name") == silent:
            heard = int(peer.get("heard_ns", 0))
            if not heard:
                return f", and {node} has never heard it"
            ago = age(int(state.get("now_ns", 0)) - heard)
            words = " ".join(str(peer.get(key) or "") for key in ("state", "status")).strip()
            return f"; {node} heard it {ago} ago" + (f", as {words}" if words != UNKNOWN else "")
    return ", and nobody can tell more"


@click.command("why")
@module_option()
@click.option("--json", "json_wanted", is_flag=True, help="Print the states it is made from.")
@click.pass_obj
def why(scope: Scope, module: str, json_wanted: bool) -> int:
    """Explain in one paragraph why the module is in its state. Answers within 4 seconds."""
    from mirrorfarm.cli.client import Client, resolve_nodes

    with Client(scope.paths) as client:
        nodes = resolve_nodes(scope.paths, scope.hosts or "*", client.node)
        found = client.states([(node, module) for node in nodes])
        troubles = client.troubles(nodes, module)
    states = {node: found.get((node, module)) for node in nodes}
    if json_wanted:
        click.echo(as_json(states))
    if not any(states.values()):
        raise NodeUnreachable(
            f"no node knows {module}: is it configured (`mirrorfarm module list`) and spelt so?"
        )
    if not json_wanted:
        click.echo(click.wrap_text(tell(module, states, troubles), width=98))
    return 0
