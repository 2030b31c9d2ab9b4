"""The recorder tells the end of every writing, and goes on."""

import errno
import queue
from collections.abc import Iterator
from typing import Any

import pytest

from mirrorfarm.actors.doors import Recorder
from mirrorfarm.actors.events import Stored, StoreFailed
from mirrorfarm.errors import RecordInvalid


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    made = Recorder()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("error", "number", "word"),
    [
        (OSError(errno.EIO, "Input/output error"), errno.EIO, "Input/output error"),
        (AssertionError((1, 57)), 0, "AssertionError((1, 57))"),
        (RecordInvalid("no slot is whole"), 0, "no slot is whole"),
    ],
    ids=["the disk", "an invariant", "the record"],
)
def test_a_writing_that_fails_is_told_and_the_next_one_is_made(
    recorder: Recorder, error: Exception, number: int, word: str
) -> None:
    told: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def fail() -> None:
        raise error

    recorder.store(fail, 1, Stored(1), told.put)
    recorder.store(lambda: None, 2, Stored(2), told.put)
    assert told.get(timeout=10) == StoreFailed(1, number, word)
    assert told.get(timeout=10) == Stored(2)
