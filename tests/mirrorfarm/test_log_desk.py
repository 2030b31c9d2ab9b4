"""Whoever asks for a log is answered, and nobody waits for it."""

import json
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm import log_desk
from mirrorfarm.log_desk import WAITING_MAX, LogDesk
from mirrorfarm.module_process import ModuleProcess
from mirrorfarm.modulelog import ModuleLog
from mirrorfarm.transport.address import MODULE_ACTOR, Address
from mirrorfarm.transport.messages import Frame, LogAnswer, LogQuery

ASKER = Address("n1", "cli-1", "cli")
Sent = tuple[Address, str, LogAnswer]


class Bench:
    def __init__(self, folder: Path) -> None:
        self.sent: queue.SimpleQueue[Sent] = queue.SimpleQueue()
        self.desk = LogDesk(folder, lambda *words: self.sent.put(words))

    def requests(self, count: int) -> list[str]:
        return [self.sent.get(timeout=10)[2].request for _ in range(count)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with closing(ModuleLog(tmp_path)) as log:
        log.write("E", "module", "first")
    made = Bench(tmp_path)
    yield made
    made.desk.close()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """While it is closed, reading takes for ever."""
    opened = threading.Event()

    def slow(*_: Any) -> tuple[list[str], int]:
        opened.wait(20)
        return [], 0

    monkeypatch.setattr(log_desk, "read_log", slow)
    yield opened
    opened.set()


def test_a_log_that_was_changed_by_hand_ends_no_answers(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> tuple[list[str], int]:
        raise RecursionError("maximum recursion depth exceeded")

    with monkeypatch.context() as strange:
        strange.setattr(log_desk, "read_log", refuse)
        bench.desk.ask(ASKER, MODULE_ACTOR, LogQuery("1", -5, 5))
        deadline = time.monotonic() + 10
        while bench.desk._waiting and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.05)
    bench.desk.ask(ASKER, MODULE_ACTOR, LogQuery("2", -5, 5))
    assert bench.requests(1) == ["2"]


def test_lines_are_answered_in_the_name_of_who_was_asked(bench: Bench) -> None:
    bench.desk.ask(ASKER, MODULE_ACTOR, LogQuery("1", -5, 5))
    to, actor, answer = bench.sent.get(timeout=10)
    assert (to, actor, answer.request, answer.next_after) == (ASKER, MODULE_ACTOR, "1", 1)
    assert [json.loads(line)["text"] for line in answer.lines] == ["first"]


def test_few_questions_wait_and_the_newest_are_kept(bench: Bench, gate: threading.Event) -> None:
    bench.desk.ask(ASKER, MODULE_ACTOR, LogQuery("first", 0, 5))
    deadline = time.monotonic() + 10
    while bench.desk._waiting:  # Until it is under way.
        assert time.monotonic() < deadline
        time.sleep(0.001)
    for number in range(WAITING_MAX + 3):
        for _ in range(2):  # Who waits asks again.
            bench.desk.ask(ASKER, MODULE_ACTOR, LogQuery(str(number), 0, 5))
    gate.set()
    kept = [str(number) for number in range(3, WAITING_MAX + 3)]
    assert bench.requests(1 + WAITING_MAX) == ["first", *kept]
    assert bench.sent.empty()


def test_a_log_that_cannot_be_read_ends_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = threading.Event()

    def fail(*_: Any) -> Any:
        tried.set()
        raise PermissionError("no")

    with monkeypatch.context() as broken:
        broken.setattr(log_desk, "read_log", fail)
        bench.desk.ask(ASKER, MODULE_ACTOR, LogQuery("1", 0, 5))
        assert tried.wait(10)
    bench.desk.ask(ASKER, MODULE_ACTOR, LogQuery("2", 0, 5))
    assert bench.requests(1) == ["2"]


def test_the_module_takes_its_messages_while_a_log_is_read(
    bench: Bench, gate: threading.Event
) -> None:
    process: Any = object.__new__(ModuleProcess)
    process._logs = bench.desk
    to = Address("n1", "app", MODULE_ACTOR)
    for number in range(3):
        query = LogQuery(str(number), -500, 500)
        process._on_receive(Frame("c", ASKER, 1, number, 0, to, query), "")  # Returns at once.
    assert bench.sent.empty()
    gate.set()
    assert bench.requests(3) == ["0", "1", "2"]
