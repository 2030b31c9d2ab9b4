"""The replica's process when its core or a thread of it breaks."""

import contextlib
import errno
import logging
import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.actors.events import Received
from mirrorfarm.actors.replicator.core import PlaneGated, Replicator
from mirrorfarm.actors.replicator.plane import Plane, PlaneSettings
from mirrorfarm.actors.replicator.process import ACTOR, ReplicaDoors, plane_settings
from mirrorfarm.actors.replicator.wire import StreamKeys
from mirrorfarm.actors.shell import Shell
from mirrorfarm.actors.supervisor import BROKEN_EXIT_CODE
from mirrorfarm.modules.settings import (
    Cluster,
    Module,
    Network,
    NodeOnNetwork,
    Replicated,
    Replication,
)
from mirrorfarm.paths import Paths
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.keys import Keys
from mirrorfarm.transport.messages import PlaneWish


class Outside:
    """Log, trace and bus in one."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.broke_with: list[str] = []

    def write(self, level: str, origin: str, text: str) -> None:
        self.lines.append(f"{level} {text}")

    def step(self, *_: Any) -> None:
        """Keep no trace."""

    sent = close = step

    def broke(self, actor: str, error: BaseException) -> None:
        self.broke_with.append(repr(error))

    def send(self, *_: Any) -> int:
        return 1


def outside() -> Any:
    return Outside()


class Case:
    """A replica that leads, without directories: its core, its plane, the doors between them."""

    def __init__(self, folder: Path) -> None:
        self.outside = outside()
        self.doors = ReplicaDoors(self.outside, self.outside, self.outside)
        self.gated = threading.Event()
        self.plane = Plane(
            PlaneSettings(
                Replication(),
                1_000_000_000,
                "tcp://127.0.0.1:9",
                "tcp://127.0.0.1:9",
                StreamKeys(),
                folder / "changes",
                folder / "quarantine",
            ),
            self._tell,
            lambda _: None,
            lambda: None,
        )
        self.doors.plane = self.plane
        self.shell = Shell.start(ACTOR, Replicator("one", "ledger"), self.doors)
        mirror = Address("one", "ledger", "module")
        self.shell.tell(Received(mirror, PlaneWish(1, role="lead", term=1, gate="self")))
        assert self.gated.wait(5)

    def _tell(self, event: Any) -> None:
        self.shell.tell(event)
        if isinstance(event, PlaneGated):
            self.gated.set()

    def close(self) -> None:
        self.shell.stop(timeout=5)
        self.plane.close()


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    with contextlib.closing(Case(tmp_path)) as one:
        yield one


@pytest.fixture
def exits(case: Case, monkeypatch: pytest.MonkeyPatch) -> queue.SimpleQueue[tuple[int, str]]:
    """Exit code, and the gate at that moment."""
    found: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()

    def leave(code: int) -> None:
        found.put((code, case.plane.carrier.gate.mode))

    monkeypatch.setattr(os, "_exit", leave)
    return found


def test_when_the_core_breaks_the_gate_is_ended_and_the_process_ends_at_once(
    case: Case, exits: queue.SimpleQueue[tuple[int, str]]
) -> None:
    assert case.plane.carrier.gate.try_enter()
    case.plane.carrier.leave()
    case.doors.failed(ACTOR, AssertionError("never"))
    assert exits.get(timeout=1) == (BROKEN_EXIT_CODE, "ended")
    answers: list[int] = []
    case.plane.carrier.gate.when_safe(0, answers.append)
    assert answers == [errno.EIO]
    assert case.outside.broke_with == ["AssertionError('never')"]
    assert case.outside.lines[-1] == "C the core failed: AssertionError('never')"


def test_an_order_that_breaks_the_core_ends_the_process(
    case: Case, exits: queue.SimpleQueue[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_rules(*_: Any) -> None:
        raise AssertionError("never")

    monkeypatch.setattr(logging.getLogger("pykka"), "disabled", True)
    monkeypatch.setattr(case.plane.carrier, "set_gate", break_rules)
    mirror = Address("one", "ledger", "module")
    case.shell.tell(Received(mirror, PlaneWish(2, role="lead", term=1, gate="frozen")))
    assert exits.get(timeout=5) == (BROKEN_EXIT_CODE, "ended")


def test_when_a_thread_breaks_the_process_ends(
    case: Case, exits: queue.SimpleQueue[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", case.doors.thread_failed)

    def break_rules() -> None:
        raise KeyError("never")

    thread = threading.Thread(target=break_rules, name="target")
    thread.start()
    thread.join(5)
    assert exits.get(timeout=5) == (BROKEN_EXIT_CODE, "ended")
    assert case.outside.lines[-1] == "C the thread target failed: KeyError('never')"


def test_a_log_that_fails_keeps_no_broken_process_alive(
    case: Case, exits: queue.SimpleQueue[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(case.outside, "write", refuse)
    with pytest.raises(OSError, match="No space"):
        case.doors.failed(ACTOR, AssertionError("never"))
    assert exits.get(timeout=1) == (BROKEN_EXIT_CODE, "ended")


def test_the_stream_is_of_the_module_and_its_directories_in_their_order(tmp_path: Path) -> None:
    network = Network("lan", (NodeOnNetwork("n1", "192.0.2.1"), NodeOnNetwork("n2", "192.0.2.2")))
    replication = Replication((Replicated("/b"), Replicated("/a")))
    module = Module("ledger", 3, ("n1", "n2"), replication=replication)
    keys = Keys("c", "n1", "secret", "public", {"n2": "other"})
    settings = plane_settings(Paths(tmp_path), Cluster((network,)), module, keys)
    assert settings.subject == ("ledger", "/b", "/a")
    assert settings.listen == "tcp://192.0.2.1:5608"
    assert settings.peer == "tcp://192.0.2.2:5608"
