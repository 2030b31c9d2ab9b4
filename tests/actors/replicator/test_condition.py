import threading

import pytest

from mirrorfarm.actors.replicator.condition import Condition

PATIENCE_S = 10.0


def test_all_who_wait_are_told() -> None:
    lock = threading.RLock()
    condition = Condition(lock)
    opened: list[bool] = []
    asked = threading.Semaphore(0)
    results: list[bool] = []

    def is_open() -> bool:
        asked.release()  # The lock is held until it waits.
        return bool(opened)

    def wait() -> None:
        with lock:
            # Who is not told looks again only when this test has given up.
            results.append(condition.wait_for(is_open, 5 * PATIENCE_S))

    threads = [threading.Thread(target=wait, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert asked.acquire(timeout=PATIENCE_S)
    with lock:
        opened.append(True)
        condition.notify_all()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert results == [True, True, True]


def test_who_gave_up_or_failed_does_not_count_as_waiting() -> None:
    lock = threading.RLock()
    condition = Condition(lock)

    def fails() -> bool:
        raise OSError("it ended")

    with lock:
        condition.notify_all()
        assert not condition.wait_for(lambda: False, 0.01)
        with pytest.raises(OSError, match="it ended"):
            condition.wait_for(fails)
        assert condition._waiting == 0
        assert condition.wait_for(lambda: True)
