"""The client against a real bus."""

import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirrorfarm.cli import client as client_module
from mirrorfarm.cli.client import Client, agent_runs, process_name, resolve_nodes
from mirrorfarm.errors import KeyInvalid, MirrorfarmError, NodeUnreachable, Refused, TimedOut
from mirrorfarm.limits import NAME_PATTERN
from mirrorfarm.paths import Paths
from tests.mirrorfarm.cli.cluster_of_two import Node, make_cluster, running_node


@pytest.fixture
def folder() -> Iterator[Path]:
    # Short: a Unix socket's path has at most 107 characters.
    path = Path(tempfile.mkdtemp(prefix="mf-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def node(folder: Path) -> Iterator[Node]:
    with running_node(folder) as running:
        yield running


def test_the_state_of_a_module_is_what_its_mirror_says(node: Node) -> None:
    with Client(node.paths) as client:
        assert client.node == "n1"
        assert client.state("n1", "ledger")["state"] == "PRIM"
        assert client.modules(["n1", "n2"], 1.5) == {"n1": ["ledger"]}


def test_an_accepted_command_is_not_yet_done(node: Node) -> None:
    with Client(node.paths, who="SYSTEM/test") as client:
        assert client.command("n1", "ledger", "swap", seconds=5) == "it is so"
        assert (node.commands[0].verb, node.commands[0].who) == ("swap", "SYSTEM/test")
        node.outcomes = [("accepted", "")]
        with pytest.raises(TimedOut, match="it may still happen"):
            client.command("n1", "ledger", "swap", seconds=0.2)


def test_a_repeated_question_is_the_same_command(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "REPEAT_SECONDS", 0.05)
    node.outcomes = [("accepted", "")]
    with Client(node.paths) as client, pytest.raises(TimedOut):
        client.command("n1", "ledger", "start", seconds=1.2)
    assert len(node.commands) >= 2
    assert len({command.request for command in node.commands}) == 1


def test_a_refusal_and_a_failure_are_errors_with_the_reason(node: Node) -> None:
    with Client(node.paths) as client:
        node.outcomes = [("refused", "the peer is primary")]
        with pytest.raises(Refused, match="the peer is primary"):
            client.command("n1", "ledger", "prim", seconds=5)
        node.outcomes = [("failed", "start_prim exited 3")]
        with pytest.raises(MirrorfarmError, match="start_prim exited 3"):
            client.command("n1", "ledger", "start", seconds=5)


def test_an_order_to_a_module_that_is_not_configured_is_refused_at_once(node: Node) -> None:
    with (
        Client(node.paths) as client,
        pytest.raises(Refused, match=r"leger is not configured on n1 .*: ledger.*module config"),
    ):
        client.command("n1", "leger", "start", seconds=60)


def test_an_order_to_a_node_that_is_not_there_does_not_wait_for_its_whole_limit(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "SILENT_SECONDS", 0.3)
    with Client(node.paths) as client, pytest.raises(NodeUnreachable, match="n2 does not answer"):
        client.command("n2", "ledger", "start", seconds=20)


def test_an_order_to_a_node_that_comes_back_is_given_once(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "SILENT_SECONDS", 1.2)
    answered, node.outcomes = node.outcomes, []
    with Client(node.paths) as client:
        ask = client.modules

        def modules(nodes: list[str], seconds: float) -> dict[str, list[str]]:
            """It answers when it is asked again."""
            if not node.commands:
                return {}
            node.outcomes = answered
            return ask(nodes, seconds)

        monkeypatch.setattr(client, "modules", modules)
        assert client.command("n1", "ledger", "start", seconds=60) == "it is so"
    assert len({command.request for command in node.commands}) == 1


def test_a_silent_node_is_unreachable(node: Node) -> None:
    with Client(node.paths) as client:
        with pytest.raises(NodeUnreachable, match="n2"):
            client.state("n2", "ledger", seconds=0.2)
        assert set(client.states([("n1", "ledger"), ("n2", "ledger")], 1.5)) == {("n1", "ledger")}


def test_two_clients_of_one_process_do_not_take_each_others_answers(node: Node) -> None:
    with Client(node.paths) as one, Client(node.paths) as other:
        assert one.state("n1", "ledger") == other.state("n1", "ledger")


def test_without_an_agent_the_error_names_the_command_that_starts_it(folder: Path) -> None:
    with pytest.raises(KeyInvalid):
        Client(Paths(folder))
    with pytest.raises(NodeUnreachable, match="systemctl start mirrorfarm"):
        Client(make_cluster(folder))


def test_nodes_are_this_one_all_or_those_named(folder: Path) -> None:
    paths = make_cluster(folder)
    assert resolve_nodes(paths, "", "n1") == ("n1",)
    assert resolve_nodes(paths, "*", "n1") == ("n1", "n2")
    assert resolve_nodes(paths, "n2, n1", "n1") == ("n2", "n1")
    with pytest.raises(Refused, match="n3: not a node"):
        resolve_nodes(paths, "n1,n3", "n1")


def test_an_agent_that_hangs_holds_up_nobody(folder: Path) -> None:
    paths = Paths(folder)
    assert not agent_runs(paths)
    paths.run.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(str(paths.bus_socket))
        hanging.listen(1)
        began = time.monotonic()
        assert all(agent_runs(paths) for _ in range(10)), "nobody takes their connections"
        assert time.monotonic() - began < 5
    assert not agent_runs(paths)


def test_a_process_that_comes_later_has_another_name() -> None:
    names = {process_name(1 << 22) for _ in range(10)}
    assert len(names) == 10, "also with the same number, and a clock that was set back"
    assert all(re.fullmatch(NAME_PATTERN, name) for name in names)


def test_a_node_that_is_named_twice_is_meant_once(node: Node) -> None:
    assert resolve_nodes(node.paths, "n2, n1,n2", "n1") == ("n2", "n1")
