"""Why nobody serves when a run ends: what each living node says of itself, as `mirrorfarm why`."""

import json
from typing import Any, NamedTuple

from mirrorfarm.actors.module.farm import describe as farm
from mirrorfarm.actors.module.mirror import describe as mirror

STANDS_STILL = "its processes do not run"


class Says(NamedTuple):
    """One living node: its state, and why it is there, as its own state says."""

    node: str
    state: str
    status: str
    phase: str
    reason: str
    would_change: str
    command: str

    def __str__(self) -> str:
        why = f": {self.reason}" if self.reason else f" ({self.phase})"
        return f"{self.node} is {self.state} {self.status}{why}"


def unserved(world: Any) -> tuple[Says, ...]:
    """Return what every node says whose module runs; nothing: none does."""
    return tuple(found for name in world.nodes if (found := _says(world, name)) is not None)


def _says(world: Any, name: str) -> Says | None:
    node = world.nodes[name]
    process = node.host.processes.get(world.module_name)
    if process is None or not process.alive:
        return None
    describe = mirror if world.recording.module.mode == "mirror" else farm
    told = json.loads(describe.state_json(node.machine.state, node.host.clocks.boot(world.now)))
    says = Says(name, *(str(told[key]) for key in Says._fields[1:]))
    if process.paused:
        return says._replace(reason=STANDS_STILL, would_change="", command="")
    return says
