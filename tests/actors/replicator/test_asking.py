"""Questions to the target that are not answered."""

import threading
from typing import cast

import pytest

from mirrorfarm.actors.replicator.asking import Asker, SessionLost
from mirrorfarm.actors.replicator.source import Source
from tests.actors.replicator.streams import Stream


def test_who_gives_a_flush_some_time_does_not_wait_for_an_earlier_question() -> None:
    """As at an end, while the flush of a checkpoint meets a disk that hangs."""
    stream = Stream()
    asker = Asker(cast(Source, stream))

    def checkpoint() -> None:
        with pytest.raises(SessionLost):
            asker.flush(end=False)

    ended = []

    def end() -> None:
        with pytest.raises(SessionLost):
            asker.flush(end=False, timeout_s=0.01)
        ended.append(True)

    threads = [threading.Thread(target=one, daemon=True) for one in (checkpoint, end)]
    threads[0].start()
    while not stream.count:
        threads[0].join(0.001)
    threads[1].start()
    threads[1].join(5)
    assert ended
    asker.end()
    threads[0].join(5)
