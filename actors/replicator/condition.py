"""A condition that costs next to nothing to notify while nobody waits for it."""

import threading
from collections.abc import Callable


class Condition:
    """As `threading.Condition`, whose `notify_all` first finds out in Python who holds the lock.

    Done for each frame and each acknowledgement, though hardly ever anybody waits. Every method
    is called with `lock` held.
    """

    __slots__ = ("_condition", "_waiting")

    def __init__(self, lock: "threading.RLock") -> None:
        self._condition = threading.Condition(lock)
        self._waiting = 0

    def wait_for(self, predicate: Callable[[], object], timeout_s: float | None = None) -> bool:
        """Wait until the predicate holds; return False if the time is over before."""
        self._waiting += 1
        try:
            return bool(self._condition.wait_for(predicate, timeout_s))
        finally:
            self._waiting -= 1

    def notify_all(self) -> None:
        """Have everybody who waits look again."""
        if self._waiting:
            self._condition.notify_all()
