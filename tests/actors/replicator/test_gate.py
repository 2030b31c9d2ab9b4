"""The gate, with threads: nothing passes that may not, and nothing that waits is lost."""

import errno
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from mirrorfarm.actors.replicator.gate import BOTH, FROZEN, OFF, SELF, Gate


class Case:
    def __init__(self) -> None:
        self.acked = 0
        self.full = False
        self.held = 0
        self.gate = Gate(lambda ticket: ticket <= self.acked, lambda: self.full, self._hold)
        self.answers: list[tuple[int, int]] = []
        self.threads: list[threading.Thread] = []

    def _hold(self) -> None:
        self.held += 1

    def ask(self, ticket: int) -> None:
        self.gate.when_safe(ticket, lambda error: self.answers.append((ticket, error)))

    def run(self, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=work)
        self.threads.append(thread)
        thread.start()
        return thread


@pytest.fixture
def case() -> Iterator[Case]:
    one = Case()
    yield one
    one.gate.end()
    for thread in one.threads:
        thread.join(5)
        assert not thread.is_alive()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_both_answers_when_the_acknowledgement_comes(case: Case) -> None:
    case.gate.set(BOTH)
    case.ask(2)
    case.ask(0)
    assert case.answers == [(0, 0)]
    case.acked = 1
    case.gate.look_again()
    assert case.answers == [(0, 0)]
    case.acked = 2
    case.gate.look_again()
    assert case.answers == [(0, 0), (2, 0)]


def test_an_acknowledgement_during_a_freeze_is_answered_only_after_the_thaw(case: Case) -> None:
    case.gate.set(BOTH)
    case.ask(1)
    case.gate.set(FROZEN)
    assert case.held == 1
    case.acked = 1
    case.gate.look_again()
    case.ask(0)
    assert case.answers == []
    assert case.held == 1
    case.gate.set(BOTH)
    assert case.answers == [(1, 0), (0, 0)]


def test_self_lets_go_what_was_never_acknowledged(case: Case) -> None:
    case.gate.set(BOTH)
    case.ask(7)
    case.gate.set(FROZEN)
    case.gate.set(SELF)
    assert case.answers == [(7, 0)]


def test_the_end_is_an_error_for_all_that_wait_and_all_that_come(case: Case) -> None:
    case.gate.set(FROZEN)
    errors: list[int] = []

    def enter() -> None:
        try:
            case.gate.enter()
        except OSError as fault:
            errors.append(fault.errno or 0)

    threads = [case.run(enter) for _ in range(4)]
    case.ask(1)
    until(lambda: case.gate.waiting == 5)
    case.gate.end()
    for thread in threads:
        thread.join(5)
    enter()
    assert errors == [errno.EIO] * 5
    assert case.answers == [(1, errno.EIO)]


def test_each_freeze_is_told_once(case: Case) -> None:
    for count in (1, 2):
        case.gate.set(FROZEN)
        threads = [case.run(case.gate.enter) for _ in range(3)]
        until(lambda: case.gate.waiting == 3)
        assert case.held == count
        case.gate.set(SELF)
        for thread in threads:
            thread.join(5)
            assert not thread.is_alive()


def test_a_full_stream_holds_new_modifications_but_is_no_freeze(case: Case) -> None:
    case.gate.set(BOTH)
    case.full = True
    thread = case.run(case.gate.enter)
    until(lambda: case.gate.waiting == 1)
    assert case.held == 0
    case.full = False
    case.gate.look_again()
    thread.join(5)
    assert not thread.is_alive()
    case.gate.leave()


def test_a_lost_disk_holds_everything_whatever_is_ordered(case: Case) -> None:
    case.gate.set(SELF)
    case.gate.poison()
    case.ask(1)
    case.gate.set(SELF)
    assert case.answers == []
    case.gate.set(OFF)
    assert case.answers == [(1, errno.EIO)]


def test_nothing_enters_a_gate_that_is_off(case: Case) -> None:
    with pytest.raises(OSError, match="lead") as caught:
        case.gate.enter()
    assert caught.value.errno == errno.EROFS


def test_idle_is_when_nobody_is_inside(case: Case) -> None:
    case.gate.set(SELF)
    case.gate.enter()
    assert not case.gate.wait_idle(0.01)
    case.gate.leave()
    assert case.gate.wait_idle(0.01)


def test_every_question_is_answered_once_under_load(case: Case) -> None:
    case.gate.set(BOTH)
    count, workers = 300, 4
    lock = threading.Lock()
    answers: dict[tuple[int, int], int] = {}

    def work(worker: int) -> None:
        for number in range(count):
            case.gate.enter()
            case.gate.leave()

            def answer(error: int, number: int = number) -> None:
                assert error == 0
                with lock:
                    answers[worker, number] = answers.get((worker, number), 0) + 1

            case.gate.when_safe(number + 1, answer)

    threads = [case.run(lambda worker=n: work(worker)) for n in range(workers)]  # type: ignore[misc]
    while any(thread.is_alive() for thread in threads) or case.acked < count:
        case.acked += 1
        case.gate.look_again()
        if case.acked % 50 == 0:
            case.gate.set(FROZEN)
            case.gate.set(BOTH)
        time.sleep(0)
    for thread in threads:
        thread.join(5)
    case.acked = count
    case.gate.look_again()
    assert len(answers) == count * workers
    assert set(answers.values()) == {1}
