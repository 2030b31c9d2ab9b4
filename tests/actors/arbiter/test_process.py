"""Stories of a whole witness process, asked over its sockets."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.actors.arbiter.loaded import RegisterSlots
from mirrorfarm.actors.arbiter.process import WitnessProcess
from mirrorfarm.actors.effects import RegisterStore
from mirrorfarm.actors.shell import Visit
from mirrorfarm.errors import ConfigInvalid, RecordInvalid, SystemUnsuitable
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.modules.settings import Module
from mirrorfarm.paths import Paths
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.keys import Keys, create_cluster, join_cluster
from mirrorfarm.transport.messages import (
    ANY_MESSAGE,
    Frame,
    Register,
    RegisterAnswer,
    RegisterCas,
    RegisterRead,
    RegisterRenew,
)
from mirrorfarm.transport.sockets import Link
from mirrorfarm.transport.zmq import Hub, HubSettings
from tests.transport.bus import Inbox, free_port, until

MODULES = 200
KIB_MAX = 60 * 1_024
CLUSTER_XML = """<cluster><lans><lan name="default">
<node name="a" addr="127.0.0.1"/><node name="b" addr="127.0.0.2"/></lan></lans>
<witness name="w" addr="127.0.0.3" port="{port}"/></cluster>"""


def first(node: str) -> Register:
    return Register(1, 1, node, (node,), "f00d", "")


@dataclass
class Story:
    """A witness `w` in a process, and the bus of node `a` in ours."""

    paths: Paths
    keys: Keys
    port: int
    process: subprocess.Popen[str] | None = None
    hub: Hub | None = None
    inbox: Inbox | None = None
    request: int = 0

    def spawn(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "mirrorfarm.actors.arbiter.process"],
            env={**os.environ, "MIRRORFARM_ROOT": str(self.paths.root)},
            stderr=subprocess.PIPE,
            text=True,
        )

    def start(self) -> None:
        self.process = self.spawn()
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        assert "witness w at" in line, line + self.process.stderr.read()

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        process, self.process = self.process, None
        process.send_signal(number)
        _, _ = process.communicate(timeout=10)
        return process.returncode

    def connect(self) -> None:
        self.inbox = Inbox()
        link = Link("w", "witness", f"tcp://127.0.0.3:{self.port}")
        self.hub = Hub(HubSettings(self.keys, time.time_ns() // SECOND_NS, (), (link,)))
        self.hub.register("", "arbiter", self.inbox)
        self.hub.start()

    def send(self, module: str, message: ANY_MESSAGE) -> None:
        assert self.hub is not None
        self.hub.send(Address("w", module, "register"), "arbiter", message, module=module)

    def answers(self) -> dict[int, RegisterAnswer]:
        assert self.inbox is not None
        messages = [message for _, message, _ in self.inbox.messages]
        return {m.request: m for m in messages if isinstance(m, RegisterAnswer)}

    def ask(self, module: str, message: RegisterRead | RegisterCas | RegisterRenew) -> str:
        """Repeat a request until it is answered."""

        def answered() -> bool:
            self.send(module, message)
            time.sleep(0.02)
            return message.request in self.answers()

        until(answered)
        return self.answers()[message.request].outcome

    def close(self) -> None:
        if self.hub is not None:
            self.hub.close()
        if self.process is not None:
            self.end(signal.SIGKILL)


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    port = free_port("127.0.0.3")
    node, witness = Paths(tmp_path / "a"), Paths(tmp_path / "w")
    xml = CLUSTER_XML.format(port=port)
    keys = create_cluster(xml, ("a", "b"), ("w",), "a", node, tmp_path / "bundles")
    join_cluster(tmp_path / "bundles" / "w.join", witness)
    one = Story(witness, keys, port)
    yield one
    one.close()


def test_a_register_survives_the_end_of_its_witness_by_any_signal(story: Story) -> None:
    story.start()
    story.connect()
    assert story.ask("db", RegisterRead(1)) == "unset"
    assert story.ask("db", RegisterCas(2, 0, first("a"), False, SECOND_NS)) == "ok"
    assert story.ask("db", RegisterRenew(3, 1, SECOND_NS)) == "ok"
    assert story.end(signal.SIGKILL) == -signal.SIGKILL
    story.start()
    assert story.ask("db", RegisterRead(4)) == "ok"
    register = story.answers()[4].register
    assert register == story.answers()[2].register
    assert story.end() == 0


def test_a_witness_may_open_as_many_files_as_the_system_lets_it(story: Story) -> None:
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        story.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))
    assert story.process is not None
    assert resource.prlimit(story.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)


def test_hundreds_of_modules_fit_into_little_memory(story: Story) -> None:
    story.start()
    story.connect()
    assert story.ask("m0", RegisterRead(1)) == "unset"
    for number in range(MODULES):
        story.send(f"m{number}", RegisterCas(10 + number, 0, first("a"), False, SECOND_NS))
    until(lambda: len(story.answers()) == MODULES + 1, 20)
    assert all(answer.outcome == "ok" for answer in story.answers().values() if answer.register)
    assert story.process is not None
    status = Path(f"/proc/{story.process.pid}/status").read_text(encoding="ascii")
    (peak,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak < KIB_MAX, f"{peak} KiB"


def test_what_nodes_ask_has_a_limit(
    story: Story, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mirrorfarm.actors.supervisor.QUEUE_MESSAGES_MAX", 1)
    witness = WitnessProcess(story.paths)
    held, begun = threading.Event(), threading.Event()

    def holds(core: Any) -> None:
        del core
        begun.set()
        held.wait(10)

    witness.supervisor.tell("register", Visit(holds))
    assert begun.wait(10)
    witness.supervisor.tell("register", Visit(holds))  # This one waits.
    asks, asked = Address("a", "db", "arbiter"), Address("w", "db", "register")
    witness.take(Frame(story.keys.cluster, asks, 1, 1, 0, asked, RegisterRead(1)), "witness")
    held.set()
    witness.close()
    assert witness.supervisor.dropped == 1
    assert "register is slower than others send: 1 messages left out" in capsys.readouterr().err


def test_a_register_that_cannot_be_stored_for_whatever_reason_is_refused(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("counter")

    monkeypatch.setattr(RegisterSlots, "store", fail)
    witness, failures = WitnessProcess(story.paths), list[str]()
    asked = Address("w", "db", "register")
    cas = RegisterCas(1, 0, first("a"), False, SECOND_NS)
    source = Address("a", "db", "arbiter")
    witness.take(Frame(story.keys.cluster, source, 1, 1, 0, asked, cas), "witness")

    def look(core: Any) -> None:
        failures.extend(entry.failure for entry in core.entries.values() if entry.failure)

    def refused() -> bool:
        witness.supervisor.tell("register", Visit(look))
        return bool(failures)

    until(refused)
    witness.close()
    assert "AssertionError('counter')" in failures[0]


def test_a_second_witness_on_the_same_machine_is_refused(story: Story) -> None:
    story.start()
    second = story.spawn()
    _, text = second.communicate(timeout=10)
    assert second.returncode == SystemUnsuitable.exit_code
    assert "already" in text


def test_a_damaged_store_is_not_served_and_the_cure_is_told(story: Story) -> None:
    folder = story.paths.witness_lib() / story.keys.cluster
    slots = RegisterSlots(folder)
    slots.store(RegisterStore(story.keys.cluster, "db", first("a"), 1))
    for path in folder.iterdir():
        path.write_bytes(b"garbage")
    process = story.spawn()
    _, text = process.communicate(timeout=10)
    assert process.returncode == RecordInvalid.exit_code
    assert "register-db" in text
    assert "primforce -m db" in text


def test_a_node_that_is_no_witness_is_told_so(story: Story) -> None:
    xml = story.paths.cluster_xml
    xml.write_text(xml.read_text(encoding="utf-8").replace('name="w"', 'name="x"'))
    process = story.spawn()
    _, text = process.communicate(timeout=10)
    assert process.returncode == ConfigInvalid.exit_code
    assert "w is not a witness" in text


def test_the_register_of_another_cluster_is_refused_by_a_witness(tmp_path: Path) -> None:
    RegisterSlots(tmp_path).store(RegisterStore("other", "db", first("a"), 1))
    with pytest.raises(RecordInvalid, match="cluster other"):
        RegisterSlots(tmp_path).load_all("c1")


def test_a_module_sets_a_damaged_copy_aside(tmp_path: Path) -> None:
    module = Module("db", 1, ("a", "b"))
    slots = RegisterSlots(tmp_path)
    slots.store(RegisterStore("c1", "db", first("a"), 1, 5, "a", 7))
    event = RegisterSlots(tmp_path).load("c1", module)
    assert (event.register, event.lease_ns, event.request) == (first("a"), 5, 7)
    for path in tmp_path.iterdir():
        path.write_bytes(b"garbage")
    slots = RegisterSlots(tmp_path)
    assert slots.load("c1", module).register is None
    assert (tmp_path / "register-db.0.damaged").read_bytes() == b"garbage"
    slots.store(RegisterStore("c1", "db", first("b"), 1, 5, "b", 8))
    assert RegisterSlots(tmp_path).load("c1", module).register == first("b")
