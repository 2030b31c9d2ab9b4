"""Processes of a node on its bus: by name, across nodes, through restarts of the agent."""

import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from mirrorfarm.limits import FRAME_BYTES_MAX
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.attachment import Attachment, AttachmentSettings
from mirrorfarm.transport.codec import encode
from mirrorfarm.transport.messages import Frame, Probe, StateAnswer
from mirrorfarm.transport.sockets import Bind, Link, endpoint
from mirrorfarm.transport.zmq import Hub, HubSettings
from tests.transport.bus import CLUSTER, Inbox, free_port, make_keys, until

MODULE1, MODULE2 = Address("n1", "web", "module"), Address("n2", "web", "module")
REPLICATOR1 = Address("n1", "web", "replicator")


class Nodes:
    """Two hubs on two networks, and what attaches to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = make_keys("n1", "n2")
        self.where = {
            (node, network): endpoint("127.0.0.1", free_port())
            for node in ("n1", "n2")
            for network in ("red", "blue")
        }
        self.hubs: dict[str, Hub] = {}
        self.attachments: list[Attachment] = []

    def path(self, node: str) -> Path:
        return self.folder / node / "bus.sock"

    def start(self, node: str, incarnation: int = 1, agent: Inbox | None = None) -> Hub:
        binds = tuple(Bind(net, at) for (name, net), at in self.where.items() if name == node)
        links = tuple(Link(name, net, at) for (name, net), at in self.where.items() if name != node)
        hub = Hub(HubSettings(self.keys[node], incarnation, binds, links, self.path(node)))
        if agent is not None:  # What waited for the bus comes in at once.
            hub.register("agent", "agent", agent)
        hub.start()
        self.hubs[node] = hub
        return hub

    def attach(self, node: str, process: str, incarnation: int = 2) -> tuple[Attachment, Inbox]:
        inbox = Inbox()
        settings = AttachmentSettings(self.path(node), CLUSTER, node, process, incarnation)
        one = Attachment(settings, inbox)
        self.attachments.append(one)
        return one, inbox

    def close(self) -> None:
        for attachment in self.attachments:
            attachment.close()
        for hub in self.hubs.values():
            hub.close()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    one = Nodes(tmp_path)
    try:
        yield one
    finally:
        one.close()


def repeat(sender: Attachment, to: Address, actor: str, inbox: Inbox, network: str = "") -> None:
    """Send until something arrives."""

    def arrived() -> bool:
        sender.send(to, actor, Probe("red", 1), network)
        time.sleep(0.02)
        return bool(inbox.messages)

    inbox.messages.clear()
    until(arrived)


def test_processes_of_one_node_reach_each_other_by_name(nodes: Nodes) -> None:
    nodes.start("n1")
    module, at_module = nodes.attach("n1", "web")
    replica, at_replica = nodes.attach("n1", "web.replica", 3)
    repeat(replica, MODULE1, "replicator", at_module)
    repeat(module, REPLICATOR1, "module", at_replica)
    assert at_module.messages[0] == (REPLICATOR1, Probe("red", 1), "")
    assert at_replica.messages[0] == (MODULE1, Probe("red", 1), "")


def test_own_actors_of_the_hub_and_one_for_every_module_are_reached(nodes: Nodes) -> None:
    hub, agent, register = nodes.start("n1"), Inbox(), Inbox()
    hub.register("agent", "agent", agent)
    hub.register("", "register", register)
    hub.send(Address("n1", "agent", "agent"), "other", Probe("red", 3))
    hub.send(Address("n1", "web", "register"), "other", Probe("red", 4))
    until(lambda: agent.messages and register.messages)
    other = Address("n1", "agent", "other")
    assert agent.messages == [(other, Probe("red", 3), "")]
    assert register.messages == [(other, Probe("red", 4), "")]


def test_a_message_sent_before_the_agent_starts_waits_for_it_a_moment(nodes: Nodes) -> None:
    hub_inbox = Inbox()
    module, _ = nodes.attach("n1", "cli-7")
    module.send(Address("n1", "agent", "agent"), "cli", Probe("red", 5))
    nodes.start("n1", agent=hub_inbox)
    until(lambda: hub_inbox.messages or module.counters()["expired"])
    assert hub_inbox.messages == [(Address("n1", "cli-7", "cli"), Probe("red", 5), "")]


def test_a_message_is_not_kept_for_an_agent_that_stays_away(nodes: Nodes) -> None:
    module, _ = nodes.attach("n1", "web")
    module.send(MODULE2, "module", Probe("red", 5))
    until(lambda: module.counters()["expired"] == 1)


@pytest.mark.parametrize("network", ["red", "blue"])
def test_modules_of_two_nodes_talk_and_know_the_network(nodes: Nodes, network: str) -> None:
    for node in ("n1", "n2"):
        nodes.start(node)
    module, _ = nodes.attach("n1", "web")
    _, at_other = nodes.attach("n2", "web")
    repeat(module, MODULE2, "module", at_other, network)
    assert at_other.messages[0] == (MODULE1, Probe("red", 1), network)


def test_processes_find_the_bus_again_after_its_socket_was_removed(nodes: Nodes) -> None:
    """As by who empties /run: what is attached stays so, and who comes later attaches, too."""
    nodes.start("n1")
    module, at_module = nodes.attach("n1", "web")
    repeat(module, MODULE1, "module", at_module)
    for round_ in range(2):
        shutil.rmtree(nodes.path("n1").parent)
        until(nodes.path("n1").exists)
        replica, at_replica = nodes.attach("n1", "web.replica", 3 + round_)
        repeat(replica, MODULE1, "replicator", at_module)
        repeat(module, REPLICATOR1, "module", at_replica)
    assert stat.S_IMODE(nodes.path("n1").stat().st_mode) == 0o600
    assert stat.S_IMODE(nodes.path("n1").parent.stat().st_mode) == 0o700


def test_processes_stay_attached_when_the_agent_starts_again(nodes: Nodes) -> None:
    for node in ("n1", "n2"):
        nodes.start(node)
    module, at_module = nodes.attach("n1", "web")
    other, at_other = nodes.attach("n2", "web")
    repeat(module, MODULE2, "module", at_other)
    nodes.hubs["n1"].close()
    nodes.start("n1", incarnation=9)
    repeat(module, MODULE2, "module", at_other)
    repeat(other, MODULE1, "module", at_module)


def test_a_process_that_starts_again_takes_its_place(nodes: Nodes) -> None:
    for node in ("n1", "n2"):
        nodes.start(node)
    module, at_module = nodes.attach("n1", "web", incarnation=2)
    other, at_other = nodes.attach("n2", "web")
    repeat(module, MODULE2, "module", at_other)
    _, at_module = nodes.attach("n1", "web", incarnation=5)  # The old one hangs.
    repeat(other, MODULE1, "module", at_module)


def test_what_comes_for_a_process_that_is_away_is_counted(nodes: Nodes) -> None:
    hub = nodes.start("n1")
    module, _ = nodes.attach("n1", "web")
    module.send(REPLICATOR1, "module", Probe("red", 1))
    until(lambda: hub.counters()["no_process"] == 1)


def test_the_socket_is_for_its_owner_alone(nodes: Nodes) -> None:
    nodes.start("n1")
    assert nodes.path("n1").stat().st_mode & 0o777 == 0o600
    assert nodes.path("n1").parent.stat().st_mode & 0o777 == 0o700


def test_a_process_cannot_speak_for_another_nor_for_another_node(nodes: Nodes) -> None:
    hub = nodes.start("n1")
    _, at_other = nodes.attach("n1", "db")
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    liar = context.socket(zmq.DEALER)
    liar.routing_id = b"web"
    liar.connect(f"ipc://{nodes.path('n1')}")
    to = Address("n1", "db", "module")
    sources = (Address("n2", "web", "module"), Address("n1", "db", "module"), REPLICATOR1)
    for source in sources:
        liar.send_multipart([b"", encode(Frame(CLUSTER, source, 1, 1, 0, to, Probe("red", 1)))])
    liar.send_multipart([b"", b"garbage"])
    liar.send_multipart([b"\xff", encode(Frame(CLUSTER, MODULE1, 1, 1, 0, to, Probe("red", 1)))])
    liar.send(b"alone")
    until(lambda: hub.counters()["bad_parts"] == 1)
    context.destroy(linger=0)
    assert hub.counters()["forged_local"] == len(sources)
    assert hub.counters()["bad_local"] == 2
    assert at_other.messages == []


def test_last_words_of_a_process_are_heard(nodes: Nodes) -> None:
    hub = nodes.start("n1")
    inbox = Inbox()
    hub.register("agent", "agent", inbox)
    module, _ = nodes.attach("n1", "web")
    repeat(module, Address("n1", "agent", "agent"), "module", inbox)
    module.send(Address("n1", "agent", "agent"), "module", Probe("red", 99))
    module.close()
    until(lambda: inbox.messages[-1][1] == Probe("red", 99))


def test_a_message_of_the_agent_that_is_no_row_of_frames_is_counted_and_dropped(
    nodes: Nodes,
) -> None:
    one, inbox = nodes.attach("n1", "web")
    frame = encode(Frame(CLUSTER, MODULE2, 1, 1, 0, MODULE1, Probe("red", 1)))
    one._take([b"red", frame, b"red"])
    one._take([b"red", b"garbage", b"red", frame])
    assert one.counters()["bad_frame"] == 2
    assert [message for _, message, _ in inbox.messages] == [Probe("red", 1)], (
        "the good one is taken"
    )


def test_what_is_sent_after_closing_is_lost_without_an_error(nodes: Nodes) -> None:
    module, _ = nodes.attach("n1", "web")
    module.close()
    module.send(MODULE2, "module", Probe("red", 1))
    module.close()
    assert module.counters()["queue_full"] == 1


def test_an_attachment_without_an_agent_does_not_spin(nodes: Nodes) -> None:
    module, _ = nodes.attach("n1", "web")
    started = time.process_time()
    for _ in range(10):
        module.send(MODULE2, "module", Probe("red", 1))
        time.sleep(0.1)  # A span to measure, not something to wait for.
    assert time.process_time() - started < 0.2


def test_the_bus_imports_nothing_heavy() -> None:
    code = (
        "import sys, mirrorfarm.transport.attachment, mirrorfarm.transport.zmq\n"
        "print(*{'asyncio', 'lxml', 'rich', 'structlog', 'pyroute2'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert found.stdout.split() == []


def test_what_is_too_large_to_be_sent_ends_nobody(nodes: Nodes) -> None:
    """What a node says may be made of what another one said, and be longer."""
    hub, inbox = nodes.start("n1"), Inbox()
    hub.register("agent", "agent", inbox)
    module, _ = nodes.attach("n1", "web")
    huge = StateAnswer("r", bytes(FRAME_BYTES_MAX))
    module.send(Address("n1", "agent", "agent"), "module", huge)
    hub.send(MODULE1, "agent", huge)
    assert module.counters()["too_large"] == hub.counters()["too_large"] == 1
    repeat(module, Address("n1", "agent", "agent"), "module", inbox)
