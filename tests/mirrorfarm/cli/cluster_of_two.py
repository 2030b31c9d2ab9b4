"""Two nodes of which one has a real bus: what answers the commands is a stand-in module."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mirrorfarm.lab.configuration import cluster_xml
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.paths import Paths
from mirrorfarm.transport.attachment import Attachment, AttachmentSettings
from mirrorfarm.transport.keys import create_cluster, load_keys
from mirrorfarm.transport.messages import (
    AgentCommand,
    AgentResult,
    Command,
    CommandResult,
    Frame,
    StateAnswer,
    StateQuery,
)
from mirrorfarm.transport.zmq import Hub, HubSettings

CLUSTER = cluster_xml({"default": {"n1": "198.18.0.1", "n2": "198.18.0.2"}})


def make_cluster(folder: Path) -> Paths:
    """Make `folder` the root of n1."""
    paths = Paths(folder)
    create_cluster(CLUSTER, ("n1", "n2"), (), "n1", paths, folder / "bundles")
    return paths


def state_json(**changes: Any) -> dict[str, Any]:
    """Return the state of a primary, with changes."""
    second = SECOND_NS
    return {
        "module": "ledger",
        "node": "n1",
        "state": "PRIM",
        "status": "Ready",
        "now_ns": 100 * second,
        "since_ns": 40 * second,
        "reason": "it holds term 3 and n2 is in step",
        "would_change": "",
        "command": "",
        "facts": [{"at_ns": 40 * second, "text": "the arbiter granted term 3"}],
        "uptodate": True,
        "degraded": False,
        "arbiter": {"kind": "witness", "class": "A3", "advisory": "", "reachable": True},
        "peer": {"name": "n2", "state": "SECOND", "status": "Ready", "heard_ns": 99 * second},
        "resources": {"state.local": "PRIM Ready"},
    } | changes


class Node:
    """n1 with an agent that knows one module, `ledger`, which answers as it is told."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.state = state_json()
        self.outcomes: list[tuple[str, str]] = [("accepted", ""), ("done", "it is so")]
        self.commands: list[Command] = []
        keys = load_keys(paths)
        paths.run.mkdir(parents=True)
        self.hub = Hub(HubSettings(keys, 1, (), local_socket=paths.bus_socket))
        self.hub.register("agent", "agent", self._agent)
        self.hub.start()
        settings = AttachmentSettings(paths.bus_socket, keys.cluster, "n1", "ledger", 2)
        self.module = Attachment(settings, self._mirror)

    def _agent(self, frame: Frame, _network: str) -> None:
        source, message = frame.source, frame.message
        if isinstance(message, AgentCommand):
            rows = [{"module": "ledger", "id": 1, "configured": True}]
            result = AgentResult(message.request, "done", "", json.dumps(rows).encode())
            self.hub.send(source, "agent", result)

    def _mirror(self, frame: Frame, _network: str) -> None:
        actor, source, message = frame.to.actor, frame.source, frame.message
        if isinstance(message, StateQuery):
            answer = StateAnswer(message.request, json.dumps(self.state).encode())
            self.module.send(source, actor, answer)
        elif isinstance(message, Command):
            self.commands.append(message)
            for outcome, text in self.outcomes:
                self.module.send(source, actor, CommandResult(message.request, outcome, text))

    def close(self) -> None:
        self.module.close()
        self.hub.close()


@contextmanager
def running_node(folder: Path) -> Iterator[Node]:
    node = Node(make_cluster(folder))
    try:
        yield node
    finally:
        node.close()
