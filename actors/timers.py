"""One thread that hands events back at their time. Idle, it sleeps until the next one."""

import heapq
import threading
import time
from typing import Any

from mirrorfarm.actors.shell import Inbox
from mirrorfarm.limits import SECOND_NS


def boot_clock_ns() -> int:
    """Return CLOCK_BOOTTIME in nanoseconds: it goes on while the machine is suspended."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Timers:
    """Performs `Later` for every actor of a process."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Any, Inbox]] = []
        self._changed = threading.Condition()
        self._order = 0
        self._ends = False
        self._thread = threading.Thread(target=self._run, name="timers", daemon=True)
        self._thread.start()

    def later(self, at_ns: int, event: Any, inbox: Inbox) -> None:
        """Give `event` to `inbox` at `at_ns` of the boot clock, or at once if that is past."""
        with self._changed:
            self._order += 1
            first = not self._heap or at_ns < self._heap[0][0]
            heapq.heappush(self._heap, (at_ns, self._order, event, inbox))
            if first:
                self._changed.notify()

    def close(self) -> None:
        """End the thread; events still due are dropped."""
        with self._changed:
            self._ends = True
            self._changed.notify()
        self._thread.join(timeout=1)

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._ends:
                    return
                wait_ns = self._heap[0][0] - boot_clock_ns() if self._heap else None
                if wait_ns is None or wait_ns > 0:
                    self._changed.wait(None if wait_ns is None else wait_ns / SECOND_NS)
                    continue
                _, _, event, inbox = heapq.heappop(self._heap)
            inbox(event)
