"""Whether the replicated directories lead to what is mounted over them; told once if one does not.

Somebody may unmount one, or mount something over it: what the application writes from then on is
on this node alone, and may be beside what the other one has.
"""

import os
import select
import threading
from collections.abc import Callable, Iterable
from typing import Final

from mirrorfarm.actors.replicator.fuse.filesystem import FileSystem

_AGAIN_MS: Final = 1_000  # After what could not be seen.


class Lookout:
    """A thread that the kernel wakes when anything is mounted or unmounted."""

    def __init__(self, systems: Iterable[FileSystem], lost: Callable[[str], None]) -> None:
        """`systems`: mounted. `lost` gets the sentence, and is not called after `close`."""
        self._systems = list(systems)
        self._lost = lost
        self._lock = threading.Lock()
        self._over = False
        self._table = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._ends = os.eventfd(0, os.EFD_CLOEXEC)
        except BaseException:
            os.close(self._table)
            raise
        threading.Thread(target=self._run, name="lookout", daemon=True).start()

    def close(self) -> None:
        """End, before anything is unmounted; waits for nothing that may hang."""
        with self._lock:
            if not self._over:
                self._over = True
                os.eventfd_write(self._ends, 1)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._ends, select.POLLIN)
        poll.register(self._table, select.POLLPRI)
        try:
            while not self._over:
                poll.poll(None if self._look() else _AGAIN_MS)
        finally:
            with self._lock:
                self._over = True
                os.close(self._ends)
                os.close(self._table)

    def _look(self) -> bool:
        """Tell what is lost; return whether all could be seen."""
        for system in self._systems:
            try:
                if system.leads():
                    continue
            except OSError:  # No descriptor is left.
                return False
            with self._lock:
                if not self._over:
                    self._over = True
                    path = os.fsdecode(system.path)
                    self._lost(f"{path} was unmounted, or mounted over, by somebody")
        return True
