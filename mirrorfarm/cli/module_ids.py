"""One id for a module on all its nodes: the port of its replication is made from it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mirrorfarm.errors import Refused
from mirrorfarm.limits import MODULES_MAX

if TYPE_CHECKING:
    from mirrorfarm.cli.client import Client

States = Mapping[tuple[str, str], Mapping[str, Any] | None]  # (node, module); None: no answer.
Installed = Mapping[str, Mapping[str, int]]  # Node -> module -> id; 0: it cannot be read.


def common_id(name: str, installed: Installed) -> int:
    """Return the id to install a module with on all of these nodes.

    Raises Refused if a node has it with an id that it cannot have on all of them.
    """
    number = _usable(name, installed)
    present = _present(name, installed)
    if set(present.values()) - {number}:
        raise Refused(
            f"module {name} has {_told(present)}, and must have the same id on all of "
            f"{', '.join(installed)}; {number} can be had there: repeat this with "
            f"--force --id {number}"
        )
    return number


def disagreement(name: str, installed: Installed, folder: str) -> str:
    """Return what is wrong if the nodes have a module with different ids; empty if nothing is.

    `folder` is where the module's files lie.
    """
    present = _present(name, installed)
    if len(set(present.values())) < 2:
        return ""
    number = _usable(name, installed)
    wrong = [node for node, other in present.items() if other != number]
    return (
        f"module {name} has {_told(present)}: the ids must be the same, or its nodes do not find "
        f"each other's data. On {' and '.join(wrong)} stop it, then run there "
        f"`mirrorfarm module install {name} --from {folder} --force --id {number}` and "
        f"`mirrorfarm module config {name}`"
    )


def disagreements(client: "Client", states: States) -> dict[str, str]:
    """Return for each mirror that has different ids on the nodes that answered what is wrong.

    An id is that of the process, or of the agent where none runs. A farm may have several.
    """
    from mirrorfarm.cli.client import KNOWN_SECONDS

    states = dict(sorted(states.items()))  # Not in the order in which they answered.
    nodes: dict[str, list[str]] = {}
    for (node, name), state in states.items():
        if state:
            nodes.setdefault(name, []).append(node)
    mirrors = {name for (_, name), state in states.items() if state and _is_mirror(state)}
    several = {name: nodes[name] for name in sorted(mirrors) if len(nodes[name]) > 1}
    if not several:
        return {}
    asked = dict.fromkeys(node for some in several.values() for node in some)
    installed = client.installed(asked, KNOWN_SECONDS)
    found = {node: installed.get(node, {}) for node in asked}
    for (node, name), state in states.items():
        number = (state or {}).get("id")
        if node in found and isinstance(number, int):
            found[node][name] = number
    told = {}
    for name, some in several.items():
        folder = str(client.paths.module_etc(name))
        told[name] = disagreement(name, {node: found[node] for node in some}, folder)
    return {name: text for name, text in told.items() if text}


def _is_mirror(state: Mapping[str, Any]) -> bool:
    return state.get("mode") == "mirror"


def _present(name: str, installed: Installed) -> dict[str, int]:
    return {node: ids[name] for node, ids in installed.items() if ids.get(name)}


def _usable(name: str, installed: Installed) -> int:
    """Return an id that no other module has on any of these nodes: a present one, or the smallest.

    Raises Refused if there is none.
    """
    others = {n for ids in installed.values() for other, n in ids.items() if other != name}
    candidates: list[int] = sorted(set(_present(name, installed).values()))
    candidates += range(1, MODULES_MAX + 1)
    for number in candidates:
        if number not in others:
            return number
    raise Refused(f"no id from 1 to {MODULES_MAX} is free on all of {', '.join(installed)}")


def _told(present: Mapping[str, int]) -> str:
    return ", ".join(f"id {number} on {node}" for node, number in present.items())
